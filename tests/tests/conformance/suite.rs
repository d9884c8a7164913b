//! Runs the suite and reads what it printed. Its own summary counts skipped tests as passed, so the verdicts are
//! taken from each test's lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use support::{Namespace, Result, ensure, run};

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Unclear,
    Passed,
    Skipped,
    Failed,
}

/// What became of all tests, by suite and name.
#[derive(Debug, Default)]
pub(crate) struct Score {
    verdicts: BTreeMap<String, Verdict>,
}

impl Score {
    fn read(output: &str) -> Self {
        let (mut score, mut suite, mut current) = (Self::default(), "", None::<String>);
        for line in output.lines() {
            if let Some(rest) = line.strip_prefix("Suite: ") {
                suite = rest.split_whitespace().next().unwrap_or_default();
                current = None;
                continue;
            }
            let mut said = line;
            if let Some((name, rest)) =
                line.trim_start().strip_prefix("Test: ").and_then(|it| it.split_once("..."))
            {
                let name = format!("{suite}.{}", name.trim());
                score.verdicts.insert(name.clone(), Verdict::Unclear);
                current = Some(name);
                said = rest;
            }
            let Some(verdict) = current.as_ref().and_then(|name| score.verdicts.get_mut(name)) else {
                continue;
            };
            *verdict = match (*verdict, said.trim()) {
                (Verdict::Failed, _) => Verdict::Failed,
                // "FAILED" closes a test; "[FAILED]" is a message, also of tests that expect it.
                (_, said) if said.ends_with("FAILED") && !said.ends_with("[FAILED]") => Verdict::Failed,
                (_, said) if said.contains("[SKIPPED]") => Verdict::Skipped,
                // Its clean-up may print behind the verdict.
                (Verdict::Unclear, said) if said.starts_with("passed") || said.ends_with("passed") => {
                    Verdict::Passed
                }
                (before, _) => before,
            };
        }
        score
    }

    fn with(&self, wanted: Verdict) -> Vec<&str> {
        self.verdicts
            .iter()
            .filter(|(_, verdict)| **verdict == wanted)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(crate) fn failed(&self) -> Vec<&str> {
        self.with(Verdict::Failed)
    }

    pub(crate) fn skipped(&self) -> Vec<&str> {
        self.with(Verdict::Skipped)
    }

    pub(crate) fn unclear(&self) -> Vec<&str> {
        self.with(Verdict::Unclear)
    }

    pub(crate) fn len(&self) -> usize {
        self.verdicts.len()
    }

    pub(crate) fn row(&self, name: &str) -> String {
        let passed = self.with(Verdict::Passed).len();
        let (skipped, failed) = (self.skipped().len(), self.failed().len());
        format!("{name:6} {:>6} {passed:>7} {skipped:>7} {failed:>6}", self.len())
    }
}

/// Runs every test on the disk at `url`, whose content is lost.
pub(crate) fn run_suite(from: &Namespace, dir: &Path, initiator: Option<&str>, url: &str) -> Result<Score> {
    let mut command = from.command("iscsi-test-cu");
    command.args(["--dataloss", "--allow-sanitize", "-v", "-t", "ALL"]).current_dir(dir);
    if let Some(initiator) = initiator {
        // Where a test needs two initiators, both are this one, through two sessions: no other is let in.
        command.args(["-i", initiator, "-I", initiator]);
    }
    // The same disk twice: the second path of the tests that want two.
    let ran = run(command.args([url, url]))?;
    let text = ran.text();
    fs::write(dir.join("suite.log"), &text)?;
    let score = Score::read(&text);
    ensure!(score.len() > 0, "{}", ran.failure());
    Ok(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_the_tests_own_lines() {
        let score = Score::read(
            "Suite: ALL.Reserve6\n\
             \x20 Test: Simple ...passed\n\
             \x20 Test: Target ...    [SKIPPED] RESERVE6 is not implemented.\n\
             passed\n\
             \x20 Test: Logout ...\n    [FAILED] as it should\npassed  [FAILED] PRIN\n\
             Suite: ALL.Write10\n\
             \x20 Test: Simple ...FAILED\n    1. test_write10.c:30  - CU_ASSERT\n\
             \x20 Test: Dead ...\n",
        );
        assert_eq!(score.with(Verdict::Passed), ["ALL.Reserve6.Logout", "ALL.Reserve6.Simple"]);
        assert_eq!(score.skipped(), ["ALL.Reserve6.Target"]);
        assert_eq!(score.failed(), ["ALL.Write10.Simple"]);
        assert_eq!(score.unclear(), ["ALL.Write10.Dead"]);
    }
}
