//! An archive in the kernel's own format for a first root file system ("newc" of cpio).

use std::fmt::Write as _;

/// A file is one of these, by the upper bits of its mode.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// An archive that grows.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory. Its parent must have been added before.
    pub(crate) fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file that may be run.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.add(path, FILE | 0o755, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.add(path, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.add(path, DEVICE | 0o600, (major, minor), &[]);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let path = path.trim_start_matches('/');
        let inode = self.entries;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // Inode, mode, owner, group, links, time, size, device, device of the file, length of the name, checksum. No
        // times: the same content makes the same archive.
        let mut header = "070701".to_owned();
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend(header.bytes().chain(path.bytes()).chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn busybox_unpacks_what_was_packed() {
        let mut archive = Archive::default();
        archive.directory("/bin");
        archive.file("/bin/program", b"#!/bin/sh\n");
        archive.link("/bin/other", "program");
        let bytes = archive.finish();
        let dir = tempfile::tempdir().unwrap();
        let mut cpio = Command::new("busybox");
        cpio.args(["cpio", "-i"]).current_dir(&dir).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = cpio.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("bin/other")).unwrap(), b"#!/bin/sh\n");
    }
}
