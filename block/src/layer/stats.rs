//! Counts what is done with a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BlockError, BlockRange, Extent, Geometry, Lba, Segments, Volume};

/// What was done with a volume so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Reads that succeeded.
    pub reads: u64,
    /// Bytes that they read.
    pub read_bytes: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Discards that succeeded.
    pub discards: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Calls that failed.
    pub errors: u64,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    discards: AtomicU64,
    flushes: AtomicU64,
    errors: AtomicU64,
}

/// A volume that counts its calls. Each call writes to this layer's memory, so it belongs above what one client
/// has, not below what many share.
pub struct Stats {
    inner: Arc<dyn Volume>,
    counters: Counters,
}

impl Stats {
    /// `inner`, counted from now on.
    pub fn new(inner: Arc<dyn Volume>) -> Self {
        Self { inner, counters: Counters::default() }
    }

    /// The counts so far. Calls that are under way may be in some of them.
    #[must_use]
    pub fn get(&self) -> VolumeStats {
        let c = &self.counters;
        VolumeStats {
            reads: c.reads.load(Relaxed),
            read_bytes: c.read_bytes.load(Relaxed),
            writes: c.writes.load(Relaxed),
            written_bytes: c.written_bytes.load(Relaxed),
            discards: c.discards.load(Relaxed),
            flushes: c.flushes.load(Relaxed),
            errors: c.errors.load(Relaxed),
        }
    }

    /// Counts one call, unless it was not done (`Ok(false)`, as `done` tells), and its bytes.
    fn count<T>(
        &self,
        result: Result<T, BlockError>,
        done: impl FnOnce(&T) -> bool,
        calls: &AtomicU64,
        bytes: Option<(&AtomicU64, u64)>,
    ) -> Result<T, BlockError> {
        match &result {
            Ok(it) if done(it) => {
                calls.fetch_add(1, Relaxed);
                if let Some((counter, n)) = bytes {
                    counter.fetch_add(n, Relaxed);
                }
            }
            Ok(_) => {}
            Err(_) => {
                self.counters.errors.fetch_add(1, Relaxed);
            }
        }
        result
    }

    fn count_read<T>(
        &self,
        result: Result<T, BlockError>,
        done: impl FnOnce(&T) -> bool,
        range: BlockRange,
    ) -> Result<T, BlockError> {
        let bytes = Some((&self.counters.read_bytes, range.byte_len()));
        self.count(result, done, &self.counters.reads, bytes)
    }

    fn count_write<T>(
        &self,
        result: Result<T, BlockError>,
        done: impl FnOnce(&T) -> bool,
        data: &[Bytes],
    ) -> Result<T, BlockError> {
        let len = data.iter().map(|piece| piece.len() as u64).sum();
        self.count(result, done, &self.counters.writes, Some((&self.counters.written_bytes, len)))
    }
}

impl Volume for Stats {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.count_read(self.inner.read(range, out), |()| true, range)
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.count_read(self.inner.try_read(range, out), |done| *done, range)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.count_write(self.inner.write(start, data, fua), |()| true, data)
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        self.count_write(self.inner.try_write(start, data, fua), |done| *done, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.count(self.inner.flush(), |()| true, &self.counters.flushes, None)
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.count(self.inner.discard(range), |()| true, &self.counters.discards, None)
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
    use crate::{BlockCount, MemVolume, layer::ReadOnly};

    #[test]
    fn counts_what_was_done_and_what_failed() {
        let inner: Arc<dyn Volume> = Arc::new(MemVolume::new(Geometry::new(BlockCount::new(8)).unwrap()));
        let disk = Stats::new(Arc::clone(&inner));
        let whole = disk.geometry().whole();
        let mut out = Segments::new();
        disk.read(whole, &mut out).unwrap();
        assert!(disk.try_read(whole, &mut out).unwrap());
        disk.write(Lba::ZERO, &[Bytes::from(vec![1; 1024])], false).unwrap();
        disk.discard(whole).unwrap();
        disk.flush().unwrap();
        let expected = VolumeStats {
            reads: 2,
            read_bytes: 8192,
            writes: 1,
            written_bytes: 1024,
            discards: 1,
            flushes: 1,
            errors: 0,
        };
        assert_eq!(disk.get(), expected);
        let disk = Stats::new(Arc::new(ReadOnly::new(inner)));
        assert!(disk.is_read_only());
        assert!(disk.discard(whole).is_err() && disk.write(Lba::ZERO, &[], false).is_err());
        assert_eq!(disk.get(), VolumeStats { errors: 2, ..VolumeStats::default() });
    }
}
