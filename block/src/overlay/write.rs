//! How an overlay's blocks change: the only code that moves them from one state to another.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::map::{Held, State};
use super::{BLOCK, Overlay, Wait, ZEROS};
use crate::fileio::{self, Attempt};
use crate::{BlockError, BlockRange, ErrorKind, Lba, Segments};

/// Bytes of the disk that are written at once, and the blocks they lie in.
#[derive(Clone, Copy)]
struct Span {
    from: u64,
    to: u64,
    first: u64,
    last: u64,
    /// The end, on the disk, of the last block.
    edge: u64,
}

/// What fills the blocks that a write covers only in part.
#[derive(Default)]
struct Fill {
    head: Segments,
    tail: Segments,
}

/// Blocks side by side of which all or none take space already.
struct Run {
    from: u64,
    to: u64,
    fresh: bool,
}

impl Span {
    fn new(from: u64, len: u64, disk: u64) -> Self {
        let to = from + len;
        let last = to.div_ceil(BLOCK);
        Self { from, to, first: from / BLOCK, last, edge: (last * BLOCK).min(disk) }
    }

    /// The bytes of the first block that lie before the write.
    fn before(self) -> (u64, u64) {
        (self.first * BLOCK, self.from)
    }

    /// The bytes of the last block that lie behind the write.
    fn behind(self) -> (u64, u64) {
        (self.to, self.edge)
    }
}

impl Overlay {
    /// Writes `data` from `start` on; with [`Wait::No`] it is `false`, and nothing is written, when that means
    /// waiting.
    pub(super) fn put(&self, start: Lba, data: &[Bytes], wait: Wait) -> Result<bool, BlockError> {
        self.alive()?;
        let len: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        // On the disk, so it can be written down.
        let from = start.byte_offset().unwrap_or(u64::MAX);
        let span = Span::new(from, len, self.geometry.byte_len());
        if self.map.run(span.first, span.last) == (State::Written, span.last) {
            return self.rewrite(span, data, wait);
        }
        if wait == Wait::No && !self.in_memory {
            // A file system on a device may wait wherever it has to find space.
            return Ok(false);
        }
        let Some(fill) = self.fill(span, wait)? else { return Ok(false) };
        let held = match wait {
            Wait::Yes => self.map.hold(span.first, span.last),
            Wait::No => match self.map.try_hold(span.first, span.last) {
                Some(held) => held,
                None => return Ok(false),
            },
        };
        // Whoever released it did so under these locks.
        self.alive()?;
        self.put_held(span, data, fill, &held).map(|()| true)
    }

    /// Writes to blocks that are all in the file.
    fn rewrite(&self, span: Span, data: &[Bytes], wait: Wait) -> Result<bool, BlockError> {
        let done = match data {
            [only] => self.rewrite_pieces(span.from, &mut [IoSlice::new(only)], wait),
            many => {
                let mut pieces = fileio::slices(many, 0, (span.to - span.from) as usize);
                self.rewrite_pieces(span.from, &mut pieces, wait)
            }
        };
        done.map_err(|e| self.failed(ErrorKind::WriteFailed, span.from, e))
    }

    fn rewrite_pieces(&self, from: u64, pieces: &mut [IoSlice<'_>], wait: Wait) -> io::Result<bool> {
        if wait == Wait::Yes || self.in_memory {
            return fileio::write_at(&self.data, from, pieces).map(|()| true);
        }
        if !self.nowait.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let attempt = fileio::try_write_at(&self.data, from, pieces)?;
        if attempt == Attempt::Unsupported {
            self.nowait.store(false, Ordering::Relaxed);
        }
        Ok(attempt == Attempt::Done)
    }

    /// What the partly written blocks need from the volume beneath; `None` when it is not at hand. That volume
    /// never changes and no block goes back to it, so it stays right until the locks are held.
    fn fill(&self, span: Span, wait: Wait) -> Result<Option<Fill>, BlockError> {
        let mut fill = Fill::default();
        let edges =
            [(span.first, span.before(), &mut fill.head), (span.last - 1, span.behind(), &mut fill.tail)];
        for (block, (from, to), into) in edges {
            if from < to
                && self.map.run(block, block + 1).0 == State::Lower
                && !self.fetch_lower(BlockRange::from_bytes(from, to), into, wait)?
            {
                return Ok(None);
            }
        }
        Ok(Some(fill))
    }

    /// Writes with the blocks held: data, then record, then map. After an error all is as it was before, but that
    /// blocks that had taken space already may hold some of the new bytes if the medium failed.
    fn put_held(&self, span: Span, data: &[Bytes], fill: Fill, held: &Held<'_>) -> Result<(), BlockError> {
        let (pieces, from, to) = self.complete(span, data, fill);
        let runs = self.runs(span);
        let fresh = runs.iter().filter(|r| r.fresh).map(|r| r.to - r.from).sum();
        self.reserve(fresh, span.from)?;
        let done = self
            .write_runs(&runs, &pieces, from, to)
            .and_then(|()| self.record.put(&self.map, span.first, span.last, State::Written, held));
        if let Err(e) = done {
            for run in runs.iter().filter(|r| r.fresh) {
                // Where it fails the bytes stay, but no state speaks of them.
                let _ = fileio::punch(&self.data, run.from * BLOCK, (run.to - run.from) * BLOCK);
            }
            self.used.fetch_sub(fresh, Ordering::Relaxed);
            return Err(self.failed(ErrorKind::WriteFailed, span.from, e));
        }
        self.map.set(span.first, span.last, State::Written, held);
        Ok(())
    }

    /// The pieces to write and the bytes of the disk that they are for: `data`, and around it what makes fresh
    /// blocks whole.
    fn complete(&self, span: Span, data: &[Bytes], fill: Fill) -> (Vec<Bytes>, u64, u64) {
        let whole = |block: u64, gap: (u64, u64), fill: Segments| match self.map.run(block, block + 1).0 {
            State::Written => Segments::new(),
            State::Lower => fill,
            State::Zeroed => {
                let len = (gap.1 - gap.0) as usize;
                Bytes::from_static(ZEROS.get(..len).unwrap_or_default()).into()
            }
        };
        let head = whole(span.first, span.before(), fill.head);
        let tail = whole(span.last - 1, span.behind(), fill.tail);
        let (from, to) = (span.from - head.len() as u64, span.to + tail.len() as u64);
        let pieces = head.into_iter().chain(data.iter().cloned()).chain(tail).collect();
        (pieces, from, to)
    }

    fn runs(&self, span: Span) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::with_capacity(1);
        let mut at = span.first;
        while at < span.last {
            let (state, to) = self.map.run(at, span.last);
            let fresh = state != State::Written;
            match runs.last_mut() {
                Some(run) if run.fresh == fresh => run.to = to,
                _ => runs.push(Run { from: at, to, fresh }),
            }
            at = to;
        }
        runs
    }

