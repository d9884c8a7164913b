//! The one trait that every disk and every layer of a disk is.

use bytes::Bytes;

use crate::{BlockError, BlockRange, Geometry, Lba, Segments};

/// Whether blocks take space of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// The blocks hold data.
    Mapped,
    /// The blocks were discarded: they read as zero and take no space.
    Deallocated,
}

/// A run of blocks that are provisioned alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The blocks.
    pub range: BlockRange,
    /// How they are provisioned.
    pub state: Provisioning,
}

/// A disk, or one layer of a disk. Calls are synchronous; [`try_read`](Volume::try_read) and
/// [`try_write`](Volume::try_write) never block, the others may wait for storage, so a service runs them where
/// they hold up nobody.
///
/// What holds for every call, and is checked in one place (`Checked`): the range is on the
/// disk; data is exactly as long as its range; an empty range is a success that does nothing. Calls on blocks
/// that do not overlap may run at the same time. Overlapping calls at the same time leave each block with the
/// whole of one of the writes.
pub trait Volume: Send + Sync {
    /// How large it is. Never changes while the volume lives.
    fn geometry(&self) -> Geometry;

    /// Whether it takes no writes: then each of them fails with `ReadOnly`. Never changes while the volume lives.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Appends the range's bytes to `out`, shared with whatever cache holds them.
    ///
    /// # Errors
    /// When the medium can't be read; `out` may then hold part of the range and must be dropped.
    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError>;

    /// As [`read`](Volume::read), if all of it is at hand without waiting for storage. `Ok(false)` when it is
    /// not: `out` is as before, and the caller does a [`read`](Volume::read) where it may block.
    ///
    /// # Errors
    /// As [`read`](Volume::read).
    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        let _ = (range, out);
        Ok(false)
    }

    /// Writes `data`, the pieces one behind the other, from `start` on. It outlives the process when the call
    /// returns; it outlives the machine too after a [`flush`](Volume::flush), or at once with `fua`, where the
    /// volume is not volatile.
    ///
    /// # Errors
    /// When the volume is read-only, full or fails. What was written before stays readable.
    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError>;

    /// As [`write`](Volume::write), if that can be done without waiting for storage; `Ok(false)` when it can't,
    /// and then nothing was written.
    ///
    /// # Errors
    /// As [`write`](Volume::write).
    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        let _ = (start, data, fua);
        Ok(false)
    }

    /// Returns when all that was written before the call is as durable as this volume promises.
    ///
    /// # Errors
    /// When the medium fails.
    fn flush(&self) -> Result<(), BlockError>;

    /// Gives the blocks' space back; from then on they read as zero.
    ///
    /// # Errors
    /// As [`write`](Volume::write).
    fn discard(&self, range: BlockRange) -> Result<(), BlockError>;

    /// How the blocks from `start` on are provisioned: the longest run that begins there, at most `range` long. It
    /// may be cut short, though not to nothing, where finding its end would take long.
    ///
    /// # Errors
    /// When the layer's own records can't be read.
    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        Ok(Extent { range, state: Provisioning::Mapped })
    }

    /// Asks for the range to be brought into the cache soon. Only a hint.
    fn prefetch(&self, range: BlockRange) {
        let _ = range;
    }

    /// Says that the caller keeps a copy of the range, so that caches below need not. Only a hint.
    fn forget(&self, range: BlockRange) {
        let _ = range;
    }
}
