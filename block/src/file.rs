//! A raw image: a file, or a block device, that holds the disk's bytes as they are.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, SeekFrom};

use crate::direct::Direct;
use crate::fileio::{self, Attempt, PIECE_LEN};
use crate::{
    BlockCount, BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, OpenError, Provisioning,
    SECTOR_SIZE, Segments, Volume,
};

/// The most zeros that are written by one call where a file system can't punch holes.
const ZEROS: usize = 1 << 20;

/// A raw file as a disk. Its length is read once: a file that shrinks later gives `ReadFailed` behind its end, one
/// that grows shows nothing of that.
#[derive(Debug)]
pub struct FileVolume {
    file: File,
    path: PathBuf,
    geometry: Geometry,
    writable: bool,
    direct: Option<Direct>,
}

impl FileVolume {
    /// Opens the file for reading; every write fails with `ReadOnly`.
    ///
    /// # Errors
    /// When it can't be opened or is no disk.
    pub fn read_only(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, false)
    }

    /// Opens the file for reading and writing.
    ///
    /// # Errors
    /// As [`read_only`](Self::read_only).
    pub fn read_write(path: &Path) -> Result<Self, OpenError> {
        Self::open(path, true)
    }

    fn open(path: &Path, writable: bool) -> Result<Self, OpenError> {
        let file = OpenOptions::new().read(true).write(writable).open(path).map_err(OpenError::io(path))?;
        let meta = file.metadata().map_err(OpenError::io(path))?;
        if meta.is_dir() {
            return Err(OpenError::io(path)(io::ErrorKind::IsADirectory.into()));
        }
        // Not the metadata's length: that is 0 for a block device.
        let size = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|e| OpenError::io(path)(e.into()))?;
        let geometry = BlockCount::from_bytes(size)
            .and_then(Geometry::new)
            .map_err(|_| OpenError::NotADisk { path: path.to_owned(), size })?;
        Ok(Self { file, path: path.to_owned(), geometry, writable, direct: None })
    }

    /// The same, read by someone who has a cache of his own and reads ahead by himself: past the kernel's cache where the
    /// file system can do that, and else without the kernel's own guesses at what comes next, which would take the
    /// many readers of one image for one that jumps about. Only for files that nobody writes to.
    #[must_use]
    pub fn for_a_cache(mut self) -> Self {
        // A hint: without it there is only more to read.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Random);
        self.direct = if self.writable { None } else { Direct::open(&self.path, &self.file) };
        self
    }

    /// The same as a volume to be shared.
    #[must_use]
    pub fn shared(self) -> Arc<dyn Volume> {
        Arc::new(self)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file itself, for its identity and times.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    fn failed(&self, kind: ErrorKind, range: BlockRange, source: io::Error) -> BlockError {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => kind,
        };
        BlockError::new(kind, format!("{}: {range}", self.path.display())).caused_by(source)
    }

    fn read_in_pieces(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let len = range.byte_len() as usize;
        let found =
            fileio::read_pieces(&self.file, range.byte_start(), len)
                .and_then(|found| {
                    if found.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(found) }
                })
                .map_err(|e| self.failed(ErrorKind::ReadFailed, range, e))?;
        found.into_iter().for_each(|piece| out.push(piece));
        Ok(())
    }

    fn writable(&self) -> Result<(), BlockError> {
        if self.writable {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::ReadOnly, self.path.display().to_string()))
    }

    /// Writes with `how`, whose answer is passed on.
    fn put<T>(
        &self,
        start: Lba,
        data: &[Bytes],
        how: impl FnOnce(u64, &mut [IoSlice<'_>]) -> io::Result<T>,
    ) -> Result<T, BlockError> {
        self.writable()?;
        let len = data.iter().map(Bytes::len).sum();
        let range = range_of(start, len)?;
        let mut pieces = fileio::slices(data, 0, len);
        how(range.byte_start(), &mut pieces).map_err(|e| self.failed(ErrorKind::WriteFailed, range, e))
    }

    fn advise(&self, range: BlockRange, advice: Advice) {
        // A hint: whether the kernel takes it changes nothing that a caller can see.
        if let Some(len) = NonZeroU64::new(range.byte_len()) {
            let _ = rustix::fs::fadvise(&self.file, range.byte_start(), Some(len), advice);
        }
    }

    fn zero(&self, range: BlockRange) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let (mut at, end) = (range.byte_start(), range.byte_start() + range.byte_len());
        while at < end {
            let now = (end - at).min(ZEROS as u64);
            fileio::write_bytes_at(&self.file, at, zeros.get(..now as usize).unwrap_or(&zeros))?;
            at += now;
        }
        Ok(())
    }
}