    /// Fresh blocks first: only they need space, and when there is none the others still hold their old bytes.
    fn write_runs(&self, runs: &[Run], pieces: &[Bytes], from: u64, to: u64) -> io::Result<()> {
        let (fresh, old) = (runs.iter().filter(|r| r.fresh), runs.iter().filter(|r| !r.fresh));
        for run in fresh.chain(old) {
            let (begin, end) = ((run.from * BLOCK).max(from), (run.to * BLOCK).min(to));
            let mut slices = fileio::slices(pieces, (begin - from) as usize, (end - from) as usize);
            fileio::write_at(&self.data, begin, &mut slices)?;
        }
        Ok(())
    }

    /// Counts `blocks` more as taken, if the limit allows.
    fn reserve(&self, blocks: u64, at: u64) -> Result<(), BlockError> {
        let more = |used: u64| used.checked_add(blocks).filter(|sum| blocks == 0 || *sum <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(used) => {
                let context = format!(
                    "overlay {} at byte {at}: {} bytes more than {} would pass its limit of {}",
                    self.path.display(),
                    blocks * BLOCK,
                    used * BLOCK,
                    self.limit * BLOCK,
                );
                Err(BlockError::new(ErrorKind::NoSpace, context))
            }
        }
    }

    /// Discards the range: whole blocks lose their space, a part of a block is written with zeros.
    pub(super) fn clear(&self, range: BlockRange) -> Result<(), BlockError> {
        self.alive()?;
        let (from, to) = (range.byte_start(), range.byte_start() + range.byte_len());
        let disk = self.geometry.byte_len();
        let first = from.div_ceil(BLOCK);
        let last = if to == disk { to.div_ceil(BLOCK) } else { to / BLOCK };
        if first < last {
            self.clear_blocks(first, last)?;
        }
        if first > last {
            // All of it lies within one block.
            return self.clear_part(from, to);
        }
        self.clear_part(from, (first * BLOCK).min(to))?;
        self.clear_part(last * BLOCK, to)
    }

    /// Writes zeros to a part of one block, unless it is zero already; the part may be empty.
    fn clear_part(&self, from: u64, to: u64) -> Result<(), BlockError> {
        if from >= to || self.map.run(from / BLOCK, from / BLOCK + 1).0 == State::Zeroed {
            return Ok(());
        }
        let zeros = Bytes::from_static(ZEROS.get(..(to - from) as usize).unwrap_or_default());
        self.put(BlockRange::from_bytes(from, to).start(), &[zeros], Wait::Yes).map(|_| ())
    }

    fn clear_blocks(&self, first: u64, last: u64) -> Result<(), BlockError> {
        let held = self.map.hold(first, last);
        self.alive()?;
        let at = first * BLOCK;
        if self.map.run(first, last) != (State::Zeroed, last) {
            self.record
                .put(&self.map, first, last, State::Zeroed, &held)
                .map_err(|e| self.failed(ErrorKind::WriteFailed, at, e))?;
            let freed = self.map.written(first, last);
            self.map.set(first, last, State::Zeroed, &held);
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
        // Also where all was zeroed before: a kill may have come between the record and this. A file system that
        // can't punch keeps the space; the client sees zeros either way.
        let _ = fileio::punch(&self.data, at, (last - first) * BLOCK);
        Ok(())
    }
}
