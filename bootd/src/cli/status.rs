//! `bootd status`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use site::{ClientName, StoreState};

use super::args;
use super::daemon::Daemon;
use super::paint::Paint;
use super::table::{facts, table};
use super::when::{moment, seconds, whereabouts};
use super::{Failure, NO_CLIENTS, boots, print, show};
use crate::config::show_size;
use crate::control::api::{BootStatus, BootStep, ClientStatus, ServerStatus, Status};

/// How often `--watch` looks.
const PERIOD: Duration = Duration::from_millis(500);

/// How much of a step is shown in a table, in characters.
const STEP_WIDTH: usize = 48;

pub(super) async fn run(status: args::Status) -> Result<(), Failure> {
    let daemon = Daemon::of(&status.common.place.flags())?;
    let path = match &status.client {
        Some(client) => format!("/status?client={client}"),
        None => "/status".to_owned(),
    };
    let first: Status = daemon.get(&path).await?;
    if !status.watch {
        let paint = Paint::of_output();
        return show(status.common.json, &first, |first| describe(first, status.client.is_some(), paint));
    }
    let mut watch = Watch::default();
    let mut now = first;
    loop {
        if status.common.json {
            let mut line = serde_json::to_string(&now).map_err(Failure::new)?;
            line.push('\n');
            print(&line)?;
        } else {
            print(&watch.news(&now))?;
        }
        tokio::time::sleep(PERIOD).await;
        now = daemon.get(&path).await?;
    }
}

/// What has been printed of each client's boot.
#[derive(Default)]
struct Watch(HashMap<ClientName, (String, HashSet<String>)>);

impl Watch {
    /// The steps that have come since, a line each, and a line for every boot that began.
    fn news(&mut self, status: &Status) -> String {
        let mut out = String::new();
        for client in &status.clients {
            let Some(boot) = &client.boot else { continue };
            let (epoch, seen) = self.0.entry(client.name.clone()).or_default();
            if *epoch != boot.epoch {
                (*epoch, *seen) = (boot.epoch.clone(), HashSet::new());
                out.push_str(&format!("{}  {} boots\n", moment(boot.started), client.name));
            }
            // Of some it is known only later that they were: they are not always the last.
            let line =
                |step: &BootStep| format!("{:>12}  {}: {}\n", seconds(step.after), client.name, step.text());
            let lines = boot.steps.iter().map(line).filter(|line| seen.insert(line.clone()));
            lines.for_each(|line| out.push_str(&line));
        }
        out
    }
}

fn describe(status: &Status, one: bool, paint: Paint) -> String {
    if let (true, Some(client)) = (one, status.clients.first()) {
        return timeline(client, paint);
    }
    let server = &status.server;
    let mut about = vec![
        ("server", format!("{}, bootd {}, process {}", server.name, server.version, server.pid)),
        ("since", moment(server.started)),
        ("disks by", server.engine.clone()),
        ("serves", server.serves.join("\n")),
        ("site", site_state(server)),
    ];
    if !server.warnings.is_empty() {
        about.push(("warnings", server.warnings.join("\n")));
    }
    let mut out = facts(&about);
    let row = |client: &ClientStatus| {
        let last = client.boot.as_ref().and_then(|boot| boot.steps.last());
        let disk = client.disk.as_ref();
        [
            client.name.to_string(),
            address(client),
            client.boot.as_ref().map_or_else(|| "never".to_owned(), |boot| moment(boot.started)),
            last.map_or_else(
                || "-".to_owned(),
                |step| format!("{} after {}", cut(&step.what), seconds(step.after)),
            ),
            disk.map_or_else(|| "-".to_owned(), |disk| disk.image.clone()),
            disk.map_or_else(
                || "-".to_owned(),
                |disk| format!("{} of {}", show_size(disk.used), show_size(disk.limit)),
            ),
            client.boot.as_ref().map_or_else(|| "-".to_owned(), |boot| boots::state(boot, paint)),
        ]
    };
    out.push('\n');
    if status.clients.is_empty() {
        out.push_str(NO_CLIENTS);
    } else {
        let mut clients: Vec<&ClientStatus> = status.clients.iter().collect();
        // Who needs help first; the others by name, as they came.
        clients.sort_by_key(|client| !client.boot.as_ref().is_some_and(needs_help));
        let rows: Vec<_> = clients.iter().map(|client| row(client)).collect();
        out.push_str(&table(
            ["CLIENT", "ADDRESS", "LAST BOOT", "LAST STEP", "IMAGE", "WRITTEN", "STATE"],
            &rows,
        ));
        if let Some(client) = clients.first().filter(|client| client.boot.as_ref().is_some_and(needs_help)) {
            out.push_str(&format!("Why, and what to do: bootd boots {} --boot 1\n", client.name));
        }
    }
    if !status.caches.is_empty() {
        let rows: Vec<_> = status
            .caches
            .iter()
            .map(|cache| {
                let all = cache.hits + cache.misses;
                let share = (cache.hits * 100).checked_div(all).map_or("-".to_owned(), |p| format!("{p}%"));
                [
                    cache.image.clone(),
                    cache.version.clone(),
                    share,
                    cache.hits.to_string(),
                    cache.misses.to_string(),
                ]
            })
            .collect();
        out.push('\n');
        out.push_str(&table(["CACHED IMAGE", "VERSION", "HIT RATE", "HITS", "MISSES"], &rows));
    }
    if !status.events.is_empty() {
        out.push_str("\nLatest events:\n");
        for event in status.events.iter().rev().take(10).rev() {
            out.push_str(&format!("{}  {}\n", moment(event.at), event.text));
        }
    }
    out
}

