//! A small bootable Linux disk, made of what Debian's packages installed on this machine.
//!
//! 192 MiB, MBR. Partition 1: FAT16, 64 MiB, for both kinds of firmware: syslinux, GRUB as `EFI/BOOT/BOOTX64.EFI`,
//! kernel, first root file system. Partition 2: ext4, the root that Linux mounts over iSCSI and writes to.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::initramfs::{self, Kernel};
use crate::{Context, Result, cache_dir, ensure, sh};

const SECTOR: u64 = 512;
/// The disk, in sectors.
const DISK: u64 = 192 << 11;
/// Where the first partition begins, and how long it is, in sectors.
const ESP: (u64, u64) = (2048, 64 << 11);
/// Where the second one begins. It goes on to the disk's end.
const ROOT: u64 = ESP.0 + ESP.1;

/// The boot code of an MBR, in bytes. The partition table stands behind it.
const BOOT_CODE: usize = 440;
const PARTITION_TABLE: u64 = 446;
const MBR: &str = "/usr/lib/syslinux/mbr/mbr.bin";

/// GRUB's file for variables that outlive a boot is exactly this long, in bytes.
const GRUB_ENVIRONMENT: usize = 1024;

/// What its Linux logs in with, what comes back when the connection breaks, and the package that has them.
const PROGRAMS: &[(&str, &str)] = &[("iscsistart", "open-iscsi"), ("iscsid", "open-iscsi")];
/// iscsid asks the system for its users, and has its locks in a directory that is there. One user is for files that are not
/// root's.
const TEXTS: &[(&str, &str)] = &[
    ("/init", INIT),
    ("/etc/passwd", "root:x:0:0::/:/bin/sh\nlab:x:1000:1000::/:/bin/sh\n"),
    ("/etc/group", "root:x:0:\nlab:x:1000:\n"),
    ("/etc/iscsi/iscsid.conf", ""),
    ("/run/lock/iscsi/.keep", ""),
];

const INIT: &str = include_str!("../fixtures/init");
const SYSLINUX: &str = include_str!("../fixtures/syslinux.cfg");
const GRUB: &str = include_str!("../fixtures/grub.cfg");
/// Everything else that the disk is made from: a change here makes another disk.
const RECIPE: &[&str] = &[
    INIT,
    SYSLINUX,
    GRUB,
    include_str!("test_disk.rs"),
    include_str!("initramfs.rs"),
    include_str!("archive.rs"),
];

/// What [`TestDisk::label`] says of a disk.
const LABEL: &str = "bootd test disk";

/// A master image for tests. The file is shared by all tests and must not be written to; that it wasn't is
/// [`TestDisk::check_untouched`]'s to say.
#[derive(Debug, Clone)]
pub struct TestDisk {
    path: PathBuf,
    sha256: String,
}

impl TestDisk {
    /// The disk, made now if no test made it before.
    ///
    /// # Errors
    /// When this machine lacks what it is made from, or making it fails.
    pub fn get() -> Result<Self> {
        let kernel = Kernel::find(initramfs::CLIENT)?;
        let files = initramfs::files(&kernel, PROGRAMS)?;
        let name = recipe_hash(&kernel, &files)?;
        let dir = cache_dir()?;
        let path = dir.join(format!("disk-{name}.img"));
        let lock = File::create(dir.join("disk.lock"))?;
        lock.lock()?;
        if !path.is_file() {
            let unfinished = dir.join("disk.unfinished");
            make(&unfinished, &kernel, &files).context("can't make the test disk")?;
            let mut read_only = fs::metadata(&unfinished)?.permissions();
            read_only.set_readonly(true);
            fs::set_permissions(&unfinished, read_only)?;
            fs::rename(&unfinished, &path)?;
        }
        let sha256 = sha256(&path)?;
        Ok(Self { path, sha256 })
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a Linux that runs from it prints as its image.
    #[must_use]
    pub fn label() -> &'static str {
        LABEL
    }

