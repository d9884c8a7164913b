//! A client's own layer over an image that many share: what it writes goes into one sparse file of its own.
//!
//! The file has the disk's offsets, so block 7 of the disk is block 7 of the file and nothing is ever looked up or
//! moved. A map in memory ([`map`]) says of each 4 KiB block whether its bytes are in the volume beneath, in the
//! file, or nowhere (discarded, reads as zero); a record on file ([`record`]) says the same to the process that
//! takes the overlay over after a kill.
//!
//! Who waits for whom: readers for no one. A write to blocks that are all in the file already changes no state and
//! takes no lock. Other writes, and discards, hold the leaves (256 MiB) they touch while they write to the
//! overlay's files, never while they read the volume beneath: that one is immutable, so what a partly written
//! block needs from it is read before.
//!
//! A rewrite that races with a discard of the same block may leave its bytes in the file under a zeroed block. It
//! then counts as the earlier of the two; the bytes are never read, and their space is late.

mod map;
mod record;
mod write;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::map::{Map, State};
use self::record::Record;
use crate::fileio;
use crate::{
    BlockError, BlockRange, ErrorKind, Extent, Geometry, Lba, OpenError, Provisioning, Segments, Volume,
};

/// Bytes in a block of an overlay: the page size, and the cluster size of the file systems that clients use.
const BLOCK: u64 = 4096;

/// The largest disk that an overlay is made for, 1 PiB. A larger one is refused: its map's first level alone
/// would take megabytes.
const MAX_DISK: u64 = 1 << 50;

/// Overlays hold what clients wrote: their owner's business only.
const MODE: u32 = 0o600;

/// Runs of blocks that [`Volume::provisioning`] joins before it answers with a shorter run than there is, so that
/// one question about a chequered disk takes no longer than a read.
const MAX_JOINED_RUNS: usize = 256;

/// What discarded blocks read as; longer reads get several slices of it.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Whether a call may wait for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It may.
    Yes,
    /// It must not: it does nothing instead and says so.
    No,
}

/// How long what was written must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// As long as the machine runs: a flush costs nothing.
    Volatile,
    /// Beyond that: a flush waits for the medium. What was not flushed when the machine lost its power may read
    /// as before, as after, or as zero.
    Persistent,
}

/// What an overlay is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayOptions {
    /// The most space that written blocks may take; a write that needs more fails with `NoSpace` and changes
    /// nothing. Rounded down to whole blocks of 4 KiB.
    pub limit: crate::Bytes,
    /// How long what was written must last.
    pub durability: Durability,
}

/// A writable disk that differs from the volume beneath only by what was written to it.
pub struct Overlay {
    lower: Arc<dyn Volume>,
    geometry: Geometry,
    path: PathBuf,
    data: File,
    record: Record,
    map: Map,
    /// Blocks that take space.
    used: AtomicU64,
    /// How many may.
    limit: u64,
    durability: Durability,
    /// Whether no call on the files waits for a device.
    in_memory: bool,
    /// Whether the file system may know how to write without waiting; ext4 does not.
    nowait: AtomicBool,
    retired: AtomicBool,
}

impl Overlay {
    /// Makes a fresh overlay over `lower`, in a new file at `path` and one beside it (see
    /// [`files`](Self::files)). Takes the same time whatever the disk's size.
    ///
    /// # Errors
    /// When a file exists already or can't be made; none is left behind then.
    pub fn create(lower: Arc<dyn Volume>, path: &Path, options: OverlayOptions) -> Result<Self, OpenError> {
        let size = disk_size(&lower, path)?;
        let io = || OpenError::io(path);
        let mut how = OpenOptions::new();
        let data = how.read(true).write(true).create_new(true).mode(MODE).open(path).map_err(io())?;
        let finish = || {
            data.set_len(size.next_multiple_of(BLOCK)).map_err(io())?;
            Record::create(path, size)
        };
        match finish() {
            Ok(record) => Ok(Self::new(lower, path, data, record, Map::new(size.div_ceil(BLOCK)), options)),
            Err(e) => {
                // A record's file that is there now is not this call's.
                let _ = std::fs::remove_file(path);
                Err(e)
            }
        }
    }

