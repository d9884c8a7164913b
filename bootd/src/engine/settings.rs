//! Where the kernel engine's disks lie and how much RAM they are given: as `bootd.toml` says, else as the site says of this
//! server, else as is usual. Each value knows who said it.
//!
//! The site's variables are Labnet's (`iscsi_cow_pv` and its like), in Labnet's units: blocks of 1 KiB.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use block::Bytes;
use serde::{Serialize, Serializer};
use site::Site;
use site::entity::Origin;

use crate::config::{KernelSettings, LEAST_CACHE, SpacePlace, show_size};

/// The type of this server's entity.
const SERVER_TYPE: &str = "server";

/// Labnet's unit of RAM, in bytes.
const BLOCK: u64 = 1024;

const IMAGE_PV: &str = "iscsi_image_pv";
const IMAGE_SIZE: &str = "iscsi_image_size";
const COW_PV: &str = "iscsi_cow_pv";
const COW_CACHE_SIZE: &str = "iscsi_cow_cache_size";
const COW_CACHE_DEV: &str = "iscsi_cow_cache_dev";

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration file.
    File,
    /// The site's entity of this server, or one that it inherits from.
    Site {
        /// The entity's name.
        server: String,
        /// Whose value it is.
        origin: Origin,
        /// The variable.
        variable: &'static str,
    },
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("bootd.toml"),
            Self::Site { server, origin: Origin::Own, variable } => {
                write!(f, "site: server {server}, {variable}")
            }
            Self::Site { server, origin, variable } => {
                write!(f, "site: server {server}, {variable} of {origin}")
            }
            Self::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) source: Source,
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The settings that the engine is opened with.
    pub(crate) kernel: KernelSettings,
    /// The device of the file system that images must lie on, if the site says so.
    pub(crate) images: Option<Said<PathBuf>>,
    /// Who said where overlays lie.
    pub(crate) space: Source,
    cache: Source,
    write_cache: Source,
    /// The site's variables that say nothing where disks are files.
    pub(crate) idle: Vec<&'static str>,
}

/// What is wrong with a value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_of}: {what}")]
pub(crate) struct Wrong {
    source_of: Source,
    what: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// The site's word on this server.
struct Server<'a> {
    site: &'a Site,
    name: &'a str,
    memory: u64,
}

impl Server<'_> {
    /// A variable's value, and who has it.
    fn get(&self, variable: &'static str) -> Option<Said<String>> {
        let found = self.site.model().effective(SERVER_TYPE, self.name, variable)?;
        let source = Source::Site { server: self.name.to_owned(), origin: found.origin, variable };
        // A variable without a value is as good as none.
        let value = found.values.first().map(str::trim).filter(|text| !text.is_empty())?;
        Some(Said { value: value.to_owned(), source })
    }

    fn device(&self, variable: &'static str) -> Result<Option<Said<PathBuf>>, Wrong> {
        let Some(Said { value, source }) = self.get(variable) else { return Ok(None) };
        if value.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty()) {
            return Ok(Some(Said { value: value.into(), source }));
        }
        let what = format!("{value:?} is no device");
        let remedy = "write the path of a block device, such as /dev/md3, or unset it".into();
        Err(Wrong { source_of: source, what, remedy })
    }

    fn ram(&self, variable: &'static str) -> Result<Option<Said<Bytes>>, Wrong> {
        let Some(Said { value, source }) = self.get(variable) else { return Ok(None) };
        let bytes = value.parse::<u64>().ok().and_then(|blocks| blocks.checked_mul(BLOCK));
        let most = if self.memory == 0 { u64::MAX } else { self.memory };
        let what = match bytes {
            Some(0) => return Ok(None),
            Some(bytes) if (LEAST_CACHE..=most).contains(&bytes) => {
                return Ok(Some(Said { value: Bytes(bytes), source }));
            }
            Some(bytes) => format!("{value} blocks of 1 KiB are {}", show_size(bytes)),
            None => format!("{value:?} is no number of blocks of 1 KiB"),
        };
        let upper = match self.memory {
            0 => " up".to_owned(),
            memory => format!(" to {}, which is all RAM that this machine has", memory / BLOCK),
        };
        let remedy = format!("write a number from {}{upper}; 0 for none", LEAST_CACHE / BLOCK);
        Err(Wrong { source_of: source, what, remedy })
    }
}

/// What holds on the server of that name, which has `memory` bytes of RAM (0: that can't be told). A key of the file comes
/// before the site's variable for the same thing.
///
/// # Errors
/// The first thing that is wrong in the site, or that does not go together.
pub(crate) fn settle(
    of_file: &KernelSettings,
    server: &str,
    memory: u64,
    site: &Site,
) -> Result<Settings, Wrong> {
    let server = Server { site, name: server, memory };
    let images = server.device(IMAGE_PV)?;
    if of_file.is_files() {
        let of_space = [IMAGE_SIZE, COW_PV, COW_CACHE_SIZE, COW_CACHE_DEV];
        return Ok(Settings {
            kernel: of_file.clone(),
            images,
            space: Source::File,
            cache: Source::Default,
            write_cache: Source::Default,
            idle: of_space.into_iter().filter(|variable| server.get(variable).is_some()).collect(),
        });
    }
    let of_site = overlays(&server)?;
    let or_site = |of_file: Option<Bytes>, of_site: Option<Said<Bytes>>| match (of_file, of_site) {
        (Some(size), _) => (Some(size), Source::File),
        (None, Some(said)) => (Some(said.value), said.source),
        (None, None) => (None, Source::Default),
    };
    let (place, space) = match (of_file.space.clone(), of_site.device) {
        (SpacePlace::Default, Some(said)) => (SpacePlace::At(said.value), said.source),
        (SpacePlace::Default, None) => (SpacePlace::Default, Source::Default),
        (place, _) => (place, Source::File),
    };
    let (cache, cache_source) = or_site(of_file.cache, server.ram(IMAGE_SIZE)?);
    // What lies in RAM needs no cache there.
    let of_site_ram = of_site.ram.filter(|_| place != SpacePlace::Ram);
    let (write_cache, write_cache_source) = or_site(of_file.write_cache, of_site_ram);
    let kernel = KernelSettings { space: place, cache, write_cache, ..of_file.clone() };
    let (cache, write_cache) = (cache_source, write_cache_source);
    let settled = Settings { kernel, images, space, cache, write_cache, idle: Vec::new() };
    settled.check_ram(memory)?;
    Ok(settled)
}