fn range_of(start: Lba, len: usize) -> Result<BlockRange, BlockError> {
    BlockRange::new(start, BlockCount::new(len as u64 / u64::from(SECTOR_SIZE)))
        .map_err(|e| BlockError::new(ErrorKind::OutOfRange, "write").caused_by(e))
}

impl Volume for FileVolume {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn is_read_only(&self) -> bool {
        !self.writable
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        let len = range.byte_len() as usize;
        if let Some(direct) = &self.direct {
            if direct.read(range.byte_start(), len, out) {
                return Ok(());
            }
            // In pieces here as well, for whoever keeps some of them.
            if len > PIECE_LEN {
                return self.read_in_pieces(range, out);
            }
        }
        let bytes = fileio::read_at(&self.file, range.byte_start(), len)
            .map_err(|e| self.failed(ErrorKind::ReadFailed, range, e))?;
        out.push(bytes);
        Ok(())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        if self.direct.is_some() {
            // The disk itself has nothing at hand.
            return Ok(false);
        }
        let got = fileio::try_read_at(&self.file, range.byte_start(), range.byte_len() as usize)
            .map_err(|e| self.failed(ErrorKind::ReadFailed, range, e))?;
        match got {
            Some(bytes) => {
                out.push(bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.put(start, data, |at, pieces| {
            fileio::write_at(&self.file, at, pieces)?;
            if fua { self.file.sync_data() } else { Ok(()) }
        })
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        self.put(start, data, |at, pieces| {
            Ok(!fua && fileio::try_write_at(&self.file, at, pieces)? == Attempt::Done)
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        if !self.writable {
            return Ok(());
        }
        self.file.sync_data().map_err(|e| self.failed(ErrorKind::WriteFailed, self.geometry.whole(), e))
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.writable()?;
        let punched = match fileio::punch(&self.file, range.byte_start(), range.byte_len()) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
                self.zero(range)
            }
            other => other,
        };
        punched.map_err(|e| self.failed(ErrorKind::WriteFailed, range, e))
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        let failed = |e| self.failed(ErrorKind::ReadFailed, range, e);
        let (start, end) = (range.byte_start(), range.byte_start() + range.byte_len());
        let data = fileio::next_data(&self.file, start).map_err(failed)?.unwrap_or(end);
        // A sector that is partly a hole counts as data.
        let (state, stop) = if data / u64::from(SECTOR_SIZE) > start / u64::from(SECTOR_SIZE) {
            (Provisioning::Deallocated, data.min(end) / u64::from(SECTOR_SIZE))
        } else {
            let hole = fileio::next_hole(&self.file, data).map_err(failed)?.unwrap_or(end);
            (Provisioning::Mapped, hole.min(end).div_ceil(u64::from(SECTOR_SIZE)))
        };
        let run = BlockRange::new(range.start(), BlockCount::new(stop - range.start().get()));
        Ok(Extent { range: run.unwrap_or(range), state })
    }

    fn prefetch(&self, range: BlockRange) {
        if self.direct.is_some() {
            return;
        }
        self.advise(range, Advice::WillNeed);
    }

    fn forget(&self, range: BlockRange) {
        self.advise(range, Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(start: u64, count: u64) -> BlockRange {
        BlockRange::new(Lba::new(start), BlockCount::new(count)).unwrap()
    }

    fn image(len: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        file
    }

    #[test]
    fn only_a_whole_number_of_blocks_is_a_disk() {
        for len in [0, 511, 1 << 20 | 1] {
            let file = image(len);
            let error = FileVolume::read_only(file.path()).unwrap_err();
            assert!(matches!(error, OpenError::NotADisk { size, .. } if size == len), "{error}");
        }
        let missing = FileVolume::read_only(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
        assert!(FileVolume::read_only(&std::env::temp_dir()).is_err());
    }

    #[test]
    fn reads_writes_and_discards() {
        let file = image(1 << 20);
        let disk = FileVolume::read_write(file.path()).unwrap();
        let data = [Bytes::from(vec![7; 512]), Bytes::from(vec![8; 1024])];
        disk.write(Lba::new(2046 - 8), &data, true).unwrap();
        assert!(disk.try_read(blocks(2037, 4), &mut Segments::new()).unwrap());
        let mut out = Segments::new();
        disk.read(blocks(2037, 5), &mut out).unwrap();
        assert_eq!(out.to_bytes(), [vec![0; 512], vec![7; 512], vec![8; 1024], vec![0; 512]].concat());
        disk.discard(blocks(2032, 16)).unwrap();
        let mut out = Segments::new();
        disk.read(blocks(2032, 16), &mut out).unwrap();
        assert_eq!(out.to_bytes(), vec![0; 8192]);
        disk.flush().unwrap();
    }

    #[test]
    fn a_read_only_file_takes_no_writes() {
        let file = image(4096);
        let disk = FileVolume::read_only(file.path()).unwrap();
        assert!(disk.is_read_only());
        let data = [Bytes::from(vec![7; 512])];
        assert_eq!(disk.write(Lba::ZERO, &data, false).unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(disk.try_write(Lba::ZERO, &data, false).unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(disk.discard(blocks(0, 8)).unwrap_err().kind(), ErrorKind::ReadOnly);
    }

    #[test]
    fn a_file_that_shrank_fails_behind_its_end_only() {
        let file = image(64 << 10);
        let disk = FileVolume::read_only(file.path()).unwrap();
        file.as_file().set_len(32 << 10).unwrap();
        let mut out = Segments::new();
        disk.read(blocks(0, 64), &mut out).unwrap();
        assert_eq!(disk.read(blocks(63, 2), &mut out).unwrap_err().kind(), ErrorKind::ReadFailed);
        assert!(!disk.try_read(blocks(64, 8), &mut out).unwrap());
        assert_eq!(disk.geometry().blocks(), BlockCount::new(128));
    }

    #[test]
    fn a_cache_gets_the_same_bytes_wherever_it_reads() {
        // On a real file system, and in memory, where reading past the page cache is another thing or none.
        for folder in [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()] {
            let Ok(mut file) = tempfile::NamedTempFile::new_in(folder) else { continue };
            // Not a whole number of 4 KiB blocks.
            let all: Vec<u8> = (0..(300_u32 << 10) + 1536).map(|at| (at / 512 % 253) as u8).collect();
            io::Write::write_all(&mut file, &all).unwrap();
            let disk = FileVolume::read_only(file.path()).unwrap().for_a_cache();
            for (start, count) in
                [(0, 1), (1, 7), (7, 2), (120, 16), (127, 130), (0, 603), (600, 3), (602, 1)]
            {
                let mut out = Segments::new();
                disk.read(blocks(start, count), &mut out).unwrap();
                let (from, to) = (start as usize * 512, (start + count) as usize * 512);
                assert_eq!(out.to_bytes(), all[from..to], "{start}, {count}");
                assert!(out.pieces().iter().all(|piece| piece.len() <= PIECE_LEN));
            }
            assert_eq!(
                disk.read(blocks(602, 2), &mut Segments::new()).unwrap_err().kind(),
                ErrorKind::ReadFailed,
            );
            file.as_file().set_len(8192).unwrap();
            let mut out = Segments::new();
            assert_eq!(disk.read(blocks(8, 16), &mut out).unwrap_err().kind(), ErrorKind::ReadFailed);
            assert!(out.is_empty(), "nothing of what failed");
        }
    }

    #[test]
    fn holes_are_not_provisioned() {
        let file = image(1 << 20);
        let disk = FileVolume::read_write(file.path()).unwrap();
        disk.write(Lba::new(128), &[Bytes::from(vec![1; 8192])], false).unwrap();
        let first = disk.provisioning(blocks(0, 2048)).unwrap();
        assert_eq!(first, Extent { range: blocks(0, 128), state: Provisioning::Deallocated });
        let second = disk.provisioning(blocks(128, 1920)).unwrap();
        assert_eq!(second, Extent { range: blocks(128, 16), state: Provisioning::Mapped });
        let inside = disk.provisioning(blocks(130, 2)).unwrap();
        assert_eq!(inside, Extent { range: blocks(130, 2), state: Provisioning::Mapped });
        let last = disk.provisioning(blocks(144, 1904)).unwrap();
        assert_eq!(last, Extent { range: blocks(144, 1904), state: Provisioning::Deallocated });
    }
}
