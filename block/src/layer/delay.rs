//! A disk that is slow, as disks are: to see that a slow one holds up nobody but its own client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Dice;
use crate::{BlockError, BlockRange, Extent, Geometry, Lba, Segments, Volume};

/// How slow a [`Delay`] layer is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DelayPlan {
    /// What the varying part is drawn from.
    pub seed: u64,
    /// Microseconds that a read takes longer.
    pub read_us: u32,
    /// Microseconds that a write, a discard or a flush takes longer.
    pub write_us: u32,
    /// The most microseconds beside these, different for each call.
    pub varying_us: u32,
}

/// A volume all of whose calls wait, so that none can be done without waiting.
pub struct Delay {
    inner: Arc<dyn Volume>,
    plan: DelayPlan,
    dice: Dice,
}

impl Delay {
    /// `inner`, as slow as planned.
    pub fn new(inner: Arc<dyn Volume>, plan: DelayPlan) -> Self {
        Self { inner, dice: Dice::new(plan.seed), plan }
    }

    fn wait(&self, us: u32) {
        let varying = self.dice.roll() % (u64::from(self.plan.varying_us) + 1);
        std::thread::sleep(Duration::from_micros(u64::from(us) + varying));
    }
}

// `try_read` and `try_write` stay as they are by default: never without waiting.
impl Volume for Delay {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.wait(self.plan.read_us);
        self.inner.read(range, out)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.wait(self.plan.write_us);
        self.inner.write(start, data, fua)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.wait(self.plan.write_us);
        self.inner.flush()
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.wait(self.plan.write_us);
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
    use std::time::Instant;

    use super::*;
    use crate::{BlockCount, MemVolume};

    #[test]
    fn every_call_waits() {
        let inner = Arc::new(MemVolume::new(Geometry::new(BlockCount::new(8)).unwrap()));
        let plan = DelayPlan { read_us: 2000, write_us: 3000, ..DelayPlan::default() };
        let disk = Delay::new(inner, plan);
        let whole = disk.geometry().whole();
        let mut out = Segments::new();
        let begin = Instant::now();
        assert!(!disk.try_read(whole, &mut out).unwrap());
        disk.read(whole, &mut out).unwrap();
        assert!(begin.elapsed() >= Duration::from_micros(2000));
        disk.write(Lba::ZERO, &[out.to_bytes()], false).unwrap();
        assert!(begin.elapsed() >= Duration::from_micros(5000));
    }
}
