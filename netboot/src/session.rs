//! One boot of one machine: its epoch and its timeline.
//!
//! Only a rendered script makes a disk, so only a rendered script decides what the disk's epoch is; a DISCOVER, which
//! anyone can forge, merely opens a page of the timeline. The rules:
//!
//! - A firmware's DISCOVER opens a boot; repeated before anything else has happened, it is the same boot.
//! - iPXE's DISCOVER belongs to the open boot if that is young and has no script yet; else (the card's ROM is iPXE)
//!   it opens one.
//! - The first script of an open boot is that boot's. A script rendered again, or without a boot, opens one.
//! - An operating system's DHCP opens nothing.

use std::collections::{BTreeSet, HashMap, VecDeque};

use dhcproto::v4::MessageType;
use serde::{Deserialize, Serialize};
use site::MacAddr;

use crate::decision::{Decision, DhcpEvent};
use crate::pxe::Stage;

/// How long after its first DISCOVER a boot still waits for its iPXE, in milliseconds. A later iPXE is another boot.
const OPEN_FOR_MS: u64 = 120_000;

/// Machines whose boots are remembered. Beyond, the one that was silent longest is forgotten, machines that never had
/// a script before all others: a flood of made-up machines pushes out itself, and takes some 100 MB at worst.
const MAX_MACHINES: usize = 4096;

/// Boots that are remembered of one machine. Beyond, the oldest without a script is forgotten, or the oldest; never
/// the latest that had a script, since that one is running.
const MAX_BOOTS: usize = 8;

/// Steps that are kept of one boot. Further ones are only counted.
const MAX_STEPS: usize = 128;

/// How many of them may be DHCP's, so that a flood of forged requests doesn't keep the rest of the boot out.
const MAX_DHCP_STEPS: usize = 32;

/// How much of a step's text is kept, in characters.
const MAX_DETAIL_LEN: usize = 300;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepKind {
    /// The machine asked for an address.
    Discover,
    /// It was offered one.
    Offer,
    /// It was given one.
    Ack,
    /// It was told that it must not use one.
    Nak,
    /// It asked and got no answer.
    Silence,
    /// It fetched a file by TFTP.
    TftpFile {
        /// The file's name.
        path: String,
        /// How much was sent, in bytes.
        bytes: u64,
    },
    /// It fetched a file by HTTP.
    HttpFile {
        /// The file's name.
        path: String,
        /// How much was sent, in bytes.
        bytes: u64,
    },
    /// Its script was rendered and its disk made.
    Script,
    /// It logged in to its disk, for the so-manieth time: iPXE first, then the operating system.
    Login(u32),
    /// It wrote to its disk for the first time.
    FirstWrite,
    /// It logged out of its disk.
    Logout,
    /// bootd was restarted and took its disk back as it was.
    Adopted,
    /// Something went wrong.
    Failed,
}

impl StepKind {
    fn is_dhcp(&self) -> bool {
        matches!(self, Self::Discover | Self::Offer | Self::Ack | Self::Nak | Self::Silence)
    }

    /// Whether the machine is no further than looking for an address.
    fn is_search(&self) -> bool {
        matches!(self, Self::Discover | Self::Offer | Self::Silence)
    }
}

/// One step of a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: StepKind,
    /// More of it, for people.
    pub detail: String,
}

/// One boot of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Which: milliseconds since 1970 at its start, made larger than every earlier one.
    pub epoch: u64,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// Whether its script was rendered, and with that its disk made.
    pub scripted: bool,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// How many more steps there were than are kept.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Machine {
    /// In the order of their epochs.
    boots: VecDeque<Boot>,
    seen_ms: u64,
}

/// The boots of all machines, as far as they are remembered. Times are milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Boots {
    machines: HashMap<MacAddr, Machine>,
    /// All machines in the order in which they are to be forgotten.
    idle: BTreeSet<(bool, u64, MacAddr)>,
    last_epoch: u64,
}

