//! What only the kernel engine does, on a machine that has device-mapper: what it leaves there, and how it finds it again.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use block::{Bytes, ErrorKind};
use lvm::kernel::{self, Kernel, KernelConfig, LIO_ROOT, LioConfig, OverlayKind, SpaceConfig};
use lvm::{Attached, Disk, DiskRequest, Engine, EngineError, Export, Exporter, names};

use crate::lab::{Lab, SIZE, image, kind, read, volume, whole, write};

/// Told by its environment where to work, and where it is to be killed.
const CHILD: &str = "BOOTD_TEST_KERNEL";
pub(crate) const FAULT: &str = "BOOTD_KERNEL_FAULT";

/// Every step of a disk's life in the kernel.
const STEPS: &[&str] = &[
    "image-loop",
    "image",
    "meta",
    "data",
    "pool",
    "thin",
    "disk",
    "recorded",
    "lio-disk",
    "lio-lun",
    "lio-acl",
    "lio-secret",
    "lio-mapped",
    "record-removed",
    "lio-acl-removed",
    "lio-lun-removed",
    "lio-disk-removed",
    "removed-disk",
    "removed-pool",
    "removed-data",
    "removed-meta",
];

/// Each lab has devices of its own.
pub(crate) fn tag(root: &Path) -> String {
    let name = root.file_name().unwrap().to_string_lossy().to_lowercase();
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("t{}", &plain[..plain.len().min(12)])
}

pub(crate) fn config(root: &Path) -> KernelConfig {
    let space = SpaceConfig::File { path: root.join("space"), size: Bytes(1 << 30) };
    let directory = root.join("overlays");
    KernelConfig {
        directory,
        space,
        cache: None,
        write_cache: None,
        overlays: OverlayKind::Thin,
        tag: tag(root),
        lio: None,
    }
}

/// Each lab has a target and a port of its own: where another's target is taken down, log-ins break off.
pub(crate) fn lio(root: &Path) -> LioConfig {
    let tag = tag(root);
    let port =
        20_000 + tag.bytes().fold(0u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 20_000;
    let target = format!("iqn.2026-01.internal.lab.{tag}:disks");
    LioConfig { root: LIO_ROOT.into(), portals: vec![([127, 0, 0, 1], port).into()], target }
}

pub(crate) fn open(root: &Path) -> Result<Kernel, EngineError> {
    Kernel::open(config(root))
}

/// Leaves nothing in the kernel. Labs of other engines have nothing there.
pub(crate) fn clean_up(root: &Path) {
    let child = [CHILD, crate::kernel_cache::CHILD].iter().any(|name| std::env::var_os(name).is_some());
    if child || !Path::new("/dev/mapper/control").exists() {
        return;
    }
    let targets = kernel::remove_target(&lio(root), &tag(root));
    let busy = kernel::remove_all(&tag(root));
    if !std::thread::panicking() {
        targets.unwrap();
        assert_eq!(busy.unwrap(), Vec::<String>::new(), "these devices are still busy");
    }
}

pub(crate) fn export(root: &Path, disk: &Disk) -> Export {
    let DiskRequest { client, epoch, image, .. } = &disk.request;
    Export {
        target: lio(root).target,
        initiator: format!("iqn.2026-01.internal.lab.{client}:system-disk"),
        user: client.clone(),
        secret: format!("hunter2hunter{epoch:03}"),
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "1".into(),
        serial: names::disk_identity(image, client).serial,
    }
}

pub(crate) fn devices(root: &Path) -> Vec<String> {
    let all = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path().join("dm/name"));
    let names = all.filter_map(|path| fs::read_to_string(path).ok()).map(|name| name.trim().to_owned());
    let mut ours: Vec<_> = names.filter(|name| name.starts_with(&format!("{}-", tag(root)))).collect();
    ours.sort();
    ours
}

/// Who may log in at the lab's target.
pub(crate) fn initiators(root: &Path) -> Vec<String> {
    let acls = Path::new(LIO_ROOT).join("iscsi").join(lio(root).target).join("tpgt_1/acls");
    let Ok(all) = fs::read_dir(acls) else { return Vec::new() };
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // By one entry the target is known as bootd's, and nobody logs in by that.
    names.filter(|name| !name.ends_with(":mark")).collect()
}

