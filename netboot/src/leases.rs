//! Which machine has which address, until when.
//!
//! In memory: one entry per address, found by address; an index from machine to its addresses (at most one leased
//! and one offered); each pool's entries by the second in which they end, so that the one that ended longest ago is
//! found without a search. An entry stays after its end until another machine needs its address, so that a machine gets
//! back what it had.
//!
//! Machines are told apart by their Ethernet address: the ROM, iPXE and the operating system of one machine send
//! different client identifiers and must get the same address.
//!
//! The network can't make the table grow: its entries are addresses of pools or of the site's clients. Nor can it keep
//! clients out: machines that the site doesn't know (strangers) leave a part of each pool to those that it does, and what
//! strangers have beyond their need goes to a client that finds nothing else. Whether they need it is found out by asking
//! for the address, so a stranger that runs keeps it.

mod choose;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use site::{MacAddr, Site};

use crate::pool::PoolRange;
use crate::subnet::Subnet;

/// How long an offered address is kept for its machine, in seconds. Firmware needs some 4 s to choose, and a full
/// minute when it asks again. Afterwards anyone may get it.
const OFFER_HOLD: u64 = 60;

/// How long an address that a machine found in use by another is given to no one, in seconds.
const QUARANTINE: u64 = 600;

/// At most one in so many addresses of a pool is in quarantine; further ones are not believed, so that a liar can't
/// empty the pool.
const QUARANTINE_SHARE: u32 = 4;

/// How many addresses without a pool may be in quarantine.
const QUARANTINE_WITHOUT_POOL: usize = 16;

/// The most entries. Reached only if clients' addresses were changed that often; then the entry that ended longest
/// ago is forgotten, and if all are running, no new address is given.
const MAX_ENTRIES: usize = 1 << 18;

/// What an address's entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// Offered, and kept for a moment.
    Offered,
    /// Acknowledged: the machine uses it.
    Bound,
    /// Given back by its machine.
    Released,
    /// Found in use by a stranger; given to no one for a while.
    Declined,
}

/// One address's entry. It runs until `expires`; afterwards the address may go to another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine that has it, had it, or found it in use.
    pub mac: MacAddr,
    /// What it stands for.
    pub state: LeaseState,
    /// When it ends, in seconds since 1970; `u64::MAX`: never.
    pub expires: u64,
}

/// An edit of the table that must survive a restart: one line of the journal. Applying one twice does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseChange {
    /// The address's entry is now this.
    Set(Lease),
    /// The address has no entry any more.
    Removed(Ipv4Addr),
}

/// Why there is no address for a machine; the sentence goes to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// All of the pool is leased, offered or in quarantine.
    #[error(
        "The pool {0} is exhausted: all its addresses are leased. Make it larger, or the lease time shorter."
    )]
    Exhausted(PoolRange),
    /// There is none.
    #[error("There is no pool, and the machine has no address of its own that it could use.")]
    NoPool,
}

/// Who wants an address, and what it may have.
pub(crate) struct Wish<'a> {
    pub(crate) mac: MacAddr,
    /// The address of its own.
    pub(crate) reserved: Option<Ipv4Addr>,
    /// The address that it asks for.
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) pool: Option<PoolRange>,
    /// How many of the pool's last addresses are kept for others than this machine.
    pub(crate) kept: u32,
    pub(crate) link: Subnet,
    /// Whether it can be found out who uses an address.
    pub(crate) can_try: bool,
    /// Whether the site knows a machine. Such a one is not kept waiting by what strangers have.
    pub(crate) knows: &'a dyn Fn(MacAddr) -> bool,
    /// Whether an address may be given to this machine at all: it is on the link, nobody else's own, not a router's.
    pub(crate) usable: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// The address that was found for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) address: Ipv4Addr,
    /// Whether this machine never had it, nor was offered it; or it is a stranger's yet.
    pub(crate) untried: bool,
    /// Whether a stranger has it, which keeps it if it uses it.
    pub(crate) displaces: bool,
}

/// How an address that a machine says is its own stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is leased or offered to it, or reserved for it and free.
    Its,
    /// Its lease runs, but by now it should have another address. It may keep it while it runs: a machine whose disk
    /// is on the network does not survive the loss of its address.
    Old,
    /// There is no entry, or it has ended, and the machine may have it.
    Free,
    /// Another has it, or this machine should have another.
    Not,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    lease: Lease,
    /// The stranger's lease that this offer is to end.
    displaced: Option<Lease>,
    /// When its machine was seen to use it, as far as anybody looked.
    seen: u64,
}

