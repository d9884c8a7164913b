//! An image seen through the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use block::{
    BlockCount, BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, SECTOR_SIZE, Segments, Volume,
};
use bytes::Bytes;

use crate::ahead::{FIRST_WINDOW, LONGEST_WINDOW, Windowed, longer};
use crate::cache::FlashCache;
use crate::chunk::{CHUNK_LEN, Chunk, Coming};
use crate::fills::{Fills, Lead, Turn};
use crate::pace::Pace;
use crate::queues::Name;
use crate::striped::Striped;
use crate::table::Table;

/// The hash of a chunk's content, as the image's maker wrote it down.
pub type Digest = [u8; 32];

/// Blocks of a chunk.
const CHUNK_BLOCKS: u64 = CHUNK_LEN as u64 / SECTOR_SIZE as u64;

/// A read that wants at least this much of a chunk wants the chunk.
const MOST_OF_A_CHUNK: usize = CHUNK_LEN / 2;

/// A reader is sequential if the chunk before came within this many fills. More than one reader may be at it.
const RECENT_FILLS: u64 = 256;

/// A read-only volume whose reads go through a [`FlashCache`]. What it holds must never change: chunks are not
/// read again while they are in RAM.
pub struct CachedVolume(Arc<Image>);

/// What the threads that read ahead know of it, too.
struct Image {
    cache: Arc<FlashCache>,
    source: Arc<dyn Volume>,
    geometry: Geometry,
    number: u64,
    table: Table,
    fills: Fills,
    pace: Pace,
    /// Reads of the source that clients wait for.
    reading: AtomicU32,
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

impl Part {
    fn range(self) -> BlockRange {
        let base = self.index * CHUNK_LEN as u64;
        BlockRange::from_bytes(base + self.start as u64, base + self.end as u64)
    }
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

/// The chunks of which a read wants all, or most: from the first to before the second.
fn whole_chunks(range: BlockRange) -> (u64, u64) {
    let (start, end) = (range.byte_start(), range.byte_start() + range.byte_len());
    let half = MOST_OF_A_CHUNK as u64;
    ((start + half) / CHUNK_LEN as u64, (end + half) / CHUNK_LEN as u64)
}

impl CachedVolume {
    /// `source` through `cache`. With `digests`, one for each chunk of the image, chunks of equal content are held
    /// once for all images; a list of another length than the image is not made use of.
    pub fn new(cache: &Arc<FlashCache>, source: Arc<dyn Volume>, digests: Option<Arc<[Digest]>>) -> Self {
        let geometry = source.geometry();
        let chunks = geometry.byte_len().div_ceil(CHUNK_LEN as u64);
        Self(Arc::new(Image {
            cache: Arc::clone(cache),
            source,
            geometry,
            number: cache.new_table(),
            table: Table::new(chunks),
            fills: Fills::default(),
            pace: Pace::new(chunks),
            reading: AtomicU32::new(0),
            digests: digests.filter(|all| all.len() as u64 == chunks),
            hits: Striped::default(),
            misses: Striped::default(),
        }))
    }

    /// Chunks that were in RAM when asked for.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.sum()
    }

    /// Chunks, and parts of chunks, that had to be read.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.0.misses.sum()
    }
}

impl Image {
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

    fn admit(&self, index: u64, data: Bytes, coming: Coming, window: u8) -> Arc<Chunk> {
        self.misses.add(1);
        let chunk = self.cache.admit(self.name(index), self.digest(index), data, coming, window);
        self.table.put(index, &chunk);
        chunk
    }

