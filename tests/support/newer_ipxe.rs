//! iPXE 2.x as Debian sid has it, beside Debian 12's of 2019 and without touching that.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, cache_dir, run, workspace};

/// How the script ends that fetches it, when the archive can't be had.
const UNREACHABLE: i32 = 75;

/// Where it is unpacked.
#[derive(Debug, Clone)]
pub struct NewerIpxe {
    root: PathBuf,
}

impl NewerIpxe {
    /// It, fetched now if neither `make deps` nor an earlier test has; `None`, said on the terminal, where the archive can't
    /// be had. That is so under `CI=true`, too: it is no part of this machine, and changes every day.
    ///
    /// # Errors
    /// When what was fetched is no iPXE 2.x.
    pub fn get() -> Result<Option<Self>> {
        let cache = cache_dir()?;
        let root = cache.join("newer-ipxe");
        let lock = File::create(cache.join("newer-ipxe.lock"))?;
        lock.lock()?;
        let fetch = workspace().join("tests/newer-ipxe");
        let fetched = run(Command::new(fetch).arg(&root))?;
        if fetched.code == Some(UNREACHABLE) {
            writeln!(std::io::stderr(), "skipped: {}", fetched.stderr.trim())?;
            return Ok(None);
        }
        fetched.success()?;
        Ok(Some(Self { root }))
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
