//! What a miss should bring: the whole chunk, or what was asked for.
//!
//! On a disk that turns, coming to the place costs everything and the bytes there next to nothing. On one that does
//! not, a chunk for 4 KiB is sixteen times the work; there, a place is worth a chunk when it is asked for again, by
//! anyone. Which kind it is, the time tells that a read takes which no other runs beside: what a virtual disk says
//! of itself can't be relied on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A disk that turns needs longer than this for a read somewhere, and one that doesn't is ready long before.
const TURNS: Duration = Duration::from_micros(1500);

/// Chunks whose first use is remembered together: one bit each.
const GROUP: usize = 64 * 1024;

/// What is known of a source and of its chunks' first uses.
pub(crate) struct Pace {
    /// Microseconds of a read, of late; 0: not known.
    micros: AtomicU32,
    touched: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

impl Pace {
    /// For an image of that many chunks. Costs a bit for each that has been read, in pieces of 8 KiB.
    pub(crate) fn new(chunks: u64) -> Self {
        let groups = usize::try_from(chunks.div_ceil(GROUP as u64)).unwrap_or(usize::MAX);
        Self { micros: AtomicU32::new(0), touched: (0..groups).map(|_| OnceLock::new()).collect() }
    }

    /// A read that ran alone took so long.
    pub(crate) fn tell(&self, took: Duration) {
        let now = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let old = self.micros.load(Relaxed);
        // What came out of some memory on the way says little: the slow ones count for more.
        let new = match old {
            0 => now,
            old if now > old => old / 2 + now / 2,
            old => old - old / 16 + now / 16,
        };
        self.micros.store(new, Relaxed);
    }

    /// Whether a first use is to bring the whole chunk.
    pub(crate) fn is_slow(&self) -> bool {
        u128::from(self.micros.load(Relaxed)) > TURNS.as_micros()
    }

    /// Whether the chunk was never used.
    pub(crate) fn is_new(&self, index: u64) -> bool {
        let (group, word, bit) = split(index);
        let word = self.touched.get(group).map(|group| group.get().and_then(|group| group.get(word)));
        word.is_some_and(|word| word.is_none_or(|word| word.load(Relaxed) & bit == 0))
    }

    /// The chunk was used.
    pub(crate) fn touch(&self, index: u64) {
        let (group, word, bit) = split(index);
        if let Some(group) = self.touched.get(group) {
            let group = group.get_or_init(|| (0..GROUP / 64).map(|_| AtomicU64::new(0)).collect());
            if let Some(word) = group.get(word) {
                word.fetch_or(bit, Relaxed);
            }
        }
    }
}

/// A chunk's group, its word there, and its bit in that.
fn split(index: u64) -> (usize, usize, u64) {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    (index / GROUP, index % GROUP / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_new_once() {
        let pace = Pace::new(200_000);
        for index in [0, 63, 64, 65_535, 65_536, 199_999] {
            assert!(pace.is_new(index), "{index}");
            pace.touch(index);
            assert!(!pace.is_new(index), "{index}");
        }
        assert!(pace.is_new(1) && pace.is_new(65_537), "their neighbours are");
        assert!(!pace.is_new(u64::MAX), "what does not exist is not");
    }

    #[test]
    fn a_disk_is_what_its_slow_reads_say() {
        let pace = Pace::new(1);
        assert!(!pace.is_slow(), "nothing is known");
        pace.tell(Duration::from_micros(120));
        assert!(!pace.is_slow());
        pace.tell(Duration::from_millis(8));
        assert!(pace.is_slow());
        (0..8).for_each(|_| pace.tell(Duration::from_micros(30)));
        assert!(pace.is_slow(), "some were in the disk's own memory");
        (0..100).for_each(|_| pace.tell(Duration::from_micros(90)));
        assert!(!pace.is_slow());
    }
}