    /// Takes up the overlay that an earlier process left at `path`, killed or not: every write and discard that
    /// it acknowledged is there.
    ///
    /// # Errors
    /// When the files can't be read, are damaged, or belong to a disk of another size.
    pub fn open(lower: Arc<dyn Volume>, path: &Path, options: OverlayOptions) -> Result<Self, OpenError> {
        let size = disk_size(&lower, path)?;
        let data = OpenOptions::new().read(true).write(true).open(path).map_err(OpenError::io(path))?;
        let (record, map) = Record::open(path, size)?;
        Ok(Self::new(lower, path, data, record, map, options))
    }

    fn new(
        lower: Arc<dyn Volume>,
        path: &Path,
        data: File,
        record: Record,
        map: Map,
        options: OverlayOptions,
    ) -> Self {
        Self {
            geometry: lower.geometry(),
            lower,
            path: path.to_owned(),
            in_memory: is_in_memory(&data),
            data,
            record,
            used: AtomicU64::new(map.written(0, map.blocks())),
            map,
            limit: options.limit.0 / BLOCK,
            durability: options.durability,
            nowait: AtomicBool::new(true),
            retired: AtomicBool::new(false),
        }
    }

    /// The files of an overlay at `path`: whoever removes it removes these.
    #[must_use]
    pub fn files(path: &Path) -> [PathBuf; 2] {
        [path.to_owned(), record::path_of(path)]
    }

    /// Space that written blocks take.
    #[must_use]
    pub fn used(&self) -> crate::Bytes {
        crate::Bytes(self.used.load(Ordering::Relaxed) * BLOCK)
    }

    /// Ends the overlay for all who hold it: every later call answers `Gone`. Returns at once.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Gives the space back of an overlay that is retired (it is from now on, if it was not), though others still
    /// hold it. May take as long as the file system needs to free what was written.
    pub fn release(&self) {
        self.retire();
        let _held = self.map.hold(0, self.map.blocks());
        // An error changes nothing for anybody: the space comes back with the last holder.
        let _ = self.data.set_len(0);
        let _ = self.record.release();
    }

    fn alive(&self) -> Result<(), BlockError> {
        if self.retired.load(Ordering::Acquire) {
            return Err(BlockError::new(ErrorKind::Gone, self.path.display().to_string()));
        }
        Ok(())
    }

