//! One client's overlay over an image, in one boot.
//!
//! ```text
//!        disk    what the client reads and writes
//!         |  \
//!        pool  image     thin: a pool of its own, with the image as the origin outside of it
//!        /  \
//!     data  meta         extents of the space
//! ```
//!
//! A pool for each client, not one for all: a client that fills its overlay then has nobody else's writes fail, and its
//! limit is the kernel's to keep. The data grows while there is space and the limit is not reached; a write that comes
//! before the growth waits for it. At the limit, or without space, writes to new blocks fail at once and everything
//! else goes on. A transient snapshot (no pool, no `meta`) takes half the devices, but when it is full it is dead.

use std::fmt::Display;
use std::io;
use std::sync::Arc;

use block::{Bytes, SECTOR_SIZE};
use devicemapper::Device;
use parking_lot::Mutex;

use super::dm::{Dm, Line, Removal};
use super::extents::{Extent, GRAIN};
use super::image::ImageDevice;
use super::space::Space;
use super::{OverlayKind, fault, sysfs};
use crate::names::{DmPart, DmRole};

/// The turns of those who make disks: one disk is at each stage at a time, so that a room that is switched on neither
/// waits for one disk after the other nor has all of them made at once and none ready.
#[derive(Default)]
pub(super) struct Stages {
    parts: Mutex<()>,
    pool: Mutex<()>,
    disk: Mutex<()>,
}

/// Why there is no overlay.
pub(super) struct Failed {
    pub(super) error: io::Error,
    /// What of it is left, because it is busy: to be removed later.
    pub(super) left: Option<(Owner, Vec<Extent>)>,
}

/// Sectors that an overlay begins with, if its limit is not lower: 64 MiB.
const FIRST: u64 = 64 << 11;

/// An overlay that is that full, in percent, grows to its double.
const GROWS_AT: u64 = 70;

/// Sectors that a transient overlay begins with, if its limit is not lower: 512 MiB. One that is full before it is looked
/// at again is dead, where a thin volume lets its client wait.
const FIRST_TRANSIENT: u64 = 512 << 11;

/// Sectors that a transient overlay must have left, or it grows: what its client can write meanwhile.
const HEADROOM: u64 = FIRST_TRANSIENT / 2;

impl OverlayKind {
    fn first(self) -> u64 {
        match self {
            Self::Thin => FIRST,
            Self::Transient => FIRST_TRANSIENT,
        }
    }

    /// Whether an overlay of `size` sectors, of which `used` are used, must grow.
    fn must_grow(self, used: u64, size: u64) -> bool {
        match self {
            Self::Thin => used * 100 >= size * GROWS_AT,
            Self::Transient => used + HEADROOM > size,
        }
    }
}

/// Sectors for what says where the blocks are: 2 MiB, and 64 bytes for each block.
fn meta_sectors(limit: u64) -> u64 {
    (4096 + (limit / GRAIN).div_ceil(8)).next_multiple_of(GRAIN)
}

/// Sectors of a chunk of a transient snapshot, which is the block of usual file systems.
const CHUNK: u64 = 8;

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) client: String,
    pub(super) epoch: u64,
}

impl Owner {
    pub(super) fn role(&self, part: DmPart) -> DmRole {
        DmRole::Disk { client: self.client.clone(), epoch: self.epoch, part }
    }
}

/// An overlay, with the disk that it makes.
pub(super) struct Overlay {
    pub(super) owner: Owner,
    pub(super) disk: Device,
    pub(super) image: Arc<ImageDevice>,
    kind: OverlayKind,
    /// The most sectors of data.
    limit: u64,
    grown: Mutex<Grown>,
}

struct Grown {
    data: Vec<Extent>,
    meta: Vec<Extent>,
    /// Sectors of the data that the pool knows of: less than there are, if a process was killed while it grew.
    known: u64,
    /// Whether writes to new blocks fail at once when there are none left, or wait for more.
    refuses: bool,
    /// It grows no more.
    is_over: bool,
}

impl Grown {
    fn all(&self) -> Vec<Extent> {
        [self.data.as_slice(), self.meta.as_slice()].concat()
    }
}

fn total(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.sectors).sum()
}

fn limit_sectors(limit: Bytes) -> u64 {
    (limit.0 / u64::from(SECTOR_SIZE) / GRAIN).max(1) * GRAIN
}

fn pool_table(meta: impl Display, data: impl Display, sectors: u64, refuses: bool) -> Vec<Line> {
    let features = if refuses { "2 skip_block_zeroing error_if_no_space" } else { "1 skip_block_zeroing" };
    Line::only(sectors, "thin-pool", format!("{meta} {data} {GRAIN} 0 {features}"))
}