/// The disks that LIO has of the lab, devices and files.
pub(crate) fn exported(root: &Path) -> Vec<String> {
    let groups = ["core/iblock_20260", "core/fileio_20260"].map(|group| Path::new(LIO_ROOT).join(group));
    let all = groups.iter().filter_map(|group| fs::read_dir(group).ok()).flatten();
    let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&format!("{}-", tag(root)))).collect()
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Not a test of its own: what the killed process does. A disk, exported; the next boot's; and the end of it.
#[test]
fn child() {
    let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let engine = Kernel::open(KernelConfig { lio: Some(lio(&root)), ..config(&root) }).unwrap();
    engine.reap().unwrap();
    for epoch in [1, 2] {
        let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request(&root, epoch)).unwrap();
        let node = fs::File::options().write(true).open(node(&root, epoch)).unwrap();
        node.write_all_at(&mark_of(epoch), MARKED).unwrap();
        node.sync_all().unwrap();
        assert_eq!(engine.export(&disk, &export(&root, &disk)).unwrap(), Exporter::Engine);
    }
    engine.detach("pc1", 2).unwrap();
    engine.reap().unwrap();
}

/// The disk of that boot of the client, as the kernel has it.
fn node(root: &Path, epoch: u64) -> PathBuf {
    let is_it = |block: &Path| {
        let name = fs::read_to_string(block.join("dm/name")).unwrap_or_default();
        name.starts_with(&format!("{}-", tag(root))) && name.trim().ends_with(&format!("{epoch:016x}-disk"))
    };
    let mut all = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    Path::new("/dev").join(all.find(|block| is_it(block)).unwrap().file_name().unwrap())
}

/// Where each boot writes, in bytes, and what.
pub(crate) const MARKED: u64 = 5 * 512;

pub(crate) fn mark_of(epoch: u64) -> [u8; 512] {
    [0xb0 | epoch as u8; 512]
}

/// Whether what is there of that boot's disk is the image with what the boot wrote; until it has said so, without that.
fn is_whole(disk: &Path, epoch: u64, has_said_so: bool) -> bool {
    let (mut expected, found) = (image(1), fs::read(disk).unwrap());
    let fresh = !has_said_so && found == expected;
    expected[MARKED as usize..][..512].copy_from_slice(&mark_of(epoch));
    fresh || found == expected
}

/// Has that test of this program, which is told of its root by `variable`, be killed at a step.
pub(crate) fn kill(test: &str, variable: &str, root: &Path, step: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(variable, root)
        .env(FAULT, step)
        .status()
        .unwrap();
    assert_eq!(status.signal(), Some(9), "{step}: it was not killed there");
}

/// What one that was killed at a step has left of a disk, which lies at `place`, holds what was written, and is served until its
/// end.
pub(crate) fn is_taken_up(engine: &dyn Engine, root: &Path, disk: &Disk, place: &Path, step: &str) {
    let (how, epoch) = (export(root, disk), disk.request.epoch);
    // What was written before that disk was exported.
    let has_said_so = epoch == 1 && step.starts_with("lio-");
    assert!(is_whole(place, epoch, has_said_so), "{step}: the disk holds something else");
    engine.export(disk, &how).unwrap();
    assert_eq!((initiators(root).len(), exported(root).len()), (1, 1), "{step}");
    let (served, told) = ask(root, &how.initiator, &how.secret, &[]);
    assert!(served && told.contains("Vendor:BOOTD"), "{step}: nobody can log in to it: {told}");
    engine.detach("pc1", epoch).unwrap();
}

