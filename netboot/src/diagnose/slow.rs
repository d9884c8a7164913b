//! A part of the boot that took far longer than it used to on the same machine.

use super::{Cause, Finding, View};
use crate::progress::Phase;

/// How many earlier boots it takes to know what is usual.
const ENOUGH: usize = 3;

/// How much longer than usual is slow: this many times as long, and at least so many milliseconds more.
const TIMES: u64 = 2;
const MORE_MS: u64 = 5000;

/// Machines differ so much that only their own past says what is slow.
pub(super) fn slow(view: &View) -> Option<Finding> {
    let mut slowest: Option<(u64, Phase, u64, u64)> = None;
    for (phase, took) in view.boot.phases() {
        let mut before: Vec<u64> = view
            .earlier
            .iter()
            .filter_map(|boot| boot.phases().into_iter().find(|(other, _)| *other == phase))
            .map(|(_, took)| took)
            .collect();
        if before.len() < ENOUGH {
            continue;
        }
        before.sort_unstable();
        let usual = before.get(before.len() / 2).copied().unwrap_or_default();
        let more = took.saturating_sub(usual);
        if took > TIMES * usual && more >= MORE_MS && slowest.is_none_or(|(most, ..)| more > most) {
            slowest = Some((more, phase, took, usual));
        }
    }
    let (_, phase, took, usual) = slowest?;
    let (part, remedy) = match phase {
        Phase::Address => (
            "until it had an address",
            "Look at the switch port (spanning tree, link negotiation) and for a DHCP server that has become slow.",
        ),
        Phase::Program => {
            ("until its boot program was there", "Look for lost packets: the steps say what was sent again.")
        }
        Phase::Script => (
            "from its boot program to its script",
            "Look at the switch port, which a boot program with drivers of its own takes down once more, and at the load \
             of this server.",
        ),
        Phase::Disk => {
            ("from its script to its disk", "If there is a menu, its user may have taken that time.")
        }
        Phase::System => (
            "from its disk to its operating system",
            "Look at the load of this server and of its network. Windows sends what it reads by the gateway if the iBFT \
             names one, even to a server on its own subnet (ipxe/ipxe#1599).",
        ),
        Phase::Write => {
            ("until its operating system wrote", "Look at the load of this server and of its network.")
        }
    };
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    let what = format!("It took {} {part}, which used to take {}.", seconds(took), seconds(usual));
    Some(Finding { stops: false, ..view.finding(Cause::Slow, &[], what, remedy) })
}