fn thin_table(sectors: u64, pool: impl Display, image: impl Display) -> Vec<Line> {
    Line::only(sectors, "thin", format!("{pool} 0 {image}"))
}

fn snapshot_table(sectors: u64, image: impl Display, data: impl Display) -> Vec<Line> {
    Line::only(sectors, "snapshot", format!("{image} {data} N {CHUNK}"))
}

/// The parts that a disk of `sectors` begins with, lowest first. What they stand on is called by these names: the space,
/// the image, and each part as `of` calls it.
pub(super) fn planned(
    kind: OverlayKind,
    limit: Bytes,
    sectors: u64,
    [space, image]: [&str; 2],
    of: impl Fn(DmPart) -> String,
) -> Vec<(DmPart, Vec<Line>)> {
    let limit = limit_sectors(limit);
    let first = limit.min(kind.first());
    let linear = |sectors| Line::only(sectors, "linear", format!("{space} ..."));
    let mut parts = vec![(DmPart::Data, linear(first))];
    match kind {
        OverlayKind::Thin => {
            parts.insert(0, (DmPart::Meta, linear(meta_sectors(limit))));
            let pool = pool_table(of(DmPart::Meta), of(DmPart::Data), first, first >= limit);
            parts.push((DmPart::Pool, pool));
            parts.push((DmPart::Disk, thin_table(sectors, of(DmPart::Pool), image)));
        }
        OverlayKind::Transient => {
            parts.push((DmPart::Disk, snapshot_table(sectors, image, of(DmPart::Data))));
        }
    }
    parts
}

impl Overlay {
    /// Makes one.
    pub(super) fn make(
        dm: &Dm,
        space: &Space,
        stages: &Stages,
        owner: Owner,
        image: Arc<ImageDevice>,
        kind: OverlayKind,
        limit: Bytes,
    ) -> Result<Self, Failed> {
        let limit = limit_sectors(limit);
        let clean = |error| Failed { error, left: None };
        let data = space.take(limit.min(kind.first())).map_err(clean)?;
        let meta = match kind {
            OverlayKind::Thin => space.take(meta_sectors(limit)),
            OverlayKind::Transient => Ok(Vec::new()),
        };
        let meta = match meta {
            Ok(meta) => meta,
            Err(e) => {
                space.give(&data);
                return Err(clean(e));
            }
        };
        let known = total(&data);
        let grown = Grown { data, meta, known, refuses: known >= limit, is_over: false };
        match build(dm, space, stages, &owner, &image, kind, &grown) {
            Ok(disk) => Ok(Self { owner, disk, image, kind, limit, grown: Mutex::new(grown) }),
            Err(error) => match remove(dm, &owner, false) {
                Ok(Removal::Gone) => {
                    space.give(&grown.all());
                    Err(clean(error))
                }
                _ => Err(Failed { error, left: Some((owner, grown.all())) }),
            },
        }
    }

    /// The overlay that the kernel holds, if all of it is there.
    pub(super) fn adopt(
        dm: &Dm,
        space: &Space,
        owner: Owner,
        image: Arc<ImageDevice>,
        limit: Bytes,
    ) -> io::Result<Option<Self>> {
        let extents = |part| -> io::Result<Option<Vec<Extent>>> {
            match dm.find(&owner.role(part))? {
                Some(_) => Ok(space.extents_of(&dm.table(&owner.role(part))?).filter(|all| !all.is_empty())),
                None => Ok(None),
            }
        };
        let Some(disk) = dm.find(&owner.role(DmPart::Disk))? else { return Ok(None) };
        let table = dm.table(&owner.role(DmPart::Disk))?;
        let [line] = table.as_slice() else { return Ok(None) };
        let stands_on = |device: Device| line.parameters.split(' ').any(|word| word == device.to_string());
        if line.sectors != image.sectors || !stands_on(image.device) {
            return Ok(None);
        }
        let Some(data) = extents(DmPart::Data)? else { return Ok(None) };
        let (kind, meta, known, refuses) = match line.target.as_str() {
            "thin" => {
                let Some(meta) = extents(DmPart::Meta)? else { return Ok(None) };
                let pool = dm.table(&owner.role(DmPart::Pool))?;
                let [pool] = pool.as_slice() else { return Ok(None) };
                (OverlayKind::Thin, meta, pool.sectors, pool.parameters.contains("error_if_no_space"))
            }
            "snapshot" => (OverlayKind::Transient, Vec::new(), total(&data), false),
            _ => return Ok(None),
        };
        let limit = limit_sectors(limit).max(total(&data));
        let grown = Mutex::new(Grown { data, meta, known, refuses, is_over: false });
        Ok(Some(Self { owner, disk: disk.device, image, kind, limit, grown }))
    }

    /// All that it has of the space.
    pub(super) fn extents(&self) -> Vec<Extent> {
        self.grown.lock().all()
    }

