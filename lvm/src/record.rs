//! What is kept beside an overlay, so that the next process knows whose it is.
//!
//! An overlay with the name `N` (see [`overlay_name`](crate::names::overlay_name)) has the files
//!
//! | file | |
//! |---|---|
//! | `N.disk` | what the client wrote (`block::Overlay`); where disks are files that share the image's blocks, the disk |
//! | `N.disk.state` | which of its blocks that is; where the file is the disk there is none |
//! | `N.json` | this record; it comes last and goes first, so an overlay without one is void |
//! | `N.json.new` | a record that is being written |
//!
//! All are their owner's only: the record holds the secret with which the client logs in.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use block::Overlay;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::embedded::images::FileId;
use crate::names::{self, NameError};
use crate::{DiskRequest, EngineError};

const FORMAT: u32 = 1;

/// What the names of an overlay's files end with.
const ENDINGS: [&str; 4] = [".disk", ".disk.state", ".json", ".json.new"];

/// Bytes of a record that are read. Nothing that bootd writes comes near; what is cut off there is not whole.
const MAX_RECORD: u64 = 1 << 20;

/// The record of an overlay.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// Which start of the machine it is from. What clients write is not forced to the medium, so after a crash of
    /// the machine the files may hold anything; only a process's end do they survive.
    machine_boot: String,
    /// The image that the overlay was made over.
    pub(crate) image: FileId,
    pub(crate) request: DiskRequest,
}

/// Where the files of one overlay are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    directory: PathBuf,
    name: String,
}

impl Files {
    pub(crate) fn of(directory: &Path, client: &str, epoch: u64) -> Result<Self, NameError> {
        Ok(Self { directory: directory.to_owned(), name: names::overlay_name(client, epoch)? })
    }

    /// Those that a file of that name is one of, if there is such an overlay.
    pub(crate) fn with_file(directory: &Path, file: &str) -> Option<Self> {
        let name = ENDINGS.iter().find_map(|ending| file.strip_suffix(ending))?;
        names::parse_overlay_name(name)?;
        Some(Self { directory: directory.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn with(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}{ending}", self.name))
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.with(".disk")
    }

    /// Removes the record, which makes the others void.
    #[cfg(feature = "kernel")]
    pub(crate) fn remove_record(&self) -> io::Result<()> {
        match fs::remove_file(self.with(".json")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes all of them, the record first. Those that are not there are no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let overlay = Overlay::files(&self.overlay());
        let all = [self.with(".json"), self.with(".json.new")].into_iter().chain(overlay);
        let mut result = Ok(());
        for path in all {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => result = result.and(Err(e)),
                _ => {}
            }
        }
        result
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, request: &DiskRequest, image: FileId, machine_boot: &str) -> io::Result<()> {
        let record =
            Record { format: FORMAT, machine_boot: machine_boot.to_owned(), image, request: request.clone() };
        let new = self.with(".json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        fs::rename(new, self.with(".json"))
    }

    /// The record, if it is whole, this overlay's and from this start of the machine. An error says that it can't be
    /// known now, so nothing may be thrown away for it.
    pub(crate) fn read(&self, machine_boot: &str) -> io::Result<Option<Record>> {
        let mut bytes = Vec::new();
        match File::open(self.with(".json")) {
            Ok(file) => file.take(MAX_RECORD).read_to_end(&mut bytes)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
        let ours = record.format == FORMAT
            && record.machine_boot == machine_boot
            && names::parse_overlay_name(&self.name) == Some((&record.request.client, record.request.epoch));
        Ok(ours.then_some(record))
    }
}

/// What tells one start of the machine from another.
pub(crate) fn machine_boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The directory of the records, made if it is not there, and locked as long as what is returned is held: two processes
/// must not reap each other's overlays.
///
/// # Errors
/// When the directory can't be used, or another process uses it.
pub(crate) fn lock(directory: &Path) -> Result<File, EngineError> {
    let unusable = |source| EngineError::Directory { path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
    let lock = File::open(directory).map_err(unusable)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(EngineError::InUse { path: directory.to_owned() }),
        Err(e) => Err(unusable(e.into())),
    }
}

/// What earlier processes left.
pub(crate) struct Survey {
    /// Each client's latest disk that has a record.
    pub(crate) latest: Vec<(Files, Record)>,
    /// All the others.
    pub(crate) void: Vec<Files>,
}

/// Looks through what earlier processes left. Between a new boot's record and the end of the old one's there may be
/// both; the later epoch counts.
pub(crate) fn survey(directory: &Path, machine_boot: &str) -> io::Result<Survey> {
    let mut void: HashMap<String, Files> = HashMap::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let files = name.to_str().and_then(|name| Files::with_file(directory, name));
        void.extend(files.map(|files| (files.name().to_owned(), files)));
    }
    let mut latest: HashMap<String, (Files, Record)> = HashMap::new();
    for files in void.values() {
        let Some(record) = files.read(machine_boot)? else { continue };
        let client = record.request.client.clone();
        if latest.get(&client).is_none_or(|(_, it)| it.request.epoch < record.request.epoch) {
            latest.insert(client, (files.clone(), record));
        }
    }
    for (files, _) in latest.values() {
        void.remove(files.name());
    }
    Ok(Survey { latest: latest.into_values().collect(), void: void.into_values().collect() })
}
