//! `bootd explain`.

use clap::Args;

use super::args::{Common, Machine};
use super::daemon::Daemon;
use super::paint::Paint;
use super::site::values;
use super::table::facts;
use super::{Failure, boots, show};
use crate::config::show_size;
use crate::control::api::{Case, Explanation};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bootd explain 52:54:00:77:00:01\n  bootd explain pc1 --json\n  \
    bootd explain pc1 --probe                 and which packets reach it, while it is on")]
pub(super) struct Explain {
    /// The machine's MAC address, or a client's name
    #[arg(value_name = "MAC")]
    pub(super) machine: Machine,
    /// Send it pings of different lengths, to see whether the network on the way carries whole packets; takes up to 20 seconds
    #[arg(long)]
    probe: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(explain: Explain) -> Result<(), Failure> {
    let daemon = Daemon::of(&explain.common.place.flags())?;
    let machine = explain.machine;
    let query = if explain.probe { "?probe=true" } else { "" };
    let explanation: Explanation = daemon.get(&format!("/explain/{machine}{query}")).await?;
    let paint = Paint::of_output();
    show(explain.common.json, &explanation, |explanation| {
        let mut out = describe(explanation);
        if let Some(path) = &explanation.path {
            out.push_str(&format!("\nThe way to it:\n  {}\n", path.text));
        }
        if explanation.mac.is_some() {
            out.push_str("\nIts last boot: ");
            out.push_str(&match &explanation.boot {
                Some(boot) => boots::timeline(boot, paint),
                None => format!("none is remembered.\n{}", boots::never(&machine.to_string())),
            });
        }
        out
    })
}

fn describe(explanation: &Explanation) -> String {
    let mac =
        explanation.mac.map_or_else(|| "A machine whose MAC is not known".to_owned(), |mac| mac.to_string());
    let mut out = match &explanation.entity {
        Some(entity) => format!("{mac} is the client {}.\n", entity.name),
        None => format!("{mac} is no client.\n"),
    };
    if let Some(entity) = &explanation.entity {
        if let Some(why) = &entity.inactive {
            out.push_str(&format!(
                "It is inactive, so it is treated as a machine that is no client: {why}.\n\
                 Change it with: bootd site set client/{} VARIABLE=VALUE\n",
                entity.name
            ));
        }
        out.push_str(&values(&entity.variables));
    }
    let common = common_reasons(&explanation.cases);
    for case in &explanation.cases {
        out.push_str(&describe_case(case, &common));
    }
    if !common.is_empty() {
        out.push_str("\nIn each of these cases:\n");
        common.iter().for_each(|reason| out.push_str(&format!("  because: {reason}\n")));
    }
    if let Some(disk) = &explanation.disk {
        out.push_str("\nIts disk:\n");
        out.push_str(&indent(&facts(&[
            ("image", format!("{}, version {}", disk.image, disk.version)),
            ("file", disk.path.display().to_string()),
            ("target", disk.target.clone()),
            ("initiator", disk.initiator.clone()),
            ("may write", show_size(disk.overlay_limit)),
        ])));
    }
    if let Some(script) = &explanation.script {
        out.push_str(&format!("\nIts script, from the template {}:\n", script.template));
        out.push_str(&indent(script.text.as_deref().or(script.error.as_deref()).unwrap_or_default()));
    }
    out
}

/// The reasons that all cases share, which are told once.
fn common_reasons(cases: &[Case]) -> Vec<String> {
    let [first, rest @ ..] = cases else { return Vec::new() };
    if rest.is_empty() {
        return Vec::new();
    }
    first.why.iter().filter(|reason| rest.iter().all(|case| case.why.contains(reason))).cloned().collect()
}

fn describe_case(case: &Case, told: &[String]) -> String {
    let given = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
    let source = case.source.map(|source| source.to_string());
    let mut out = format!("\nOn {}, asked by {}:\n", case.interface, case.asks);
    out.push_str(&indent(&facts(&[
        ("address", given(case.address.map(|a| a.to_string()).or(source))),
        ("boot program", given(case.boot_program.clone())),
        ("script", given(case.script_url.clone())),
    ])));
    for reason in case.why.iter().filter(|reason| !told.contains(reason)) {
        out.push_str(&format!("  because: {reason}\n"));
    }
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whereabouts::AddressSource;

    #[test]
    fn what_all_cases_share_is_told_once() {
        let case = |asks: &str, why: &[&str]| Case {
            interface: "eth1".into(),
            asks: asks.into(),
            address: None,
            source: Some(AddressSource::Pool),
            boot_program: None,
            script_url: None,
            why: why.iter().map(|reason| (*reason).to_owned()).collect(),
        };
        let cases = vec![case("a", &["both", "one"]), case("b", &["both", "other"])];
        let explanation = Explanation {
            mac: None,
            client: None,
            entity: None,
            cases,
            disk: None,
            script: None,
            boot: None,
            path: None,
        };
        let text = describe(&explanation);
        assert_eq!(text.matches("because: both").count(), 1, "{text}");
        assert!(text.contains("because: one") && text.contains("because: other"), "{text}");
        assert_eq!(text.matches("from the pool").count(), 2, "{text}");
    }
}