impl Entry {
    fn new(lease: Lease) -> Self {
        Self { lease, displaced: None, seen: 0 }
    }
}

/// How far a pool's never used addresses were looked through.
#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    next: u32,
    /// From when on it may begin anew, so that an exhausted pool costs one look through a second, not a packet.
    again: u64,
}

/// The table of leases. All times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Leases {
    entries: HashMap<Ipv4Addr, Entry>,
    /// Of each machine those that it has or had, and those that it may lose.
    by_mac: HashMap<MacAddr, Vec<Ipv4Addr>>,
    by_end: BTreeSet<(u64, Ipv4Addr)>,
    /// The same of each pool that was ever asked for an address, so that one that is exhausted finds its own.
    pools: HashMap<PoolRange, BTreeSet<(u64, Ipv4Addr)>>,
    declined: BTreeSet<(u64, Ipv4Addr)>,
    scans: HashMap<PoolRange, Scan>,
}

impl Leases {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The table that these edits make, in their order.
    #[must_use]
    pub fn restore(changes: impl IntoIterator<Item = LeaseChange>) -> Self {
        let mut leases = Self::new();
        for change in changes {
            match change {
                LeaseChange::Set(lease) => leases.put(Entry::new(lease)),
                LeaseChange::Removed(address) => leases.remove(address),
            }
        }
        leases
    }

    /// All entries but mere offers, by address: what a fresh journal begins with.
    #[must_use]
    pub fn entries(&self) -> Vec<Lease> {
        let mut all: Vec<_> = self
            .entries
            .values()
            .map(|entry| entry.displaced.unwrap_or(entry.lease))
            .filter(|lease| lease.state != LeaseState::Offered)
            .collect();
        all.sort_by_key(|lease| lease.address);
        all
    }

    /// How many entries it has, offers and ended ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The lease that runs on that address.
    #[must_use]
    pub fn by_address(&self, address: Ipv4Addr, now: u64) -> Option<&Lease> {
        let lease = &self.entries.get(&address)?.lease;
        (lease.state == LeaseState::Bound && lease.expires > now).then_some(lease)
    }

    /// The lease that machine has.
    #[must_use]
    pub fn by_mac(&self, mac: MacAddr, now: u64) -> Option<&Lease> {
        let mut all = self.by_mac.get(&mac)?.iter().filter_map(|address| self.by_address(*address, now));
        all.find(|lease| lease.mac == mac)
    }

    /// Who is behind an address: the machine that has leased it, or if nobody has, the client whose own it is
    /// (which may have it from another DHCP server, or from us before the journal was lost).
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr, site: &Site, now: u64) -> Option<MacAddr> {
        let owner = || site.client_by_address(address).map(|client| client.mac);
        match self.runs(address, now) {
            None => owner(),
            Some(lease) => match lease.state {
                LeaseState::Bound => Some(lease.mac),
                LeaseState::Offered => owner().filter(|owner| *owner == lease.mac),
                LeaseState::Released | LeaseState::Declined => None,
            },
        }
    }
}

impl Leases {
    /// The address that `mac` was just offered, or has, was found in use by another machine, `user` if it is known which.
    /// If that is the stranger who was to lose it, it keeps it; else it has it from elsewhere, and nobody is given it for
    /// a while.
    pub fn on_conflict(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        user: Option<MacAddr>,
        pool: Option<PoolRange>,
        now: u64,
    ) -> Option<LeaseChange> {
        let entry = self.entries.get(&address)?;
        match entry.displaced.filter(|lease| Some(lease.mac) == user && entry.lease.mac == mac) {
            Some(lease) => {
                self.put(Entry { seen: now, ..Entry::new(lease) });
                None
            }
            None => self.decline(mac, address, pool, now),
        }
    }

    /// It could not be found out whether the stranger uses the address that `mac` was to be offered: it keeps it.
    pub fn withdraw(&mut self, mac: MacAddr, address: Ipv4Addr) {
        if let Some(entry) = self.entries.get(&address)
            && entry.lease.mac == mac
            && let Some(lease) = entry.displaced
        {
            self.put(Entry::new(lease));
        }
    }
}

