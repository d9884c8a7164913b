//! `bootd boots`, and how boots are shown everywhere.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use netboot::{Finding, Phase, Progress};

use super::args::{Common, Machine};
use super::daemon::Daemon;
use super::paint::{Paint, wrap};
use super::table::table;
use super::when::{moment, seconds};
use super::{Failure, print, show};
use crate::control::api::{BootHistory, BootStatus, BootStep};

/// How often `--follow` looks.
const PERIOD: Duration = Duration::from_millis(300);

/// Where a step's text begins: behind its time.
const TEXT: usize = 14;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    bootd boots pc1                        its last boots, a line each\n  \
    bootd boots pc1 --boot 1               the latest, step by step, and what went wrong\n  \
    bootd boots 52:54:00:77:00:01 --last 3\n  \
    bootd boots pc1 --follow               go on, and print each step as it happens")]
pub(super) struct BootsCommand {
    /// A client's name, or a machine's MAC address
    #[arg(value_name = "CLIENT")]
    machine: Machine,
    /// Only so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    last: Option<u16>,
    /// This one, step by step; 1 is the latest
    #[arg(long, value_name = "K", conflicts_with_all = ["last", "follow"],
          value_parser = clap::value_parser!(u16).range(1..))]
    boot: Option<u16>,
    /// Go on, and print each step as it happens
    #[arg(long, conflicts_with_all = ["last", "json"])]
    follow: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(boots: BootsCommand) -> Result<(), Failure> {
    let daemon = Daemon::of(&boots.common.place.flags())?;
    let path = format!("/boots/{}", boots.machine);
    let paint = Paint::of_output();
    if boots.follow {
        return follow(&daemon, &path, paint).await;
    }
    let most = boots.boot.or(boots.last);
    let path = most.map_or_else(|| path.clone(), |most| format!("{path}?last={most}"));
    let mut history: BootHistory = daemon.get(&path).await?;
    let Some(number) = boots.boot else {
        return show(boots.common.json, &history, |history| list(history, paint));
    };
    let there = history.boots.len();
    if there < usize::from(number) {
        return Err(Failure {
            error: format!("boot {number} of {} is not remembered; there are {there}", boots.machine),
            hint: Some(match there {
                0 => never(&boots.machine.to_string()).replace('\n', " ").trim_end().to_owned(),
                _ => format!("list them with: bootd boots {}", boots.machine),
            }),
        });
    }
    let boot = history.boots.swap_remove(usize::from(number) - 1);
    show(boots.common.json, &boot, |boot| timeline(boot, paint))
}

/// What is printed of a machine of which nothing is known.
pub(super) fn never(machine: &str) -> String {
    let text = format!(
        "No boot of {machine} is remembered: not one DHCP request of it has come. Is it switched on, with network boot \
         before its disks? Is its cable in a port of the network that bootd serves (bootd status says which), or is there \
         a relay that knows this server? See what comes: bootd capture {machine}"
    );
    format!("{}\n", wrap(&text, 0))
}

fn list(history: &BootHistory, paint: Paint) -> String {
    let mac = history.mac.to_string();
    let name = history.client.as_ref().map_or(mac.as_str(), |name| name.as_str());
    if history.boots.is_empty() {
        return never(name);
    }
    const PHASES: [Phase; 6] =
        [Phase::Address, Phase::Program, Phase::Script, Phase::Disk, Phase::System, Phase::Write];
    let row = |(at, boot): (usize, &BootStatus)| {
        let [address, program, script, disk, system, write] = PHASES.map(|phase| {
            let took = boot.phases.iter().find(|time| time.phase == phase);
            took.map_or_else(|| "-".to_owned(), |time| short(time.took))
        });
        let number = (at + 1).to_string();
        [number, moment(boot.started), address, program, script, disk, system, write, state(boot, paint)]
    };
    let rows: Vec<_> = history.boots.iter().enumerate().map(row).collect();
    let head = ["BOOT", "STARTED", "ADDRESS", "PROGRAM", "SCRIPT", "DISK", "SYSTEM", "WRITE", "RESULT"];
    let mut out = table(head, &rows);
    out.push_str(&paint.faint(&format!(
        "Times are how long each part took, in seconds. One boot step by step: bootd boots {name} --boot 1\n"
    )));
    out
}

/// How a boot stands, and what is wrong with it, in a few words.
pub(super) fn state(boot: &BootStatus, paint: Paint) -> String {
    let stops = boot.findings.iter().find(|finding| finding.stops);
    match (boot.progress, stops) {
        (Progress::Stalled, Some(finding)) => paint.bad(&format!("stalled: {}", finding.cause)),
        (progress, Some(finding)) => paint.bad(&format!("{progress}: {}", finding.cause)),
        (progress, None) => {
            let causes: Vec<String> = boot.findings.iter().map(|finding| finding.cause.to_string()).collect();
            let text = if causes.is_empty() {
                progress.to_string()
            } else {
                format!("{progress}, {}", causes.join(", "))
            };
            match progress {
                Progress::Running if causes.is_empty() => paint.good(&text),
                Progress::Stalled => paint.bad(&text),
                _ if causes.is_empty() => text,
                _ => paint.warning(&text),
            }
        }
    }
}

/// One boot, step by step.
pub(super) fn timeline(boot: &BootStatus, paint: Paint) -> String {
    let head = format!("{} (epoch {})", moment(boot.started), boot.epoch);
    let mut out = format!("{}  {}\n", paint.strong(&head), state(boot, paint));
    boot.steps.iter().for_each(|step| out.push_str(&line(step, paint)));
    if boot.left_out > 0 {
        out.push_str(&paint.faint(&format!("{:>12}  {} more steps are not kept\n", "", boot.left_out)));
    }
    if !boot.phases.is_empty() {
        let phases: Vec<String> =
            boot.phases.iter().map(|time| format!("{} {} s", time.phase, short(time.took))).collect();
        out.push_str(&paint.faint(&format!("{:>12}  {}\n", "took", phases.join(", "))));
    }
    boot.findings.iter().for_each(|finding| out.push_str(&told(finding, paint)));
    out
}

