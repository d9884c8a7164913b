//! What an operator wants to know before a device is written to, and of the devices that are there.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use serde::Serialize;

use super::dm::Dm;
use super::space::{LABEL, block_device};
use super::sysfs;
use crate::names;

/// How much of a device's start and end is looked at: every file system, RAID and volume manager has its mark there.
const MARGIN: u64 = 1 << 20;

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// It was made ready for overlays before.
    Ours,
    /// Nothing but zeros at its start and its end.
    Blank,
    /// Something that bootd did not make, as far as it can be told.
    Foreign(String),
}

/// Looks at a block device without changing it.
///
/// # Errors
/// When it is none, can't be read, or has sectors that overlays can't be on.
pub fn contents(path: &Path) -> io::Result<Contents> {
    let device = block_device(path)?;
    sysfs::check_sector_size(device, &path.display().to_string())?;
    let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
    // Refused while a file system on it is mounted, or another device stands on it.
    match OpenOptions::new().read(true).custom_flags(exclusive).open(path) {
        Ok(file) => look(&file, sysfs::sectors(device)? * 512),
        Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
            let holds = super::space::is_labelled(path)?;
            let used = "something that is in use: it is mounted, or another device stands on it";
            Ok(if holds { Contents::Ours } else { Contents::Foreign(used.into()) })
        }
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

fn look(file: &File, len: u64) -> io::Result<Contents> {
    let mut start = vec![0; MARGIN.min(len) as usize];
    file.read_exact_at(&mut start, 0)?;
    if start.starts_with(LABEL) {
        return Ok(Contents::Ours);
    }
    let mut end = vec![0; MARGIN.min(len) as usize];
    file.read_exact_at(&mut end, len.saturating_sub(MARGIN))?;
    let first = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0);
    Ok(match (first(&start), first(&end)) {
        (None, None) => Contents::Blank,
        (Some(at), _) => Contents::Foreign(format!("{}, at byte {at}", kind(&start))),
        (None, Some(at)) => Contents::Foreign(format!(
            "data of unknown kind, at byte {}",
            len.saturating_sub(MARGIN) + at as u64
        )),
    })
}

/// What it may be, for people: what an operator keeps on disks most.
fn kind(start: &[u8]) -> &'static str {
    let has = |at: usize, mark: &[u8]| start.get(at..at + mark.len()) == Some(mark);
    match () {
        () if has(1080, &[0x53, 0xef]) => "a file system (ext2, ext3 or ext4)",
        () if has(0, b"XFSB") => "a file system (XFS)",
        () if has(65_600, b"_BHRfS_M") => "a file system (btrfs)",
        () if has(3, b"NTFS") => "a file system (NTFS)",
        () if has(512, b"LABELONE") => "a physical volume of LVM",
        () if has(512, b"EFI PART") => "a partition table (GPT)",
        () if has(510, &[0x55, 0xaa]) => "a boot sector, or a partition table",
        () => "data of unknown kind",
    }
}

/// A device of ours, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its number.
    pub device: String,
    /// How large it is.
    pub bytes: u64,
    /// How many have it open, other devices included.
    pub open: u32,
    /// Its table, line by line.
    pub table: Vec<String>,
    /// What its targets say of themselves, those that say anything.
    pub status: Vec<String>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}, open {})", self.name, self.device, self.open)?;
        self.table.iter().try_for_each(|line| writeln!(f, "    table  {line}"))?;
        self.status.iter().try_for_each(|line| writeln!(f, "    status {line}"))
    }
}

/// All devices of the bootd with that tag, from the top of the stack down.
///
/// # Errors
/// When device-mapper can't be asked.
pub fn devices(tag: &str) -> io::Result<Vec<Shown>> {
    if !fs::exists("/dev/mapper/control")? {
        return Ok(Vec::new());
    }
    let dm = Dm::open(tag)?;
    let show = |found: super::dm::Found| {
        let status = dm.status(&found.role)?;
        let status = status.iter().filter(|line| !line.parameters.is_empty());
        Ok(Shown {
            name: names::dm_name(tag, &found.role).map_err(io::Error::other)?,
            device: found.device.to_string(),
            bytes: sysfs::sectors(found.device)? * 512,
            open: found.open,
            table: dm.table(&found.role)?.iter().map(ToString::to_string).collect(),
            status: status.map(ToString::to_string).collect(),
        })
    };
    dm.ours()?.into_iter().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_device_is_told() {
        let file = tempfile::tempfile().unwrap();
        let len = 4 << 20;
        file.set_len(len).unwrap();
        assert_eq!(look(&file, len).unwrap(), Contents::Blank);
        // In the middle there is nothing that anyone would know a disk by.
        file.write_all_at(b"x", 2 << 20).unwrap();
        assert_eq!(look(&file, len).unwrap(), Contents::Blank);
        file.write_all_at(b"x", len - 4096).unwrap();
        assert!(
            matches!(look(&file, len).unwrap(), Contents::Foreign(what) if what.contains("byte 4190208"))
        );
        file.write_all_at(&[0x53, 0xef], 1080).unwrap();
        assert!(matches!(look(&file, len).unwrap(), Contents::Foreign(what) if what.contains("ext4")));
        file.write_all_at(LABEL, 0).unwrap();
        assert_eq!(look(&file, len).unwrap(), Contents::Ours);
    }
}
