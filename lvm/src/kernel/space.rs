//! Where all overlays lie: one device, made of a file or of a device of its own.
//!
//! ```text
//! sector 0       a device's label: "BOOTD-SPACE 1"; a file's mark, another each time that it becomes a device
//! sector 2048    extents of the overlays, as the tables of their devices say
//! ```
//!
//! A file's pages are the write cache in RAM: the kernel writes them back to the disk when it likes. The file is never
//! flushed, as nothing in it is worth more than the running machine: overlays of another start of the machine are void.
//! A cache of fixed size ([`cache`](super::cache)) may lie between, and in RAM alone there is no file at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use block::{Bytes, SECTOR_SIZE};
use devicemapper::Device;
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

use super::cache::{self, Mode};
use super::dm::{Dm, Line};
use super::extents::{Extent, Extents};
use super::loops::Loop;
use super::sysfs;
use crate::SpaceStatus;
use crate::names::DmRole;

/// Where the extents begin, in sectors.
const BEGIN: u64 = 2048;

/// What the file in memory is called.
const RAM_FILE: &str = "bootd-space";

/// The first bytes of a device that overlays may be written to.
pub(super) const LABEL: &[u8] = b"BOOTD-SPACE 1\n";

/// What the overlays' space is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpaceConfig {
    /// RAM, taken as clients write, and given back as their disks end.
    Ram {
        /// The most that it takes.
        size: Bytes,
    },
    /// A file, made if it is not there, that grows to `size` as clients write. Overlays are in RAM as far as there is RAM
    /// to spare.
    File {
        /// The file.
        path: PathBuf,
        /// The most that it takes.
        size: Bytes,
    },
    /// A whole block device, such as an SSD or a partition, that was labelled for it.
    Device {
        /// Its node.
        path: PathBuf,
    },
}

/// The space, with who has which part of it.
pub(super) struct Space {
    device: Device,
    /// How many of its sectors overlays can have.
    sectors: u64,
    file: Option<PathBuf>,
    pub(super) extents: Mutex<Extents>,
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

impl Space {
    /// The space as it is, or a fresh one.
    pub(super) fn open(dm: &Dm, config: &SpaceConfig, cache: Option<Bytes>) -> io::Result<Self> {
        let held = match dm.find(&DmRole::Space)? {
            Some(found) if is_same(dm, found.device, config, cache)? => Some(found.device),
            // No client's disk stands on it, so there is nothing on it.
            Some(found) if found.open == 0 => {
                dm.remove(&DmRole::Space)?;
                None
            }
            Some(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the overlays that are in use lie elsewhere, or are cached otherwise, than the configuration says: put \
                     it back as it was until no client runs, or remove them all with: bootd storage down",
                ));
            }
            None => None,
        };
        let device = held.map_or_else(|| create(dm, config, cache), Ok)?;
        sysfs::check_sector_size(device, "the overlays' space")?;
        let extents = Extents::new(BEGIN, sysfs::sectors(device)?);
        let file = match config {
            SpaceConfig::File { path, .. } => Some(path.clone()),
            SpaceConfig::Ram { .. } | SpaceConfig::Device { .. } => None,
        };
        Ok(Self { device, sectors: extents.left(), file, extents: Mutex::new(extents) })
    }

    /// How full it is.
    pub(super) fn status(&self) -> SpaceStatus {
        let bytes = |sectors: u64| Bytes(sectors * u64::from(SECTOR_SIZE));
        let used = self.sectors.saturating_sub(self.extents.lock().left());
        SpaceStatus { used: bytes(used), size: bytes(self.sectors), file: self.file.clone() }
    }

    /// A table of these extents, one behind the other.
    pub(super) fn table(&self, extents: &[Extent]) -> Vec<Line> {
        let mut start = 0;
        let line = |extent: &Extent| {
            let parameters = format!("{} {}", self.device, extent.start);
            let line = Line { start, sectors: extent.sectors, target: "linear".into(), parameters };
            start += extent.sectors;
            line
        };
        extents.iter().map(line).collect()
    }

    /// The extents that such a table is of; `None` if it is of anything else.
    pub(super) fn extents_of(&self, table: &[Line]) -> Option<Vec<Extent>> {
        let extent = |line: &Line| {
            let (device, start) = line.parameters.split_once(' ')?;
            let ours = line.target == "linear" && device == self.device.to_string();
            Some(Extent { start: ours.then(|| start.parse().ok())??, sectors: line.sectors })
        };
        table.iter().map(extent).collect()
    }

    /// Takes sectors; the error says that there are none.
    pub(super) fn take(&self, sectors: u64) -> io::Result<Vec<Extent>> {
        let mut extents = self.extents.lock();
        let left = extents.left();
        extents.take(sectors).ok_or_else(|| {
            let unit = u64::from(SECTOR_SIZE);
            let text = format!(
                "the overlays' space has {} bytes left and {} are needed; give it more, or let clients that are off lose \
                 their disks",
                left * unit,
                sectors * unit
            );
            io::Error::new(io::ErrorKind::StorageFull, text)
        })
    }

    /// Gives sectors back, and their memory.
    pub(super) fn give(&self, extents: &[Extent]) {
        if let Ok(file) = OpenOptions::new().write(true).open(sysfs::node(self.device)) {
            let unit = u64::from(SECTOR_SIZE);
            // A discard, which a device need not know.
            let flags =
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE | FallocateFlags::NO_HIDE_STALE;
            for extent in extents {
                let _ = rustix::fs::fallocate(&file, flags, extent.start * unit, extent.sectors * unit);
            }
        }
        let mut free = self.extents.lock();
        extents.iter().for_each(|extent| free.give(*extent));
    }
}

