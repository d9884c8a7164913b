//! Overlays that are transient snapshots: what is another thing with them than with thin volumes.

use std::fs;
use std::path::Path;

use block::{BlockError, Bytes, ErrorKind, Segments};
use lvm::kernel::{Kernel, KernelConfig, OverlayKind};
use lvm::{Attached, Disk, DiskRequest, EngineError};

use crate::lab::{Lab, image, kind, range, read, volume, whole, write};
use crate::only_kernel::{config, tag, until};

const MIB: u64 = 1 << 20;

pub(crate) fn open(root: &Path) -> Result<Kernel, EngineError> {
    Kernel::open(KernelConfig { overlays: OverlayKind::Transient, ..config(root) })
}

/// A client's disk of 2 GiB of nothing, of which it may write `limit`.
fn large(lab: &Lab, client: &str, limit: u64) -> Disk {
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(2 << 30).unwrap();
    let request =
        DiskRequest { version: "large".into(), path, overlay_limit: Bytes(limit), ..lab.request(client, 1) };
    let Attached::Made(disk) = lab.engine().attach(request).unwrap() else { panic!("not made") };
    disk
}

fn write_mib(disk: &Disk, mib: u64) -> Result<(), BlockError> {
    write(disk, mib * MIB / 512, vec![mib as u8 | 1; MIB as usize])
}

#[test]
fn a_full_one_is_dead_until_its_client_boots_again_and_nobody_else_notices() {
    let lab = Lab::transient();
    let other = lab.made("pc2", 1);
    write(&other, 0, vec![7; 512]).unwrap();
    let disk = large(&lab, "pc1", 4 * MIB);
    for mib in 0..4 {
        write_mib(&disk, mib).unwrap();
    }
    assert_eq!(read(&disk, range(0, 1)), vec![1; 512]);
    assert_eq!(kind(write(&disk, 100 * MIB / 512, vec![1; 512])), Some(ErrorKind::WriteFailed));
    // The snapshot takes what it holds along: there is no reading it any more, nor writing to what was there.
    assert_eq!(kind(volume(&disk).read(range(0, 1), &mut Segments::new())), Some(ErrorKind::ReadFailed));
    assert_eq!(kind(write(&disk, 0, vec![1; 512])), Some(ErrorKind::WriteFailed));
    assert_eq!(read(&other, range(0, 1)), vec![7; 512]);
    write(&other, 8, vec![8; 512]).unwrap();
    // It is still listed, and ends as any other.
    assert_eq!(lab.engine().list().len(), 2);
    assert!(whole(&lab.made("pc1", 2)) == image(1));
    assert_eq!(read(&other, range(8, 1)), vec![8; 512]);
}

#[test]
fn one_grows_before_it_is_full() {
    let lab = Lab::transient();
    let disk = large(&lab, "pc1", 768 * MIB);
    let size = || {
        let mut all = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
        let wanted = format!("{}-disk-pc1-{:016x}-data", tag(lab.root.path()), 1);
        let device =
            all.find(|path| fs::read_to_string(path.join("dm/name")).is_ok_and(|name| name.trim() == wanted));
        let sectors = fs::read_to_string(device.unwrap().join("size")).unwrap();
        sectors.trim().parse::<u64>().unwrap() * 512
    };
    assert_eq!(size(), 512 * MIB);
    // It has more before half of that is used.
    for mib in 0..257 {
        write_mib(&disk, mib).unwrap_or_else(|e| panic!("{mib}: {e}"));
    }
    until("it has grown", || size() == 768 * MIB);
    for mib in [0, 255, 256] {
        assert_eq!(read(&disk, range(mib * MIB / 512, 8)), vec![mib as u8 | 1; 4096]);
    }
    let used = lab.engine().status()[0].overlay_used.0;
    assert!((257 * MIB..512 * MIB).contains(&used), "{used}");
}

#[test]
fn the_next_process_finds_them_as_they_were() {
    let mut lab = Lab::transient();
    write(&lab.made("pc1", 9), 3, vec![1; 512]).unwrap();
    lab.restart();
    let adopted = lab.engine().reap().unwrap();
    assert_eq!(adopted.len(), 1);
    let mut expected = image(1);
    expected[3 * 512..4 * 512].fill(1);
    assert!(whole(&adopted[0]) == expected);
}