impl Leases {
    /// Finds an address for a machine and keeps it for a moment. A lease that runs is left as it is.
    pub(crate) fn offer(&mut self, wish: &Wish<'_>, now: u64) -> Result<Chosen, NoAddress> {
        let address = self.choose(wish, now)?;
        let untried = self.entries.get(&address).is_none_or(|entry| entry.lease.mac != wish.mac);
        self.drop_offers(wish.mac, address, now);
        let bound = self.by_address(address, now).copied();
        // It was offered it before, and the stranger's lease waits behind that.
        let waiting = self.entries.get(&address).and_then(|entry| entry.displaced);
        let waiting = waiting.filter(|lease| lease.mac != wish.mac && lease.expires > now);
        let displaced = bound.filter(|lease| lease.mac != wish.mac).or(waiting);
        if bound.is_none_or(|lease| lease.mac != wish.mac) {
            let expires = now.saturating_add(OFFER_HOLD);
            let lease = Lease { address, mac: wish.mac, state: LeaseState::Offered, expires };
            self.put(Entry { displaced, ..Entry::new(lease) });
        }
        let displaces = displaced.is_some();
        Ok(Chosen { address, untried: untried || displaces, displaces })
    }

    /// How `address` stands to the machine.
    pub(crate) fn standing(&self, wish: &Wish<'_>, address: Ipv4Addr, now: u64) -> Standing {
        // Who shows that it runs loses nothing.
        let waits = self.entries.get(&address).and_then(|entry| entry.displaced.as_ref());
        let runs = waits.filter(|lease| lease.mac == wish.mac && lease.expires > now);
        let runs = runs.or_else(|| self.runs(address, now));
        let its = runs.is_some_and(|lease| lease.mac == wish.mac && lease.state != LeaseState::Declined);
        let not = match runs {
            Some(lease) if its && lease.state == LeaseState::Bound => Standing::Old,
            _ => Standing::Not,
        };
        if !(wish.usable)(address) {
            return not;
        }
        match wish.reserved {
            Some(own) if address == own => {
                return if runs.is_none() || its { Standing::Its } else { Standing::Not };
            }
            Some(own) if !self.taken(own, wish.mac, now) => return not,
            _ => {}
        }
        if !wish.pool.is_some_and(|pool| pool.contains(address)) {
            return not;
        }
        match runs {
            Some(_) if its => Standing::Its,
            Some(_) => Standing::Not,
            None if self.had(wish.mac).any(|had| had == address) => Standing::Its,
            None => Standing::Free,
        }
    }

    /// Leases `address` to the machine until `expires`, and says what changed. [`Leases::standing`] has allowed it.
    pub(crate) fn bind(&mut self, wish: &Wish<'_>, address: Ipv4Addr, expires: u64) -> Vec<LeaseChange> {
        let mut changes = self.remove_others(wish, address);
        let lease = Lease { address, mac: wish.mac, state: LeaseState::Bound, expires };
        self.put(Entry::new(lease));
        changes.push(LeaseChange::Set(lease));
        changes
    }

    /// The machine chose another server: what it was offered is free again.
    pub(crate) fn forget_offer(&mut self, mac: MacAddr, now: u64) {
        self.drop_offers(mac, Ipv4Addr::UNSPECIFIED, now);
    }

    /// The machine gives its address back. `None`: it wasn't its.
    pub(crate) fn release(&mut self, mac: MacAddr, address: Ipv4Addr, now: u64) -> Option<LeaseChange> {
        let lease = *self.by_address(address, now).filter(|lease| lease.mac == mac)?;
        let lease = Lease { state: LeaseState::Released, expires: now, ..lease };
        self.put(Entry::new(lease));
        Some(LeaseChange::Set(lease))
    }

    /// The machine found its address in use: nobody gets it for a while; or, if too many are out of use already, it
    /// is merely free again. `None`: it wasn't its.
    pub(crate) fn decline(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        pool: Option<PoolRange>,
        now: u64,
    ) -> Option<LeaseChange> {
        if !self.is_its(mac, address, now) {
            return None;
        }
        while self.declined.first().is_some_and(|(end, _)| *end <= now) {
            self.declined.pop_first();
        }
        let limit = pool.map_or(QUARANTINE_WITHOUT_POOL, |pool| {
            usize::try_from((pool.len() / QUARANTINE_SHARE).max(1)).unwrap_or(usize::MAX)
        });
        let (state, expires) = match self.declined.len() >= limit {
            true => (LeaseState::Released, now),
            false => (LeaseState::Declined, now.saturating_add(QUARANTINE)),
        };
        let lease = Lease { address, mac, state, expires };
        self.put(Entry::new(lease));
        Some(LeaseChange::Set(lease))
    }

