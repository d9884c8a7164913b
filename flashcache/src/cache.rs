//! The cache itself: one for the process, whatever the number of images and clients.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::ahead::{Ahead, LONGEST_WINDOW};
use crate::chunk::{CHUNK_LEN, Chunk, Coming};
use crate::queues::{Name, Queues};
use crate::volume::Digest;

/// How full the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// Bytes of the chunks that are held.
    pub used: u64,
    /// The most that are held, in bytes.
    pub capacity: u64,
}

/// Chunks of many images in RAM, within one bound of bytes.
pub struct FlashCache {
    queues: Mutex<Queues>,
    /// Where a chunk of known content is, whichever image brought it.
    by_digest: Mutex<HashMap<Digest, Weak<Chunk>>>,
    /// What every chunk of zeros is: images are full of them, and they cost nothing.
    zeros: Arc<Chunk>,
    fills: AtomicU64,
    tables: AtomicU64,
    pub(crate) ahead: Ahead,
    /// The most chunks that one window brings.
    window: u8,
}

/// Dead entries of `by_digest` are swept when this many have come since the last sweep.
const SWEEP_EVERY: u64 = 4096;

impl FlashCache {
    /// A cache of at most `capacity` bytes; at that limit, the chunk that is wanted least leaves for each that
    /// comes. Chunks on their way to a client live on until they are sent, beside that bound. Less than one chunk
    /// counts as one.
    #[must_use]
    pub fn new(capacity: block::Bytes) -> Arc<Self> {
        let queues = Queues::new(capacity.0);
        let window = u8::try_from(queues.window()).map_or(LONGEST_WINDOW, |most| most.min(LONGEST_WINDOW));
        Arc::new(Self {
            queues: Mutex::new(queues),
            by_digest: Mutex::default(),
            zeros: Arc::new(Chunk::new(Bytes::from(vec![0; CHUNK_LEN]), 0, Coming::Asked, 0)),
            fills: AtomicU64::new(0),
            tables: AtomicU64::new(0),
            ahead: Ahead::default(),
            window,
        })
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> CacheUse {
        let queues = self.queues.lock();
        CacheUse { used: queues.used(), capacity: queues.capacity() }
    }

    /// How many fills there have been: the cache's sense of time.
    pub(crate) fn clock(&self) -> u64 {
        self.fills.load(Relaxed)
    }

    /// The most chunks that may be read ahead at once: few, where the cache is small.
    pub(crate) fn window(&self) -> u8 {
        self.window
    }

    /// Whether it is the common chunk of zeros.
    pub(crate) fn is_zeros(&self, chunk: &Arc<Chunk>) -> bool {
        Arc::ptr_eq(chunk, &self.zeros)
    }

    /// A number for a new image.
    pub(crate) fn new_table(&self) -> u64 {
        self.tables.fetch_add(1, Relaxed)
    }

    /// The chunk of that content, if some image has brought it and it is still in RAM.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Arc<Chunk>> {
        self.by_digest.lock().get(digest)?.upgrade()
    }

    /// Takes in a chunk that was read, which begins a window of so many, or none. Returns the one to use: the common
    /// one, for zeros.
    pub(crate) fn admit(
        &self,
        name: Name,
        digest: Option<&Digest>,
        data: Bytes,
        coming: Coming,
        window: u8,
    ) -> Arc<Chunk> {
        let born = self.fills.fetch_add(1, Relaxed) + 1;
        if data.len() == CHUNK_LEN && is_zero(&data) {
            return Arc::clone(&self.zeros);
        }
        let chunk = Arc::new(Chunk::new(data, born, coming, window));
        if let Some(digest) = digest {
            let mut known = self.by_digest.lock();
            if born.is_multiple_of(SWEEP_EVERY) {
                known.retain(|_, chunk| chunk.strong_count() > 0);
            }
            known.insert(*digest, Arc::downgrade(&chunk));
        }
        let gone = self.queues.lock().insert(name, Arc::clone(&chunk));
        drop(gone);
        chunk
    }
}

/// Whether all bytes are 0; compared in pieces that the compiler turns into wide loads.
fn is_zero(data: &[u8]) -> bool {
    data.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

impl fmt::Debug for FlashCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlashCache").field("usage", &self.usage()).finish_non_exhaustive()
    }
}
