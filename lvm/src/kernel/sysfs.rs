//! What the kernel tells of block devices below /sys, and the one thing that it is told there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use block::SECTOR_SIZE;
use devicemapper::Device;

/// The directory of a device. A partition's has no queue of its own: it is its disk's.
fn directory(device: Device) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{device}"))
}

fn queue(device: Device) -> PathBuf {
    let own = directory(device);
    if own.join("partition").exists() { own.join("../queue") } else { own.join("queue") }
}

fn number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    text.trim().parse().map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

/// How many sectors of 512 bytes a device has.
pub(super) fn sectors(device: Device) -> io::Result<u64> {
    number(&directory(device).join("size"))
}

/// Makes sure that a device has sectors of 512 bytes, and so has everything that stands on it: a disk with larger
/// ones can't be booted by a BIOS, and is another disk to its client than the one that it had.
///
/// # Errors
/// When they are larger; the text says of what.
pub(super) fn check_sector_size(device: Device, what: &str) -> io::Result<()> {
    let size = number(&queue(device).join("logical_block_size"))?;
    if size == u64::from(SECTOR_SIZE) {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!(
            "{what} has sectors of {size} bytes, and clients' disks must have {SECTOR_SIZE}; use another device"
        ),
    ))
}

/// Lets a loop device of ours take flushes for done. What stands on it is volatile, and forcing it to the medium would
/// hold up all clients whenever one of them flushes.
pub(super) fn drop_flushes(device: Device) -> io::Result<()> {
    fs::write(queue(device).join("write_cache"), "write through")
}

/// Whether anything was ever written to a device.
pub(super) fn has_written(device: Device) -> bool {
    // The fifth is the writes that were done (the kernel's documentation, block/stat.rst).
    let text = fs::read_to_string(directory(device).join("stat")).unwrap_or_default();
    text.split_whitespace().nth(4).is_some_and(|writes| writes != "0")
}

/// The file behind a loop device.
pub(super) fn backing_file(device: Device) -> Option<PathBuf> {
    let text = fs::read_to_string(directory(device).join("loop/backing_file")).ok()?;
    Some(PathBuf::from(text.trim_end_matches('\n')))
}

/// The node of a device-mapper device.
pub(super) fn node(device: Device) -> PathBuf {
    PathBuf::from(format!("/dev/dm-{}", device.minor))
}
