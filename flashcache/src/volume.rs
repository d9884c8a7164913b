//! An image seen through the cache.

use std::sync::Arc;

use block::{
    BlockCount, BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, SECTOR_SIZE, Segments, Volume,
};
use bytes::Bytes;

use crate::cache::FlashCache;
use crate::chunk::{CHUNK_LEN, Chunk};
use crate::fills::{Fills, Turn};
use crate::queues::Name;
use crate::striped::Striped;
use crate::table::Table;

/// The hash of a chunk's content, as the image's maker wrote it down.
pub type Digest = [u8; 32];

/// Blocks of a chunk.
const CHUNK_BLOCKS: u64 = CHUNK_LEN as u64 / SECTOR_SIZE as u64;

/// How far ahead of a sequential reader the source is told to read, in chunks: 1 MiB, what a disk reads in the
/// time that it needs to begin.
const READ_AHEAD: u64 = 16;

/// A reader is sequential if the chunk before came within this many fills. More than one reader may be at it.
const RECENT_FILLS: u64 = 256;

/// A read-only volume whose reads go through a [`FlashCache`]. What it holds must never change: chunks are not
/// read again while they are in RAM.
pub struct CachedVolume {
    cache: Arc<FlashCache>,
    source: Arc<dyn Volume>,
    geometry: Geometry,
    number: u64,
    table: Table,
    fills: Fills,
    digests: Option<Arc<[Digest]>>,
    hits: Striped,
    misses: Striped,
}

/// The part of one chunk that a read wants, in bytes within the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    index: u64,
    start: usize,
    end: usize,
}

/// The parts of chunks that make up `range`, in order.
fn parts(range: BlockRange) -> impl Iterator<Item = Part> {
    let (mut at, end) = (range.byte_start(), range.byte_start() + range.byte_len());
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let index = at / CHUNK_LEN as u64;
        let base = index * CHUNK_LEN as u64;
        let stop = end.min(base + CHUNK_LEN as u64);
        let part = Part { index, start: (at - base) as usize, end: (stop - base) as usize };
        at = stop;
        Some(part)
    })
}

impl CachedVolume {
    /// `source` through `cache`. With `digests`, one for each chunk of the image, chunks of equal content are held
    /// once for all images; a list of another length than the image is not made use of.
    pub fn new(cache: &Arc<FlashCache>, source: Arc<dyn Volume>, digests: Option<Arc<[Digest]>>) -> Self {
        let geometry = source.geometry();
        let chunks = geometry.byte_len().div_ceil(CHUNK_LEN as u64);
        Self {
            cache: Arc::clone(cache),
            source,
            geometry,
            number: cache.new_table(),
            table: Table::new(chunks),
            fills: Fills::default(),
            digests: digests.filter(|all| all.len() as u64 == chunks),
            hits: Striped::default(),
            misses: Striped::default(),
        }
    }

