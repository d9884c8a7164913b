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
use crate::step::StepKind;

/// How long after its first DISCOVER a boot still waits for its iPXE, in milliseconds. A later iPXE is another boot.
const OPEN_FOR_MS: u64 = 120_000;

/// Machines whose boots are remembered. Beyond, the one that was silent longest is forgotten, of those that the site
/// doesn't know first, then of those that never had a script: a flood of made-up machines pushes out itself.
const MAX_MACHINES: usize = 4096;

/// Steps that are remembered of all machines together, some 100 MB. Beyond, machines are forgotten in the same order.
const MAX_STEPS_IN_ALL: usize = 400_000;

/// Boots that are remembered of one machine. Beyond, the oldest without a script is forgotten, or the oldest; never
/// the latest that had a script, since that one is running.
const MAX_BOOTS: usize = 16;

/// Boots that are remembered of a machine that the site doesn't know.
const MAX_STRANGERS_BOOTS: usize = 4;

/// Steps that are kept of one boot. Further ones are only counted.
const MAX_STEPS: usize = 128;

/// How many of them may be DHCP's, so that a flood of forged requests doesn't keep the rest of the boot out.
const MAX_DHCP_STEPS: usize = 32;

/// How much of a step's text is kept, in characters.
const MAX_DETAIL_LEN: usize = 300;

/// How often it is kept of one boot that a machine was told to ask again.
const MAX_WAITS: usize = 16;

/// How often a machine's finding nothing, being refused, or fetching is kept of one boot: a loader that tries a hundred
/// names must not keep the rest of the boot out.
const MAX_FETCH_STEPS: usize = 80;

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
    /// How many of the steps [`Boots::take_unsaved`] has handed out, or has in `late`.
    #[serde(skip)]
    saved: usize,
    /// Steps that came to their place between such when it was too late for that.
    #[serde(skip)]
    late: Vec<Step>,
}

/// A step with the boot that it belongs to: what is kept of it on disk. A machine's boots are its entries in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootEntry {
    /// The boot's epoch.
    pub epoch: u64,
    /// When it began.
    pub started_ms: u64,
    /// Whether it had its script by then.
    pub scripted: bool,
    /// The step.
    #[serde(flatten)]
    pub step: Step,
}

#[derive(Debug, Default)]
struct Machine {
    /// In the order of their epochs.
    boots: VecDeque<Boot>,
    seen_ms: u64,
    /// Whether the site knows it.
    known: bool,
}

/// In which order machines are forgotten: strangers before clients, those without a script before those with one, and
/// those that were silent for longer first.
type Rank = (bool, bool, u64, MacAddr);