    /// Whether the machine has that address, or is offered it.
    pub(crate) fn is_its(&self, mac: MacAddr, address: Ipv4Addr, now: u64) -> bool {
        self.runs(address, now).is_some_and(|lease| lease.mac == mac && lease.state != LeaseState::Declined)
    }

    /// The entry of an address that has not ended.
    fn runs(&self, address: Ipv4Addr, now: u64) -> Option<&Lease> {
        self.entries.get(&address).map(|entry| &entry.lease).filter(|lease| lease.expires > now)
    }

    /// Whether another machine has an address, or a stranger was seen to use it.
    fn taken(&self, address: Ipv4Addr, mac: MacAddr, now: u64) -> bool {
        self.runs(address, now).is_some_and(|lease| lease.mac != mac || lease.state == LeaseState::Declined)
    }

    /// Ends the machine's offers of other addresses than `but`.
    fn drop_offers(&mut self, mac: MacAddr, but: Ipv4Addr, now: u64) {
        for address in self.by_mac.get(&mac).cloned().unwrap_or_default() {
            if let Some(Entry { lease, displaced, .. }) = self.entries.get(&address).copied()
                && lease.state == LeaseState::Offered
                && lease.mac == mac
                && address != but
            {
                let ended = Lease { expires: lease.expires.min(now), ..lease };
                self.put(Entry::new(displaced.unwrap_or(ended)));
            }
        }
    }

    /// Forgets the machine's other addresses on the link. Those on other links stay: VLAN interfaces of one machine
    /// share its MAC address.
    fn remove_others(&mut self, wish: &Wish<'_>, but: Ipv4Addr) -> Vec<LeaseChange> {
        let mut others = self.by_mac.get(&wish.mac).cloned().unwrap_or_default();
        others.retain(|address| *address != but && wish.link.contains(*address));
        let mut changes = Vec::new();
        for address in others {
            match self.entries.get(&address).copied() {
                // It was to lose that one, and has another now.
                Some(entry) if entry.lease.mac != wish.mac => self.put(Entry::new(entry.lease)),
                Some(Entry { displaced: Some(lease), .. }) => {
                    self.put(Entry::new(lease));
                    continue;
                }
                _ => self.remove(address),
            }
            changes.push(LeaseChange::Removed(address));
        }
        changes
    }

    /// Forgets what an address's entry says; a stranger's lease that waits behind it is there again.
    fn forget(&mut self, address: Ipv4Addr) {
        match self.entries.get(&address).and_then(|entry| entry.displaced) {
            Some(lease) => self.put(Entry::new(lease)),
            None => self.remove(address),
        }
    }

    /// Makes `entry` its address's. With [`Self::remove`] the only places that write to the table.
    fn put(&mut self, entry: Entry) {
        let Lease { address, mac, state, expires } = entry.lease;
        self.remove(address);
        self.entries.insert(address, entry);
        self.by_end.insert((expires, address));
        for (_, ends) in self.pools.iter_mut().filter(|(pool, _)| pool.contains(address)) {
            ends.insert((expires, address));
        }
        let named = (state != LeaseState::Declined).then_some(mac);
        for mac in named.into_iter().chain(entry.displaced.map(|lease| lease.mac)) {
            self.by_mac.entry(mac).or_default().push(address);
        }
        if state == LeaseState::Declined {
            self.declined.insert((expires, address));
        }
    }

    fn remove(&mut self, address: Ipv4Addr) {
        let Some(Entry { lease, displaced, .. }) = self.entries.remove(&address) else { return };
        self.by_end.remove(&(lease.expires, address));
        for (_, ends) in self.pools.iter_mut().filter(|(pool, _)| pool.contains(address)) {
            ends.remove(&(lease.expires, address));
        }
        self.declined.remove(&(lease.expires, address));
        for mac in [Some(lease.mac), displaced.map(|lease| lease.mac)].into_iter().flatten() {
            if let Some(addresses) = self.by_mac.get_mut(&mac) {
                addresses.retain(|a| *a != address);
                if addresses.is_empty() {
                    self.by_mac.remove(&mac);
                }
            }
        }
    }
}