    /// The chunk, read if need be. Blocks.
    fn chunk(self: &Arc<Self>, index: u64) -> Result<Arc<Chunk>, BlockError> {
        loop {
            if let Some(chunk) = self.resident(index) {
                self.on_hit(index, &chunk);
                return Ok(chunk);
            }
            match self.fills.begin(index) {
                Turn::Wait(fill) => {
                    if let Some(chunk) = fill.wait() {
                        self.on_hit(index, &chunk);
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

    fn on_hit(self: &Arc<Self>, index: u64, chunk: &Chunk) {
        self.hits.add(1);
        if let Some(window) = chunk.take_mark() {
            self.read_ahead(index + u64::from(window), longer(window));
        }
    }

    fn fetch(self: &Arc<Self>, index: u64) -> Result<Arc<Chunk>, BlockError> {
        let range = self.chunk_range(index)?;
        let sequential = self.is_sequential(index);
        if sequential {
            self.read_ahead(index + 1, FIRST_WINDOW);
        }
        let data = self.timed(!sequential, range)?;
        let chunk = self.admit(index, data.to_bytes(), Coming::Asked, 0);
        // It is in our RAM now; the kernel's copy would only take it twice. Only here: the kernel may wait.
        self.source.forget(range);
        Ok(chunk)
    }

    /// Reads from the source. How long that takes is remembered, if it had to find the place and nothing ran beside it.
    fn timed(&self, finds_place: bool, range: BlockRange) -> Result<Segments, BlockError> {
        let alone = self.reading.fetch_add(1, Relaxed) == 0;
        let began = Instant::now();
        let mut data = Segments::new();
        let read = self.source.read(range, &mut data);
        self.reading.fetch_sub(1, Relaxed);
        if alone && finds_place && read.is_ok() {
            self.pace.tell(began.elapsed());
        }
        read.map(|()| data)
    }

    /// Whether the chunk before was read a moment ago.
    fn is_sequential(&self, index: u64) -> bool {
        let before = index.checked_sub(1).and_then(|before| self.table.get(before));
        before.is_some_and(|it| self.cache.clock().saturating_sub(it.born()) < RECENT_FILLS)
    }

    /// Has a window read by other threads. Never waits.
    fn read_ahead(self: &Arc<Self>, first: u64, count: u8) {
        if self.chunks() > first {
            let count = count.min(self.cache.window());
            let image: Arc<dyn Windowed> = Arc::clone(self) as Arc<dyn Windowed>;
            self.cache.ahead.wish(Arc::downgrade(&image), first, count);
        }
    }

    fn chunks(&self) -> u64 {
        self.geometry.byte_len().div_ceil(CHUNK_LEN as u64)
    }

    /// Whether a read gets what it wants and no more: the chunk's first use, a small one, by nobody who reads on, of
    /// a source that is quick to find another place.
    fn is_for_part_only(&self, part: Part) -> bool {
        part.end - part.start < MOST_OF_A_CHUNK
            && !self.pace.is_slow()
            && !self.is_sequential(part.index)
            && self.pace.is_new(part.index)
    }

    /// A part was read by itself: the chunk's next use brings all of it.
    fn on_part(&self, part: Part, data: Segments, out: &mut Segments) {
        self.misses.add(1);
        self.pace.touch(part.index);
        data.into_iter().for_each(|piece| out.push(piece));
    }

    /// The chunk, if that takes no waiting: it is in RAM, or the source has it at hand.
    fn chunk_at_hand(self: &Arc<Self>, index: u64) -> Result<Option<Arc<Chunk>>, BlockError> {
        if let Some(chunk) = self.resident(index) {
            self.on_hit(index, &chunk);
            return Ok(Some(chunk));
        }
        let Turn::Lead(lead) = self.fills.begin(index) else { return Ok(None) };
        // It may have come between the look and the turn.
        let chunk = match self.resident(index) {
            Some(chunk) => chunk,
            None => {
                let mut data = Segments::new();
                if !self.source.try_read(self.chunk_range(index)?, &mut data)? {
                    return Ok(None);
                }
                self.admit(index, data.to_bytes(), Coming::Asked, 0)
            }
        };
        lead.done(&chunk);
        Ok(Some(chunk))
    }

    /// Brings the chunks from `first` to before `end` that are not in RAM and that nobody reads by now, each run of them by
    /// one read. Blocks. Returns those that it brought, in order; whoever comes for another is told what is wrong with it.
    fn bring(&self, first: u64, end: u64, coming: Coming) -> Vec<(u64, Arc<Chunk>)> {
        let end = end.min(self.chunks());
        let (mut next, mut all, mut marked) = (first, Vec::new(), false);
        while next < end {
            let (from, mut leads) = (next, Vec::new());
            while next < end
                && let Some(lead) = self.lead(next)
            {
                leads.push(lead);
                next += 1;
            }
            if leads.is_empty() {
                next += 1;
                continue;
            }
            let whole = BlockRange::from_bytes(
                from * CHUNK_LEN as u64,
                (next * CHUNK_LEN as u64).min(self.geometry.byte_len()),
            );
            let mut data = Segments::new();
            if self.source.read(whole, &mut data).is_err() {
                break;
            }
            for (index, lead) in (from..).zip(leads) {
                // The first that somebody can touch, which is none of the common zeros, begins the window: it must say so
                // before it can be found.
                let window = if marked { 0 } else { u8::try_from(end - index).unwrap_or(u8::MAX) };
                let chunk = self.admit(index, data.split_to(CHUNK_LEN).to_bytes(), coming, window);
                marked |= !self.cache.is_zeros(&chunk);
                lead.done(&chunk);
                all.push((index, chunk));
            }
            // It is in our RAM now; the kernel's copy would only take it twice.
            self.source.forget(whole);
        }
        all
    }

    /// Brings what a long read wants by one request to the disk instead of one for each chunk.
    fn bring_many(self: &Arc<Self>, range: BlockRange) -> Vec<(u64, Arc<Chunk>)> {
        let (first, end) = whole_chunks(range);
        let mut missing = (first..end).filter(|index| self.table.get(*index).is_none());
        if missing.next().is_none() || missing.next().is_none() {
            return Vec::new();
        }
        if self.is_sequential(first) {
            self.read_ahead(end, FIRST_WINDOW);
        }
        self.bring(first, end, Coming::Asked)
    }

    /// The right to read a chunk that is neither in RAM nor on its way.
    fn lead(&self, index: u64) -> Option<Lead<'_>> {
        if self.resident(index).is_some() {
            return None;
        }
        let Turn::Lead(lead) = self.fills.begin(index) else { return None };
        // It may have come between the look and the turn.
        self.resident(index).is_none().then_some(lead)
    }

    /// Appends a part of a chunk to `out` if that takes no waiting.
    fn try_part(self: &Arc<Self>, part: Part, out: &mut Segments) -> Result<bool, BlockError> {
        if self.resident(part.index).is_none() && self.is_for_part_only(part) {
            let mut data = Segments::new();
            // To try the whole chunk would make the kernel read it.
            let done = self.source.try_read(part.range(), &mut data)?;
            if done {
                self.on_part(part, data, out);
            }
            return Ok(done);
        }
        let Some(chunk) = self.chunk_at_hand(part.index)? else { return Ok(false) };
        push(&chunk, part, out)?;
        Ok(true)
    }

    /// Appends a part of a chunk to `out`. Blocks.
    fn read_part(self: &Arc<Self>, part: Part, out: &mut Segments) -> Result<(), BlockError> {
        if self.resident(part.index).is_none() && self.is_for_part_only(part) {
            let data = self.timed(true, part.range())?;
            self.on_part(part, data, out);
            return Ok(());
        }
        match self.chunk(part.index) {
            Ok(chunk) => push(&chunk, part, out),
            // One bad block must not cost the client the good ones beside it.
            Err(e) if e.kind() == ErrorKind::ReadFailed => self.source.read(part.range(), out),
            Err(e) => Err(e),
        }
    }
}

impl Windowed for Image {
    fn fill(&self, first: u64, count: u8) {
        let _ = self.bring(first, first.saturating_add(count.into()), Coming::Ahead);
    }
}

impl Volume for CachedVolume {
    fn geometry(&self) -> Geometry {
        self.0.geometry
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let image = &self.0;
        let brought = image.bring_many(range);
        parts(range).try_for_each(|part| {
            match brought.binary_search_by_key(&part.index, |(index, _)| *index).map(|at| brought.get(at)) {
                Ok(Some((_, chunk))) => push(chunk, part, out),
                _ => image.read_part(part, out),
            }
        })
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        let image = &self.0;
        let first = range.byte_start() / CHUNK_LEN as u64;
        if range.byte_start() + range.byte_len() <= (first + 1) * CHUNK_LEN as u64 {
            // The usual read lies in one chunk.
            return parts(range).next().map_or(Ok(true), |part| image.try_part(part, out));
        }
        let mut found = Segments::new();
        for part in parts(range) {
            if !image.try_part(part, &mut found)? {
                return Ok(false);
            }
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
        self.0.source.provisioning(range)
    }

    fn prefetch(&self, range: BlockRange) {
        let (first, end) = whole_chunks(range);
        self.0.read_ahead(first, u8::try_from(end.saturating_sub(first)).unwrap_or(LONGEST_WINDOW));
    }
}

fn push(chunk: &Chunk, part: Part, out: &mut Segments) -> Result<(), BlockError> {
    if part.end > chunk.len() {
        return Err(BlockError::new(ErrorKind::ReadFailed, "image is shorter than it was when opened"));
    }
    out.push(chunk.read(part.start, part.end));
    Ok(())
}