fn create(dm: &Dm, config: &SpaceConfig, cache: Option<Bytes>) -> io::Result<Device> {
    match config {
        SpaceConfig::Ram { size } => {
            // Held open until the space has it.
            let looped = Loop::of_ram(RAM_FILE, *size)?;
            put(dm, looped.device(), None)
        }
        SpaceConfig::File { path, size } => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(path).map_err(at(path))?;
            file.set_len(size.0 / u64::from(SECTOR_SIZE) * u64::from(SECTOR_SIZE)).map_err(at(path))?;
            mark(&file).map_err(at(path))?;
            let looped = Loop::attach(&file).map_err(at(path))?;
            sysfs::drop_flushes(looped.device())?;
            if cache.is_some() {
                looped.past_the_page_cache();
            }
            put(dm, looped.device(), cache)
        }
        SpaceConfig::Device { path } => {
            let device = block_device(path)?;
            if !is_labelled(path)? {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} was not given to bootd to write to: look at it, and if nothing on it is needed, run: bootd \
                         storage apply",
                        path.display()
                    ),
                ));
            }
            sysfs::check_sector_size(device, &path.display().to_string())?;
            put(dm, device, cache)
        }
    }
}

fn put(dm: &Dm, below: Device, cache: Option<Bytes>) -> io::Result<Device> {
    let sectors = sysfs::sectors(below)?;
    match cache {
        Some(size) => cache::create(dm, &DmRole::Space, below, sectors, size, Mode::Write),
        None => dm.create(&DmRole::Space, &Line::only(sectors, "linear", format!("{below} 0")), false),
    }
}

/// The table that it would have, before there is anything of it.
pub(super) fn planned(config: &SpaceConfig, cache: Option<Bytes>) -> io::Result<Vec<Line>> {
    let (sectors, below) = match config {
        SpaceConfig::Ram { size } => (size.0 / u64::from(SECTOR_SIZE), "<RAM>".to_owned()),
        SpaceConfig::File { path, size } => {
            (size.0 / u64::from(SECTOR_SIZE), format!("<loop on {}>", path.display()))
        }
        SpaceConfig::Device { path } => (sysfs::sectors(block_device(path)?)?, path.display().to_string()),
    };
    Ok(match cache {
        Some(size) => cache::planned(&below, sectors, size, Mode::Write),
        None => Line::only(sectors, "linear", format!("{below} 0")),
    })
}

/// What a file's mark begins with, and how long it is.
const MARK: &[u8] = b"BOOTD-SPACE FILE ";
const MARK_LENGTH: usize = 64;

/// Writes a mark that no other file has.
fn mark(file: &File) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut mark = [MARK, format!("{}-{now}\n", std::process::id()).as_bytes()].concat();
    mark.resize(MARK_LENGTH, 0);
    file.write_all_at(&mark, 0)
}

/// The mark of a file, or of the device that it is. The name that the kernel has for the file would not do: a service's
/// name of it (`/overlays/space`) is good only as long as the service's own view of the file system lasts, which the next
/// start of it does not share.
fn mark_of(path: &Path) -> Option<[u8; MARK_LENGTH]> {
    let mut mark = [0; MARK_LENGTH];
    File::open(path).and_then(|mut file| file.read_exact(&mut mark)).ok()?;
    mark.starts_with(MARK).then_some(mark)
}

/// Whether the space that the kernel holds is the one that is asked for.
pub(super) fn is_same(
    dm: &Dm,
    space: Device,
    config: &SpaceConfig,
    cache: Option<Bytes>,
) -> io::Result<bool> {
    let table = dm.table(&DmRole::Space)?;
    let Some(line) = table.first() else { return Ok(false) };
    let (below, cached) = match cache::Parts::of(line) {
        Some(parts) => (Some(parts.origin), Some(parts.size()?)),
        None => (line.parameters.split_once(' ').and_then(|(device, _)| device.parse().ok()), None),
    };
    let file = below.and_then(sysfs::backing_file);
    let same = match config {
        SpaceConfig::Ram { size } => {
            // The kernel shows a file in memory as one that was deleted.
            let ours = format!("/memfd:{RAM_FILE} (deleted)");
            let in_ram = file.is_some_and(|file| file.as_os_str() == ours.as_str());
            in_ram && line.sectors == size.0 / u64::from(SECTOR_SIZE)
        }
        SpaceConfig::File { path, .. } => {
            let mark = mark_of(&sysfs::node(space));
            mark.is_some() && mark == mark_of(path)
        }
        SpaceConfig::Device { path } => below == Some(block_device(path)?),
    };
    Ok(same && cached == cache.map(cache::whole_blocks))
}

/// Whether a device begins with our label.
pub(super) fn is_labelled(path: &Path) -> io::Result<bool> {
    let mut start = [0; LABEL.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut start)).map_err(at(path))?;
    Ok(start == *LABEL)
}

/// Labels a device for overlays. What it held is lost.
///
/// # Errors
/// When it can't be written to.
pub fn label(path: &Path) -> io::Result<()> {
    sysfs::check_sector_size(block_device(path)?, &path.display().to_string())?;
    let mut file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
    let mut first = vec![0; 4096];
    first.get_mut(..LABEL.len()).into_iter().for_each(|place| place.copy_from_slice(LABEL));
    file.write_all(&first).and_then(|()| file.sync_all()).map_err(at(path))
}

/// The number of the block device at `path`.
pub(super) fn block_device(path: &Path) -> io::Result<Device> {
    let meta = fs::metadata(path).map_err(at(path))?;
    if !meta.file_type().is_block_device() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no block device", path.display()),
        ));
    }
    let number = meta.rdev();
    Ok(Device { major: rustix::fs::major(number), minor: rustix::fs::minor(number) })
}
