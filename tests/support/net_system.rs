//! A Linux without a disk, kernel and first root file system, for boot loaders to fetch; `fixtures/net-init` is all that
//! it does.

use std::fs;
use std::path::Path;

use crate::initramfs::{self, Kernel};
use crate::{Context, Result, sh};

const INIT: &str = include_str!("../fixtures/net-init");
const UDHCPC: &str = "#!/bin/sh\n\
    [ \"$1\" = bound ] || exit 0\n\
    ip addr add \"$ip/$mask\" dev \"$interface\"\n";

/// Puts it into a directory, as `vmlinuz` and `initrd.gz`.
///
/// # Errors
/// When this machine lacks what it is made from.
pub fn put_net_system(directory: &Path) -> Result {
    let kernel = Kernel::find(initramfs::CLIENT)?;
    let files = initramfs::files(&kernel, &[])?;
    fs::create_dir_all(directory).context(directory.display())?;
    fs::copy(&kernel.image, directory.join("vmlinuz")).context(kernel.image.display())?;
    let initrd = directory.join("initrd");
    fs::write(&initrd, initramfs::pack(&files, &[("/init", INIT), ("/etc/udhcpc.script", UDHCPC)])?)?;
    sh(&["gzip", "-1", "-n", "-f", &initrd.to_string_lossy()])?;
    Ok(())
}
