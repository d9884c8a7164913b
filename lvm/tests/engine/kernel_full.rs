//! What a client is told by LIO whose overlay is full.

use std::fs;
use std::process::Command;

use block::Bytes;
use lvm::kernel::{Kernel, KernelConfig, OverlayKind};
use lvm::{Attached, DiskRequest, Engine, Export};

use crate::lab::Lab;
use crate::only_kernel::{config, export, lio};

/// Writes 1 to 256 blocks from the first on, and as many up to the last, and says what it is told.
pub(crate) fn write(how: &Export, address: &str) -> String {
    let url = format!("iscsi://{}%{}@{address}/{}/0", how.user, how.secret, how.target);
    let tests = ["--dataloss", "-v", "-i", &how.initiator, "-t", "ALL.Write10.Simple"];
    let out = Command::new("iscsi-test-cu").args(tests).arg(url).output().unwrap();
    String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
}

/// The sense of LIO's LOGICAL UNIT COMMUNICATION FAILURE, which initiators try again a number of times: LIO has none for
/// want of space.
pub(crate) const SENSE: &str = "(0x0800)";

fn is_told(overlays: OverlayKind) {
    let lab = Lab::sim();
    let root = lab.root.path();
    let engine = Kernel::open(KernelConfig { lio: Some(lio(root)), overlays, ..config(root) }).unwrap();
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let address = lio(root).portals[0].to_string();
    let attach = |client: &str, limit| {
        let (version, path, overlay_limit) = ("large".into(), path.clone(), Bytes(limit));
        let request = DiskRequest { version, path, overlay_limit, ..lab.request(client, 1) };
        let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request).unwrap();
        let how = export(root, &disk);
        engine.export(&disk, &how).unwrap();
        how
    };
    let (full, other) = (attach("pc1", 64 << 10), attach("pc2", 100 << 20));
    let told = write(&full, &address);
    assert!(told.contains(SENSE), "{overlays:?}: {told}");
    let disks = engine.activity().disks;
    let is_full = |client: &str| disks.iter().any(|disk| disk.client == client && disk.full);
    assert!(is_full("pc1") && !is_full("pc2"), "{disks:?}");
    let told = write(&other, &address);
    assert!(!told.contains("FAILED"), "{overlays:?}, who has room: {told}");
}

#[test]
fn a_full_thin_volumes_client_is_told_that_its_disk_can_not_be_reached() {
    is_told(OverlayKind::Thin);
}

#[test]
fn a_full_snapshots_client_is_told_that_its_disk_can_not_be_reached() {
    is_told(OverlayKind::Transient);
}
