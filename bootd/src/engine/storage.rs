//! What the kernel engine's disks lie on: looked at, made ready, brought up and taken down, on a machine whose daemon and
//! network need not be up.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lvm::EngineError;
use lvm::kernel::{self, Contents, DEFAULT_TAG, Hold, Planned, ShownFile, SpaceConfig};
use serde::Serialize;
use site::Site;

use super::kernel::Opened;
use super::settings::{Row, Settings, Wrong};
use super::{images_apart, others_devices, settle};
use crate::check;
use crate::config::{StorageConfig, show_size};

/// What is there, what would be made, and what stands in the way.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    /// The settings, each with who made it.
    pub(crate) settings: Vec<Row>,
    /// Every device.
    #[serde(flatten)]
    pub(crate) devices: kernel::Plan,
    /// What would be written to a device, and what would be lost by it.
    pub(crate) writes: Option<Write>,
    /// What must be put right before.
    pub(crate) problems: Vec<Problem>,
    /// What is worth knowing.
    pub(crate) notes: Vec<String>,
}

/// What would be written.
#[derive(Debug, Serialize)]
pub(crate) struct Write {
    /// To which device.
    pub(crate) device: PathBuf,
    /// What.
    pub(crate) what: &'static str,
    /// What it holds now.
    pub(crate) loses: String,
}

/// Something that stands in the way.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    /// What.
    pub(crate) error: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        Self { error: wrong.to_string(), hint: wrong.remedy }
    }
}

fn problem(error: impl fmt::Display, hint: &str) -> Problem {
    Problem { error: error.to_string(), hint: hint.to_owned() }
}

/// The site as it is on this machine: in its file, or in the local copy of one on a server. Nothing of it is changed.
pub(crate) fn site(config: &StorageConfig) -> Result<Site, Problem> {
    let path = config.database();
    if !path.exists() {
        return Ok(Site::default());
    }
    let site = check::snapshot(&path);
    site.map(|site| Site::clone(&site))
        .map_err(|e| problem(e, "mend that, or put a backup of it in its place"))
}

/// The settings that hold.
pub(crate) fn settings(config: &StorageConfig, site: &Site) -> Result<Settings, Problem> {
    Ok(settle(&config.kernel, &config.server, config.memory, site)?)
}

/// What the engine is opened with, but for the addresses of its target.
fn kernel_config(config: &StorageConfig, settings: &Settings) -> Opened {
    super::kernel::config(&config.overlay_directory, &config.names, Vec::new(), &settings.kernel)
}

/// All that `apply` would do. Changes nothing.
pub(crate) fn plan(config: &StorageConfig, site: &Site) -> Result<Plan, Problem> {
    let settings = settings(config, site)?;
    let kernel = kernel_config(config, &settings);
    let in_site =
        |image: &site::Image| kernel::Image { name: image.name.to_string(), path: image.path.clone() };
    let (images, missing): (Vec<_>, Vec<_>) =
        site.images().iter().map(|image| in_site(image)).partition(|image| image.path.exists());
    let mut problems = Vec::new();
    let mut writes = None;
    let mut notes: Vec<_> = missing
        .iter()
        .map(|image| format!("image {}: {} is not there", image.name, image.path.display()))
        .collect();
    let devices = match &kernel {
        Opened::Devices(kernel) => {
            writes = space(&kernel.space, &settings, &mut problems)?;
            kernel::plan(kernel, &images, config.overlay_limit)
                .map_err(|e| problem(e, "look at it with: dmsetup ls --tree"))?
        }
        Opened::Files(files) => {
            notes.extend(images_apart(&settings.kernel, &config.overlay_directory, site));
            notes.extend(of_files(&settings));
            kernel::plan_clones(files, &images)
                .map_err(|e| problem(e, "have the overlays' directory be one that bootd can read"))?
        }
    };
    if devices.space_is_another {
        problems.push(problem(
            format!(
                "the overlays that are in use lie elsewhere, and {} clients have their disks there",
                devices.disks
            ),
            "put the setting back as it was until no client runs, or remove them all: bootd storage down",
        ));
    }
    problems.extend(images_elsewhere(config, &settings));
    if let Err(e) = super::usable(&settings.kernel, &config.overlay_directory) {
        problems.push(problem(e, "bootd check tells of everything else that serving needs"));
    }
    if site.model().get("server", &config.server).is_none() {
        notes.push(format!("the site has no server {}, so bootd.toml and defaults decide", config.server));
    }
    notes.push("all that clients have written is lost with the power, and only that".to_owned());
    let rows = settings.rows(&config.images(), &config.overlay_directory);
    Ok(Plan { settings: rows, devices, writes, problems, notes })
}

