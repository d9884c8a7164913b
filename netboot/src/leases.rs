//! Which machine has which address, until when.
//!
//! In memory: one entry per address, found by address; an index from machine to its addresses (at most one leased
//! and one offered); all entries by the second in which they end, so that the one that ended longest ago is found
//! without a search. An entry stays after its end until another machine needs its address, so that a machine gets
//! back what it had.
//!
//! Machines are told apart by their Ethernet address: the ROM, iPXE and the operating system of one machine send
//! different client identifiers and must get the same address.
//!
//! The network can't make the table grow: its entries are addresses of pools or of the site's clients.

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
    /// Whether the site knows it. Such a machine is not kept waiting by offers to strangers.
    pub(crate) known: bool,
    /// The address of its own.
    pub(crate) reserved: Option<Ipv4Addr>,
    /// The address that it asks for.
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) pool: Option<PoolRange>,
    pub(crate) link: Subnet,
    /// Whether an address may be given to this machine at all: it is on the link, nobody else's own, not a router's.
    pub(crate) usable: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// The address that was found for a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) address: Ipv4Addr,
    /// Whether this machine never had it, nor was offered it.
    pub(crate) untried: bool,
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
    known: bool,
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
    by_mac: HashMap<MacAddr, Vec<Ipv4Addr>>,
    by_end: BTreeSet<(u64, Ipv4Addr)>,
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
                LeaseChange::Set(lease) => leases.put(Entry { lease, known: true }),
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
            .map(|entry| entry.lease)
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
        self.by_mac.get(&mac)?.iter().find_map(|address| self.by_address(*address, now))
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
    /// The address that `mac` was just offered was found in use by another machine, which has it from elsewhere. Nobody
    /// is given it for a while.
    pub fn on_conflict(
        &mut self,
        mac: MacAddr,
        address: Ipv4Addr,
        pool: Option<PoolRange>,
        now: u64,
    ) -> Option<LeaseChange> {
        self.decline(mac, address, pool, now)
    }
}

impl Leases {
    /// Finds an address for a machine and keeps it for a moment. A lease that runs is left as it is.
    pub(crate) fn offer(&mut self, wish: &Wish<'_>, now: u64) -> Result<Chosen, NoAddress> {
        let address = self.choose(wish, now)?;
        let untried = self.entries.get(&address).is_none_or(|entry| entry.lease.mac != wish.mac);
        self.drop_offers(wish.mac, address, now);
        if self.by_address(address, now).is_none() {
            let expires = now.saturating_add(OFFER_HOLD);
            let lease = Lease { address, mac: wish.mac, state: LeaseState::Offered, expires };
            self.put(Entry { lease, known: wish.known });
        }
        Ok(Chosen { address, untried })
    }

    /// How `address` stands to the machine.
    pub(crate) fn standing(&self, wish: &Wish<'_>, address: Ipv4Addr, now: u64) -> Standing {
        let runs = self.runs(address, now);
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
        self.put(Entry { lease, known: wish.known });
        changes.push(LeaseChange::Set(lease));
        changes
    }

    /// The machine chose another server: what it was offered is free again.
    pub(crate) fn forget_offer(&mut self, mac: MacAddr, now: u64) {
        self.drop_offers(mac, Ipv4Addr::UNSPECIFIED, now);
    }

