//! iPXE 2.x as Debian sid has it, beside Debian 12's of 2019 and without touching that.

use std::fs::{self, File};
use std::path::PathBuf;

use crate::{Result, cache_dir, sh, workspace};

/// Where it is unpacked.
#[derive(Debug, Clone)]
pub struct NewerIpxe {
    root: PathBuf,
}

impl NewerIpxe {
    /// It, fetched now if neither `make deps` nor an earlier test has.
    ///
    /// # Errors
    /// When it can't be had.
    pub fn get() -> Result<Self> {
        let cache = cache_dir()?;
        let root = cache.join("newer-ipxe");
        let lock = File::create(cache.join("newer-ipxe.lock"))?;
        lock.lock()?;
        let fetch = workspace().join("tests/newer-ipxe");
        sh(&[&fetch.to_string_lossy(), &root.to_string_lossy()])?;
        Ok(Self { root })
    }

    /// Its version, as it says it itself.
    ///
    /// # Errors
    /// When that was not written down.
    pub fn version(&self) -> Result<String> {
        let package = fs::read_to_string(self.root.join("version"))?;
        Ok(package.trim().split(['+', '-', '~']).next().unwrap_or_default().to_owned())
    }

    /// One of its boot programs.
    #[must_use]
    pub fn program(&self, name: &str) -> String {
        self.root.join("usr/lib/ipxe").join(name).to_string_lossy().into_owned()
    }

    /// The directory in which QEMU finds the ROMs of network cards, to be named by `-L`.
    #[must_use]
    pub fn roms(&self) -> String {
        self.root.join("usr/share/qemu").to_string_lossy().into_owned()
    }
}
