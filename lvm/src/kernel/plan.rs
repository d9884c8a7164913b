//! What the engine has in the kernel or would have there, for people who want to know before it is made; and what of it
//! can be made before any client boots.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use block::{Bytes, SECTOR_SIZE};
use serde::Serialize;

use super::dm::{Dm, Found, Line};
use super::image::role_of;
use super::library::Library;
use super::space::{self, SpaceConfig};
use super::{KernelConfig, Space, check, kernel_error, library, overlay};
use crate::EngineError;
use crate::embedded::images::FileId;
use crate::names::{self, DmRole};
use crate::record;

/// A device as it is, or as it would be made. What is not there yet is called in its table by a name between `<` and `>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// How large it is.
    pub bytes: u64,
    /// Whether nobody can write to it.
    pub read_only: bool,
    /// Whether the kernel has it already.
    pub there: bool,
    /// Its table, line by line.
    pub table: Vec<String>,
}

/// An image of the site.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// The file of its version.
    pub path: PathBuf,
}

/// All that the engine has in the kernel or would have there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What is made at the start: what all overlays lie on, and the caches.
    pub fixed: Vec<Planned>,
    /// Whether the space that clients use now is another one than is asked for.
    pub space_is_another: bool,
    /// How many clients have a disk in the kernel now.
    pub disks: usize,
    /// Each image's device, which is made for the first client that boots it.
    pub images: Vec<Planned>,
    /// The devices that are made for each boot of a client, by the example of the first image.
    pub for_each_boot: Vec<Planned>,
}

fn planned(name: String, table: &[Line], read_only: bool, there: bool) -> Planned {
    let sectors: u64 = table.iter().map(|line| line.sectors).sum();
    let table = table.iter().map(ToString::to_string).collect();
    Planned { name, bytes: sectors * u64::from(SECTOR_SIZE), read_only, there, table }
}

/// What the engine has in the kernel or would have there. Changes nothing, and takes a machine that has no device-mapper
/// for one that has no devices.
///
/// # Errors
/// When the kernel can't be asked, or the place of the overlays can't be.
pub fn plan(config: &KernelConfig, images: &[Image], limit: Bytes) -> io::Result<Plan> {
    let dm = if fs::exists("/dev/mapper/control")? { Some(Dm::open(&config.tag)?) } else { None };
    let name = |role: &DmRole| names::dm_name(&config.tag, role).map_err(io::Error::other);
    let found = |role: &DmRole| dm.as_ref().map_or(Ok(None), |dm| dm.find(role));
    let table_of = |role: &DmRole| dm.as_ref().map_or(Ok(Vec::new()), |dm| dm.table(role));

    let mut fixed = Vec::new();
    let mut stack = vec![(DmRole::Space, space::planned(&config.space, config.write_cache)?)];
    if let Some(size) = config.cache {
        let library = format!("<{}>", name(&DmRole::Library)?);
        stack.extend(library::planned(&library, size));
    }
    for (role, table) in stack {
        let there = found(&role)?.is_some();
        let table = if there { table_of(&role)? } else { table };
        fixed.push(planned(name(&role)?, &table, false, there));
    }
    let space_is_another = match (&dm, found(&DmRole::Space)?) {
        // One that nobody uses is made anew.
        (Some(dm), Some(held)) if held.open > 0 => {
            !space::is_same(dm, held.device, &config.space, config.write_cache)?
        }
        _ => false,
    };
    let ours = dm.as_ref().map_or(Ok(Vec::new()), Dm::ours)?;
    let disks = ours
        .iter()
        .filter(|one| matches!(&one.role, DmRole::Disk { part, .. } if *part == names::DmPart::Disk));

    let mut plan =
        Plan { fixed, space_is_another, disks: disks.count(), images: Vec::new(), for_each_boot: Vec::new() };
    for image in images {
        let (role, sectors) = look(image)?;
        let device = found(&role)?;
        let table = match &device {
            Some(_) => table_of(&role)?,
            None => {
                let below = match config.cache {
                    Some(_) => format!("<{}> ...", name(&DmRole::Cache)?),
                    None => format!("<loop on {}> 0", image.path.display()),
                };
                Line::only(sectors, "linear", below)
            }
        };
        let device = planned(name(&role)?, &table, true, device.is_some());
        if plan.for_each_boot.is_empty() {
            let of = |part: names::DmPart| format!("{}-disk-CLIENT-BOOT-{}", config.tag, part.name());
            let called = |part| format!("<{}>", of(part));
            let below = [format!("<{}>", name(&DmRole::Space)?), format!("<{}>", device.name)];
            let [space, image] = &below;
            let parts = overlay::planned(config.overlays, limit, sectors, [space, image], called);
            let parts = parts.into_iter().map(|(part, table)| planned(of(part), &table, false, false));
            plan.for_each_boot = parts.collect();
        }
        plan.images.push(device);
    }
    Ok(plan)
}

