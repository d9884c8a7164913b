//! A disk that takes no writes, over one that would.

use std::sync::Arc;

use bytes::Bytes;

use crate::{BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, Segments, Volume};

/// A volume that can be read only.
pub struct ReadOnly {
    inner: Arc<dyn Volume>,
}

impl ReadOnly {
    /// `inner` without its writes.
    pub fn new(inner: Arc<dyn Volume>) -> Self {
        Self { inner }
    }
}

fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "a layer that takes no writes")
}

impl Volume for ReadOnly {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.inner.read(range, out)
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.inner.try_read(range, out)
    }

    fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
        Err(refused())
    }

    fn try_write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<bool, BlockError> {
        Err(refused())
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
        Err(refused())
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