/// What would be written to the device of the space, if it is one.
fn space(
    space: &SpaceConfig,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<Option<Write>, Problem> {
    let elsewhere = "name a block device that is there";
    match space {
        SpaceConfig::Device { path } => match kernel::contents(path) {
            Ok(Contents::Ours) => Ok(None),
            Ok(Contents::Blank) => {
                let loses =
                    "nothing by which anyone would know it, as its start and its end are empty".to_owned();
                Ok(Some(Write { device: path.clone(), what: "a label that gives it to overlays", loses }))
            }
            Ok(Contents::Foreign(what)) => {
                let error = format!("{} holds {what}, which bootd did not make", path.display());
                let hint = format!(
                    "if nothing on it is needed, empty it yourself, for example: wipefs --all {}",
                    path.display()
                );
                problems.push(settings.wrong_space(error, hint).into());
                Ok(None)
            }
            Err(e) => Err(settings.wrong_space(e, elsewhere).into()),
        },
        SpaceConfig::File { path, .. } if path.starts_with("/dev") && !path.starts_with("/dev/shm") => {
            let error = format!("{} is no block device", path.display());
            Err(settings.wrong_space(error, elsewhere).into())
        }
        SpaceConfig::File { .. } | SpaceConfig::Ram { .. } => Ok(None),
    }
}

/// What is worth knowing of disks that are files.
fn of_files(settings: &Settings) -> Vec<String> {
    let mut notes = vec![
        "nothing ends a client's writes at its limit, which bootd warns of: all share what the file system has free"
            .to_owned(),
    ];
    if !settings.idle.is_empty() {
        let variables = settings.idle.join(", ");
        notes.push(format!(
            "the site's {variables} says nothing here, as overlays = \"files\" takes no device"
        ));
    }
    notes.extend(others_devices(&settings.kernel));
    notes
}

/// Labels a device.
pub(crate) fn label(path: &Path) -> Result<(), Problem> {
    kernel::label(path).map_err(|e| problem(e, "look at the device; it may be read-only"))
}

/// Keeps engines from starting, if none is at work; `None` where one is.
pub(crate) fn hold(config: &StorageConfig) -> Result<Option<Hold>, Problem> {
    match kernel::hold(&config.overlay_directory) {
        Ok(hold) => Ok(Some(hold)),
        Err(EngineError::InUse { .. }) => Ok(None),
        Err(e) => Err(problem(e, "run it as root")),
    }
}

/// In what that which a running bootd has in the kernel is another than is asked for.
pub(crate) fn differences(config: &StorageConfig, site: &Site) -> Result<Vec<String>, Problem> {
    let settings = settings(config, site)?;
    let differences = match kernel_config(config, &settings) {
        Opened::Devices(kernel) => kernel::differences(&kernel),
        Opened::Files(_) => Ok(Vec::new()),
    };
    differences.map_err(|e| problem(e, "bootd storage status shows what is there"))
}

/// Makes what needs no client, and says which devices were not there before.
pub(crate) fn prepare(config: &StorageConfig, site: &Site, hold: &Hold) -> Result<Vec<String>, Problem> {
    let settings = settings(config, site)?;
    let made = match kernel_config(config, &settings) {
        Opened::Devices(kernel) => kernel::prepare(&kernel, hold),
        Opened::Files(_) => Ok(Vec::new()),
    };
    made.map_err(|e| problem(e, "bootd storage status shows what is there"))
}

/// A disk, or what disks lie on.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Held {
    /// A device.
    Device(kernel::Shown),
    /// A file.
    File(ShownFile),
}