    fn failed(&self, kind: ErrorKind, at: u64, source: std::io::Error) -> BlockError {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            // What was released under a call has no bytes left to read.
            _ if self.retired.load(Ordering::Acquire) => ErrorKind::Gone,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => ErrorKind::NoSpace,
            _ => kind,
        };
        BlockError::new(kind, format!("overlay {} at byte {at}", self.path.display())).caused_by(source)
    }

    /// Appends the range to `out`; with [`Wait::No`] it is `false` when that means waiting.
    fn fetch(&self, range: BlockRange, out: &mut Segments, wait: Wait) -> Result<bool, BlockError> {
        self.alive()?;
        let end = range.byte_start() + range.byte_len();
        let mut at = range.byte_start();
        while at < end {
            let (state, upto) = self.map.run(at / BLOCK, end.div_ceil(BLOCK));
            let stop = (upto * BLOCK).min(end);
            let done = match state {
                State::Lower => self.fetch_lower(BlockRange::from_bytes(at, stop), out, wait)?,
                State::Written => self.fetch_written(at, stop, out, wait)?,
                State::Zeroed => {
                    push_zeros(stop - at, out);
                    true
                }
            };
            if !done {
                return Ok(false);
            }
            at = stop;
        }
        Ok(true)
    }

    fn fetch_lower(&self, range: BlockRange, out: &mut Segments, wait: Wait) -> Result<bool, BlockError> {
        match wait {
            Wait::Yes => self.lower.read(range, out).map(|()| true),
            Wait::No => self.lower.try_read(range, out),
        }
    }

    fn fetch_written(&self, from: u64, to: u64, out: &mut Segments, wait: Wait) -> Result<bool, BlockError> {
        let len = (to - from) as usize;
        let got = if wait == Wait::Yes || self.in_memory {
            fileio::read_at(&self.data, from, len).map(Some)
        } else {
            fileio::try_read_at(&self.data, from, len)
        };
        match got.map_err(|e| self.failed(ErrorKind::ReadFailed, from, e))? {
            Some(bytes) => {
                // What was released meanwhile may have read as zeros.
                self.alive()?;
                out.push(bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn sync(&self) -> Result<(), BlockError> {
        // Data first: a state on the medium must never speak of bytes that are not.
        self.data
            .sync_data()
            .and_then(|()| self.record.sync())
            .map_err(|e| self.failed(ErrorKind::WriteFailed, 0, e))
    }
}

fn disk_size(lower: &Arc<dyn Volume>, path: &Path) -> Result<u64, OpenError> {
    match lower.geometry().byte_len() {
        size if size <= MAX_DISK => Ok(size),
        _ => {
            Err(OpenError::Damaged { path: path.to_owned(), why: "a disk of more than 1 PiB has no overlay" })
        }
    }
}

/// Whether the file lies in memory, so that no call on it waits for a device.
fn is_in_memory(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    rustix::fs::fstatfs(file).is_ok_and(|s| matches!(s.f_type as u64, TMPFS | RAMFS))
}

fn push_zeros(mut len: u64, out: &mut Segments) {
    while len > 0 {
        let now = ZEROS.len().min(len as usize);
        out.push(Bytes::from_static(ZEROS.get(..now).unwrap_or(&ZEROS)));
        len -= now as u64;
    }
}

impl Volume for Overlay {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, range: BlockRange, out: &mut Segments) -> Result<(), BlockError> {
        self.fetch(range, out, Wait::Yes).map(|_| ())
    }

    fn try_read(&self, range: BlockRange, out: &mut Segments) -> Result<bool, BlockError> {
        let before = out.len();
        let done = self.fetch(range, out, Wait::No)?;
        if !done {
            out.truncate(before);
        }
        Ok(done)
    }

    fn write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<(), BlockError> {
        self.put(start, data, Wait::Yes)?;
        if fua { self.flush() } else { Ok(()) }
    }

    fn try_write(&self, start: Lba, data: &[Bytes], fua: bool) -> Result<bool, BlockError> {
        if fua && self.durability == Durability::Persistent {
            return Ok(false);
        }
        self.put(start, data, Wait::No)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.alive()?;
        match self.durability {
            Durability::Volatile => Ok(()),
            Durability::Persistent => self.sync(),
        }
    }

    fn discard(&self, range: BlockRange) -> Result<(), BlockError> {
        self.clear(range)
    }

    fn provisioning(&self, range: BlockRange) -> Result<Extent, BlockError> {
        self.alive()?;
        let end = range.byte_start() + range.byte_len();
        let mut at = range.byte_start();
        let mut found = None;
        for _ in 0..MAX_JOINED_RUNS {
            if at >= end {
                break;
            }
            let (state, upto) = self.map.run(at / BLOCK, end.div_ceil(BLOCK));
            let run = BlockRange::from_bytes(at, (upto * BLOCK).min(end));
            let extent = match state {
                State::Lower => self.lower.provisioning(run)?,
                State::Written => Extent { range: run, state: Provisioning::Mapped },
                State::Zeroed => Extent { range: run, state: Provisioning::Deallocated },
            };
            if *found.get_or_insert(extent.state) != extent.state {
                break;
            }
            at = extent.range.byte_start() + extent.range.byte_len();
        }
        let state = found.unwrap_or(Provisioning::Mapped);
        Ok(Extent { range: BlockRange::from_bytes(range.byte_start(), at), state })
    }

    fn prefetch(&self, range: BlockRange) {
        let end = range.byte_start() + range.byte_len();
        let (state, upto) = self.map.run(range.byte_start() / BLOCK, end.div_ceil(BLOCK));
        if state == State::Lower && self.alive().is_ok() {
            self.lower.prefetch(BlockRange::from_bytes(range.byte_start(), (upto * BLOCK).min(end)));
        }
    }
}