/// What the site says of overlays.
struct Overlays {
    device: Option<Said<PathBuf>>,
    ram: Option<Said<Bytes>>,
}

/// Either a device with a cache in RAM, or an SSD without: of the two the one that is said nearer to the server.
fn overlays(server: &Server<'_>) -> Result<Overlays, Wrong> {
    let (device, ram) = (server.device(COW_PV)?, server.ram(COW_CACHE_SIZE)?);
    let Some(ssd) = server.device(COW_CACHE_DEV)? else { return Ok(Overlays { device, ram }) };
    let others = [device.as_ref().map(|said| &said.source), ram.as_ref().map(|said| &said.source)];
    let Some(nearest) = others.into_iter().flatten().min_by_key(|source| distance(source)).cloned() else {
        return Ok(Overlays { device: Some(ssd), ram: None });
    };
    match distance(&nearest).cmp(&distance(&ssd.source)) {
        Ordering::Less => Ok(Overlays { device, ram }),
        Ordering::Greater => Ok(Overlays { device: Some(ssd), ram: None }),
        Ordering::Equal => Err(Wrong {
            source_of: nearest,
            what: format!("{COW_CACHE_DEV} is set, too, and overlays can't lie in two places"),
            remedy: format!(
                "set {COW_CACHE_DEV} alone for an SSD, or {COW_PV} and {COW_CACHE_SIZE} for a device that is cached in RAM"
            ),
        }),
    }
}

/// How far from the server itself it was said.
fn distance(source: &Source) -> u8 {
    match source {
        Source::File | Source::Site { origin: Origin::Own, .. } => 0,
        Source::Site { origin: Origin::Group(_), .. } => 1,
        Source::Site { origin: Origin::Site, .. } | Source::Default => 2,
    }
}

impl Settings {
    /// All that is to be in RAM must fit there. What the file says by itself was looked at before.
    fn check_ram(&self, memory: u64) -> Result<(), Wrong> {
        let in_ram = if self.kernel.space == SpacePlace::Ram { self.kernel.space_size.0 } else { 0 };
        let caches = [self.kernel.cache, self.kernel.write_cache].into_iter().flatten();
        let sum = caches.fold(in_ram, |sum, size| sum.saturating_add(size.0));
        if memory == 0 || sum <= memory {
            return Ok(());
        }
        let (sum, all) = (show_size(sum), show_size(memory));
        let of_site = [&self.write_cache, &self.cache].into_iter().find(|one| **one != Source::Default);
        Err(Wrong {
            source_of: of_site.cloned().unwrap_or(Source::File),
            what: format!("caches and overlays would take {sum} of RAM together, and this machine has {all}"),
            remedy: format!("make one of {IMAGE_SIZE} and {COW_CACHE_SIZE} smaller"),
        })
    }

    /// An error of the place where overlays lie, with who said that.
    #[cfg(feature = "kernel")]
    pub(crate) fn wrong_space(&self, what: impl fmt::Display, remedy: impl Into<String>) -> Wrong {
        Wrong { source_of: self.space.clone(), what: what.to_string(), remedy: remedy.into() }
    }

    /// All of it for people.
    pub(crate) fn rows(&self, images: &Path, overlays: &Path) -> Vec<Row> {
        let Self { kernel, space, cache, write_cache, .. } = self;
        let row = |setting, value, source: &Source| Row { setting, value, source: source.clone() };
        let ram = |size: &Option<Bytes>, otherwise: &str| {
            size.map_or(otherwise.to_owned(), |size| format!("{} of RAM", show_size(size.0)))
        };
        let size = show_size(kernel.space_size.0);
        let images = match &self.images {
            Some(said) => {
                row("images", format!("{} on {}", images.display(), said.value.display()), &said.source)
            }
            None => row("images", images.display().to_string(), &Source::Default),
        };
        if kernel.is_files() {
            let files = format!("files in {} that share the image's blocks", overlays.display());
            let each = "the page cache, for each client's file apart".to_owned();
            return vec![images, row("overlays", files, space), row("cache", each, cache)];
        }
        vec![
            images,
            row("image cache", ram(&kernel.cache, "the page cache, with what RAM there is to spare"), cache),
            match &kernel.space {
                SpacePlace::Ram => row("overlays", format!("RAM, up to {size}"), space),
                SpacePlace::At(path) => row("overlays", path.display().to_string(), space),
                SpacePlace::Default => row("overlays", overlays.join("space").display().to_string(), space),
            },
            row("write cache", ram(&kernel.write_cache, "none"), write_cache),
        ]
    }
}

/// A setting for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) setting: &'static str,
    pub(crate) value: String,
    pub(crate) source: Source,
}

#[cfg(test)]
mod tests;