pub(crate) fn request(root: &Path, epoch: u64) -> DiskRequest {
    DiskRequest {
        client: "pc1".into(),
        epoch,
        image: "debian".into(),
        version: "one".into(),
        path: root.join("debian@one.img"),
        overlay_limit: Bytes(1 << 20),
        note: String::new(),
    }
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_nothing_behind() {
    let lab = Lab::sim();
    let root = lab.root.path();
    for step in STEPS {
        kill("only_kernel::child", CHILD, root, step);
        let engine = Kernel::open(KernelConfig { lio: Some(lio(root)), ..config(root) }).unwrap();
        let adopted = engine.reap().unwrap();
        let parts = 4 * adopted.len() + adopted.len().min(1) + 1;
        until("strays are gone", || devices(root).len() == parts);
        assert!(exported(root).len() <= adopted.len(), "{step}: {:?}", exported(root));
        assert!(initiators(root).len() <= adopted.len(), "{step}: {:?}", initiators(root));
        for disk in adopted {
            is_taken_up(&engine, root, &disk, &node(root, disk.request.epoch), step);
        }
        until("its disk is gone", || devices(root) == [format!("{}-space", tag(root))]);
        assert!(exported(root).is_empty(), "{step}: {:?}", exported(root));
        assert!(initiators(root).is_empty(), "{step}: {:?}", initiators(root));
        eprintln!("killed at {step}: nothing is left");
    }
}

#[test]
fn the_next_process_finds_disks_as_they_were() {
    let mut lab = Lab::kernel();
    {
        let disk = lab.made("pc1", 9);
        write(&disk, 3, vec![1; 512]).unwrap();
        lab.made("pc2", 1);
    }
    // Its file is gone, and the kernel still has it.
    fs::remove_file(lab.image_path("one")).unwrap();
    lab.restart();
    let adopted = lab.engine().reap().unwrap();
    assert_eq!(adopted.len(), 2);
    assert_eq!(adopted[0].request, lab.request("pc1", 9));
    let mut expected = image(1);
    expected[3 * 512..4 * 512].fill(1);
    assert!(whole(&adopted[0]) == expected);
    // What it has of the space is its own still.
    fs::write(lab.image_path("one"), image(1)).unwrap();
    write(&lab.made("pc3", 1), 0, vec![7; 1 << 20]).unwrap();
    assert!(whole(&adopted[0]) == expected && whole(&adopted[1]) == image(1));
}

#[test]
fn after_a_restart_of_the_machine_all_begin_anew() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let open = || Kernel::open(KernelConfig { lio: Some(lio(root)), ..config(root) }).unwrap();
    let made = |engine: &Kernel| {
        let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request(root, 1)).unwrap();
        engine.export(&disk, &export(root, &disk)).unwrap();
    };
    let engine = open();
    made(&engine);
    let marking = fs::File::options().write(true).open(node(root, 1)).unwrap();
    marking.write_all_at(&mark_of(1), MARKED).unwrap();
    drop((marking, engine));
    // The kernel has forgotten all that it held, and counts another start; what lies on the disk is there.
    clean_up(root);
    let record = root.join("overlays/pc1@0000000000000001.json");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&record, text.replace(boot.trim(), "another")).unwrap();
    let engine = open();
    assert_eq!(engine.reap().unwrap().len(), 0, "a disk of before the restart is given to its client");
    assert!(!record.exists() && initiators(root).is_empty());
    assert_eq!(devices(root), [format!("{}-space", tag(root))]);
    made(&engine);
    assert!(fs::read(node(root, 1)).unwrap() == image(1), "what was written before the restart is there");
}

#[test]
fn an_overlay_grows_up_to_its_limit() {
    let lab = Lab::kernel();
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let limit = 100 << 20;
    let request =
        DiskRequest { version: "large".into(), path, overlay_limit: Bytes(limit), ..lab.request("pc1", 1) };
    let Attached::Made(disk) = lab.engine().attach(request).unwrap() else { panic!("not made") };
    // It begins with 64 MiB. What comes faster than it grows waits.
    let sectors = (1 << 20) / 512;
    for mib in 0..100 {
        write(&disk, mib * sectors, vec![mib as u8 + 1; 1 << 20]).unwrap();
    }
    assert_eq!(lab.engine().status()[0].overlay_used.0, limit);
    assert_eq!(kind(write(&disk, 100 * sectors, vec![1; 512])), Some(ErrorKind::NoSpace));
    for mib in [0, 63, 64, 99] {
        assert_eq!(read(&disk, crate::lab::range(mib * sectors, 8)), vec![mib as u8 + 1; 4096]);
    }
}

fn growing(root: &Path) -> DiskRequest {
    let path = root.join("debian@large.img");
    DiskRequest { version: "large".into(), path, overlay_limit: Bytes(100 << 20), ..request(root, 1) }
}

/// Not a test of its own: a client's writes have its overlay grow, and the process is killed at it.
#[test]
fn child_that_grows() {
    let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let engine = Kernel::open(config(&root)).unwrap();
    let Attached::Made(disk) = engine.attach(growing(&root)).unwrap() else { panic!("not made") };
    for mib in 0..50 {
        write(&disk, mib * 2048, vec![mib as u8 + 1; 1 << 20]).unwrap();
    }
    until("it was killed", || false);
}