/// The boots of all machines, as far as they are remembered. Times are milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Boots {
    machines: HashMap<MacAddr, Machine>,
    /// All machines in the order in which they are to be forgotten.
    idle: BTreeSet<Rank>,
    /// Known machines with steps that are not on disk yet.
    unsaved: BTreeSet<MacAddr>,
    /// The steps of all machines.
    steps: usize,
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
        self.edit(mac, now_ms, |machine| {
            machine.known = true;
            machine.boot_mut(epoch, epoch).scripted = true;
        });
        self.record_at(mac, epoch, StepKind::Adopted, "", now_ms);
    }

    /// Takes over what was kept on disk of a client's boots. Later epochs will be larger.
    pub fn restore(&mut self, mac: MacAddr, entries: impl IntoIterator<Item = BootEntry>) {
        for BootEntry { epoch, started_ms, scripted, step } in entries {
            self.last_epoch = self.last_epoch.max(epoch);
            let seen_ms = step.at_ms;
            self.edit(mac, seen_ms, |machine| {
                machine.known = true;
                let boot = machine.boot_mut(epoch, started_ms);
                boot.scripted |= scripted;
                boot.push(step);
                boot.saved = boot.steps.len();
                boot.late.clear();
            });
        }
    }

    /// The steps of clients that were not handed out before, to be kept on disk, and an end to their being unsaved.
    pub fn take_unsaved(&mut self) -> Vec<(MacAddr, Vec<BootEntry>)> {
        let mut all = Vec::new();
        for mac in std::mem::take(&mut self.unsaved) {
            let Some(machine) = self.machines.get_mut(&mac) else { continue };
            let mut entries = Vec::new();
            for boot in &mut machine.boots {
                let late = std::mem::take(&mut boot.late);
                entries.extend(late.into_iter().map(|step| boot.entry(step)));
                entries.extend(boot.entries().skip(boot.saved));
                boot.saved = boot.steps.len();
            }
            all.push((mac, entries));
        }
        all
    }

    /// All that is to be kept on disk of a machine's boots.
    #[must_use]
    pub fn entries(&self, mac: MacAddr) -> Vec<BootEntry> {
        let boots = self.machines.get(&mac).into_iter().flat_map(|machine| &machine.boots);
        boots.flat_map(Boot::entries).collect()
    }

    /// Notes a DHCP exchange, and opens a boot if it begins one.
    pub fn on_dhcp(&mut self, event: &DhcpEvent, now_ms: u64) {
        let DhcpEvent { asker, decision, secs, .. } = event;
        let (mac, stage) = (asker.mac, asker.stage);
        if stage == Stage::Other {
            return;
        }
        if event.asked == Some(MessageType::Discover) {
            self.on_discover(mac, stage, now_ms);
            let known = event.plan.client.is_some();
            self.edit(mac, now_ms, |machine| machine.known = known);
            let kind = StepKind::Discover { stage, firmware: asker.firmware, secs: *secs };
            self.record(mac, kind, "", now_ms);
        }
        let address = event.address;
        let kind = match (*decision, event.answered, event.asked) {
            (Decision::ChoseOtherServer(server), ..) => StepKind::ChoseOther { server },
            // That a proxy leaves an exchange to the server is no silence that anyone suffers from.
            (Decision::LeftToServer, _, Some(MessageType::Request)) => match event.server {
                Some(server) => StepKind::ChoseOther { server },
                None => return,
            },
            (Decision::LeftToServer, ..) => return,
            (Decision::ProxyOffered(shape), ..) => StepKind::Offer { address: None, shape: Some(shape) },
            (Decision::ToldFile(_) | Decision::Informed(_), Some(_), _) => StepKind::Told { stage },
            (_, Some(MessageType::Offer), _) => StepKind::Offer { address, shape: None },
            (_, Some(MessageType::Ack), _) => StepKind::Ack { stage, address },
            (_, Some(_), _) => StepKind::Nak,
            (_, None, Some(MessageType::Discover | MessageType::Request)) => StepKind::Silence,
            (_, None, _) => return,
        };
        // What the kind says already is not said twice.
        let detail = match kind {
            StepKind::Nak | StepKind::Silence => decision.to_string(),
            StepKind::Ack { .. } | StepKind::Told { .. }
                if event.plan.boot_program.is_none() && event.plan.script_url.is_none() =>
            {
                event.plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        self.record(mac, kind, &detail, now_ms);
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
            machine.known = true;
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

    /// Notes a step of the boot that the machine was in at `at_ms`, in its place among that boot's: of some it is known
    /// only later when they were. `false`: it was in none, or as [`Self::record_at`].
    pub fn record_past(
        &mut self,
        mac: MacAddr,
        kind: StepKind,
        detail: &str,
        at_ms: u64,
        now_ms: u64,
    ) -> bool {
        if at_ms >= now_ms {
            return self.record(mac, kind, detail, now_ms);
        }
        let epoch = self.history(mac).find(|boot| boot.started_ms <= at_ms).map(|boot| boot.epoch);
        epoch.is_some_and(|epoch| self.note(mac, epoch, kind, detail, at_ms, now_ms))
    }

    /// Notes a step of the boot with that epoch. `false`: the boot isn't known, or the step is not kept: what can happen
    /// once in a boot has happened already, or there are too many.
    pub fn record_at(&mut self, mac: MacAddr, epoch: u64, kind: StepKind, detail: &str, now_ms: u64) -> bool {
        self.note(mac, epoch, kind, detail, now_ms, now_ms)
    }

    fn note(
        &mut self,
        mac: MacAddr,
        epoch: u64,
        kind: StepKind,
        detail: &str,
        at_ms: u64,
        now_ms: u64,
    ) -> bool {
        if self.boot(mac, epoch).is_none() {
            return false;
        }
        let mut kept = false;
        self.edit(mac, now_ms, |machine| {
            if let Some(boot) = machine.boots.iter_mut().find(|boot| boot.epoch == epoch) {
                let detail = detail.chars().take(MAX_DETAIL_LEN).collect();
                kept = boot.push(Step { at_ms, kind: kind.bounded(), detail });
            }
        });
        kept
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
        self.edit(mac, now_ms, |machine| {
            machine.boot_mut(epoch, now_ms);
        });
        epoch
    }

    /// Changes what is known of a machine, and its place in the order of forgetting.
    fn edit(&mut self, mac: MacAddr, now_ms: u64, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.machines.get(&mac) {
            self.idle.remove(&machine.rank(mac));
        } else if self.machines.len() >= MAX_MACHINES {
            self.forget_idlest();
        }
        let machine = self.machines.entry(mac).or_default();
        let before = machine.steps();
        change(machine);
        machine.seen_ms = now_ms;
        machine.bound();
        self.steps = self.steps + machine.steps() - before;
        if machine.known && machine.boots.iter().any(Boot::is_unsaved) {
            self.unsaved.insert(mac);
        }
        self.idle.insert(machine.rank(mac));
        while self.steps > MAX_STEPS_IN_ALL && self.machines.len() > 1 {
            self.forget_idlest();
        }
    }

    fn forget_idlest(&mut self) {
        if let Some((.., idlest)) = self.idle.pop_first()
            && let Some(machine) = self.machines.remove(&idlest)
        {
            self.steps -= machine.steps();
        }
    }
}

impl Machine {
    fn rank(&self, mac: MacAddr) -> Rank {
        (self.known, self.boots.iter().any(|boot| boot.scripted), self.seen_ms, mac)
    }

    fn steps(&self) -> usize {
        self.boots.iter().map(|boot| boot.steps.len()).sum()
    }

    /// The boot of that epoch, begun if there is none.
    fn boot_mut(&mut self, epoch: u64, started_ms: u64) -> &mut Boot {
        let at = self.boots.partition_point(|other| other.epoch < epoch);
        if self.boots.get(at).is_none_or(|other| other.epoch != epoch) {
            self.boots.insert(at, Boot::new(epoch, started_ms));
        }
        &mut self.boots[at]
    }

    fn bound(&mut self) {
        let most = if self.known { MAX_BOOTS } else { MAX_STRANGERS_BOOTS };
        while self.boots.len() > most {
            // If all that came before have scripts, the one that is running is not the oldest.
            let earlier = self.boots.len() - 1;
            let unscripted = self.boots.iter().take(earlier).position(|boot| !boot.scripted);
            self.boots.remove(unscripted.unwrap_or(0));
        }
    }
}

impl Boot {
    /// One that has just begun.
    #[must_use]
    pub fn new(epoch: u64, started_ms: u64) -> Self {
        Self {
            epoch,
            started_ms,
            scripted: false,
            steps: Vec::new(),
            left_out: 0,
            saved: 0,
            late: Vec::new(),
        }
    }

    fn entries(&self) -> impl Iterator<Item = BootEntry> {
        self.steps.iter().map(|step| self.entry(step.clone()))
    }

    fn entry(&self, step: Step) -> BootEntry {
        let Self { epoch, started_ms, scripted, .. } = *self;
        BootEntry { epoch, started_ms, scripted, step }
    }

    fn is_unsaved(&self) -> bool {
        self.saved < self.steps.len() || !self.late.is_empty()
    }

    /// `false`: it is not kept.
    fn push(&mut self, step: Step) -> bool {
        if step.kind.is_once() && self.steps.iter().any(|other| other.kind == step.kind) {
            return false;
        }
        let count = |of: fn(&StepKind) -> bool| self.steps.iter().filter(|step| of(&step.kind)).count();
        let full = |of: fn(&StepKind) -> bool, most| of(&step.kind) && count(of) >= most;
        if self.steps.len() >= MAX_STEPS
            || full(StepKind::is_dhcp, MAX_DHCP_STEPS)
            || full(StepKind::is_fetch, MAX_FETCH_STEPS)
            || full(|kind| matches!(kind, StepKind::Waits), MAX_WAITS)
        {
            self.left_out += 1;
            return false;
        }
        // Only these come late. All others are in the order in which they came, whatever the clock did meanwhile.
        let is_before = |other: &Step| other.at_ms <= step.at_ms;
        let at = match step.kind {
            StepKind::TftpFile(_) => self.steps.iter().rposition(is_before).map_or(0, |last| last + 1),
            _ => self.steps.len(),
        };
        if at < self.saved {
            self.saved += 1;
            self.late.push(step.clone());
        }
        self.steps.insert(at, step);
        true
    }
}
