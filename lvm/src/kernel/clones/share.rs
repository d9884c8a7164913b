//! Files that share their blocks: whether a file system can, and what a file has of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use block::Bytes;
use fiemap::{Fiemap, FiemapExtentFlags};
use rustix::fs::{Mode, OFlags, StatVfs};
use rustix::io::Errno;

/// The least that must be free for another disk, in percent of the file system, and the most that is asked for. A client
/// writes some hundred MiB in its first minutes, and those that run must not find the file system full for it.
const LEAST_FREE_PERCENT: u64 = 5;
const LEAST_FREE: u64 = 2 << 30;

/// With less than this free, file systems have no block left for a write.
const NOTHING: u64 = 1 << 20;

/// What a file system is called.
fn kind(directory: &Path) -> String {
    let Ok(stat) = rustix::fs::statfs(directory) else { return "an unknown file system".into() };
    // linux/magic.h
    let name = match u64::try_from(stat.f_type).unwrap_or_default() {
        0x5846_5342 => "an XFS that was made without reflink",
        0x9123_683e => "Btrfs",
        0xef53 => "ext4 (or ext2, or ext3)",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "ZFS",
        0x6969 => "NFS",
        0x4d44 => "FAT",
        other => return format!("a file system of type {other:#x}"),
    };
    name.to_owned()
}

/// A file without a name in a directory, or in the one that it will be made in.
fn nameless(directory: &Path) -> io::Result<File> {
    let there = directory.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("/"));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(there, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Whether the file system has no such thing, or something went wrong.
fn is_unknown(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL | Errno::ISDIR)
}

/// Makes sure that files in that directory can share their blocks. Leaves nothing there.
///
/// # Errors
/// When they can't; the text says where they lie, and what to do.
pub fn can_share(directory: &Path) -> io::Result<()> {
    let cannot = || {
        let there = directory.ancestors().find(|part| part.is_dir()).unwrap_or(Path::new("/"));
        let text = format!(
            "{} is on {}, where files can't share blocks: put images and overlays on one XFS (mkfs.xfs) or Btrfs \
             (mkfs.btrfs), or write overlays = \"thin\" in [engine]",
            directory.display(),
            kind(there)
        );
        io::Error::new(io::ErrorKind::Unsupported, text)
    };
    let tried = || -> io::Result<()> {
        let (mut from, to) = (nameless(directory)?, nameless(directory)?);
        from.write_all(&[1; 4096])?;
        Ok(rustix::fs::ioctl_ficlone(&to, &from)?)
    };
    unless_full(tried()).map_err(|e| match Errno::from_io_error(&e) {
        Some(errno) if is_unknown(errno) => cannot(),
        _ => io::Error::new(e.kind(), format!("{}: {e}", directory.display())),
    })
}

/// A file system on which there is no room to try it is taken to be what it was: clients have their disks there, and what
/// looks after them must start.
fn unless_full(tried: io::Result<()>) -> io::Result<()> {
    match tried {
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Ok(()),
        other => other,
    }
}

/// Makes sure that disks in that directory can share the blocks of an image. Leaves nothing there.
///
/// # Errors
/// When they can't, or it can't be read; the text says what to do.
pub fn can_clone(image: &Path, directory: &Path) -> io::Result<()> {
    let file =
        File::open(image).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", image.display())))?;
    unless_full(nameless(directory).and_then(|to| share(&to, &file, image, directory)))
}

fn share(to: &File, image: &File, image_path: &Path, directory: &Path) -> io::Result<()> {
    rustix::fs::ioctl_ficlone(to, image).map_err(|errno| {
        let (image, directory) = (image_path.display(), directory.display());
        let text = match errno {
            Errno::XDEV => format!(
                "{image} and {directory} are on different file systems, and files share blocks within one: have the image in \
                 the data directory (bootd image add without --in-place) and the overlays on the same file system"
            ),
            Errno::INVAL => format!(
                "{image} can't share its blocks with files in {directory}: one of them is made not to be copied on write \
                 (chattr +C); make the image anew in a directory without that"
            ),
            Errno::OPNOTSUPP => format!("{image} lies where files can't share blocks with those in {directory}"),
            _ => format!("{image} can't share its blocks with files in {directory}: {errno}"),
        };
        io::Error::new(io::Error::from(errno).kind(), text)
    })
}

/// Makes the file `path` of the image, whose blocks it has from then on as long as nobody writes to it.
pub(super) fn make(image: &File, image_path: &Path, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let clone = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    share(&clone, image, image_path, path.parent().unwrap_or(Path::new("/")))?;
    let (len, wanted) = (clone.metadata()?.len(), image.metadata()?.len());
    if len != wanted {
        return Err(io::Error::other(format!("the file has {len} bytes, and the image {wanted}")));
    }
    Ok(clone)
}

/// What a file has of its own. What is in RAM only, as it was written within the last half minute, is not counted yet.
pub(super) fn own(path: &Path) -> io::Result<Bytes> {
    let mut own = 0;
    for extent in Fiemap::new(File::open(path)?) {
        let extent = extent?;
        if !extent.fe_flags.contains(FiemapExtentFlags::SHARED) {
            own += extent.fe_length;
        }
    }
    Ok(Bytes(own))
}

fn free(space: &StatVfs) -> u64 {
    space.f_bavail.saturating_mul(space.f_frsize)
}

/// Makes sure that there is room for what another client writes, when what `returns` says has come back.
pub(super) fn room(directory: &Path, returns: impl FnOnce() -> Bytes) -> io::Result<()> {
    let space = rustix::fs::statvfs(directory)?;
    let whole = space.f_blocks.saturating_mul(space.f_frsize);
    let (free, least) = (free(&space), (whole / 100 * LEAST_FREE_PERCENT).min(LEAST_FREE));
    // What comes back is looked at where it counts only, as that takes time.
    if free >= least || free.saturating_add(returns().0) >= least {
        return Ok(());
    }
    let text = format!(
        "the file system of {} has {} MiB free, and with less than {} there are no more disks, as those that run would find \
         it full; make room there, or let clients that are off lose their disks",
        directory.display(),
        free >> 20,
        least >> 20
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

/// Whether writes to new blocks fail there.
pub(super) fn is_full(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|space| free(&space) < NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_files_share_nothing_it_is_said_with_what_to_do() {
        let Ok(place) = tempfile::tempdir_in("/dev/shm") else { return };
        let refused = can_share(&place.path().join("overlays")).unwrap_err().to_string();
        for part in ["/overlays is on tmpfs", "mkfs.xfs", "overlays = \"thin\""] {
            assert!(refused.contains(part), "{refused}");
        }
        let image = place.path().join("image");
        std::fs::write(&image, [7; 512]).unwrap();
        assert!(can_clone(&image, place.path()).is_err());
        // Never a copy instead.
        let path = place.path().join("disk");
        make(&File::open(&image).unwrap(), &image, &path).unwrap_err();
        assert_eq!(std::fs::metadata(path).unwrap().len(), 0);
        assert!(
            can_clone(&place.path().join("missing"), place.path())
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    }
}
