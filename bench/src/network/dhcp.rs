//! DHCP: whole exchanges (DISCOVER, OFFER, REQUEST, ACK) of ever new machines behind a relay, by Kea's `perfdhcp`.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::lab::{Lab, SERVER};
use super::servers::{self, Server};
use super::{Row, median};
use crate::rows::Effort;

/// How many machines ask: no more than there are addresses, so that nobody runs out.
const MACHINES: u32 = 15_000;

/// Runs `perfdhcp` for that long, and says how many exchanges a second were completed.
fn load(lab: &Lab, duration: Duration, more: &[&str]) -> io::Result<f64> {
    let mut command = lab.at_load("perfdhcp");
    command.args(["-4", "-l", "cli0", "-p", &duration.as_secs().max(1).to_string()]);
    let done = command.args(["-R", &MACHINES.to_string()]).args(more).arg(SERVER).output()?;
    let text = String::from_utf8_lossy(&done.stdout);
    // "Rate: 1234.5 4-way exchanges/second"
    let rate = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Rate:")?.split_whitespace().next()?.parse().ok());
    rate.ok_or_else(|| {
        let error = String::from_utf8_lossy(&done.stderr);
        io::Error::other(format!("perfdhcp gave no rate: {text}{error}; apt-get install kea-admin"))
    })
}

pub(super) fn rows(
    lab: &Lab,
    effort: Effort,
    wanted: &dyn Fn(&str) -> bool,
    each: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let name = "DHCP, full exchanges";
    if !wanted(name) {
        return Ok(());
    }
    let files = lab.folder("files")?;
    type Start = fn(&Lab, &Path) -> io::Result<Server>;
    let servers: [Start; 3] = [servers::bootd, servers::dnsmasq, |lab, _| servers::kea(lab)];
    let duration = Duration::from_secs_f64(effort.seconds);
    let mut figures = Vec::new();
    for start in servers {
        let mut who = "";
        // Each time a new server, without the leases of the last.
        let figure = median(effort.repeats, || {
            let server = start(lab, &files)?;
            who = server.name;
            let answers = || load(lab, Duration::from_secs(1), &["-r", "5"]).is_ok_and(|rate| rate > 0.0);
            let _server = server.ready(answers)?;
            load(lab, duration, &[])
        })?;
        figures.push((who, Some(figure)));
    }
    each(Row { name: name.to_owned(), unit: "1/s", figures });
    Ok(())
}