/// What an image's device is called, and its size in sectors.
fn look(image: &Image) -> io::Result<(DmRole, u64)> {
    let meta = fs::metadata(&image.path).map_err(|e| {
        let text = format!("image {}: {}: {e}", image.name, image.path.display());
        io::Error::new(e.kind(), text)
    })?;
    Ok((role_of(&image.name, &FileId::of(&meta)), meta.len() / u64::from(SECTOR_SIZE)))
}

/// As long as it is held, no engine is at work there.
#[derive(Debug)]
pub struct Hold {
    _lock: Option<File>,
}

/// Holds the place of an engine's records, if no engine does.
///
/// # Errors
/// When one does.
pub fn hold(directory: &Path) -> Result<Hold, EngineError> {
    // To make it is for the engine, as whoever it runs as: where there is none, none is at work.
    let there = directory.is_dir();
    Ok(Hold { _lock: there.then(|| record::lock(directory)).transpose()? })
}

/// In what that which [`prepare`] makes is another than is asked for. What is there belongs to an engine that is at work,
/// and goes by what that knows of it, so it must not be changed.
///
/// # Errors
/// When the kernel can't be asked, or the place of the overlays can't be.
pub fn differences(config: &KernelConfig) -> Result<Vec<String>, EngineError> {
    check(config.needs())?;
    let look = || {
        let dm = Dm::open(&config.tag)?;
        let space = match (dm.find(&DmRole::Space)?, &config.space) {
            (Some(held), _) if space::is_same(&dm, held.device, &config.space, config.write_cache)? => None,
            (Some(_), _) => Some("overlays lie elsewhere, or are cached otherwise".to_owned()),
            (None, SpaceConfig::File { .. }) => None,
            (None, _) => Some("there is no space for overlays yet".to_owned()),
        };
        Ok(space.into_iter().chain(library::difference(&dm, config.cache)?).collect())
    };
    look().map_err(kernel_error("look at what disks lie on"))
}

/// Makes what needs no client, and is no file: the caches, and the space that overlays lie on. A file is the engine's own to
/// make, as whoever it runs as. Says which devices were not there before. A device must have been labelled.
///
/// # Errors
/// When the machine lacks something, or clients use another space.
pub fn prepare(config: &KernelConfig, _hold: &Hold) -> Result<Vec<String>, EngineError> {
    check(config.needs())?;
    let dm = Dm::open(&config.tag).map_err(kernel_error("use device-mapper"))?;
    let opening = kernel_error("open the overlays' space");
    let devices = || -> io::Result<Vec<Found>> {
        Ok(dm.ours()?.into_iter().filter(|one| !matches!(one.role, DmRole::Disk { .. })).collect())
    };
    let before: Vec<_> = devices().map_err(&opening)?.iter().map(|one| one.device).collect();
    if !matches!(config.space, SpaceConfig::File { .. }) {
        Space::open(&dm, &config.space, config.write_cache).map_err(&opening)?;
    }
    Library::open(&dm, config.cache).map_err(kernel_error("open the images' cache"))?;
    let made = devices().map_err(&opening)?.into_iter().filter(|one| !before.contains(&one.device));
    let name = |one: Found| names::dm_name(&config.tag, &one.role).map_err(io::Error::other);
    made.map(name).collect::<io::Result<_>>().map_err(&opening)
}
