//! The one place where the contract between layers is checked, so that no layer has to.

use std::sync::Arc;

use bytes::Bytes;

use crate::{BlockCount, BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, Segments, Volume};

/// A volume that may be handed to strangers: calls that break the contract of [`Volume`] fail here, as do layers
/// that answer with more or less than was asked for.
pub struct Checked {
    inner: Arc<dyn Volume>,
    // Neither changes while the volume lives, and every call needs them.
    geometry: Geometry,
    read_only: bool,
}

impl Checked {
    /// `inner` with its contract checked.
    pub fn new(inner: Arc<dyn Volume>) -> Self {
        Self { geometry: inner.geometry(), read_only: inner.is_read_only(), inner }
    }

    fn on_disk(&self, range: BlockRange) -> Result<(), BlockError> {
        if self.geometry.contains(range) {
            return Ok(());
        }
        let context = format!("{range} of a disk of {} blocks", self.geometry.blocks());
        Err(BlockError::new(ErrorKind::OutOfRange, context))
    }

    fn writable(&self) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::new(ErrorKind::ReadOnly, "write"));
        }
        Ok(())
    }

    /// The range that `data` fills from `start` on, if it may be written.
    fn written(&self, start: Lba, data: &[Bytes]) -> Result<BlockRange, BlockError> {
        self.writable()?;
        let len: u64 = data.iter().map(|piece| piece.len() as u64).sum();
        let count = BlockCount::from_bytes(len)
            .map_err(|e| BlockError::new(ErrorKind::WrongLength, "data to write").caused_by(e))?;
        let range = BlockRange::new(start, count)
            .map_err(|e| BlockError::new(ErrorKind::OutOfRange, "write").caused_by(e))?;
        self.on_disk(range)?;
        Ok(range)
    }
}

/// Whether a layer appended exactly the range: anything else would reach a client as someone else's blocks.
fn complete(before: usize, out: &Segments, range: BlockRange) -> Result<(), BlockError> {
    let got = out.len() as u64 - before as u64;
    if got == range.byte_len() {
        return Ok(());
    }
    let context = format!("{range}: a layer answered {got} bytes");
    Err(BlockError::new(ErrorKind::ReadFailed, context))
}

impl Volume for Checked {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.on_disk(range)?;
        if range.is_empty() {
            return Ok(());
        }
        let before = out.len();
        self.inner.read(range, out)?;
        complete(before, out, range)
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.on_disk(range)?;
        if range.is_empty() {
            return Ok(true);
        }
        let before = out.len();
        let done = self.inner.try_read(range, out)?;
        if done {
            complete(before, out, range)?;
        }
        Ok(done)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        match self.written(start, data)? {
            range if range.is_empty() => Ok(()),
            _ => self.inner.write(start, data, fua),
        }
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        match self.written(start, data)? {
            range if range.is_empty() => Ok(true),
            _ => self.inner.try_write(start, data, fua),
        }
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush()
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.writable()?;
        self.on_disk(range)?;
        if range.is_empty() {
            return Ok(());
        }
        self.inner.discard(range)
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        self.on_disk(range)?;
        self.inner.provisioning(range)
    }

    fn prefetch(&self, range: BlockRange) {
        if self.geometry.contains(range) && !range.is_empty() {
            self.inner.prefetch(range);
        }
    }

    fn forget(&self, range: BlockRange) {
        if self.geometry.contains(range) && !range.is_empty() {
            self.inner.forget(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemVolume;

    fn blocks(start: u64, count: u64) -> BlockRange {
        BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
    }

    fn kind<T>(result: Result<T, BlockError>) -> Option<ErrorKind> {
        result.err().map(|e| e.kind())
    }

    #[test]
    fn what_breaks_the_contract_fails() {
        let disk = Checked::new(Arc::new(MemVolume::new(Geometry::new(BlockCount::new(8)).unwrap())));
        let mut out = Segments::new();
        assert_eq!(kind(disk.read(blocks(7, 2), &mut out)), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(disk.read(blocks(9, 0), &mut out)), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(disk.read(blocks(8, 0), &mut out)), None);
        assert_eq!(
            kind(disk.write(Lba::new(0), &[Bytes::from_static(b"short")], false)),
            Some(ErrorKind::WrongLength)
        );
        let two = [Bytes::from(vec![1; 500]), Bytes::from(vec![1; 524])];
        assert_eq!(kind(disk.write(Lba::new(7), &two, false)), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(disk.write(Lba::new(u64::MAX), &two, false)), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(disk.discard(blocks(0, 9))), Some(ErrorKind::OutOfRange));
        assert_eq!(kind(disk.write(Lba::new(6), &two, false)), None);
        disk.read(blocks(5, 3), &mut out).unwrap();
        assert_eq!(out.to_bytes(), [vec![0; 512], vec![1; 1024]].concat());
    }

    /// A layer with a mistake: it always answers one block.
    struct OneBlock;

    impl Volume for OneBlock {
        fn geometry(&self) -> Geometry {
            Geometry::new(BlockCount::new(8)).unwrap()
        }
        fn is_read_only(&self) -> bool {
            true
        }
        fn read(&self, _: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
            out.push(Bytes::from(vec![0; 512]));
            Ok(())
        }
        fn write(&self, _: Lba, _: &[Bytes], _: bool) -> Result<(), BlockError> {
            Ok(())
        }
        fn flush(&self) -> Result<(), BlockError> {
            Ok(())
        }
        fn discard(&self, _: BlockRange) -> Result<(), BlockError> {
            Ok(())
        }
    }

    #[test]
    fn a_layer_that_answers_wrongly_is_caught() {
        let disk = Checked::new(Arc::new(OneBlock));
        let mut out = Segments::new();
        assert_eq!(kind(disk.read(blocks(0, 1), &mut out)), None);
        assert_eq!(kind(disk.read(blocks(0, 2), &mut out)), Some(ErrorKind::ReadFailed));
        assert_eq!(kind(disk.write(Lba::ZERO, &[], false)), Some(ErrorKind::ReadOnly));
        assert_eq!(kind(disk.discard(blocks(0, 1))), Some(ErrorKind::ReadOnly));
    }
}