    /// Checks that no byte of it has changed.
    ///
    /// # Errors
    /// When one has, or it can't be read.
    pub fn check_untouched(&self) -> Result {
        let now = sha256(&self.path)?;
        ensure!(now == self.sha256, "{} was written to: {} became {now}", self.path.display(), self.sha256);
        Ok(())
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// When it can't be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).context(path.display())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn recipe_hash(kernel: &Kernel, files: &[(String, PathBuf)]) -> Result<String> {
    let mut hash = Sha256::new();
    for text in RECIPE {
        hash.update(text);
    }
    for (_, path) in files {
        hash.update(sha256(path)?);
    }
    hash.update(sha256(&kernel.image)?);
    Ok(hex(&hash.finalize()).chars().take(16).collect())
}

fn make(disk: &Path, kernel: &Kernel, files: &[(String, PathBuf)]) -> Result {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path();
    let initrd = dir.join("initrd");
    fs::write(&initrd, initramfs::pack(files, TEXTS)?)?;
    sh(&["gzip", "-1", "-n", &text(&initrd)])?;
    fs::rename(dir.join("initrd.gz"), &initrd)?;
    partition(disk)?;
    make_esp(disk, dir, kernel, &initrd)?;
    make_root(disk, dir)
}

/// A disk without content: boot code and a table of two partitions.
fn partition(disk: &Path) -> Result {
    // What an interrupted run left is read-only, perhaps.
    let _ = fs::remove_file(disk);
    let mut file = File::create(disk).context(disk.display())?;
    file.set_len(DISK * SECTOR)?;
    let mbr = fs::read(MBR).context(MBR)?;
    file.write_all(mbr.get(..BOOT_CODE).context("the MBR's boot code is too short")?)?;
    file.seek(SeekFrom::Start(PARTITION_TABLE))?;
    // Bootable or not, type, start, length. Addresses by cylinder and head are long out of use: all ones.
    for (active, kind, start, length) in [(0x80, 0xef, ESP.0, ESP.1), (0, 0x83, ROOT, DISK - ROOT)] {
        let mut entry = vec![active, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff];
        entry.extend(u32::try_from(start)?.to_le_bytes());
        entry.extend(u32::try_from(length)?.to_le_bytes());
        file.write_all(&entry)?;
    }
    file.seek(SeekFrom::Start(SECTOR - 2))?;
    file.write_all(&[0x55, 0xaa])?;
    Ok(())
}

fn make_esp(disk: &Path, dir: &Path, kernel: &Kernel, initrd: &Path) -> Result {
    let (start, length) = ESP;
    let offset = (start * SECTOR).to_string();
    let kib = (length * SECTOR / 1024).to_string();
    let (sectors, image) = (start.to_string(), text(disk));
    sh(&["mkfs.vfat", "-F", "16", "-n", "BOOTDTEST", "-i", "B007D001", "--offset", &sectors, &image, &kib])?;
    let file = |name: &str, content: &[u8]| -> Result<String> {
        let path = dir.join(name);
        fs::write(&path, content)?;
        Ok(text(&path))
    };
    let mut environment = b"# GRUB Environment Block\n".to_vec();
    environment.resize(GRUB_ENVIRONMENT, b'#');
    let loader = text(&dir.join("bootx64.efi"));
    let grub = file("grub.cfg", GRUB.as_bytes())?;
    sh(&[
        "grub-mkstandalone",
        "--format=x86_64-efi",
        &format!("--output={loader}"),
        "--modules=part_msdos fat normal linux search search_label echo loadenv all_video",
        "--fonts=",
        "--locales=",
        "--themes=",
        &format!("boot/grub/grub.cfg={grub}"),
    ])?;
    let fat = format!("{image}@@{offset}");
    sh(&["mmd", "-i", &fat, "::/EFI", "::/EFI/BOOT"])?;
    for (from, to) in [
        (text(&kernel.image), "::/vmlinuz"),
        (text(initrd), "::/initrd"),
        (file("syslinux.cfg", SYSLINUX.as_bytes())?, "::/syslinux.cfg"),
        (file("grubenv", &environment)?, "::/grubenv"),
        (loader, "::/EFI/BOOT/BOOTX64.EFI"),
    ] {
        sh(&["mcopy", "-i", &fat, &from, to])?;
    }
    sh(&["syslinux", "--offset", &offset, "--install", &image])?;
    Ok(())
}

fn make_root(disk: &Path, dir: &Path) -> Result {
    let root = dir.join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("image.txt"), format!("{LABEL}\n"))?;
    let offset = format!("offset={}", ROOT * SECTOR);
    let kib = format!("{}k", (DISK - ROOT) * SECTOR / 1024);
    sh(&["mke2fs", "-q", "-t", "ext4", "-d", &text(&root), "-E", &offset, &text(disk), &kib])?;
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
