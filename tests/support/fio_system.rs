//! A Linux that QEMU loads itself: open-iscsi with its daemon, and fio. It asks DHCP as iPXE does, fetches its boot
//! script, and takes orders over its console; `fixtures/fio-init` is all that it does.

use std::fs;
use std::path::{Path, PathBuf};

use crate::initramfs::{self, Kernel};
use crate::{Context, Lab, Result};

/// What it runs, and the package that has it.
const PROGRAMS: &[(&str, &str)] = &[("iscsid", "open-iscsi"), ("iscsiadm", "open-iscsi"), ("fio", "fio")];

const INIT: &str = include_str!("../fixtures/fio-init");
const JOBS: &str = include_str!("../fixtures/verify.fio");
const UDHCPC: &str = "#!/bin/sh\n\
    [ \"$1\" = bound ] || exit 0\n\
    ip addr add \"$ip/$mask\" dev \"$interface\"\n\
    printf 'ip=%s\\nboot=%s\\n' \"$ip\" \"${bootfile:-$boot_file}\" > /tmp/lease\n";
/// iscsid asks the system for its users.
const USERS: &str = "root:x:0:0::/:/bin/sh\n";

/// Its kernel and first root file system, made anew for each lab.
#[derive(Debug)]
pub struct FioSystem {
    kernel: PathBuf,
    initrd: PathBuf,
}

impl FioSystem {
    /// What it needs: fio's libraries alone are 80 MiB, which are there twice while they are unpacked.
    pub(crate) const MEMORY_MIB: u32 = 768;

    /// Makes one.
    ///
    /// # Errors
    /// When this machine lacks what it is made from.
    pub fn new(lab: &Lab) -> Result<Self> {
        let kernel = Kernel::find(initramfs::CLIENT)?;
        let files = initramfs::files(&kernel, PROGRAMS)?;
        let texts = [
            ("/init", INIT),
            ("/etc/verify.fio", JOBS),
            ("/etc/udhcpc.script", UDHCPC),
            ("/etc/passwd", USERS),
            ("/etc/iscsi/iscsid.conf", ""),
            ("/run/lock/iscsi/.keep", ""),
        ];
        let initrd = lab.dir().join("fio.initrd");
        // Not compressed: it is read once.
        fs::write(&initrd, initramfs::pack(&files, &texts)?).context(initrd.display())?;
        Ok(Self { kernel: kernel.image, initrd })
    }

    pub(crate) fn kernel(&self) -> &Path {
        &self.kernel
    }

    pub(crate) fn initrd(&self) -> &Path {
        &self.initrd
    }
}
