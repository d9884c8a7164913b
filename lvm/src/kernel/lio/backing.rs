//! What a disk of LIO's is: a device, or a file as it is.

use std::io;
use std::path::{Path, PathBuf};

use block::Bytes;

use super::Lio;

/// Our group of disks that are devices. `targetcli` counts its own from 0 up.
pub(in crate::kernel) const DEVICES: &str = "iblock_20260";

/// The same of those that are files.
pub(in crate::kernel) const FILES: &str = "fileio_20260";

/// All of them.
pub(super) const GROUPS: [&str; 2] = [DEVICES, FILES];

/// The bytes that LIO keeps of a file's name, with one behind it.
const NAME_LEN: usize = 256;

/// What a disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kernel) enum Backing {
    /// The block device at that node.
    Device(PathBuf),
    /// A file, with its length.
    File(PathBuf, Bytes),
}

impl Backing {
    pub(super) fn group(&self) -> &'static str {
        match self {
            Self::Device(_) => DEVICES,
            Self::File(..) => FILES,
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Device(path) | Self::File(path, _) => path,
        }
    }

    /// What LIO is told of it. Writes to a file are done when the page cache has them: what is acknowledged outlives this
    /// process, and the machine's end no disk is there to outlive.
    pub(super) fn control(&self) -> String {
        match self {
            Self::Device(path) => format!("udev_path={}", path.display()),
            Self::File(path, size) => {
                format!("fd_dev_name={},fd_dev_size={},fd_buffered_io=1", path.display(), size.0)
            }
        }
    }

    /// Whether LIO can be told of it: the name of a file stands in a list with commas, and what is too long of it is cut off
    /// without a word.
    pub(in crate::kernel) fn check(&self) -> io::Result<()> {
        let path = self.path().as_os_str().as_encoded_bytes();
        if path.len() < NAME_LEN && !path.iter().any(|byte| matches!(byte, b',' | b'\n')) {
            return Ok(());
        }
        let text = format!(
            "LIO takes no file whose path has a comma or more than {} bytes, and {} has; move the overlays (directory in \
             [overlay])",
            NAME_LEN - 1,
            self.path().display()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

impl Lio {
    /// Makes sure that nobody is logged in to a disk of that group, which an engine made with another setting, and which
    /// this one would end.
    pub(in crate::kernel) fn nobody_uses(&self, group: &str) -> io::Result<()> {
        let group = self.files.config.root.join("core").join(group);
        let of_group = self.exported().into_iter().filter(|(disk, _)| group.join(disk).is_dir());
        let clients: Vec<_> =
            of_group.map(|(_, initiator)| initiator).filter(|one| self.session(one).is_some()).collect();
        if clients.is_empty() {
            return Ok(());
        }
        let text = format!(
            "clients have their disks by another setting of overlays in [engine]: {}; put that back, or shut them down, or \
             have them lose their disks, as root: bootd storage down",
            clients.join(", ")
        );
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lio_is_told_of_no_file_whose_name_it_would_cut() {
        let file = |path: &str| Backing::File(path.into(), Bytes(512)).check().is_ok();
        assert!(file("/srv/boot files/rook@1.disk"));
        assert!(!file("/srv/a,b/rook@1.disk") && !file("/srv/a\nb/rook@1.disk"));
        assert!(file(&format!("/{}", "x".repeat(254))) && !file(&format!("/{}", "x".repeat(255))));
        let told = Backing::File("/srv/rook@1.disk".into(), Bytes(1024)).control();
        assert_eq!(told, "fd_dev_name=/srv/rook@1.disk,fd_dev_size=1024,fd_buffered_io=1");
    }
}
