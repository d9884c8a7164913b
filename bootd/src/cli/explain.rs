//! `bootd explain`.

use site::Client;

use super::args::{Explain, Machine};
use super::daemon::Daemon;
use super::table::facts;
use super::{Failure, show};
use crate::config::show_size;
use crate::control::api::{Case, Explanation};

pub(super) async fn run(explain: Explain) -> Result<(), Failure> {
    let daemon = Daemon::of(&explain.common.place.flags())?;
    let mac = match explain.machine {
        Machine::Mac(mac) => mac,
        Machine::Client(name) => daemon.get::<Client>(&format!("/clients/{name}")).await?.mac,
    };
    let explanation: Explanation = daemon.get(&format!("/explain/{mac}")).await?;
    show(explain.common.json, &explanation, describe)
}

fn describe(explanation: &Explanation) -> String {
    let mut out = match &explanation.client {
        Some(client) => format!("{} is the client {}.\n", explanation.mac, client.name),
        None => format!("{} is no client.\n", explanation.mac),
    };
    for case in &explanation.cases {
        out.push_str(&describe_case(case));
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

fn describe_case(case: &Case) -> String {
    let given = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut out = format!("\nOn {}, asked by {}:\n", case.interface, case.asks);
    out.push_str(&indent(&facts(&[
        ("address", given(case.address.map(|a| a.to_string()))),
        ("boot program", given(case.boot_program.clone())),
        ("script", given(case.script_url.clone())),
    ])));
    for reason in &case.why {
        out.push_str(&format!("  because: {reason}\n"));
    }
    out
}

fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}
