//! A chunk: the unit that is cached.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use bytes::Bytes;

/// Bytes of a chunk. Large enough that the records of a full cache are small beside it and a boot's sequential
/// reads cost few fills; small enough that a random 4 KiB read doesn't fetch much that nobody wants. The last
/// chunk of an image may be shorter.
pub const CHUNK_LEN: usize = 64 * 1024;

// A chunk is a piece of its own of what a file gives: to keep it keeps nothing else in memory.
const _: () = assert!(CHUNK_LEN == block::PIECE_LEN);

/// Uses beyond which more don't matter. Once a chunk is that hot, hits write nothing to it, so that processors
/// don't fight for its line.
const HOTTEST: u8 = 3;

/// How a chunk comes into RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    /// Somebody waits for it.
    Asked,
    /// Nobody has asked for it yet.
    Ahead,
}

/// A cached piece of an image.
#[derive(Debug)]
pub(crate) struct Chunk {
    data: Bytes,
    heat: AtomicU8,
    /// Where the last read ended within the chunk.
    read_up_to: AtomicU32,
    /// The number of the fill that brought it.
    born: u64,
    coming: Coming,
    /// How many chunks were read ahead from this one on; 0 for all but the first of them.
    window: AtomicU8,
}

impl Chunk {
    /// `window`, if it begins one that was read ahead: how many chunks that is; else 0.
    pub(crate) fn new(data: Bytes, born: u64, coming: Coming, window: u8) -> Self {
        let window = AtomicU8::new(window);
        Self { data, heat: AtomicU8::new(0), read_up_to: AtomicU32::new(0), born, coming, window }
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn born(&self) -> u64 {
        self.born
    }

    pub(crate) fn coming(&self) -> Coming {
        self.coming
    }

    /// The window that it begins, told once.
    pub(crate) fn take_mark(&self) -> Option<u8> {
        // Nearly always there is none, and nothing is written.
        (self.window.load(Relaxed) != 0).then(|| self.window.swap(0, Relaxed)).filter(|window| *window != 0)
    }

    /// The bytes from `start` to `end`, which must lie in the chunk, sharing its memory. Counts as a use, unless
    /// it only goes on where the last read ended: a client that reads a file from end to end in small pieces has
    /// used each chunk once, and must not make it look wanted.
    pub(crate) fn read(&self, start: usize, end: usize) -> Bytes {
        let heat = self.heat.load(Relaxed);
        if heat < HOTTEST {
            let goes_on = self.read_up_to.swap(end as u32, Relaxed) == start as u32;
            if !goes_on {
                // Two readers at once may count as one: it is a hint.
                self.heat.store(heat + 1, Relaxed);
            }
        }
        self.data.slice(start..end)
    }

    /// Whether anybody has read it yet.
    pub(crate) fn was_read(&self) -> bool {
        self.read_up_to.load(Relaxed) != 0
    }

    /// Whether it was used since it was brought in or last looked at so, which costs it one use.
    pub(crate) fn cool(&self) -> bool {
        let heat = self.heat.load(Relaxed);
        self.heat.store(heat.saturating_sub(1), Relaxed);
        heat > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_on_is_no_new_use() {
        let chunk = Chunk::new(Bytes::from(vec![7; CHUNK_LEN]), 0, Coming::Asked, 0);
        for at in 0..16 {
            assert_eq!(chunk.read(at * 4096, (at + 1) * 4096).len(), 4096);
        }
        assert!(!chunk.cool());
        let _ = chunk.read(0, 4096);
        assert!(chunk.cool());
        assert!(!chunk.cool());
    }

    #[test]
    fn uses_are_counted_up_to_a_bound() {
        let chunk = Chunk::new(Bytes::from(vec![7; CHUNK_LEN]), 0, Coming::Asked, 0);
        for _ in 0..100 {
            let _ = chunk.read(512, 1024);
        }
        assert_eq!((0..10).filter(|_| chunk.cool()).count(), usize::from(HOTTEST));
    }
}
