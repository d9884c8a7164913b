//! Which address a machine is given: its own, the one that it had, one that nobody ever had, the one that was given up
//! longest ago, and for a client at last what a stranger has.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use site::MacAddr;

use super::{Entry, LeaseState, Leases, MAX_ENTRIES, NoAddress, QUARANTINE, Wish};
use crate::pool::PoolRange;

impl Leases {
    pub(super) fn choose(&mut self, wish: &Wish<'_>, now: u64) -> Result<Ipv4Addr, NoAddress> {
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
        if self.entries.len() >= MAX_ENTRIES {
            self.forget_one(now);
        }
        let open = pool.without_last(wish.kept);
        if let Some(asked) = wish.requested
            && open.contains(asked)
            && usable(asked)
            && !self.entries.contains_key(&asked)
            && self.entries.len() < MAX_ENTRIES
        {
            return Ok(asked);
        }
        self.never_used(open, &usable, now)
            .or_else(|| self.ended_longest_ago(pool, open, &usable, now))
            .or_else(|| self.strangers(pool, wish, now))
            .ok_or(NoAddress::Exhausted(pool))
    }

    /// The addresses that the machine has or had: on one link one that is leased, or else those it was offered.
    pub(super) fn had(&self, mac: MacAddr) -> impl Iterator<Item = Ipv4Addr> {
        let all = self.by_mac.get(&mac).into_iter().flatten().copied();
        all.filter(move |address| self.entries.get(address).is_some_and(|entry| entry.lease.mac == mac))
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

    /// The usable address of the pool's open part whose entry ended longest ago. Ended entries on the way that this
    /// machine can't use and that are nobody's lease any more are forgotten, so that they are not met again; other pools'
    /// are never met, nor are those forgotten that are kept for others.
    fn ended_longest_ago(
        &mut self,
        pool: PoolRange,
        open: PoolRange,
        usable: &dyn Fn(Ipv4Addr) -> bool,
        now: u64,
    ) -> Option<Ipv4Addr> {
        let ended = (0, Ipv4Addr::UNSPECIFIED)..=(now, Ipv4Addr::BROADCAST);
        let (mut useless, mut found) = (Vec::new(), None);
        for (_, address) in self.ends_of(pool).range(ended) {
            if !usable(*address) {
                useless.push(*address);
            } else if open.contains(*address) {
                found = Some(*address);
                break;
            }
        }
        useless.into_iter().for_each(|address| self.forget(address));
        found
    }

    /// What a stranger has and a client may be given: what it was merely offered, or else what it has leased, if whether it
    /// uses it can be found out and was not of late.
    fn strangers(&mut self, pool: PoolRange, wish: &Wish<'_>, now: u64) -> Option<Ipv4Addr> {
        if !(wish.knows)(wish.mac) {
            return None;
        }
        self.ends_of(pool);
        let running = (now.saturating_add(1), Ipv4Addr::UNSPECIFIED)..;
        let mut leased = None;
        for (_, address) in self.pools.get(&pool)?.range(running) {
            let Some(Entry { lease, displaced, seen }) = self.entries.get(address) else { continue };
            if (wish.knows)(lease.mac) || displaced.is_some() || !(wish.usable)(*address) {
                continue;
            }
            match lease.state {
                LeaseState::Offered => return Some(*address),
                LeaseState::Bound if wish.can_try && now.saturating_sub(*seen) >= QUARANTINE => {
                    leased = leased.or(Some(*address));
                }
                _ => {}
            }
        }
        leased
    }

    /// The entries of a pool by their end. A pool that was never asked for is looked for among all, once.
    fn ends_of(&mut self, pool: PoolRange) -> &BTreeSet<(u64, Ipv4Addr)> {
        let entries = &self.entries;
        self.pools.entry(pool).or_insert_with(|| {
            let its = entries.values().filter(|entry| pool.contains(entry.lease.address));
            its.map(|entry| (entry.lease.expires, entry.lease.address)).collect()
        })
    }

    /// Makes room for another entry, if one has ended.
    fn forget_one(&mut self, now: u64) {
        if let Some((_, address)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.forget(address);
        }
    }
}