    /// Lets it neither grow nor wait for space any more: whoever waits would keep the disk busy. Returns all that it has of
    /// the space.
    pub(super) fn finish(&self, dm: &Dm) -> Vec<Extent> {
        let mut grown = self.grown.lock();
        grown.is_over = true;
        self.stop_waiting(dm, &mut grown);
        grown.all()
    }

    /// How much of it is used, in bytes.
    pub(super) fn used(&self, dm: &Dm) -> io::Result<Bytes> {
        Ok(Bytes(self.fill(dm)?.used * u64::from(SECTOR_SIZE)))
    }

    fn fill(&self, dm: &Dm) -> io::Result<Fill> {
        let part = if self.kind == OverlayKind::Thin { DmPart::Pool } else { DmPart::Disk };
        let status = dm.status(&self.owner.role(part))?;
        let text = status.first().map_or("", |line| line.parameters.as_str());
        let fill = match self.kind {
            OverlayKind::Thin => Fill::of_pool(text),
            OverlayKind::Transient => Fill::of_snapshot(text),
        };
        fill.ok_or_else(|| {
            let state = text.escape_default();
            io::Error::other(format!("the overlay is broken (\"{state}\"); its client must boot again"))
        })
    }

    /// Whether a write has failed for want of space, as far as the kernel still knows.
    pub(super) fn is_full(&self, dm: &Dm) -> bool {
        let (part, word) = match self.kind {
            OverlayKind::Thin => (DmPart::Pool, "out_of_data_space"),
            OverlayKind::Transient => (DmPart::Disk, "Invalid"),
        };
        let told = dm.status(&self.owner.role(part));
        let refuses = self.kind == OverlayKind::Transient || self.grown.lock().refuses;
        refuses && told.is_ok_and(|lines| lines.iter().any(|line| line.parameters.contains(word)))
    }

    /// Lets it grow if it is time, and lets its writes fail instead of wait when it can't.
    pub(super) fn tend(&self, dm: &Dm, space: &Space) -> io::Result<()> {
        let mut grown = self.grown.lock();
        let size = total(&grown.data);
        if grown.is_over {
            return Ok(());
        }
        if grown.known != size {
            return self.tell_pool(dm, &mut grown, size >= self.limit);
        }
        if size >= self.limit {
            return Ok(());
        }
        let fill = self.fill(dm)?;
        if !self.kind.must_grow(fill.used, size) {
            return Ok(());
        }
        let more = size.min(self.limit - size);
        // As much as there is, when there is less than it should be.
        let left = space.extents.lock().left() / GRAIN * GRAIN;
        let taken = if left == 0 { None } else { space.take(more.min(left)).ok() };
        let refuses = taken.is_none() || size + more.min(left) >= self.limit;
        if taken.is_none() && refuses == grown.refuses {
            return Ok(());
        }
        if let Some(taken) = taken {
            let longer = [grown.data.as_slice(), taken.as_slice()].concat();
            if let Err(e) = dm.change(&self.owner.role(DmPart::Data), &space.table(&longer), false) {
                space.give(&taken);
                return Err(e);
            }
            fault::here("grown-data");
            grown.data = longer;
        }
        self.tell_pool(dm, &mut grown, refuses)
    }

    /// Tells the pool how much data it has, and whether there will be more.
    fn tell_pool(&self, dm: &Dm, grown: &mut Grown, refuses: bool) -> io::Result<()> {
        let size = total(&grown.data);
        if self.kind == OverlayKind::Thin {
            let of = |part| -> io::Result<Device> {
                let found = dm.find(&self.owner.role(part))?;
                found.map(|found| found.device).ok_or_else(|| io::ErrorKind::NotFound.into())
            };
            let table = pool_table(of(DmPart::Meta)?, of(DmPart::Data)?, size, refuses);
            dm.change(&self.owner.role(DmPart::Pool), &table, false)?;
        }
        (grown.known, grown.refuses) = (size, refuses);
        Ok(())
    }

    fn stop_waiting(&self, dm: &Dm, grown: &mut Grown) {
        if self.kind != OverlayKind::Thin || grown.refuses {
            return;
        }
        let waits = dm.status(&self.owner.role(DmPart::Pool));
        if !waits.is_ok_and(|lines| lines.iter().any(|l| l.parameters.contains("out_of_data_space"))) {
            return;
        }
        // What waits then gives up by itself, after a minute.
        let _ = self.tell_pool(dm, grown, true);
    }
}

