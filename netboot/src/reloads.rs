//! Which iPXEs have been given another iPXE, so that nobody is given one for ever.
//!
//! An iPXE in a card's ROM may be too small for the boot script, and then gets the whole program from us. That is iPXE
//! too. Where it lacks the same, an admin's own build for instance, to give it the program once more would go on for ever; it
//! gets its script then, and shows where that fails.

use std::collections::{BTreeSet, HashMap};

use site::MacAddr;

/// Machines that are remembered. Beyond, the one that asked first is forgotten.
const MAX_MACHINES: usize = 4096;

/// For how long after it was given the program the next that asks is taken to be that program, in seconds. A machine
/// that was switched off and on within that time gets its script once, which does no harm.
const LOADS: u64 = 180;

/// What is known of all machines. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Reloads {
    machines: HashMap<MacAddr, (u32, u64)>,
    order: BTreeSet<(u64, MacAddr)>,
}

impl Reloads {
    /// An iPXE that lacks something asks, in the exchange `xid`. Whether it is one that we have given it.
    pub fn is_ours(&mut self, mac: MacAddr, xid: u32, now: u64) -> bool {
        match self.machines.get(&mac).copied() {
            // Still the same question, or its REQUEST.
            Some((known, since)) if known == xid && now.saturating_sub(since) <= LOADS => false,
            Some((_, since)) if now.saturating_sub(since) <= LOADS => true,
            _ => {
                self.note(mac, xid, now);
                false
            }
        }
    }

    fn note(&mut self, mac: MacAddr, xid: u32, now: u64) {
        if let Some((_, since)) = self.machines.insert(mac, (xid, now)) {
            self.order.remove(&(since, mac));
        }
        self.order.insert((now, mac));
        if self.machines.len() > MAX_MACHINES
            && let Some((_, first)) = self.order.pop_first()
        {
            self.machines.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_given_once_and_after_a_while_again() {
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let mut reloads = Reloads::default();
        for now in [1000, 1001, 1004] {
            assert!(!reloads.is_ours(mac, 7, now), "DISCOVER again, and REQUEST");
        }
        for now in [1010, 1011] {
            assert!(reloads.is_ours(mac, 8, now), "what was loaded asks");
        }
        assert!(reloads.is_ours(mac, 9, 1100), "and again: no third program");
        assert!(!reloads.is_ours(mac, 10, 1000 + LOADS + 1), "another boot");
        for n in 0..10_000_u32 {
            let [a, b, c, d] = n.to_be_bytes();
            reloads.is_ours(MacAddr::new([6, 0, a, b, c, d]), n, 2000 + u64::from(n));
        }
        assert_eq!((reloads.machines.len(), reloads.order.len()), (MAX_MACHINES, MAX_MACHINES));
    }
}
