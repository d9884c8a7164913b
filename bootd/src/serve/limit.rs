//! How often one peer may ask.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many allowances there are. Peers whose hashes meet share one; nobody can tell which ones do, so a flood in
/// many names can't be aimed at a peer.
const SLOTS: usize = 4096;

/// An allowance for each peer: so many requests at once, and then so many a second. Of fixed size, whoever asks.
#[derive(Debug)]
pub(crate) struct Allowance {
    burst: u32,
    interval: Duration,
    hasher: RandomState,
    start: Instant,
    /// For each slot, when it will be at rest again. Each request moves that on by `interval`; a slot that is more
    /// than `burst` intervals ahead of the clock is used up.
    rested: Mutex<Vec<Duration>>,
}

impl Allowance {
    /// `burst` requests at once and `per_second` from then on. Neither may be 0.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst,
            interval: Duration::from_secs(1) / per_second.max(1),
            hasher: RandomState::new(),
            start: Instant::now(),
            rested: Mutex::new(vec![Duration::ZERO; SLOTS]),
        }
    }

    /// Whether `peer` may ask once more now.
    pub(crate) fn take(&self, peer: impl Hash) -> bool {
        self.take_at(peer, self.start.elapsed())
    }

    fn take_at(&self, peer: impl Hash, now: Duration) -> bool {
        let slot = self.hasher.hash_one(peer) as usize % SLOTS;
        let mut rested = self.rested.lock();
        let Some(rested) = rested.get_mut(slot) else { return false };
        let next = (*rested).max(now) + self.interval;
        let allowed = next <= now + self.interval * self.burst;
        if allowed {
            *rested = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let allowance = Allowance::new(5, 10);
        let at = |ms: u64| Duration::from_millis(1000 + ms);
        let taken = |n, ms| (0..n).filter(|_| allowance.take_at("peer", at(ms))).count();
        assert_eq!(taken(20, 0), 5);
        assert_eq!(taken(20, 50), 0);
        assert_eq!(taken(20, 100), 1);
        assert_eq!(taken(20, 400), 3);
        assert_eq!(taken(20, 60_000), 5, "rest does not add up beyond the burst");
    }

    #[test]
    fn one_peers_flood_is_not_anothers() {
        let allowance = Allowance::new(2, 1);
        while allowance.take(1) {}
        let unharmed = (2..100).filter(|peer| allowance.take(peer)).count();
        assert!(unharmed > 90, "{unharmed} of 98");
    }
}
