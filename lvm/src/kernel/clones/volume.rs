//! A client's file as a volume, for the target in this process.
//!
//! It goes through the page cache: what is acknowledged is the kernel's, and outlives the process.

use std::io;
use std::path::{Path, PathBuf};

use block::{
    BlockError, BlockRange, ErrorKind, Extent, FileVolume, Geometry, Lba, OpenError, Segments, Volume,
};
use bytes::Bytes;
use parking_lot::RwLock;

/// A file as a volume, until it is retired.
pub(super) struct FileDisk {
    /// Held shared during each request, so that nobody has the file open when `retire` returns.
    file: RwLock<Option<FileVolume>>,
    path: PathBuf,
    geometry: Geometry,
}

impl FileDisk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = FileVolume::read_write(path).map_err(|e| match e {
            OpenError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        let geometry = file.geometry();
        Ok(Self { file: RwLock::new(Some(file)), path: path.to_owned(), geometry })
    }

    /// From now on all requests fail with `Gone`, and the file is closed.
    pub(super) fn retire(&self) {
        *self.file.write() = None;
    }

    fn with<T>(&self, work: impl FnOnce(&FileVolume) -> Result<T, BlockError>) -> Result<T, BlockError> {
        let gone = || BlockError::new(ErrorKind::Gone, self.path.display().to_string());
        self.file.read().as_ref().ok_or_else(gone).and_then(work)
    }
}

impl Volume for FileDisk {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.with(|file| file.read(range, out))
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        self.with(|file| file.try_read(range, out))
    }

    fn write(&self, start: Lba, data: &[Bytes], _fua: bool) -> Result<(), BlockError> {
        self.with(|file| file.write(start, data, false))
    }

    fn try_write(&self, start: Lba, data: &[Bytes], _fua: bool) -> Result<bool, BlockError> {
        self.with(|file| file.try_write(start, data, false))
    }

    fn flush(&self) -> Result<(), BlockError> {
        // The disk is one boot's: nothing of it is promised to outlive the machine, and the process it does outlive.
        self.with(|_| Ok(()))
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.with(|file| file.discard(range))
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        self.with(|file| file.provisioning(range))
    }

    fn prefetch(&self, range: BlockRange) {
        let _ = self.with(|file| {
            file.prefetch(range);
            Ok(())
        });
    }
}