/// The address that it has, or where the next one comes from.
fn address(client: &ClientStatus) -> String {
    let seen = client.seen.map(|seen| seen.address);
    let known = client.address.or(seen).or(client.reserved);
    known.map_or_else(|| client.source.to_string(), |address| address.to_string())
}

/// The site's database.
fn site_state(server: &ServerStatus) -> String {
    let mut out = match &server.store {
        StoreState::Online => format!("revision {}, database online", server.revision),
        StoreState::Offline { since, reason } => {
            let since = moment(u64::try_from(since.as_millisecond()).unwrap_or_default());
            format!(
                "revision {}, from the local copy; the database is offline since {since}: {reason}",
                server.revision
            )
        }
    };
    if server.inactive > 0 {
        out.push_str(&format!("\n{} entities are stored but not served: bootd site list", server.inactive));
    }
    out
}

/// One client's last boot.
fn timeline(client: &ClientStatus, paint: Paint) -> String {
    let mut out = facts(&[
        ("client", client.name.to_string()),
        ("MAC", client.mac.to_string()),
        ("address", client.reserved.map_or_else(|| client.source.to_string(), |own| own.to_string())),
        ("is at", whereabouts(client.address, client.seen.as_ref())),
        (
            "disk",
            client.disk.as_ref().map_or_else(
                || "none".to_owned(),
                |disk| {
                    format!(
                        "{} version {}, {} of {} written",
                        disk.image,
                        disk.version,
                        show_size(disk.used),
                        show_size(disk.limit)
                    )
                },
            ),
        ),
    ]);
    match &client.boot {
        Some(boot) => out.push_str(&format!("\nLast boot: {}", boots::timeline(boot, paint))),
        None => out.push_str(&format!("\n{}", boots::never(client.name.as_str()))),
    }
    out
}

fn needs_help(boot: &BootStatus) -> bool {
    boot.findings.iter().any(|finding| finding.stops)
}

/// As much of a step as a table has room for.
fn cut(text: &str) -> String {
    if text.chars().count() <= STEP_WIDTH {
        return text.to_owned();
    }
    text.chars().take(STEP_WIDTH - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use netboot::Progress;

    use crate::whereabouts::{AddressSource, Sighting, Sign};

    fn status(epoch: &str, steps: usize) -> Status {
        let step = |n| BootStep {
            after: n as u64 * 1500,
            what: format!("step {n}"),
            detail: String::new(),
            failed: false,
        };
        Status {
            server: ServerStatus {
                name: "srv".into(),
                version: "1".into(),
                pid: 1,
                started: 0,
                engine: "sim".into(),
                revision: 1,
                store: StoreState::Online,
                inactive: 0,
                serves: vec!["DHCP on eth1".into()],
                warnings: vec!["the disk of pc1 is 96 % full".into()],
                counters: [].into(),
            },
            clients: vec![ClientStatus {
                name: "pc1".parse().unwrap(),
                mac: "52:54:00:77:00:01".parse().unwrap(),
                address: None,
                seen: None,
                reserved: None,
                source: AddressSource::Pool,
                boot: Some(BootStatus {
                    epoch: epoch.into(),
                    started: 0,
                    progress: Progress::Booting,
                    phases: vec![],
                    left_out: 0,
                    findings: vec![],
                    steps: (0..steps).map(step).collect(),
                }),
                disk: None,
            }],
            caches: vec![],
            events: vec![],
        }
    }

    #[test]
    fn watching_prints_each_step_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.news(&status("a", 1)).lines().count(), 2, "the boot and its step");
        assert_eq!(watch.news(&status("a", 1)), "");
        assert_eq!(watch.news(&status("a", 2)), "     1.500 s  pc1: step 1\n");
        assert_eq!(watch.news(&status("b", 1)).lines().count(), 2, "another boot begins anew");
    }

    #[test]
    fn a_database_that_is_gone_is_told_with_since_and_why() {
        let mut all = status("a", 1);
        let reason = "connection refused".to_owned();
        all.server.store = StoreState::Offline { since: jiff::Timestamp::UNIX_EPOCH, reason };
        all.server.inactive = 2;
        let text = describe(&all, false, Paint::PLAIN);
        for wanted in ["revision 1, from the local copy", "19", "connection refused", "2 entities are stored"]
        {
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn tables_name_every_client() {
        let all = describe(&status("a", 2), false, Paint::PLAIN);
        assert!(all.contains("pc1") && all.contains("step 1 after 1.500 s"), "{all}");
        assert!(all.contains("warnings") && all.contains("96 % full"), "{all}");
        let none = describe(&Status { clients: vec![], ..status("a", 2) }, false, Paint::PLAIN);
        assert!(none.contains("bootd client add") && !none.contains("LAST BOOT"), "{none}");
        let one = describe(&status("a", 2), true, Paint::PLAIN);
        assert!(one.contains("from the pool"), "{one}");
        assert!(one.contains("epoch a") && one.contains("1.500 s  step 1"), "{one}");

        let mut beside = status("a", 2);
        let client = &mut beside.clients[0];
        client.source = AddressSource::OtherServer;
        assert!(describe(&beside, false, Paint::PLAIN).contains("from the other DHCP server"));
        beside.clients[0].seen = Some(Sighting { address: [10, 0, 0, 41].into(), by: Sign::Visit, at: 0 });
        assert!(describe(&beside, false, Paint::PLAIN).contains("10.0.0.41"));
        let one = describe(&beside, true, Paint::PLAIN);
        assert!(one.contains("10.0.0.41: it fetched something from there at 19"), "{one}");
    }
}
