//! Reads of a file past the page cache, into memory of ours.
//!
//! Who has a cache of his own gains nothing from the kernel's: what is read would be in memory twice, copied once more,
//! and page after page entered there and thrown out again. That costs more processor time than all else of a cold read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::OFlags;

use crate::{Segments, fileio};

/// What offsets and lengths are multiples of: the largest block of any disk that is in use.
const BLOCK: u64 = 4096;

/// A file that is open for such reads, until its file system turns out not to do them.
#[derive(Debug)]
pub(crate) struct Direct {
    file: File,
    refused: AtomicBool,
}

impl Direct {
    /// `path` once more, if it is still the file `same` and its file system knows how.
    pub(crate) fn open(path: &Path, same: &File) -> Option<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let (ours, theirs) = (file.metadata().ok()?, same.metadata().ok()?);
        let is_same = (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino());
        is_same.then(|| Self { file, refused: AtomicBool::new(false) })
    }

    /// Appends exactly `len` bytes to `out`. `false`, and nothing: this is to be read another way, which also tells
    /// what is wrong with the file if something is.
    pub(crate) fn read(&self, offset: u64, len: usize, out: &mut Segments) -> bool {
        if self.refused.load(Relaxed) {
            return false;
        }
        let (start, end) = (offset / BLOCK * BLOCK, (offset + len as u64).next_multiple_of(BLOCK));
        match fileio::read_pieces(&self.file, start, (end - start) as usize) {
            Ok(mut found) => {
                // Of the file's last block there may be only the part that exists.
                let _ = found.split_to((offset - start) as usize);
                if found.len() < len {
                    return false;
                }
                found.split_to(len).into_iter().for_each(|piece| out.push(piece));
                true
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidInput {
                    self.refused.store(true, Relaxed);
                }
                false
            }
        }
    }
}