fn build(
    dm: &Dm,
    space: &Space,
    stages: &Stages,
    owner: &Owner,
    image: &ImageDevice,
    kind: OverlayKind,
    grown: &Grown,
) -> io::Result<Device> {
    let disk = match kind {
        OverlayKind::Thin => {
            let stage = stages.parts.lock();
            let meta = dm.create(&owner.role(DmPart::Meta), &space.table(&grown.meta), false)?;
            fault::here("meta");
            // A pool takes its metadata for new if it begins with zeros.
            wipe_start(meta)?;
            let data = dm.create(&owner.role(DmPart::Data), &space.table(&grown.data), false)?;
            fault::here("data");
            drop(stage);
            let stage = stages.pool.lock();
            let table = pool_table(meta, data, total(&grown.data), grown.refuses);
            let pool = dm.create(&owner.role(DmPart::Pool), &table, false)?;
            fault::here("pool");
            drop(stage);
            let _stage = stages.disk.lock();
            dm.message(&owner.role(DmPart::Pool), "create_thin 0")?;
            fault::here("thin");
            let table = thin_table(image.sectors, pool, image.device);
            dm.create(&owner.role(DmPart::Disk), &table, false)?
        }
        OverlayKind::Transient => {
            let _stage = stages.disk.lock();
            let data = dm.create(&owner.role(DmPart::Data), &space.table(&grown.data), false)?;
            let table = snapshot_table(image.sectors, image.device, data);
            dm.create(&owner.role(DmPart::Disk), &table, false)?
        }
    };
    fault::here("disk");
    sysfs::check_sector_size(disk, "the client's disk")?;
    Ok(disk)
}

fn wipe_start(device: Device) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let node = sysfs::node(device);
    let file = std::fs::OpenOptions::new().write(true).open(&node);
    let file = file.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", node.display())))?;
    file.write_all_at(&[0; 4096], 0)?;
    // It must be below the pages of this node before the pool reads it past them.
    file.sync_data()
}

/// Removes all parts of it, from the top down. With `later`, those that are busy go when they are closed.
pub(super) fn remove(dm: &Dm, owner: &Owner, later: bool) -> io::Result<Removal> {
    let mut removal = Removal::Gone;
    for part in DmPart::ALL {
        let role = owner.role(part);
        let removed = if later { dm.remove_later(&role)? } else { dm.remove(&role)? };
        fault::here(match part {
            DmPart::Disk => "removed-disk",
            DmPart::Pool => "removed-pool",
            DmPart::Data => "removed-data",
            DmPart::Meta => "removed-meta",
        });
        if removed == Removal::Busy {
            removal = Removal::Busy;
            if !later {
                break;
            }
        }
    }
    Ok(removal)
}

/// How full it is.
#[derive(Debug, PartialEq, Eq)]
struct Fill {
    /// Sectors.
    used: u64,
}

impl Fill {
    /// `0 25/640 6/1024 - rw discard_passdown queue_if_no_space - 1024`: behind the transaction, blocks of the metadata
    /// and blocks of the data.
    fn of_pool(status: &str) -> Option<Self> {
        let (used, _) = status.split(' ').nth(2)?.split_once('/')?;
        Some(Self { used: used.parse::<u64>().ok()? * GRAIN })
    }

    /// `4096/8192 16`: sectors used, all, and those of them for metadata.
    fn of_snapshot(status: &str) -> Option<Self> {
        let (used, _) = status.split(' ').next()?.split_once('/')?;
        Some(Self { used: used.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let pool = "0 25/640 6/1024 - rw discard_passdown queue_if_no_space - 1024";
        assert_eq!(Fill::of_pool(pool), Some(Fill { used: 6 * GRAIN }));
        assert_eq!(Fill::of_pool("Fail"), None);
        assert_eq!(Fill::of_snapshot("4096/8192 16"), Some(Fill { used: 4096 }));
        assert_eq!(Fill::of_snapshot("Invalid"), None);
        assert_eq!(Fill::of_snapshot(""), None);
    }

    #[test]
    fn a_transient_overlay_grows_while_there_is_room_for_what_comes_meanwhile() {
        let (thin, transient) = (OverlayKind::Thin, OverlayKind::Transient);
        assert!(!thin.must_grow(69, 100) && thin.must_grow(70, 100));
        assert!(!transient.must_grow(0, FIRST_TRANSIENT));
        assert!(transient.must_grow(HEADROOM + 1, FIRST_TRANSIENT));
        assert!(!transient.must_grow(HEADROOM + 1, 2 * FIRST_TRANSIENT));
    }

    #[test]
    fn a_limit_is_whole_blocks_and_never_none() {
        assert_eq!(limit_sectors(Bytes(0)), GRAIN);
        assert_eq!(limit_sectors(Bytes(6 << 16)), 6 * GRAIN);
        assert_eq!(limit_sectors(Bytes((6 << 16) + 5)), 6 * GRAIN);
        // 64 bytes for each of the 32768 blocks of 2 GiB.
        assert_eq!(meta_sectors(2 << 21), 2 * 4096);
    }
}