    /// Chunks that were in RAM when asked for.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.sum()
    }

    /// Chunks that had to be read.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.sum()
    }

    fn digest(&self, index: u64) -> Option<&Digest> {
        self.digests.as_ref()?.get(usize::try_from(index).ok()?)
    }

    fn name(&self, index: u64) -> Name {
        match self.digest(index) {
            Some([a, b, c, d, e, f, g, h, ..]) => u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]),
            None => self.number << 40 ^ index,
        }
    }

    fn chunk_range(&self, index: u64) -> Result<BlockRange, BlockError> {
        let start = index * CHUNK_BLOCKS;
        let count = CHUNK_BLOCKS.min(self.geometry.blocks().get().saturating_sub(start));
        BlockRange::new(Lba::new(start), BlockCount::new(count))
            .map_err(|e| BlockError::new(ErrorKind::OutOfRange, "cache").caused_by(e))
    }

    /// A chunk that is in RAM, under this image's number or, by its content, under another's.
    fn resident(&self, index: u64) -> Option<Arc<Chunk>> {
        if let Some(chunk) = self.table.get(index) {
            return Some(chunk);
        }
        let chunk = self.cache.find(self.digest(index)?)?;
        self.table.put(index, &chunk);
        Some(chunk)
    }

    fn admit(&self, index: u64, data: Bytes) -> Arc<Chunk> {
        self.misses.add(1);
        let chunk = self.cache.admit(self.name(index), self.digest(index), data);
        self.table.put(index, &chunk);
        chunk
    }

    /// The chunk, read if need be. Blocks.
    fn chunk(&self, index: u64) -> Result<Arc<Chunk>, BlockError> {
        loop {
            if let Some(chunk) = self.resident(index) {
                self.hits.add(1);
                return Ok(chunk);
            }
            match self.fills.begin(index) {
                Turn::Wait(fill) => {
                    if let Some(chunk) = fill.wait() {
                        self.hits.add(1);
                        return Ok(chunk);
                    }
                }
                Turn::Lead(lead) => {
                    // It may have come between the look and the turn.
                    let chunk = match self.resident(index) {
                        Some(chunk) => chunk,
                        None => self.fetch(index)?,
                    };
                    lead.done(&chunk);
                    return Ok(chunk);
                }
            }
        }
    }

    fn fetch(&self, index: u64) -> Result<Arc<Chunk>, BlockError> {
        let range = self.chunk_range(index)?;
        self.read_ahead(index);
        let mut data = Segments::new();
        self.source.read(range, &mut data)?;
        let chunk = self.admit(index, data.to_bytes());
        // It is in our RAM now; the kernel's copy would only take it twice. Only here: the kernel may wait.
        self.source.forget(range);
        Ok(chunk)
    }

    /// Tells the source what comes next, if the chunk before was read a moment ago.
    fn read_ahead(&self, index: u64) {
        let before = index.checked_sub(1).and_then(|before| self.table.get(before));
        let sequential = before.is_some_and(|it| self.cache.clock().saturating_sub(it.born()) < RECENT_FILLS);
        let next = (index + 1) * CHUNK_BLOCKS;
        let left = self.geometry.blocks().get().saturating_sub(next);
        if sequential && left > 0 {
            let count = BlockCount::new(left.min(READ_AHEAD * CHUNK_BLOCKS));
            if let Ok(range) = BlockRange::new(Lba::new(next), count) {
                self.source.prefetch(range);
            }
        }
    }

    /// The chunk, if that takes no waiting: it is in RAM, or the source has it at hand.
    fn chunk_at_hand(&self, index: u64) -> Result<Option<Arc<Chunk>>, BlockError> {
        if let Some(chunk) = self.resident(index) {
            self.hits.add(1);
            return Ok(Some(chunk));
        }
        let Turn::Lead(lead) = self.fills.begin(index) else { return Ok(None) };
        let mut data = Segments::new();
        if !self.source.try_read(self.chunk_range(index)?, &mut data)? {
            return Ok(None);
        }
        let chunk = self.admit(index, data.to_bytes());
        lead.done(&chunk);
        Ok(Some(chunk))
    }
}

impl Volume for CachedVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        for part in parts(range) {
            match self.chunk(part.index) {
                Ok(chunk) => push(&chunk, part, out)?,
                // One bad block must not cost the client the good ones beside it.
                Err(e) if e.kind() == ErrorKind::ReadFailed => {
                    let base = part.index * CHUNK_LEN as u64;
                    let wanted = BlockRange::from_bytes(base + part.start as u64, base + part.end as u64);
                    self.source.read(wanted, out)?;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        let first = range.byte_start() / CHUNK_LEN as u64;
        if range.byte_start() + range.byte_len() <= (first + 1) * CHUNK_LEN as u64 {
            // The usual read lies in one chunk.
            let Some(chunk) = self.chunk_at_hand(first)? else { return Ok(false) };
            for part in parts(range) {
                push(&chunk, part, out)?;
            }
            return Ok(true);
        }
        let mut found = Segments::new();
        for part in parts(range) {
            let Some(chunk) = self.chunk_at_hand(part.index)? else { return Ok(false) };
            push(&chunk, part, &mut found)?;
        }
        found.into_iter().for_each(|piece| out.push(piece));
        Ok(true)
    }

    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        Err(BlockError::new(ErrorKind::ReadOnly, "image in the cache"))
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        Err(BlockError::new(ErrorKind::ReadOnly, "image in the cache"))
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        self.source.provisioning(range)
    }

    fn prefetch(&self, range: BlockRange) {
        self.source.prefetch(range);
    }
}

fn push(chunk: &Chunk, part: Part, out: &mut Segments) -> Result<(), BlockError> {
    if part.end > chunk.len() {
        return Err(BlockError::new(ErrorKind::ReadFailed, "image is shorter than it was when opened"));
    }
    out.push(chunk.read(part.start, part.end));
    Ok(())
}
