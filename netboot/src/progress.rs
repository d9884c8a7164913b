//! How far a boot has come, how long each part of it took, and how it stands now.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pxe::Stage;
use crate::session::{Boot, Step};
use crate::step::StepKind;

const SECOND: u64 = 1000;

/// A part of a boot, ended by what it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Until it has an address.
    Address,
    /// Until its boot program is fetched.
    Program,
    /// Until its script is made: the boot program starts, has an address of its own and asks.
    Script,
    /// Until iPXE has its disk.
    Disk,
    /// Until the operating system has its disk: boot loader, kernel, drivers.
    System,
    /// Until the operating system writes.
    Write,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Program => "program",
            Self::Script => "script",
            Self::Disk => "disk",
            Self::System => "system",
            Self::Write => "write",
        })
    }
}

/// How a boot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It goes on.
    Booting,
    /// Nothing has come for longer than that part of a boot takes.
    Stalled,
    /// The operating system has its disk.
    Running,
    /// The operating system had its disk, and has left it.
    Ended,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Booting => "booting",
            Self::Stalled => "stalled",
            Self::Running => "running",
            Self::Ended => "ended",
        })
    }
}

impl Boot {
    /// What ended each phase that has ended, in order, and how many milliseconds after the boot's start that was.
    #[must_use]
    pub fn milestones(&self) -> Vec<(Phase, u64)> {
        let script = self.find(|kind| matches!(kind, StepKind::Script));
        let before_script = |step: &Step| script.is_none_or(|script| step.at_ms <= script);
        let program = self
            .steps
            .iter()
            .filter(|step| before_script(step))
            .filter(|step| match &step.kind {
                StepKind::TftpFile(fetch) | StepKind::HttpFile(fetch) => fetch.is_complete(),
                _ => false,
            })
            .map(|step| step.at_ms)
            .next_back();
        let found = [
            (
                Phase::Address,
                self.find(|k| {
                    matches!(k, StepKind::Ack { .. } | StepKind::Told { .. } | StepKind::ChoseOther { .. })
                }),
            ),
            (Phase::Program, program),
            (Phase::Script, script),
            (Phase::Disk, self.find(|kind| matches!(kind, StepKind::Login(1)))),
            (Phase::System, self.find(|kind| matches!(kind, StepKind::Login(2)))),
            (Phase::Write, self.find(|kind| matches!(kind, StepKind::FirstWrite))),
        ];
        let mut last = 0;
        let ended = found.into_iter().filter_map(|(phase, at)| Some((phase, at?)));
        ended
            .map(|(phase, at)| (phase, at.saturating_sub(self.started_ms)))
            // A boot loader that writes does so before the system logs in: what is out of order is no milestone.
            .filter(|(_, after)| {
                let in_order = last <= *after;
                last = last.max(*after);
                in_order
            })
            .collect()
    }

    /// How long each phase took that has ended, in milliseconds.
    #[must_use]
    pub fn phases(&self) -> Vec<(Phase, u64)> {
        let mut before = 0;
        let ended = self.milestones().into_iter();
        ended.map(|(phase, after)| (phase, after - std::mem::replace(&mut before, after))).collect()
    }

    /// How it stands at `now_ms`.
    #[must_use]
    pub fn progress(&self, now_ms: u64) -> Progress {
        let count = |of: fn(&StepKind) -> bool| self.steps.iter().filter(|step| of(&step.kind)).count();
        let logins = count(|kind| matches!(kind, StepKind::Login(_)));
        let ends = count(|kind| matches!(kind, StepKind::Logout | StepKind::Lost));
        // A disk that was taken back over a restart had its log-ins before, perhaps in a time that isn't remembered.
        let adopted = self.steps.first().is_some_and(|step| step.kind == StepKind::Adopted);
        if logins >= 2 || (adopted && logins >= 1) {
            return if logins > ends { Progress::Running } else { Progress::Ended };
        }
        let last = self.last_sign_ms();
        if now_ms.saturating_sub(last) < self.patience() { Progress::Booting } else { Progress::Stalled }
    }

    /// How long it may be silent now without being stalled, in milliseconds: twice what the slowest of that kind were
    /// seen to take.
    pub(crate) fn patience(&self) -> u64 {
        let last = self.steps.iter().rev().find(|step| step.kind != StepKind::Lost);
        match last.map(|step| &step.kind) {
            // A user may read a menu for as long as it has no time-out.
            Some(StepKind::Menu { .. }) => 3600 * SECOND,
            // PXE asks after 4, 8, 16 and 32 s (PXE 2.1, §2.2.2).
            Some(StepKind::Discover { .. } | StepKind::Offer { .. } | StepKind::Silence) | None => {
                40 * SECOND
            }
            Some(StepKind::Ack { stage: Stage::Firmware, .. } | StepKind::Told { .. }) => 20 * SECOND,
            Some(StepKind::ChoseOther { .. } | StepKind::Nak) => 20 * SECOND,
            // The boot program starts, takes the card over and waits for the link: 30 s where the switch holds it up.
            Some(StepKind::TftpFile(_) | StepKind::HttpFile(_)) => 60 * SECOND,
            // iPXE's connection is gone: the system has taken the card over and logs in soon, or never.
            Some(StepKind::Login(_)) if self.steps.last().is_some_and(|step| step.kind == StepKind::Lost) => {
                60 * SECOND
            }
            // A boot loader reads a kernel through the firmware, or an old Windows starts: a minute and more.
            Some(StepKind::Login(_) | StepKind::FirstWrite | StepKind::Adopted) => 180 * SECOND,
            Some(_) => 30 * SECOND,
        }
    }

    /// When something was last heard of it.
    pub(crate) fn last_sign_ms(&self) -> u64 {
        let signs = self.steps.iter().rev().filter(|step| step.kind != StepKind::Lost);
        signs.map(|step| step.at_ms).next().unwrap_or(self.started_ms)
    }

    fn find(&self, wanted: impl Fn(&StepKind) -> bool) -> Option<u64> {
        self.steps.iter().find(|step| wanted(&step.kind)).map(|step| step.at_ms)
    }
}