fn line(step: &BootStep, paint: Paint) -> String {
    let text = wrap(&step.text(), TEXT);
    let text = if step.failed { paint.bad(&text) } else { text };
    format!("{}  {text}\n", paint.faint(&format!("{:>12}", seconds(step.after))))
}

fn told(finding: &Finding, paint: Paint) -> String {
    let cause = finding.cause.to_string();
    let cause = if finding.stops { paint.bad(&cause) } else { paint.warning(&cause) };
    let mut out = format!("\n{:>12}  {}\n", "cause", paint.strong(&wrap(&finding.what, TEXT)));
    for (after, what) in &finding.evidence {
        let seen = wrap(&format!("at {}: {what}", seconds(*after)), TEXT);
        out.push_str(&format!("{:>12}  {}\n", "", paint.faint(&seen)));
    }
    out.push_str(&format!("{:>12}  {}\n", "remedy", wrap(&finding.remedy, TEXT)));
    out.push_str(&format!("{:>12}  {cause}\n", "known as"));
    out
}

/// Seconds with one digit behind the point.
fn short(millis: u64) -> String {
    format!("{}.{}", millis / 1000, millis % 1000 / 100)
}

async fn follow(daemon: &Daemon, path: &str, paint: Paint) -> Result<(), Failure> {
    let path = format!("{path}?last=1");
    let mut seen = Seen::default();
    loop {
        let history: BootHistory = daemon.get(&path).await?;
        print(&seen.news(&history, paint))?;
        tokio::time::sleep(PERIOD).await;
    }
}

/// What has been printed of a machine's boot.
#[derive(Debug, Default)]
struct Seen {
    epoch: String,
    steps: HashSet<String>,
    findings: Vec<Finding>,
}

impl Seen {
    fn news(&mut self, history: &BootHistory, paint: Paint) -> String {
        let Some(boot) = history.boots.first() else { return String::new() };
        let mut out = String::new();
        if self.epoch != boot.epoch {
            *self = Self { epoch: boot.epoch.clone(), ..Self::default() };
            out.push_str(&format!("{} boots\n", paint.strong(&moment(boot.started))));
        }
        // Of some it is known only later that they were: they are not always the last.
        let lines = boot.steps.iter().map(|step| line(step, paint));
        lines.filter(|line| self.steps.insert(line.clone())).for_each(|line| out.push_str(&line));
        let new = |finding: &&Finding| !self.findings.iter().any(|old| old.cause == finding.cause);
        boot.findings.iter().filter(new).for_each(|finding| out.push_str(&told(finding, paint)));
        self.findings.clone_from(&boot.findings);
        out
    }
}

impl BootStep {
    /// It in one line.
    pub(super) fn text(&self) -> String {
        if self.detail.is_empty() { self.what.clone() } else { format!("{}: {}", self.what, self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use netboot::Cause;

    use super::*;
    use crate::control::api::PhaseTime;

    fn boot(steps: usize, findings: Vec<Finding>) -> BootStatus {
        let step = |n| BootStep {
            after: n as u64 * 1500,
            what: format!("step {n}"),
            detail: String::new(),
            failed: false,
        };
        BootStatus {
            epoch: "abc".into(),
            started: 0,
            progress: Progress::Stalled,
            phases: vec![PhaseTime { phase: Phase::Address, took: 4321 }],
            steps: (0..steps).map(step).collect(),
            left_out: 3,
            findings,
        }
    }

    fn finding() -> Finding {
        Finding {
            cause: Cause::ChapRefused,
            stops: true,
            what: "It was not let in.".into(),
            remedy: "Let it in.".into(),
            evidence: vec![(1500, "step 1".into())],
        }
    }

    fn history(boots: Vec<BootStatus>) -> BootHistory {
        BootHistory { mac: "52:54:00:77:00:01".parse().unwrap(), client: Some("pc1".parse().unwrap()), boots }
    }

    #[test]
    fn boots_are_a_line_each_and_one_is_told_whole() {
        let text = list(&history(vec![boot(2, vec![finding()]), boot(1, vec![])]), Paint::PLAIN);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.contains("stalled: chap-refused") && text.contains("4.3"), "{text}");
        let text = timeline(&boot(2, vec![finding()]), Paint::PLAIN);
        for wanted in [
            "     1.500 s  step 1\n",
            "3 more steps",
            "address 4.3 s",
            "cause  It was not",
            "remedy  Let it in",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let none = list(&history(vec![]), Paint::PLAIN);
        assert!(none.contains("bootd capture pc1") && none.lines().all(|line| line.len() <= 100), "{none}");
    }

    #[test]
    fn following_prints_each_step_and_finding_once() {
        let mut seen = Seen::default();
        let mut news = |boot| seen.news(&history(vec![boot]), Paint::PLAIN).lines().count();
        assert_eq!(news(boot(1, vec![])), 2, "the boot and its step");
        assert_eq!(news(boot(1, vec![])), 0);
        assert_eq!(news(boot(2, vec![])), 1);
        assert!(news(boot(2, vec![finding()])) > 3);
        assert_eq!(news(boot(2, vec![finding()])), 0);
        assert_eq!(
            news(BootStatus { epoch: "abd".into(), ..boot(1, vec![]) }),
            2,
            "another boot begins anew"
        );
    }
}
