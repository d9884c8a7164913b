//! A disk in memory, for tests and for disks that hold nothing worth keeping.

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{BlockError, BlockRange, Geometry, Lba, Segments, Volume};

/// A disk in memory. Every call is done at once; a read copies.
#[derive(Debug)]
pub struct MemVolume {
    geometry: Geometry,
    bytes: RwLock<Vec<u8>>,
}

impl MemVolume {
    /// A disk of that size, all zero.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let len = usize::try_from(geometry.byte_len()).unwrap_or(usize::MAX);
        Self { geometry, bytes: RwLock::new(vec![0; len]) }
    }

    /// A disk that holds `bytes`.
    ///
    /// # Errors
    /// When they are not a whole number of blocks, or none.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, crate::UnitError> {
        let geometry = Geometry::new(crate::BlockCount::from_bytes(bytes.len() as u64)?)?;
        Ok(Self { geometry, bytes: RwLock::new(bytes) })
    }
}

fn indices(range: BlockRange) -> std::ops::Range<usize> {
    // The disk itself is in memory, so what is on it can be counted in `usize`.
    let start = range.byte_start() as usize;
    start..start + range.byte_len() as usize
}

fn not_on_disk(range: BlockRange) -> BlockError {
    BlockError::new(crate::ErrorKind::OutOfRange, range.to_string())
}

impl Volume for MemVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let bytes = self.bytes.read();
        out.push(Bytes::copy_from_slice(bytes.get(indices(range)).ok_or_else(|| not_on_disk(range))?));
        Ok(())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.read(range, out).map(|()| true)
    }

    fn write(&self, start: Lba, data: &[Bytes], _fua: bool) -> Result<(), BlockError> {
        let mut bytes = self.bytes.write();
        let mut at = start.byte_offset().and_then(|o| usize::try_from(o).ok()).unwrap_or(usize::MAX);
        for piece in data {
            let place =
                at.checked_add(piece.len()).and_then(|end| bytes.get_mut(at..end)).ok_or_else(|| {
                    BlockError::new(crate::ErrorKind::OutOfRange, format!("write at block {start}"))
                })?;
            place.copy_from_slice(piece);
            at += piece.len();
        }
        Ok(())
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        self.write(start, data, fua).map(|()| true)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.bytes.write().get_mut(indices(range)).ok_or_else(|| not_on_disk(range))?.fill(0);
        Ok(())
    }
}
