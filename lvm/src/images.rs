//! Images' files: taken in as versions that never change, and removed.
//!
//! A version is named by what is in it. Each 64 KiB chunk is hashed (BLAKE3), and the hash of the image's length and
//! all chunks' hashes is the version; so the same disk taken in twice is one file, and an image file whose bytes
//! changed is not the version any more that it says it is. Beside the file `F` lies `F.digests` with the chunks'
//! hashes, from which the cache sees what versions have in common.
//!
//! Nothing half-done is ever in place: a version is written under another name, forced to the medium, and then
//! renamed, its digests first. What a killed import leaves is removed by [`clean_up`].

mod copy;
mod digests;
mod foreign;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use block::SECTOR_SIZE;
use rustix::fs::SeekFrom;

use self::copy::{Partial, Scan};
pub(crate) use self::digests::load as load_digests;
use crate::names::{self, NameError};

/// Who may read an image: its owner. It may hold a site's secrets.
const MODE: u32 = 0o400;

/// A version of an image, ready to be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The version: 32 hex digits that stand for the content.
    pub version: String,
    /// Its file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// Whether a file was made. The same content of the same name was there already otherwise.
    pub made: bool,
}

/// Is told, now and then, how many bytes of how many are done; the last time, all of them. `false` breaks the
/// import off.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Why an image can't be taken in. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file can't be read.
    #[error("can't read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no raw disk but holds one in another form.
    #[error("{} is {format}, and a raw disk image is needed; {remedy}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
        /// What to type.
        remedy: String,
    },
    /// The file's length is no disk's.
    #[error(
        "{} is {size} bytes long, and a disk is a whole number of {SECTOR_SIZE}-byte blocks, at least one; is it a \
         raw disk image, and complete?",
        path.display()
    )]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// The file was written to while it was read.
    #[error("{} changed while it was read; import it when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The version can't be written.
    #[error("can't write {}: {source}; check free space and permissions there", path.display())]
    Target {
        /// The file, or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image's name can't be part of a file's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// [`Progress`] said so.
    #[error("broken off")]
    BrokenOff,
}

/// A raw disk that may become an image: opened, and found to be one by its length and its first bytes.
struct Source {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Source { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        // Not the metadata's length: that is 0 for a block device.
        let size = rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|e| failed(e.into()))?;
        if let Some((format, remedy)) = foreign::recognise(path, &file, size).map_err(failed)? {
            return Err(ImportError::Foreign { path: path.to_owned(), format, remedy });
        }
        if size == 0 || !size.is_multiple_of(u64::from(SECTOR_SIZE)) {
            return Err(ImportError::NotADisk { path: path.to_owned(), size });
        }
        Ok(Self { path: path.to_owned(), file, size })
    }

    /// What changes when the file is written to.
    fn state(&self) -> Result<(u64, i64, i64), ImportError> {
        let meta = self.file.metadata().map_err(|e| self.failed(e))?;
        Ok((meta.size(), meta.mtime(), meta.mtime_nsec()))
    }

    fn failed(&self, source: io::Error) -> ImportError {
        ImportError::Source { path: self.path.clone(), source }
    }
}

/// Copies the raw disk `source` into `directory` (made if it is not there) as a version of `image`. Holes and zeros
/// take no space there.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    directory: &Path,
    image: &str,
    source: &Path,
    progress: Progress<'_>,
) -> Result<Imported, ImportError> {
    // The version's length is fixed: a name that fits now fits then.
    names::image_file_name(image, "0")?;
    let source = Source::open(source)?;
    let target = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Target { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(target(directory))?;
    let partial = Partial::create(directory).map_err(target(directory))?;
    let wanted = digests::length(source.size) <= digests::MAX_DIGESTS;
    let sums = wanted.then(|| Partial::create(directory)).transpose().map_err(target(directory))?;
    let scan = Scan { source: &source, image: Some(&partial), digests: sums.as_ref() };
    let version = scan.run(progress)?;
    let path = directory.join(names::image_file_name(image, &version)?);
    let size = source.size;
    if fs::metadata(&path).is_ok_and(|there| there.len() == size) {
        return Ok(Imported { version, path, size, made: false });
    }
    let place = || {
        partial.finish(size)?;
        sums.map_or(Ok(()), |sums| sums.place(&digests::path_of(&path)))?;
        partial.place(&path)?;
        File::open(directory)?.sync_all()
    };
    place().map_err(target(&path))?;
    Ok(Imported { version, path, size, made: true })
}

/// Makes the raw disk `source` an image where it is, without a copy. Whoever writes to it then changes the disks of
/// clients that run from it.
///
/// # Errors
/// See [`ImportError`].
pub fn use_in_place(source: &Path, progress: Progress<'_>) -> Result<Imported, ImportError> {
    let path =
        fs::canonicalize(source).map_err(|e| ImportError::Source { path: source.to_owned(), source: e })?;
    let source = Source::open(&path)?;
    let version = Scan { source: &source, image: None, digests: None }.run(progress)?;
    Ok(Imported { version, path, size: source.size, made: false })
}

/// Removes a version's files; `false` when there was none. Clients that run from it go on: the file's bytes go with
/// the last of them.
///
/// # Errors
/// When a file can't be removed.
pub fn remove(path: &Path) -> io::Result<bool> {
    let gone = |path: &Path| match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    };
    let was_there = gone(path)?;
    gone(&digests::path_of(path))?;
    Ok(was_there)
}

/// Removes what imports left in `directory` that were killed, and says how many files it was. Only when none runs.
///
/// # Errors
/// When the directory can't be read or a file not removed. That it is not there is no error.
pub fn clean_up(directory: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(Partial::is_name) {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