/// All that the kernel holds for bootd, and all disks that are files, where those are in use.
pub(crate) fn status(config: Option<&StorageConfig>) -> io::Result<Vec<Held>> {
    let devices = kernel::devices(DEFAULT_TAG)?;
    let files = match config {
        Some(config) if config.engine.is_files() => kernel::files(&config.overlay_directory)?,
        _ => Vec::new(),
    };
    Ok(devices.into_iter().map(Held::Device).chain(files.into_iter().map(Held::File)).collect())
}

/// Removes all of it; what is busy stays, and is named.
pub(crate) fn down(config: &StorageConfig) -> Result<Vec<String>, Problem> {
    let failed = |e: io::Error| problem(e, "bootd storage status shows what is there");
    kernel::remove_target(&super::kernel::lio(&config.names, Vec::new()), DEFAULT_TAG).map_err(failed)?;
    if config.engine.is_files() {
        kernel::remove_files(&config.overlay_directory)
            .map_err(|e| problem(e, "bootd storage status shows what is there"))?;
    }
    kernel::remove_all(DEFAULT_TAG).map_err(failed)
}

/// What is wrong with where images lie, if the site says where they must.
fn images_elsewhere(config: &StorageConfig, settings: &Settings) -> Option<Problem> {
    let said = settings.images.as_ref()?;
    let images = config.images();
    let hint =
        format!("make a file system there and mount it at {}, or unset the variable", images.display());
    let number = match fs::metadata(&said.value) {
        Ok(meta) => meta.rdev(),
        Err(e) => return Some(problem(format!("{}: {}: {e}", said.source, said.value.display()), &hint)),
    };
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let (place, device) = mounted_at(&table, &images)?;
    if fs::metadata(&device).is_ok_and(|meta| meta.rdev() == number) {
        return None;
    }
    let error = format!(
        "{}: images must lie on {}, and {} is on {device}, mounted at {place}",
        said.source,
        said.value.display(),
        images.display()
    );
    Some(problem(error, &hint))
}

/// Where the file system is mounted that a path lies on, and its device.
fn mounted_at(table: &str, path: &Path) -> Option<(String, String)> {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw (proc_pid_mountinfo(5)). The last of the longest
    // lies on top.
    let mounts = table.lines().filter_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((place, behind.split(' ').nth(1)?.to_owned()))
    });
    mounts.filter(|(place, _)| path.starts_with(place)).max_by_key(|(place, _)| place.len())
}

/// A device in a line of a table: its name, its size, whether it is there.
pub(crate) fn row_of(device: &Planned) -> [String; 4] {
    let state = if device.there { "there" } else { "to be made" };
    let size = show_size(device.bytes);
    let table = device.table.join("; ");
    [device.name.clone(), size, state.to_owned(), table]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_path_is_the_longest_that_is_on_its_way() {
        let table = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     30 21 9:2 / /srv/bootd/images rw,noatime shared:1 - ext4 /dev/md2 rw\n\
                     31 21 9:3 / /srv/a\\040b rw - xfs /dev/md3 rw\n";
        let of = |path: &str| mounted_at(table, Path::new(path)).unwrap().1;
        assert_eq!(of("/srv/bootd/images"), "/dev/md2");
        assert_eq!(of("/srv/bootd/images/x"), "/dev/md2");
        assert_eq!(of("/srv/bootd/images2"), "/dev/sda1");
        assert_eq!(of("/srv/a b/c"), "/dev/md3");
        assert_eq!(mounted_at("nonsense\n", Path::new("/")), None);
    }
}