impl Boots {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over the boot of a disk that outlived the last process. Later epochs will be larger.
    pub fn adopt(&mut self, mac: MacAddr, epoch: u64, now_ms: u64) {
        self.last_epoch = self.last_epoch.max(epoch);
        let boot = Boot { epoch, started_ms: epoch, scripted: true, steps: Vec::new(), left_out: 0 };
        self.edit(mac, now_ms, |machine| {
            let at = machine.boots.partition_point(|other| other.epoch < epoch);
            if machine.boots.get(at).is_none_or(|other| other.epoch != epoch) {
                machine.insert(at, boot);
            }
        });
        self.record_at(mac, epoch, StepKind::Adopted, "", now_ms);
    }

    /// Notes a DHCP exchange, and opens a boot if it begins one.
    pub fn on_dhcp(&mut self, event: &DhcpEvent, now_ms: u64) {
        let mac = event.asker.mac;
        if event.asker.stage == Stage::Other {
            return;
        }
        if event.asked == Some(MessageType::Discover) {
            self.on_discover(mac, event.asker.stage, now_ms);
            let who = match event.asker.firmware {
                Some(firmware) => format!("{}, {firmware}", event.asker.stage),
                None => event.asker.stage.to_string(),
            };
            self.record(mac, StepKind::Discover, &who, now_ms);
        }
        // That a proxy leaves an exchange to the server is no silence that anyone suffers from.
        if event.decision == Decision::LeftToServer {
            return;
        }
        let kind = match (event.answered, event.asked) {
            (Some(MessageType::Offer), _) => StepKind::Offer,
            (Some(MessageType::Ack), _) => StepKind::Ack,
            (Some(_), _) => StepKind::Nak,
            (None, Some(MessageType::Discover | MessageType::Request)) => StepKind::Silence,
            (None, _) => return,
        };
        self.record(mac, kind, &event.decision.to_string(), now_ms);
    }

    /// Opens a boot if a DISCOVER at that stage begins one, and says which boot the machine is in.
    pub fn on_discover(&mut self, mac: MacAddr, stage: Stage, now_ms: u64) -> Option<u64> {
        let current = self.current(mac);
        let young = |boot: &&Boot| !boot.scripted && now_ms.saturating_sub(boot.started_ms) < OPEN_FOR_MS;
        let joined = match stage {
            Stage::Other => return current.map(|boot| boot.epoch),
            Stage::Ipxe => current.filter(young),
            Stage::Firmware => {
                current.filter(young).filter(|boot| boot.steps.iter().all(|step| step.kind.is_search()))
            }
        };
        match joined {
            Some(boot) => Some(boot.epoch),
            None => Some(self.open(mac, now_ms)),
        }
    }

    /// Says which boot a script that is being rendered belongs to. From now on that boot has its script: its epoch
    /// is the disk's.
    pub fn on_script(&mut self, mac: MacAddr, now_ms: u64) -> u64 {
        let epoch = match self.current(mac) {
            Some(boot) if !boot.scripted => boot.epoch,
            _ => self.open(mac, now_ms),
        };
        self.edit(mac, now_ms, |machine| {
            if let Some(boot) = machine.boots.back_mut() {
                boot.scripted = true;
            }
        });
        self.record_at(mac, epoch, StepKind::Script, "", now_ms);
        epoch
    }

    /// Notes a login to the disk of that boot, and says the so-manieth it is.
    pub fn on_login(&mut self, mac: MacAddr, epoch: u64, detail: &str, now_ms: u64) -> u32 {
        let earlier = self.boot(mac, epoch).map_or(0, |boot| {
            boot.steps.iter().filter(|step| matches!(step.kind, StepKind::Login(_))).count()
        });
        let number = u32::try_from(earlier).unwrap_or(u32::MAX).saturating_add(1);
        self.record_at(mac, epoch, StepKind::Login(number), detail, now_ms);
        number
    }

