//! A device of its own for the overlays: what is on it, and when it is written to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lvm::kernel::{self, Contents, Kernel, KernelConfig, SpaceConfig};
use lvm::{Attached, Engine};

use crate::lab::{Lab, image, whole};
use crate::only_kernel::config;

pub(crate) fn sh(script: &str, arguments: &[&str]) -> String {
    let out = Command::new("sh").args(["-c", script, "sh"]).args(arguments).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A file as a loop device, gone when dropped.
pub(crate) struct Looped(PathBuf);

impl Looped {
    pub(crate) fn new(file: &Path) -> Self {
        Self::with(file, "512")
    }

    /// One with sectors of that many bytes.
    fn with(file: &Path, sector: &str) -> Self {
        // In one step, so that another test does not take the same device; busybox's can't, and knows nothing of sectors.
        let script = "/sbin/losetup --find --show --sector-size $2 $1";
        Self(sh(script, &[file.to_str().unwrap(), sector]).into())
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Looped {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn a_device_is_written_to_only_when_it_was_given_to_bootd() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let file = root.join("device");
    fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
    let device = Looped::new(&file);
    let open = || {
        let space = SpaceConfig::Device { path: device.0.clone() };
        Kernel::open(KernelConfig { space, ..config(root) })
    };
    assert_eq!(kernel::contents(&device.0).unwrap(), Contents::Blank);
    let refused = open().err().unwrap().to_string();
    assert!(refused.contains("not given to bootd"), "{refused}");
    kernel::label(&device.0).unwrap();
    assert_eq!(kernel::contents(&device.0).unwrap(), Contents::Ours);
    let engine = open().unwrap();
    let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(lab.request("pc1", 1)).unwrap();
    assert!(whole(&disk) == image(1));
    // It is still told apart while it is in use.
    assert_eq!(kernel::contents(&device.0).unwrap(), Contents::Ours);
    drop(disk);
    drop(engine);
    crate::only_kernel::clean_up(root);
    sh("dd if=/bin/busybox of=$1 bs=64k count=1 2> /dev/null", &[device.0.to_str().unwrap()]);
    assert!(matches!(kernel::contents(&device.0).unwrap(), Contents::Foreign(_)));
    assert!(open().is_err());
}

#[test]
fn a_device_with_large_sectors_is_refused() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let file = root.join("device");
    fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
    // As it was when its sectors were small.
    kernel::label(&Looped::new(&file).0).unwrap();
    let device = Looped::with(&file, "4096");
    let space = SpaceConfig::Device { path: device.0.clone() };
    let refused = Kernel::open(KernelConfig { space, ..config(root) }).err().unwrap().to_string();
    assert!(refused.contains("4096") && refused.contains("512"), "{refused}");
}
