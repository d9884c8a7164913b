//! A disk that fails as it is told: broken blocks, and errors by chance that come again with the same seed.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Dice;
use crate::{BlockCount, BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, Segments, Volume};

/// How a [`Fault`] layer fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultPlan {
    /// What the chances are drawn from.
    pub seed: u64,
    /// How many of a million reads fail.
    pub reads_per_million: u32,
    /// How many of a million writes, discards and flushes fail; what they should change is as before then.
    pub writes_per_million: u32,
    /// Blocks that can't be read.
    pub unreadable: Vec<BlockRange>,
    /// Blocks that can't be written or discarded.
    pub unwritable: Vec<BlockRange>,
}

/// A volume some of whose calls fail.
pub struct Fault {
    inner: Arc<dyn Volume>,
    plan: FaultPlan,
    dice: Dice,
}

impl Fault {
    /// `inner`, failing as planned.
    pub fn new(inner: Arc<dyn Volume>, plan: FaultPlan) -> Self {
        Self { inner, dice: Dice::new(plan.seed), plan }
    }

    fn draw(&self, per_million: u32) -> bool {
        per_million > 0 && self.dice.roll() % 1_000_000 < u64::from(per_million)
    }

    fn may_read(&self, range: BlockRange) -> Result<(), BlockError> {
        if meets(&self.plan.unreadable, range) || self.draw(self.plan.reads_per_million) {
            return Err(BlockError::new(ErrorKind::ReadFailed, format!("{range}: planned")));
        }
        Ok(())
    }

    fn may_write(&self, range: BlockRange) -> Result<(), BlockError> {
        if meets(&self.plan.unwritable, range) || self.draw(self.plan.writes_per_million) {
            return Err(BlockError::new(ErrorKind::WriteFailed, format!("{range}: planned")));
        }
        Ok(())
    }
}

fn meets(broken: &[BlockRange], range: BlockRange) -> bool {
    broken.iter().any(|b| b.start() < range.end() && range.start() < b.end())
}

fn written(start: Lba, data: &[Bytes]) -> BlockRange {
    let bytes = data.iter().map(|piece| piece.len() as u64).sum();
    let count = BlockCount::from_bytes(bytes).unwrap_or(BlockCount::new(0));
    BlockRange::new(start, count).unwrap_or(BlockRange::from_bytes(0, 0))
}

impl Volume for Fault {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.may_read(range)?;
        self.inner.read(range, out)
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.may_read(range)?;
        self.inner.try_read(range, out)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.may_write(written(start, data))?;
        self.inner.write(start, data, fua)
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        self.may_write(written(start, data))?;
        self.inner.try_write(start, data, fua)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.may_write(BlockRange::from_bytes(0, 0))?;
        self.inner.flush()
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.may_write(range)?;
        self.inner.discard(range)
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        self.inner.provisioning(range)
    }

    fn prefetch(&self, range: BlockRange) {
        self.inner.prefetch(range);
    }

    fn forget(&self, range: BlockRange) {
        self.inner.forget(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemVolume;

    fn disk(plan: FaultPlan) -> Fault {
        Fault::new(Arc::new(MemVolume::new(Geometry::new(BlockCount::new(64)).unwrap())), plan)
    }

    fn range(start: u64, count: u64) -> BlockRange {
        BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
    }

    #[test]
    fn broken_blocks_fail_and_their_neighbours_do_not() {
        let disk = disk(FaultPlan {
            unreadable: vec![range(8, 8)],
            unwritable: vec![range(20, 1)],
            ..FaultPlan::default()
        });
        let read = |start, count| disk.read(range(start, count), &mut Segments::new()).is_ok();
        assert!(read(0, 8) && read(16, 8));
        assert!(!read(7, 2) && !read(15, 1) && !read(0, 64));
        let write = |start| disk.write(Lba::new(start), &[Bytes::from(vec![1; 512])], false).is_ok();
        assert!(write(19) && write(21) && !write(20));
        assert!(disk.discard(range(0, 21)).is_err() && disk.discard(range(0, 20)).is_ok());
    }

    #[test]
    fn chance_is_the_seeds() {
        let pattern = |seed| {
            let disk = disk(FaultPlan { seed, reads_per_million: 300_000, ..FaultPlan::default() });
            (0..1000).map(|_| disk.read(range(0, 1), &mut Segments::new()).is_ok()).collect::<Vec<_>>()
        };
        assert_eq!(pattern(1), pattern(1));
        assert_ne!(pattern(1), pattern(2));
        let failed = pattern(3).iter().filter(|ok| !**ok).count();
        assert!((200..400).contains(&failed), "{failed} of 1000 failed");
    }
}