    /// Notes a step of the machine's current boot. `false`: it has none.
    pub fn record(&mut self, mac: MacAddr, kind: StepKind, detail: &str, now_ms: u64) -> bool {
        match self.current(mac).map(|boot| boot.epoch) {
            Some(epoch) => self.record_at(mac, epoch, kind, detail, now_ms),
            None => false,
        }
    }

    /// Notes a step of the boot with that epoch. A second first write is no step. `false`: the boot isn't known.
    pub fn record_at(&mut self, mac: MacAddr, epoch: u64, kind: StepKind, detail: &str, now_ms: u64) -> bool {
        if self.boot(mac, epoch).is_none() {
            return false;
        }
        self.edit(mac, now_ms, |machine| {
            if let Some(boot) = machine.boots.iter_mut().find(|boot| boot.epoch == epoch) {
                boot.push(Step {
                    at_ms: now_ms,
                    kind,
                    detail: detail.chars().take(MAX_DETAIL_LEN).collect(),
                });
            }
        });
        true
    }

    /// The boot that the machine is in, or its last.
    #[must_use]
    pub fn current(&self, mac: MacAddr) -> Option<&Boot> {
        self.machines.get(&mac)?.boots.back()
    }

    /// The boot with that epoch.
    #[must_use]
    pub fn boot(&self, mac: MacAddr, epoch: u64) -> Option<&Boot> {
        self.machines.get(&mac)?.boots.iter().rev().find(|boot| boot.epoch == epoch)
    }

    /// What is remembered of a machine's boots, the newest first.
    pub fn history(&self, mac: MacAddr) -> impl Iterator<Item = &Boot> {
        self.machines.get(&mac).into_iter().flat_map(|machine| machine.boots.iter().rev())
    }

    /// All machines with a remembered boot, in no order.
    pub fn machines(&self) -> impl Iterator<Item = MacAddr> {
        self.machines.keys().copied()
    }

    fn open(&mut self, mac: MacAddr, now_ms: u64) -> u64 {
        let epoch = now_ms.max(self.last_epoch.saturating_add(1));
        self.last_epoch = epoch;
        let boot = Boot { epoch, started_ms: now_ms, scripted: false, steps: Vec::new(), left_out: 0 };
        self.edit(mac, now_ms, |machine| machine.insert(machine.boots.len(), boot));
        epoch
    }

    /// Changes what is known of a machine, and its place in the order of forgetting.
    fn edit(&mut self, mac: MacAddr, now_ms: u64, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get(&mac) {
            self.idle.remove(&machine.rank(mac));
        } else if self.machines.len() >= MAX_MACHINES
            && let Some((_, _, idlest)) = self.idle.pop_first()
        {
            self.machines.remove(&idlest);
        }
        let machine = self.machines.entry(mac).or_default();
        change(machine);
        machine.seen_ms = now_ms;
        self.idle.insert(machine.rank(mac));
    }
}

impl Machine {
    fn rank(&self, mac: MacAddr) -> (bool, u64, MacAddr) {
        (self.boots.iter().any(|boot| boot.scripted), self.seen_ms, mac)
    }

    fn insert(&mut self, at: usize, boot: Boot) {
        self.boots.insert(at, boot);
        if self.boots.len() > MAX_BOOTS {
            // If all that came before have scripts, the one that is running is not the oldest.
            let earlier = self.boots.len() - 1;
            let unscripted = self.boots.iter().take(earlier).position(|boot| !boot.scripted);
            self.boots.remove(unscripted.unwrap_or(0));
        }
    }
}

impl Boot {
    fn push(&mut self, step: Step) {
        if step.kind == StepKind::FirstWrite && self.steps.iter().any(|s| s.kind == StepKind::FirstWrite) {
            return;
        }
        let dhcp = self.steps.iter().filter(|step| step.kind.is_dhcp()).count();
        if self.steps.len() >= MAX_STEPS || (step.kind.is_dhcp() && dhcp >= MAX_DHCP_STEPS) {
            self.left_out += 1;
        } else {
            self.steps.push(step);
        }
    }
}