    /// The machine gives its address back. `None`: it wasn't its.
    pub(crate) fn release(&mut self, mac: MacAddr, address: Ipv4Addr, now: u64) -> Option<LeaseChange> {
        let entry = *self.entries.get(&address)?;
        if entry.lease.mac != mac || self.by_address(address, now).is_none() {
            return None;
        }
        let lease = Lease { state: LeaseState::Released, expires: now, ..entry.lease };
        self.put(Entry { lease, ..entry });
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
        let runs = *self.runs(address, now)?;
        if runs.mac != mac || runs.state == LeaseState::Declined {
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
        self.put(Entry { lease, known: false });
        Some(LeaseChange::Set(lease))
    }

    fn choose(&mut self, wish: &Wish<'_>, now: u64) -> Result<Ipv4Addr, NoAddress> {
        if let Some(own) = wish.reserved
            && !self.taken(own, wish.mac, now)
        {
            return Ok(own);
        }
        let pool = wish.pool.ok_or(NoAddress::NoPool)?;
        let usable = |address: Ipv4Addr| pool.contains(address) && (wish.usable)(address);
        if let Some(had) = self.had(wish.mac).find(|address| usable(*address)) {
            return Ok(had);
        }
        if let Some(asked) = wish.requested
            && usable(asked)
            && !self.entries.contains_key(&asked)
            && self.entries.len() < MAX_ENTRIES
        {
            return Ok(asked);
        }
        self.never_used(pool, &usable, now)
            .or_else(|| self.ended_longest_ago(&usable, now))
            .or_else(|| if wish.known { self.offered_to_stranger(&usable, now) } else { None })
            .ok_or(NoAddress::Exhausted(pool))
    }

    /// The addresses that the machine has or had: on one link one that is leased, or else those it was offered.
    fn had(&self, mac: MacAddr) -> impl Iterator<Item = Ipv4Addr> {
        self.by_mac.get(&mac).into_iter().flatten().copied()
    }

    fn never_used(
        &mut self,
        pool: PoolRange,
        usable: &dyn Fn(Ipv4Addr) -> bool,
        now: u64,
    ) -> Option<Ipv4Addr> {
        if self.entries.len() >= MAX_ENTRIES {
            return None;
        }
        let entries = &self.entries;
        let fresh = |from: u32| {
            (from..pool.len()).find(|offset| {
                let address = Ipv4Addr::from_bits(pool.first().to_bits() + offset);
                usable(address) && !entries.contains_key(&address)
            })
        };
        let scan = self.scans.entry(pool).or_default();
        let mut found = fresh(scan.next);
        if found.is_none() && scan.next > 0 && now >= scan.again {
            scan.again = now + 1;
            found = fresh(0);
        }
        scan.next = found.map_or(pool.len(), |offset| offset + 1);
        found.map(|offset| Ipv4Addr::from_bits(pool.first().to_bits() + offset))
    }

    /// The usable address whose entry ended longest ago. Ended entries on the way that this machine can't use and
    /// that are nobody's lease any more are forgotten, so that they are not met again.
    fn ended_longest_ago(&mut self, usable: &dyn Fn(Ipv4Addr) -> bool, now: u64) -> Option<Ipv4Addr> {
        loop {
            let (end, address) = *self.by_end.first()?;
            if end > now {
                return None;
            }
            if usable(address) {
                return Some(address);
            }
            self.remove(address);
        }
    }

    fn offered_to_stranger(&self, usable: &dyn Fn(Ipv4Addr) -> bool, now: u64) -> Option<Ipv4Addr> {
        let offers = (now, Ipv4Addr::UNSPECIFIED)..=(now.saturating_add(OFFER_HOLD), Ipv4Addr::BROADCAST);
        self.by_end.range(offers).map(|(_, address)| *address).find(|address| {
            usable(*address)
                && self
                    .entries
                    .get(address)
                    .is_some_and(|entry| entry.lease.state == LeaseState::Offered && !entry.known)
        })
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
            if let Some(entry) = self.entries.get(&address).copied()
                && entry.lease.state == LeaseState::Offered
                && address != but
            {
                let expires = entry.lease.expires.min(now);
                self.put(Entry { lease: Lease { expires, ..entry.lease }, ..entry });
            }
        }
    }

    /// Forgets the machine's other addresses on the link. Those on other links stay: VLAN interfaces of one machine
    /// share its MAC address.
    fn remove_others(&mut self, wish: &Wish<'_>, but: Ipv4Addr) -> Vec<LeaseChange> {
        let mut others = self.by_mac.get(&wish.mac).cloned().unwrap_or_default();
        others.retain(|address| *address != but && wish.link.contains(*address));
        others.iter().for_each(|address| self.remove(*address));
        others.into_iter().map(LeaseChange::Removed).collect()
    }

    /// Makes `entry` its address's. With [`Self::remove`] the only places that write to the table.
    fn put(&mut self, entry: Entry) {
        let Lease { address, mac, state, expires } = entry.lease;
        self.remove(address);
        self.entries.insert(address, entry);
        self.by_end.insert((expires, address));
        if state == LeaseState::Declined {
            self.declined.insert((expires, address));
        } else {
            self.by_mac.entry(mac).or_default().push(address);
        }
    }

    fn remove(&mut self, address: Ipv4Addr) {
        let Some(Entry { lease, .. }) = self.entries.remove(&address) else { return };
        self.by_end.remove(&(lease.expires, address));
        self.declined.remove(&(lease.expires, address));
        if let Some(addresses) = self.by_mac.get_mut(&lease.mac) {
            addresses.retain(|a| *a != address);
            if addresses.is_empty() {
                self.by_mac.remove(&lease.mac);
            }
        }
    }
}
