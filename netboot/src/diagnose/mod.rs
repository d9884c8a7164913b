//! Why a boot did not come further, or took so long: causes that can be told from its timeline, each with what to do.
//!
//! A rule says only what the timeline shows. Where it shows the same for several causes, the text names all of them, the
//! likeliest first. What stops the boot comes before what only slows it down.

mod address;
mod disk;
mod fetching;
mod slow;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::progress::Progress;
use crate::session::{Boot, Step};
use crate::step::{Fetch, StepKind};

/// What is wrong, as a word for programs. `docs/troubleshooting.md` has each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// It asked, and policy or want of addresses left it without an answer.
    NotAnswered,
    /// It was told that it must not use its address.
    AddressRefused,
    /// It was made offers and took none.
    OfferNotTaken,
    /// It took another server's address, and does not boot from here.
    OtherServer,
    /// It has its address and fetched nothing.
    NothingFetched,
    /// Its switch port let nothing through for half a minute.
    SpanningTree,
    /// Transfers stall.
    TransferStalls,
    /// It asked for a file that is not there.
    FileMissing,
    /// It asked for what it may not have.
    Refused,
    /// The same boot program is fetched again and again.
    BootLoop,
    /// The boot program was fetched and never heard of again.
    ProgramHangs,
    /// iPXE has an address and did not fetch its script.
    NoScript,
    /// The script or the disk could not be made.
    ScriptFailed,
    /// Its disk was not there when it last asked for it.
    DiskSlow,
    /// It has its script and did not log in.
    NoLogin,
    /// It could not prove who it is.
    ChapRefused,
    /// It was not let in for another reason.
    LoginRefused,
    /// The operating system did not log in.
    NoSecondLogin,
    /// What it may write is used up.
    DiskFull,
    /// Its disk failed.
    DiskFailed,
    /// A part of the boot took far longer than it used to.
    Slow,
    /// It stopped where no rule knows why.
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What is wrong with a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// In a word.
    pub cause: Cause,
    /// Whether it stops the boot; else it only costs time, or may yet pass.
    pub stops: bool,
    /// In a sentence or two.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// The steps that show it: when, in milliseconds after the boot's start, and what.
    pub evidence: Vec<(u64, String)>,
}

/// What is wrong with `boot`, seen at `now_ms`. `earlier` are boots of the same machine before it, the newest first. Empty
/// for a boot that goes well.
#[must_use]
pub fn diagnose(boot: &Boot, earlier: &[&Boot], now_ms: u64) -> Vec<Finding> {
    let view = View { boot, earlier, stalled: boot.progress(now_ms) == Progress::Stalled };
    let mut findings: Vec<Finding> = RULES.iter().filter_map(|rule| rule(&view)).collect();
    if view.stalled && !findings.iter().any(|finding| finding.stops) {
        findings.push(view.unknown());
    }
    findings.sort_by_key(|finding| !finding.stops);
    findings
}

type Rule = fn(&View) -> Option<Finding>;

/// Of what stops a boot, what happened later comes first.
const RULES: [Rule; 21] = [
    disk::full,
    disk::failed,
    disk::no_second_login,
    disk::login_refused,
    disk::no_login,
    disk::slow,
    disk::script_failed,
    fetching::refused,
    fetching::nothing_to_boot,
    fetching::missing,
    fetching::stalls,
    fetching::loops,
    fetching::program_hangs,
    fetching::no_script,
    fetching::nothing,
    address::other_server,
    address::offer_not_taken,
    address::refused,
    address::not_answered,
    address::spanning_tree,
    slow::slow,
];

/// A boot as the rules look at it.
struct View<'a> {
    boot: &'a Boot,
    earlier: &'a [&'a Boot],
    stalled: bool,
}

impl<'a> View<'a> {
    fn has(&self, wanted: impl Fn(&StepKind) -> bool) -> bool {
        self.boot.steps.iter().any(|step| wanted(&step.kind))
    }

    /// The steps of that kind.
    fn all(&self, wanted: impl Fn(&StepKind) -> bool) -> Vec<&'a Step> {
        self.boot.steps.iter().filter(|step| wanted(&step.kind)).collect()
    }

    /// The last step of that kind, if nothing of the other kind came after it.
    fn last_before(
        &self,
        wanted: impl Fn(&StepKind) -> bool,
        over: impl Fn(&StepKind) -> bool,
    ) -> Option<&'a Step> {
        self.boot.steps.iter().rev().take_while(|step| !over(&step.kind)).find(|step| wanted(&step.kind))
    }

    fn finding(&self, cause: Cause, evidence: &[&Step], what: String, remedy: &str) -> Finding {
        let told = |step: &&Step| {
            let Step { at_ms, kind, detail } = step;
            let text = if detail.is_empty() { kind.to_string() } else { format!("{kind}: {detail}") };
            (at_ms.saturating_sub(self.boot.started_ms), text)
        };
        // The first of many is where it began, the last is how it is.
        let shown: Vec<_> = match evidence {
            [first, .., before, last] => [first, before, last].into_iter().map(told).collect(),
            few => few.iter().map(told).collect(),
        };
        Finding { cause, stops: true, what, remedy: remedy.to_owned(), evidence: shown }
    }

    fn unknown(&self) -> Finding {
        let last: Vec<&Step> = self.boot.steps.last().into_iter().collect();
        self.finding(
            Cause::Unknown,
            &last,
            "It stopped here, and nothing in its timeline says why.".into(),
            "Look at its screen. Where the network may be at fault, see what it sends and gets: bootd capture MAC.",
        )
    }
}

/// The fetch in it, by TFTP or HTTP.
fn fetch(kind: &StepKind) -> Option<&Fetch> {
    match kind {
        StepKind::TftpFile(fetch) | StepKind::HttpFile(fetch) => Some(fetch),
        _ => None,
    }
}

/// That a file came whole.
fn has_come(kind: &StepKind) -> bool {
    fetch(kind).is_some_and(Fetch::is_complete)
}

/// That the boot got past the fetching of files.
fn is_past_fetching(kind: &StepKind) -> bool {
    matches!(kind, StepKind::Script | StepKind::Waits | StepKind::ScriptFailed | StepKind::Login(_))
}
