//! What people want to know of disks that are files: which there are, and what would be made.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use block::{Bytes, Overlay};
use serde::Serialize;

use super::super::plan::{Image, Plan, Planned};
use super::{ClonesConfig, share};
use crate::EngineError;
use crate::record::{self, Survey};

/// A disk that is a file, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownFile {
    /// The client that it is of.
    pub client: String,
    /// The file.
    pub file: PathBuf,
    /// How large the disk is.
    pub bytes: u64,
    /// What of it does not share its blocks with the image any more.
    pub own: u64,
    /// The image that it was made of.
    pub image: String,
}

impl fmt::Display for ShownFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}, of image {})", self.file.display(), self.client, self.image)
    }
}

/// All disks that are files in that directory.
///
/// # Errors
/// When it can't be read.
pub fn files(directory: &Path) -> io::Result<Vec<ShownFile>> {
    if !directory.try_exists()? {
        return Ok(Vec::new());
    }
    let Survey { latest, .. } = record::survey(directory, &record::machine_boot()?)?;
    let mut all = Vec::new();
    for (files, record) in latest {
        let [file, state] = Overlay::files(&files.overlay());
        let Ok(meta) = fs::metadata(&file) else { continue };
        // With that it is the embedded engine's.
        if !state.try_exists()? {
            let own = share::own(&file).unwrap_or(Bytes(0)).0;
            let (client, image) = (record.request.client, record.request.image);
            all.push(ShownFile { client, file, bytes: meta.len(), own, image });
        }
    }
    all.sort_by(|a, b| a.client.cmp(&b.client));
    Ok(all)
}

/// Removes all disks and records in that directory. LIO must not serve them any more.
///
/// # Errors
/// When another process uses it, or they can't be removed.
pub fn remove_files(directory: &Path) -> Result<(), EngineError> {
    let unusable = |source| EngineError::Directory { path: directory.to_owned(), source };
    if !directory.try_exists().map_err(unusable)? {
        return Ok(());
    }
    let _lock = record::lock(directory)?;
    let boot = record::machine_boot().map_err(unusable)?;
    let Survey { latest, void } = record::survey(directory, &boot).map_err(unusable)?;
    let all = latest.into_iter().map(|(files, _)| files).chain(void);
    for files in all {
        files.remove().map_err(unusable)?;
    }
    Ok(())
}

/// What the engine has, and what it would make for each boot of a client by the example of the first image. Changes
/// nothing.
///
/// # Errors
/// When the directory can't be read.
pub fn plan_clones(config: &ClonesConfig, images: &[Image]) -> io::Result<Plan> {
    let disks = files(&config.directory)?.len();
    let for_each_boot = images.first().map(|image| Planned {
        name: config.directory.join("CLIENT@BOOT.disk").display().to_string(),
        bytes: fs::metadata(&image.path).map_or(0, |meta| meta.len()),
        read_only: false,
        there: false,
        table: vec![format!("shares the blocks of {}", image.path.display())],
    });
    Ok(Plan {
        fixed: Vec::new(),
        space_is_another: false,
        disks,
        images: Vec::new(),
        for_each_boot: for_each_boot.into_iter().collect(),
    })
}

/// Whether a name is good for LIO is found out before any client boots.
pub(super) fn check_path(directory: &Path) -> io::Result<()> {
    // The longest that there can be.
    let longest = format!("{}@{:016x}.disk", "x".repeat(crate::names::MAX_PART_LEN), 0);
    super::Backing::File(directory.join(longest), Bytes(0)).check()
}
