//! What can go wrong with a disk, sorted by what the client must be told.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

/// The kind of a [`BlockError`]. Each kind has one SCSI answer, so the mapping is a single `match` elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The range is not on the disk.
    OutOfRange,
    /// The length of the data is not the length of the range.
    WrongLength,
    /// The volume takes no writes.
    ReadOnly,
    /// No space for another block: the overlay's limit, or the file system under it. Reads and rewrites go on.
    NoSpace,
    /// The medium could not be read.
    ReadFailed,
    /// The medium could not be written.
    WriteFailed,
    /// The volume is gone (file removed, device lost, being torn down).
    Gone,
}

/// A disk operation that failed: what kind, in which layer and place, and the cause beneath.
#[derive(Debug)]
pub struct BlockError {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BlockError {
    /// An error of `kind`; `context` says where: layer, file, offset.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The same, with the error beneath it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where it happened, for people.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ErrorKind::OutOfRange => "not on the disk",
            ErrorKind::WrongLength => "data and range differ in length",
            ErrorKind::ReadOnly => "the volume is read-only",
            ErrorKind::NoSpace => "no space left for new blocks",
            ErrorKind::ReadFailed => "read failed",
            ErrorKind::WriteFailed => "write failed",
            ErrorKind::Gone => "the volume is gone",
        };
        write!(f, "{}: {what}", self.context)
    }
}

impl Error for BlockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// A volume that can't be made from its files. All of it is the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file can't be opened, made or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can't be a disk: it is empty, or not a whole number of 512-byte blocks long.
    #[error("{}: {size} bytes are not a whole number of 512-byte blocks, or none", path.display())]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        size: u64,
    },
    /// The file is not what an earlier process would have left there.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl OpenError {
    /// The error of `path` that a system call gave.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
