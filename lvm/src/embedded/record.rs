//! What is kept beside an overlay, so that the next process knows whose it is.
//!
//! An overlay with the name `N` (see [`overlay_name`](crate::names::overlay_name)) has the files
//!
//! | file | |
//! |---|---|
//! | `N.disk` | what the client wrote (`block::Overlay`) |
//! | `N.disk.state` | which of its blocks that is |
//! | `N.json` | this record; it comes last and goes first, so an overlay without one is void |
//! | `N.json.new` | a record that is being written |
//!
//! All are their owner's only: the record holds the secret with which the client logs in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use block::Overlay;
use serde::{Deserialize, Serialize};

use super::images::FileId;
use crate::DiskRequest;
use crate::names::{self, NameError};

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
