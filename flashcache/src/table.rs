//! Where an image's chunks are found: an array of weak references, one per chunk, made leaf by leaf as parts of
//! the image are read. The queues own the chunks; what they let go can't be found here any more, and nobody has to
//! come and clear the place.

use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapWeak;

use crate::chunk::Chunk;

/// Chunks of one leaf: 64 MiB of image, 8 KiB of memory.
const LEAF: usize = 1024;

type Leaf = Box<[ArcSwapWeak<Chunk>]>;

/// The places of one image's chunks.
pub(crate) struct Table {
    leaves: Box<[OnceLock<Leaf>]>,
}

impl Table {
    /// Places for that many chunks. Costs 16 bytes for each 64 MiB until they are read.
    pub(crate) fn new(chunks: u64) -> Self {
        let leaves = usize::try_from(chunks.div_ceil(LEAF as u64)).unwrap_or(usize::MAX);
        Self { leaves: (0..leaves).map(|_| OnceLock::new()).collect() }
    }

    /// The chunk, if it is in RAM.
    pub(crate) fn get(&self, index: u64) -> Option<Arc<Chunk>> {
        let (leaf, place) = split(index);
        self.leaves.get(leaf)?.get()?.get(place)?.load().upgrade()
    }

    /// Makes the chunk be found at `index`.
    pub(crate) fn put(&self, index: u64, chunk: &Arc<Chunk>) {
        let (leaf, place) = split(index);
        if let Some(leaf) = self.leaves.get(leaf) {
            let leaf = leaf.get_or_init(|| (0..LEAF).map(|_| ArcSwapWeak::new(Weak::new())).collect());
            if let Some(place) = leaf.get(place) {
                place.store(Arc::downgrade(chunk));
            }
        }
    }
}

fn split(index: u64) -> (usize, usize) {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    (index / LEAF, index % LEAF)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::chunk::Coming;

    #[test]
    fn finds_what_is_held_and_nothing_else() {
        let table = Table::new(3000);
        let chunk = Arc::new(Chunk::new(Bytes::from_static(b"x"), 0, Coming::Asked, 0));
        table.put(2999, &chunk);
        table.put(999_999, &chunk);
        assert!(table.get(2999).is_some());
        assert!(table.get(2998).is_none() && table.get(0).is_none() && table.get(999_999).is_none());
        drop(chunk);
        assert!(table.get(2999).is_none());
    }
}
