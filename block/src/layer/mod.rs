//! Layers that change nothing of a disk's bytes, only of how it behaves.

mod delay;
mod fault;
mod read_only;
mod stats;

pub use delay::{Delay, DelayPlan};
pub use fault::{Fault, FaultPlan};
pub use read_only::ReadOnly;
pub use stats::{Stats, VolumeStats};

use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that look random and are the same for the same seed: a run that failed can be run again. Sebastiano
/// Vigna's SplitMix64, on a counter so that threads share it without a lock.
#[derive(Debug)]
struct Dice(AtomicU64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    fn roll(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
