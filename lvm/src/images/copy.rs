//! One pass over a raw disk: hashed, and copied where a copy is wanted.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flashcache::CHUNK_LEN;
use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use super::digests::Version;
use super::{ImportError, MODE, Progress, Source};

/// Bytes that are read at once, and between two reports of progress.
const STEP: usize = 16 * CHUNK_LEN;

const PREFIX: &str = ".import-";
const SUFFIX: &str = ".partial";

/// A file in the making. Dropped without [`place`](Partial::place) it is removed.
pub(super) struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
        // Whatever has this name is of a process that is gone.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    pub(super) fn is_name(name: &str) -> bool {
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    }

    /// Gives the file its length, which ends in a hole if the disk ends in zeros.
    pub(super) fn finish(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    /// Forces it to the medium and gives it its name.
    pub(super) fn place(&self, path: &Path) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(MODE))?;
        self.file.sync_all()?;
        fs::rename(&self.path, path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Not there when it was placed.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is done with a raw disk's bytes.
pub(super) struct Scan<'a> {
    pub(super) source: &'a Source,
    /// Where to copy them.
    pub(super) image: Option<&'a Partial>,
    /// Where to write the chunks' hashes.
    pub(super) digests: Option<&'a Partial>,
}

impl Scan<'_> {
    /// Reads all and returns the version.
    pub(super) fn run(&self, progress: Progress<'_>) -> Result<String, ImportError> {
        let Source { file, size, .. } = self.source;
        let before = self.source.state()?;
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
        let mut sums = Sums::new(*size, self.digests);
        let mut buffer = vec![0; STEP];
        let mut at = 0;
        let mut data_from = 0;
        while at < *size {
            if !progress(at, *size) {
                return Err(ImportError::BrokenOff);
            }
            if data_from <= at {
                data_from = self.next_data(at)?;
            }
            let step = (*size - at).min(STEP as u64);
            let Some(bytes) = buffer.get_mut(..step as usize) else { break };
            if data_from >= at + step {
                sums.add_hole(step).map_err(|e| self.unwritable(e))?;
            } else {
                file.read_exact_at(bytes, at).map_err(|e| self.unreadable(e))?;
                for (chunk, number) in bytes.chunks(CHUNK_LEN).zip(0..) {
                    self.take(chunk, at + number * CHUNK_LEN as u64, &mut sums)?;
                }
            }
            at += step;
        }
        if self.source.state()? != before {
            return Err(ImportError::Changed { path: self.source.path.clone() });
        }
        progress(*size, *size);
        sums.finish().map_err(|e| self.unwritable(e))
    }

    fn take(&self, chunk: &[u8], at: u64, sums: &mut Sums<'_>) -> Result<(), ImportError> {
        if is_zero(chunk) {
            return sums.add_hole(chunk.len() as u64).map_err(|e| self.unwritable(e));
        }
        if let Some(image) = self.image {
            image.file.write_all_at(chunk, at).map_err(|e| self.unwritable(e))?;
        }
        sums.add(chunk).map_err(|e| self.unwritable(e))
    }

    /// Where the next bytes are that the file system keeps.
    fn next_data(&self, at: u64) -> Result<u64, ImportError> {
        match rustix::fs::seek(&self.source.file, SeekFrom::Data(at)) {
            Ok(data) => Ok(data),
            Err(Errno::NXIO) => Ok(u64::MAX),
            // A file system, or a device, that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
            Err(e) => Err(self.unreadable(e.into())),
        }
    }

    fn unreadable(&self, source: io::Error) -> ImportError {
        match source.kind() {
            // It became shorter.
            io::ErrorKind::UnexpectedEof => ImportError::Changed { path: self.source.path.clone() },
            _ => self.source.failed(source),
        }
    }

    fn unwritable(&self, source: io::Error) -> ImportError {
        let path = self.image.map(|image| image.path.clone()).unwrap_or_default();
        ImportError::Target { path, source }
    }
}

/// The hashes of the chunks so far.
struct Sums<'a> {
    version: Version,
    /// The hash of a whole chunk of zeros, of which most images have many.
    zeros: blake3::Hash,
    file: Option<BufWriter<&'a File>>,
}

impl<'a> Sums<'a> {
    fn new(size: u64, partial: Option<&'a Partial>) -> Self {
        Self {
            version: Version::of_size(size),
            zeros: blake3::hash(&[0; CHUNK_LEN]),
            file: partial.map(|partial| BufWriter::new(&partial.file)),
        }
    }

    fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.add_hash(blake3::hash(chunk))
    }

    /// Adds that many zeros, from a chunk's start on.
    fn add_hole(&mut self, len: u64) -> io::Result<()> {
        for _ in 0..len / CHUNK_LEN as u64 {
            self.add_hash(self.zeros)?;
        }
        match len as usize % CHUNK_LEN {
            0 => Ok(()),
            rest => self.add(&vec![0; rest]),
        }
    }

    fn add_hash(&mut self, hash: blake3::Hash) -> io::Result<()> {
        self.version.add(hash.as_bytes());
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(hash.as_bytes()))
    }

    fn finish(mut self) -> io::Result<String> {
        self.file.as_mut().map_or(Ok(()), Write::flush)?;
        Ok(self.version.finish())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // In pieces that the compiler compares with wide loads; most data differs in the first.
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}
