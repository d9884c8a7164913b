//! A client's disk in the kernel, as a volume: for the target in this process, and for whoever looks at its bytes.
//!
//! It goes past the page cache: the image's blocks are cached once for all clients below the device, and a second copy
//! for each client would push them out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use block::{BlockCount, BlockError, BlockRange, ErrorKind, Geometry, Lba, SECTOR_SIZE, Segments, Volume};
use bytes::Bytes;
use parking_lot::RwLock;
use rustix::fs::OFlags;

/// What memory and places must be a multiple of for that.
const ALIGN: usize = SECTOR_SIZE as usize;

/// The most zeros that are written by one call.
const ZEROS: u64 = 1 << 20;

/// A device as a volume, until it is retired.
pub(super) struct DeviceVolume {
    /// Held shared during each request, so that nobody has the device open when `retire` returns.
    file: RwLock<Option<File>>,
    path: PathBuf,
    geometry: Geometry,
}

impl DeviceVolume {
    pub(super) fn open(path: &Path, geometry: Geometry) -> io::Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).write(true).custom_flags(direct).open(path)?;
        Ok(Self { file: RwLock::new(Some(file)), path: path.to_owned(), geometry })
    }

    /// From now on all requests fail with `Gone`, and the device is closed.
    pub(super) fn retire(&self) {
        *self.file.write() = None;
    }

    fn with<T>(
        &self,
        kind: ErrorKind,
        range: BlockRange,
        work: impl FnOnce(&File) -> io::Result<T>,
    ) -> Result<T, BlockError> {
        let file = self.file.read();
        let context = || format!("{}: {range}", self.path.display());
        let Some(file) = file.as_ref() else { return Err(BlockError::new(ErrorKind::Gone, context())) };
        work(file).map_err(|e| {
            let kind = if e.kind() == io::ErrorKind::StorageFull { ErrorKind::NoSpace } else { kind };
            BlockError::new(kind, context()).caused_by(e)
        })
    }
}

/// `len` zero bytes at a place in memory that direct I/O takes: the vector, and where in it they begin.
fn aligned(len: usize) -> (Vec<u8>, usize) {
    let memory = vec![0u8; len + ALIGN];
    let at = memory.as_ptr().align_offset(ALIGN);
    (memory, at)
}

fn no_memory() -> io::Error {
    io::ErrorKind::OutOfMemory.into()
}

impl Volume for DeviceVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let len = range.byte_len() as usize;
        let bytes = self.with(ErrorKind::ReadFailed, range, |file| {
            let (mut memory, at) = aligned(len);
            let place = memory.get_mut(at..at + len).ok_or_else(no_memory)?;
            file.read_exact_at(place, range.byte_start())?;
            Ok(Bytes::from(memory).slice(at..at + len))
        })?;
        out.push(bytes);
        Ok(())
    }

    fn try_read(&self, range: BlockRange, _out: &mut Segments) -> Result<bool, BlockError> {
        self.with(ErrorKind::ReadFailed, range, |_| Ok(false))
    }

    fn write(&self, start: Lba, data: &[Bytes], _fua: bool) -> Result<(), BlockError> {
        let len: usize = data.iter().map(Bytes::len).sum();
        let range = BlockRange::new(start, BlockCount::new(len as u64 / u64::from(SECTOR_SIZE)))
            .map_err(|e| BlockError::new(ErrorKind::OutOfRange, "write").caused_by(e))?;
        self.with(ErrorKind::WriteFailed, range, |file| {
            let (mut memory, begin) = aligned(len);
            let mut at = begin;
            for piece in data {
                memory.get_mut(at..at + piece.len()).ok_or_else(no_memory)?.copy_from_slice(piece);
                at += piece.len();
            }
            file.write_all_at(memory.get(begin..at).ok_or_else(no_memory)?, range.byte_start())
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        // The disk is one boot's: nothing of it is promised to outlive the machine, and the process it does outlive.
        self.with(ErrorKind::WriteFailed, self.geometry.whole(), |_| Ok(()))
    }

    /// Writes zeros. An overlay's block that is given back would show the image again.
    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.with(ErrorKind::WriteFailed, range, |file| {
            let (memory, begin) = aligned(ZEROS.min(range.byte_len()) as usize);
            let (mut at, end) = (range.byte_start(), range.byte_start() + range.byte_len());
            while at < end {
                let now = (end - at).min(ZEROS);
                file.write_all_at(memory.get(begin..begin + now as usize).ok_or_else(no_memory)?, at)?;
                at += now;
            }
            Ok(())
        })
    }
}
