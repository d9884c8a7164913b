//! `bootd check`.

use super::args::Check;
use super::{Failure, show};
use crate::check::{self, Finding, Level};

pub(super) fn run(check: &Check) -> Result<(), Failure> {
    let findings = check::all(&check.server.flags());
    show(check.json, &findings, |findings| describe(findings))?;
    match worst(&findings) {
        Level::Fail => Err(Failure::told()),
        Level::Ok | Level::Warn => Ok(()),
    }
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

fn describe(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for Finding { level, what, found, remedy } in findings {
        let level = match level {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        // What has several lines, such as a place in a file, keeps them below each other.
        let indent = " ".repeat(4 + 2 + width + 2);
        let found = found.replace('\n', &format!("\n{indent}"));
        out.push_str(&format!("{level}  {what:<width$}  {found}\n"));
        if let Some(remedy) = remedy {
            out.push_str(&format!("{indent}-> {remedy}\n"));
        }
    }
    let verdict = match worst(findings) {
        Level::Ok => "ready to serve",
        Level::Warn => "ready to serve, but see the warnings",
        Level::Fail => "not ready to serve",
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up_and_the_worst_is_the_verdict() {
        let finding = |level, what: &str, remedy: Option<&str>| Finding {
            level,
            what: what.into(),
            found: "x\ny".into(),
            remedy: remedy.map(str::to_owned),
        };
        let text = describe(&[finding(Level::Ok, "a", None), finding(Level::Warn, "long", Some("do"))]);
        assert_eq!(
            text,
            "ok    a     x\n            y\nwarn  long  x\n            y\n            -> do\n\nready to serve, but see the warnings\n"
        );
        assert!(describe(&[finding(Level::Fail, "a", None)]).ends_with("not ready to serve\n"));
    }
}