#[test]
fn a_process_that_is_killed_while_a_disk_grows_leaves_it_growing() {
    for step in ["suspended", "grown-data"] {
        let lab = Lab::sim();
        let root = lab.root.path();
        fs::File::create(growing(root).path).unwrap().set_len(1 << 30).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "only_kernel::child_that_grows", "--nocapture", "--test-threads=1"])
            .env(CHILD, root)
            .env(FAULT, step)
            .spawn()
            .unwrap();
        until("it has its disk", || devices(root).len() > 1);
        // It can't end while its device is held back; who opens the engine lets that go on.
        let mut opened = None;
        until("the killed process is gone", || {
            opened = Kernel::open(config(root)).ok();
            opened.is_some()
        });
        assert_eq!(child.wait().unwrap().signal(), Some(9), "{step}: it was not killed there");
        let engine = opened.unwrap();
        let adopted = engine.reap().unwrap();
        let [disk] = adopted.as_slice() else { panic!("{step}: {} disks", adopted.len()) };
        // It grows when 45 MiB are used: what the process wrote last, it may have been killed before.
        for mib in 40..100 {
            write(disk, mib * 2048, vec![mib as u8 + 1; 1 << 20]).unwrap();
        }
        assert_eq!(kind(write(disk, 100 * 2048, vec![1; 512])), Some(ErrorKind::NoSpace), "{step}");
        for mib in [0, 49, 50, 99] {
            assert_eq!(read(disk, crate::lab::range(mib * 2048, 8)), vec![mib as u8 + 1; 4096], "{step}");
        }
    }
}

#[test]
fn a_full_space_fails_nobody_who_has_blocks() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let space = SpaceConfig::File { path: root.join("space"), size: Bytes(160 << 20) };
    let engine = Kernel::open(KernelConfig { space, ..config(root) }).unwrap();
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let request = |client: &str| DiskRequest {
        version: "large".into(),
        path: path.clone(),
        overlay_limit: Bytes(1 << 30),
        ..lab.request(client, 1)
    };
    let Attached::Made(first) = engine.attach(request("pc1")).unwrap() else { panic!("not made") };
    // There is room for one more, but not for two.
    let refused = engine.attach(request("pc2")).err();
    let sectors = (1 << 20) / 512;
    let mut wrote = 0;
    while write(&first, wrote * sectors, vec![1; 1 << 20]).is_ok() {
        wrote += 1;
        assert!(wrote < 160, "there was more space than there is");
    }
    assert!(wrote >= 64, "{wrote}");
    assert_eq!(kind(write(&first, 1000 * sectors, vec![1; 512])), Some(ErrorKind::NoSpace));
    write(&first, 0, vec![2; 4096]).unwrap();
    assert_eq!(read(&first, crate::lab::range(0, 8)), vec![2; 4096]);
    let refused = refused.or_else(|| engine.attach(request("pc3")).err()).expect("a disk without space");
    assert!(refused.to_string().contains("overlays' space"), "{refused}");
}

#[test]
fn a_busy_disk_goes_when_it_is_let_go() {
    let lab = Lab::kernel();
    lab.made("pc1", 1);
    let node = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap()).find(|entry| {
        let name = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
        name.trim() == format!("{}-disk-pc1-{:016x}-disk", tag(lab.root.path()), 1)
    });
    let held = fs::File::open(Path::new("/dev").join(node.unwrap().file_name())).unwrap();
    lab.engine().detach("pc1", 1).unwrap();
    // The next boot does not wait for it.
    assert!(whole(&lab.made("pc1", 2)) == image(1));
    assert!(devices(lab.root.path()).iter().any(|name| name.contains("0001-disk")));
    drop(held);
    until("the busy disk is gone", || !devices(lab.root.path()).iter().any(|name| name.contains("0001-")));
}

/// What a tool of libiscsi says, and whether it was served.
pub(crate) fn ask(root: &Path, initiator: &str, secret: &str, arguments: &[&str]) -> (bool, String) {
    let (served, text) = ask_raw(root, initiator, secret, arguments);
    (served, String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn ask_raw(root: &Path, initiator: &str, secret: &str, arguments: &[&str]) -> (bool, Vec<u8>) {
    let LioConfig { target, portals, .. } = lio(root);
    let url = format!("iscsi://pc1%{secret}@{}/{target}/0", portals[0]);
    let mut command = Command::new("iscsi-inq");
    let out = command.args(["-i", initiator]).args(arguments).arg(url).output().unwrap();
    (out.status.success(), [out.stdout, out.stderr].concat())
}

#[test]
fn the_kernels_target_serves_its_client_alone_and_shows_the_same_disk() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let engine = Kernel::open(KernelConfig { lio: Some(lio(root)), ..config(root) }).unwrap();
    let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request(root, 1)).unwrap();
    assert!(disk.volume.is_none());
    let how = export(root, &disk);
    engine.export(&disk, &how).unwrap();
    let (served, inquiry) = ask(root, &how.initiator, &how.secret, &[]);
    assert!(
        served && inquiry.contains("Vendor:BOOTD") && inquiry.contains("Product:Virtual Disk"),
        "{inquiry}"
    );
    let (served, serial) = ask(root, &how.initiator, &how.secret, &["-e", "1", "-c", "128"]);
    assert!(served && serial.contains(&how.serial), "{serial}");
    // The tool prints it as it is.
    let (_, designators) = ask_raw(root, &how.initiator, &how.secret, &["-e", "1", "-c", "131"]);
    let naa = names::disk_identity("debian", "pc1").naa;
    assert!(designators.windows(naa.len()).any(|part| part == naa), "no {naa:x?} in {designators:?}");
    assert!(!ask(root, &how.initiator, "hunter3hunter3hu", &[]).0, "a wrong secret was let in");
    assert!(
        !ask(root, "iqn.2026-01.internal.lab.pc2:system-disk", &how.secret, &[]).0,
        "a stranger was let in"
    );
    let found = Command::new("iscsi-ls")
        .args(["-i", "iqn.x:stranger", &format!("iscsi://{}", lio(root).portals[0])])
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(!found.contains(&how.target), "a stranger discovers it: {found}");
    // Asking again changes nothing; the next boot has a target of its own.
    engine.export(&disk, &how).unwrap();
    let (Attached::Made(next) | Attached::Already(next)) = engine.attach(request(root, 2)).unwrap();
    engine.export(&next, &export(root, &next)).unwrap();
    until("the last boot's disk is no more", || exported(root).len() == 1);
    assert!(!ask(root, &how.initiator, &how.secret, &[]).0, "what is left of the last boot is let in");
    assert!(ask(root, &how.initiator, &export(root, &next).secret, &[]).0, "this boot is not let in");
    engine.detach("pc1", 2).unwrap();
    until("nobody may log in", || initiators(root).is_empty());
}

