//! Who stays in RAM: S3-FIFO (Yang et al., SOSP 2023). Newcomers wait in a small queue; those that are used again
//! while they wait move to the main queue, the others leave and are remembered by name for a while, so that one
//! that comes back soon goes to the main queue at once. A scan, however long, passes through the small queue only.
//! What is read ahead has not been used by that: it waits in the small queue until somebody comes for it.
//!
//! Chosen over a general cache library because a hit has to touch nothing but the chunk itself: no queue, no lock,
//! no record that another client's hit touches too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::chunk::{CHUNK_LEN, Chunk, Coming};

/// The small queue's share of the capacity: one tenth, as the paper found best over thousands of traces.
const SMALL_SHARE: u64 = 10;

/// Names a chunk across evictions. Two chunks of one name only confuse each other's admission.
pub(crate) type Name = u64;

#[derive(Debug)]
struct Entry {
    name: Name,
    chunk: Arc<Chunk>,
    /// Whether it was here not long ago.
    is_back: bool,
}

/// A queue and the bytes in it.
#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        self.bytes += entry.chunk.len() as u64;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.chunk.len() as u64;
        Some(entry)
    }
}

/// The names of chunks that left the small queue unused: as many as chunks fit in RAM.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<Name>,
    /// How often each name stands in `order`.
    known: HashMap<Name, u32>,
}

impl Ghosts {
    fn remember(&mut self, name: Name, most: usize) {
        self.order.push_back(name);
        *self.known.entry(name).or_default() += 1;
        while self.order.len() > most {
            if let Some(oldest) = self.order.pop_front() {
                self.lose(oldest);
            }
        }
    }

    fn lose(&mut self, name: Name) {
        if let Some(times) = self.known.get_mut(&name) {
            *times -= 1;
            if *times == 0 {
                self.known.remove(&name);
            }
        }
    }

    fn knows(&self, name: Name) -> bool {
        self.known.contains_key(&name)
    }
}

/// All chunks in RAM, and who leaves next.
#[derive(Debug)]
pub(crate) struct Queues {
    capacity: u64,
    small: Queue,
    main: Queue,
    ghosts: Ghosts,
}

impl Queues {
    /// Queues for `capacity` bytes, but never less than one chunk.
    pub(crate) fn new(capacity: u64) -> Self {
        let capacity = capacity.max(CHUNK_LEN as u64);
        Self { capacity, small: Queue::default(), main: Queue::default(), ghosts: Ghosts::default() }
    }

    /// Bytes of all chunks held.
    pub(crate) fn used(&self) -> u64 {
        self.small.bytes + self.main.bytes
    }

    /// The most bytes that are held.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many chunks may be read ahead at once: a quarter of what newcomers always have, so that what comes by one
    /// window doesn't push out what came by the one before, which is being read.
    pub(crate) fn window(&self) -> u64 {
        (self.capacity / SMALL_SHARE / 4 / CHUNK_LEN as u64).max(1)
    }

    /// Takes a chunk in and lets others go until all fit. Returns those that went, so that they are freed when no
    /// lock is held.
    pub(crate) fn insert(&mut self, name: Name, chunk: Arc<Chunk>) -> Vec<Arc<Chunk>> {
        let entry = Entry { name, chunk, is_back: self.ghosts.knows(name) };
        if entry.is_back && entry.chunk.coming() == Coming::Asked {
            self.main.push(entry);
        } else {
            self.small.push(entry);
        }
        let mut gone = Vec::new();
        while self.used() > self.capacity {
            let from_small = self.small.bytes > self.capacity / SMALL_SHARE || self.main.entries.is_empty();
            let left = if from_small { self.age_small() } else { self.age_main() };
            gone.extend(left);
        }
        gone
    }

