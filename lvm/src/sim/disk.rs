//! A disk whose written blocks are in memory: as simple as it can be, so that it is right at sight.

use std::collections::HashMap;
use std::sync::Arc;

use block::{
    BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, Provisioning, SECTOR_SIZE, Segments, Volume,
};
use bytes::Bytes;
use parking_lot::RwLock;

/// Sectors in a block, the unit in which written data takes space. As large as in the embedded engine.
const BLOCK: u64 = 8;

/// Blocks that are looked at to answer how a range is provisioned; a longer run is answered in parts.
const MAX_EXTENT_BLOCKS: usize = 4096;

const ZEROS: &[u8] = &[0; BLOCK as usize * SECTOR_SIZE as usize];

#[derive(Default)]
struct State {
    /// The blocks that are not the image's any more: written, or zeroed (`None`). Each whole, and longer than the
    /// disk where it is the last.
    blocks: HashMap<u64, Option<Vec<u8>>>,
    written: u64,
    retired: bool,
}

pub(super) struct SimDisk {
    lower: Arc<dyn Volume>,
    /// Blocks that may be written.
    limit: u64,
    state: RwLock<State>,
}

/// A range's share of one block, in bytes within the block.
struct Share {
    block: u64,
    from: usize,
    to: usize,
}

impl Share {
    /// Where it is on the disk.
    fn range(&self) -> BlockRange {
        let first = self.block * ZEROS.len() as u64;
        BlockRange::from_bytes(first + self.from as u64, first + self.to as u64)
    }
}

fn shares(range: BlockRange) -> impl Iterator<Item = Share> {
    let (start, end) = (range.start().get(), range.end().get());
    let sector = u64::from(SECTOR_SIZE);
    (start / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let first = block * BLOCK;
        let (from, to) = (start.max(first) - first, (end - first).min(BLOCK));
        Share { block, from: (from * sector) as usize, to: (to * sector) as usize }
    })
}

impl SimDisk {
    pub(super) fn new(lower: Arc<dyn Volume>, limit: block::Bytes) -> Self {
        let limit = limit.0 / ZEROS.len() as u64;
        Self { lower, limit, state: RwLock::default() }
    }

    pub(super) fn used(&self) -> block::Bytes {
        block::Bytes(self.state.read().written * ZEROS.len() as u64)
    }

    pub(super) fn retire(&self) {
        *self.state.write() = State { retired: true, ..State::default() };
    }

    /// Whether the share is all of its block that is on the disk.
    fn is_whole(&self, share: &Share) -> bool {
        let end = share.block * ZEROS.len() as u64 + share.to as u64;
        share.from == 0 && (share.to == ZEROS.len() || end == self.geometry().byte_len())
    }

    /// The image's bytes of a block, made whole with zeros.
    fn image(&self, block: u64) -> Result<Vec<u8>, BlockError> {
        let len = ZEROS.len() as u64;
        let end = ((block + 1) * len).min(self.geometry().byte_len());
        let mut pieces = Segments::new();
        self.lower.read(BlockRange::from_bytes(block * len, end), &mut pieces)?;
        let mut bytes = pieces.to_bytes().to_vec();
        bytes.resize(ZEROS.len(), 0);
        Ok(bytes)
    }

    /// Appends the range to `out`, with `lower` for what is the image's; ends with `false` when that does.
    fn fetch(
        &self,
        range: BlockRange,
        out: &mut Segments,
        lower: impl Fn(BlockRange, &mut Segments) -> Result<bool, BlockError>,
    ) -> Result<bool, BlockError> {
        let state = self.state.read();
        alive(&state)?;
        for share in shares(range) {
            let block = match state.blocks.get(&share.block) {
                Some(Some(written)) => written,
                Some(None) => ZEROS,
                None if lower(share.range(), out)? => continue,
                None => return Ok(false),
            };
            out.push(Bytes::copy_from_slice(block.get(share.from..share.to).unwrap_or_default()));
        }
        Ok(true)
    }

    /// Writes `bytes` over the range: all of it or nothing.
    fn put(&self, state: &mut State, range: BlockRange, bytes: &[u8]) -> Result<(), BlockError> {
        let fresh =
            shares(range).filter(|s| !matches!(state.blocks.get(&s.block), Some(Some(_)))).count() as u64;
        if fresh > 0 && state.written + fresh > self.limit {
            return Err(BlockError::new(ErrorKind::NoSpace, format!("{range} of a simulated disk")));
        }
        let mut after = Vec::new();
        let mut rest = bytes;
        for share in shares(range) {
            let mut block = match state.blocks.get(&share.block) {
                Some(Some(written)) => written.clone(),
                Some(None) => ZEROS.to_vec(),
                None => self.image(share.block)?,
            };
            let (now, later) = rest.split_at((share.to - share.from).min(rest.len()));
            if let Some(place) = block.get_mut(share.from..share.from + now.len()) {
                place.copy_from_slice(now);
            }
            rest = later;
            after.push((share.block, Some(block)));
        }
        state.blocks.extend(after);
        state.written += fresh;
        Ok(())
    }
}

fn alive(state: &State) -> Result<(), BlockError> {
    if state.retired {
        return Err(BlockError::new(ErrorKind::Gone, "simulated disk"));
    }
    Ok(())
}

impl Volume for SimDisk {
    fn geometry(&self) -> Geometry {
        self.lower.geometry()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.fetch(range, out, |part, out| self.lower.read(part, out).map(|()| true)).map(|_| ())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        let before = out.len();
        let done = self.fetch(range, out, |part, out| self.lower.try_read(part, out))?;
        if !done {
            out.truncate(before);
        }
        Ok(done)
    }

    fn write(&self, start: Lba, data: &[Bytes], _fua: bool) -> Result<(), BlockError> {
        let mut state = self.state.write();
        alive(&state)?;
        let bytes = data.concat();
        let from = start.byte_offset().unwrap_or(u64::MAX);
        self.put(&mut state, BlockRange::from_bytes(from, from.saturating_add(bytes.len() as u64)), &bytes)
    }

    fn flush(&self) -> Result<(), BlockError> {
        alive(&self.state.read())
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        let mut state = self.state.write();
        alive(&state)?;
        for share in shares(range) {
            if self.is_whole(&share) {
                if let Some(Some(_)) = state.blocks.insert(share.block, None) {
                    state.written -= 1;
                }
            } else if !matches!(state.blocks.get(&share.block), Some(None)) {
                self.put(&mut state, share.range(), ZEROS.get(share.from..share.to).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        let state = self.state.read();
        alive(&state)?;
        let mut found = None;
        let mut end = range.byte_start();
        for share in shares(range).take(MAX_EXTENT_BLOCKS) {
            let part = share.range();
            let extent = match state.blocks.get(&share.block) {
                Some(Some(_)) => Extent { range: part, state: Provisioning::Mapped },
                Some(None) => Extent { range: part, state: Provisioning::Deallocated },
                None => self.lower.provisioning(part)?,
            };
            if *found.get_or_insert(extent.state) != extent.state {
                break;
            }
            end = extent.range.byte_start() + extent.range.byte_len();
            if extent.range != part {
                break;
            }
        }
        let state = found.unwrap_or(Provisioning::Mapped);
        Ok(Extent { range: BlockRange::from_bytes(range.byte_start(), end), state })
    }
}