#[test]
fn fifty_disks_at_once() {
    const CLIENTS: u64 = 50;
    let lab = Lab::sim();
    let root = lab.root.path();
    let space = SpaceConfig::File { path: root.join("space"), size: Bytes(1 << 40) };
    let engine = Kernel::open(KernelConfig { lio: Some(lio(root)), space, ..config(root) }).unwrap();
    let attach = |client: u64, epoch: u64| {
        let request = lab.request(&format!("pc{client}"), epoch);
        let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request).unwrap();
        engine.export(&disk, &export(root, &disk)).unwrap();
    };
    let begin = Instant::now();
    attach(0, 1);
    let one = begin.elapsed();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in 1..=CLIENTS {
            scope.spawn(move || attach(client, 1));
        }
    });
    eprintln!(
        "kernel engine: one disk attached and exported in {one:.3?}, {CLIENTS} at once in {:.3} s",
        begin.elapsed().as_secs_f64()
    );
    assert_eq!(engine.list().len() as u64, CLIENTS + 1);
    assert_eq!(initiators(root).len() as u64, CLIENTS + 1);
    let sizes = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    for device in sizes.filter(|path| {
        fs::read_to_string(path.join("dm/name")).is_ok_and(|name| name.starts_with(&tag(root)))
    }) {
        let sector = fs::read_to_string(device.join("queue/logical_block_size")).unwrap();
        assert_eq!(sector.trim(), "512", "{}", device.display());
    }
    let begin = Instant::now();
    for client in 0..=CLIENTS {
        engine.detach(&format!("pc{client}"), 1).unwrap();
    }
    until("all are gone", || devices(root).len() == 1 && initiators(root).is_empty());
    eprintln!("kernel engine: {} disks removed in {:?}", CLIENTS + 1, begin.elapsed());
    assert!(fs::read(lab.image_path("one")).unwrap() == image(1), "the master image changed");
    assert_eq!(fs::metadata(lab.image_path("one")).unwrap().len(), SIZE as u64);
}

#[test]
fn others_devices_are_left_alone() {
    let lab = Lab::kernel();
    // Of the same beginning, but another tag.
    let other = tempfile::tempdir().unwrap();
    let tag_of_other = format!("{}x", tag(lab.root.path()));
    let space = SpaceConfig::File { path: other.path().join("space"), size: Bytes(1 << 30) };
    let theirs = KernelConfig {
        directory: other.path().join("overlays"),
        space,
        tag: tag_of_other.clone(),
        ..config(other.path())
    };
    let theirs = Kernel::open(theirs).unwrap();
    let (Attached::Made(disk) | Attached::Already(disk)) = theirs.attach(lab.request("pc1", 1)).unwrap();
    lab.made("pc1", 1);
    lab.engine().reap().unwrap();
    assert!(whole(&disk) == image(1));
    assert!(volume(&disk).flush().is_ok());
    drop(disk);
    theirs.detach("pc1", 1).unwrap();
    drop(theirs);
    assert_eq!(kernel::remove_all(&tag_of_other).unwrap(), Vec::<String>::new());
}
