//! Images' versions as read-only devices: a file behind a read-only loop device, through the page cache.
//!
//! All clients' disks stand on the one device of their image's version, so what one of them has read, the next one gets
//! from RAM: that is the cache under all images. It takes what RAM there is to spare and needs none set aside.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use block::{OpenError, SECTOR_SIZE, Volume};
use devicemapper::Device;
use parking_lot::Mutex;

use super::dm::{Dm, Line};
use super::loops::Loop;
use super::{fault, sysfs};
use crate::embedded::images::FileId;
use crate::names::DmRole;
use crate::{DiskRequest, EngineError};

/// A version of an image, as a device.
pub(super) struct ImageDevice {
    role: DmRole,
    pub(super) device: Device,
    pub(super) sectors: u64,
    pub(super) id: FileId,
    /// Sectors that the file still has. What is behind them fails, where the loop device would show zeros.
    left: Mutex<u64>,
}

impl ImageDevice {
    /// The loop device below.
    fn below(&self, dm: &Dm) -> Option<Device> {
        let table = dm.table(&self.role).ok()?;
        let linear = table.iter().find(|line| line.target == "linear")?;
        linear.parameters.split_once(' ')?.0.parse().ok()
    }

    /// Makes reads fail where the file has been cut off.
    pub(super) fn guard(&self, dm: &Dm) {
        let Some(below) = self.below(dm) else { return };
        let Some(path) = sysfs::backing_file(below) else { return };
        // A file that was removed is whole behind the loop device, which has it open.
        let Ok(meta) = std::fs::metadata(&path) else { return };
        if !self.id.is_of(&meta) {
            return;
        }
        let now = (meta.len() / u64::from(SECTOR_SIZE)).min(self.sectors);
        let mut left = self.left.lock();
        if *left == now {
            return;
        }
        let mut table = vec![];
        if now > 0 {
            table.extend(Line::only(now, "linear", format!("{below} 0")));
        }
        if now < self.sectors {
            let (start, sectors) = (now, self.sectors - now);
            table.push(Line { start, sectors, target: "error".into(), parameters: String::new() });
        }
        if dm.change(&self.role, &table, true).is_ok() {
            *left = now;
        }
    }
}

/// The versions that are in use.
#[derive(Default)]
pub(super) struct Images {
    open: Mutex<HashMap<DmRole, Arc<ImageDevice>>>,
}

fn unreadable(request: &DiskRequest) -> impl Fn(io::Error) -> EngineError + '_ {
    |source| EngineError::Image { image: request.image.clone(), path: request.path.clone(), source }
}

fn role_of(image: &str, id: &FileId) -> DmRole {
    DmRole::Image { image: image.to_owned(), id: id.number() }
}

impl Images {
    /// The device of the image that is asked for, made if it is not there.
    pub(super) fn get(&self, dm: &Dm, request: &DiskRequest) -> Result<Arc<ImageDevice>, EngineError> {
        let file = block::FileVolume::read_only(&request.path).map_err(|e| match e {
            OpenError::Io { source, .. } => unreadable(request)(source),
            OpenError::NotADisk { path, size } => {
                EngineError::NotADisk { image: request.image.clone(), path, size }
            }
            other => unreadable(request)(io::Error::other(other)),
        })?;
        let meta = file.file().metadata().map_err(unreadable(request))?;
        let id = FileId::of(&meta);
        let mut open = self.open.lock();
        let role = role_of(&request.image, &id);
        if let Some(image) = open.get(&role) {
            return Ok(Arc::clone(image));
        }
        let image = match Self::take_up(dm, &role, id).map_err(unreadable(request))? {
            Some(image) => image,
            None => {
                let sectors = file.geometry().blocks().get();
                make(dm, &role, id, file.file(), sectors).map_err(unreadable(request))?
            }
        };
        let image = Arc::new(image);
        open.insert(role, Arc::clone(&image));
        Ok(image)
    }

    /// The device of an image that an earlier process had, if the kernel still has it.
    pub(super) fn adopt(&self, dm: &Dm, image: &str, id: FileId) -> io::Result<Option<Arc<ImageDevice>>> {
        let role = role_of(image, &id);
        let mut open = self.open.lock();
        if let Some(image) = open.get(&role) {
            return Ok(Some(Arc::clone(image)));
        }
        let Some(image) = Self::take_up(dm, &role, id)? else { return Ok(None) };
        let image = Arc::new(image);
        open.insert(role, Arc::clone(&image));
        Ok(Some(image))
    }

    fn take_up(dm: &Dm, role: &DmRole, id: FileId) -> io::Result<Option<ImageDevice>> {
        let Some(found) = dm.find(role)? else { return Ok(None) };
        let sectors = sysfs::sectors(found.device)?;
        if sectors == 0 {
            // A process was killed between making it and giving it a table.
            dm.remove(role)?;
            return Ok(None);
        }
        Ok(Some(ImageDevice {
            role: role.clone(),
            device: found.device,
            sectors,
            id,
            left: Mutex::new(sectors),
        }))
    }

    /// Removes the devices of images that no disk stands on. Their pages stay in RAM: they belong to the file.
    pub(super) fn close_idle(&self, dm: &Dm) {
        self.open.lock().retain(|role, image| {
            Arc::strong_count(image) > 1 || !matches!(dm.remove(role), Ok(super::dm::Removal::Gone))
        });
    }

    /// All that are in use.
    pub(super) fn all(&self) -> Vec<Arc<ImageDevice>> {
        self.open.lock().values().cloned().collect()
    }

    /// Whether the device is one of those.
    pub(super) fn has(&self, role: &DmRole) -> bool {
        self.open.lock().contains_key(role)
    }
}

fn make(dm: &Dm, role: &DmRole, id: FileId, file: &File, sectors: u64) -> io::Result<ImageDevice> {
    let looped = Loop::attach(file)?;
    fault::here("image-loop");
    let table = Line::only(sectors, "linear", format!("{} 0", looped.device()));
    let device = dm.create(role, &table, true)?;
    fault::here("image");
    sysfs::check_sector_size(device, "the image")?;
    Ok(ImageDevice { role: role.clone(), device, sectors, id, left: Mutex::new(sectors) })
}