    fn age_small(&mut self) -> Option<Arc<Chunk>> {
        let entry = self.small.pop()?;
        if entry.chunk.cool() || entry.is_back && entry.chunk.was_read() {
            self.main.push(entry);
            return None;
        }
        // What was read ahead and left before anybody came for it is not wanted again when somebody does: that is the
        // first use.
        if entry.chunk.was_read() {
            let most = usize::try_from(self.capacity / CHUNK_LEN as u64).unwrap_or(usize::MAX);
            self.ghosts.remember(entry.name, most);
        }
        Some(entry.chunk)
    }

    fn age_main(&mut self) -> Option<Arc<Chunk>> {
        let entry = self.main.pop()?;
        if entry.chunk.cool() {
            self.main.push(entry);
            return None;
        }
        Some(entry.chunk)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const CHUNKS: u64 = 100;

    fn chunk() -> Arc<Chunk> {
        Arc::new(Chunk::new(Bytes::from(vec![1; CHUNK_LEN]), 0, Coming::Asked, 0))
    }

    fn read_ahead() -> Arc<Chunk> {
        Arc::new(Chunk::new(Bytes::from(vec![1; CHUNK_LEN]), 0, Coming::Ahead, 0))
    }

    fn queues() -> Queues {
        Queues::new(CHUNKS * CHUNK_LEN as u64)
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let mut queues = queues();
        for name in 0..1000 {
            let used_again = chunk();
            if name % 3 == 0 {
                let _ = used_again.read(512, 1024);
            }
            queues.insert(name, used_again);
            assert!(queues.used() <= queues.capacity());
        }
        assert_eq!(queues.used(), queues.capacity());
        assert!(queues.ghosts.order.len() <= CHUNKS as usize);
        assert!(queues.ghosts.known.len() <= CHUNKS as usize);
    }

    #[test]
    fn a_scan_leaves_what_is_in_use() {
        let mut queues = queues();
        let hot: Vec<_> = (0..80).map(|name| (name, chunk())).collect();
        for (name, chunk) in &hot {
            queues.insert(*name, Arc::clone(chunk));
            let _ = chunk.read(512, 1024);
        }
        let mut gone = Vec::new();
        for name in 1000..3000 {
            // Each chunk of the scan is read once, from end to end.
            let scanned = chunk();
            let _ = scanned.read(0, CHUNK_LEN);
            gone.extend(queues.insert(name, scanned));
            // The others go on working.
            let (_, busy) = &hot[(name % 80) as usize];
            let _ = busy.read(512, 1024);
        }
        let lost = hot.iter().filter(|(_, chunk)| gone.iter().any(|it| Arc::ptr_eq(it, chunk))).count();
        assert_eq!(lost, 0);
    }

    #[test]
    fn what_comes_back_soon_is_kept() {
        let mut queues = queues();
        for name in 0..150 {
            let used_once = chunk();
            let _ = used_once.read(0, 512);
            queues.insert(name, used_once);
        }
        let back = chunk();
        queues.insert(0, Arc::clone(&back));
        let gone: Vec<_> = (1000..1095).flat_map(|name| queues.insert(name, chunk())).collect();
        assert!(!gone.iter().any(|it| Arc::ptr_eq(it, &back)));
    }

    #[test]
    fn what_was_read_ahead_in_vain_is_a_newcomer_when_it_comes_back() {
        let mut queues = queues();
        for name in 0..150 {
            queues.insert(name, read_ahead());
        }
        queues.insert(0, chunk());
        assert!(queues.main.entries.is_empty());
    }

    #[test]
    fn what_comes_back_by_being_read_ahead_is_kept_if_somebody_reads_it() {
        for (is_read, kept) in [(false, false), (true, true)] {
            let mut queues = queues();
            for name in 0..150 {
                let used_once = chunk();
                let _ = used_once.read(0, 512);
                queues.insert(name, used_once);
            }
            let back = read_ahead();
            queues.insert(0, Arc::clone(&back));
            if is_read {
                let _ = back.read(0, 512);
            }
            let gone: Vec<_> = (1000..1110).flat_map(|name| queues.insert(name, chunk())).collect();
            assert_eq!(!gone.iter().any(|it| Arc::ptr_eq(it, &back)), kept);
        }
    }
}
