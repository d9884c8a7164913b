//! Disks that are files of their own: what is another thing with them than with overlays over an image, and what they leave
//! behind. They are tried on a file system whose files can share their blocks, which `make test-kernel` makes.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use block::{ErrorKind, Segments};
use lvm::kernel::{self, Clones, ClonesConfig, LIO_ROOT};
use lvm::{Attached, Disk, Engine, EngineError, Exporter, names};

use crate::kernel_device::sh;
use crate::kernel_full;
use crate::lab::{Lab, SIZE, image, kind, range, read, volume, whole, write};
use crate::only_kernel::{
    MARKED, ask, ask_raw, clean_up, export, exported, initiators, is_taken_up, kill, lio, mark_of, request,
    tag, until,
};

/// A directory on such a file system.
const PLACE: &str = "BOOTD_TEST_SHARES";

/// Told by its environment where to work.
const CHILD: &str = "BOOTD_TEST_KERNEL_FILES";

/// Every step of such a disk's life.
const STEPS: &[&str] = &[
    "cloned",
    "recorded",
    "lio-disk",
    "lio-lun",
    "lio-acl",
    "lio-secret",
    "lio-mapped",
    "record-removed",
    "file-removed",
    "lio-acl-removed",
    "lio-lun-removed",
    "lio-disk-removed",
];

/// Where labs may lie.
pub(crate) fn place() -> PathBuf {
    std::env::var_os(PLACE).map_or_else(std::env::temp_dir, PathBuf::from)
}

fn config(root: &Path) -> ClonesConfig {
    ClonesConfig { directory: root.join("overlays"), tag: tag(root), lio: None }
}

pub(crate) fn open(root: &Path) -> Result<Clones, EngineError> {
    Clones::open(config(root))
}

fn with_lio(root: &Path) -> Clones {
    Clones::open(ClonesConfig { lio: Some(lio(root)), ..config(root) }).unwrap()
}

fn attached(engine: &Clones, root: &Path, epoch: u64) -> Disk {
    let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request(root, epoch)).unwrap();
    disk
}

/// The disks' files.
fn disks(root: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(root.join("overlays")).unwrap().map(|entry| entry.unwrap().path());
    let mut disks: Vec<_> = all.filter(|path| path.extension().is_some_and(|is| is == "disk")).collect();
    disks.sort();
    disks
}

#[test]
fn what_happens_to_the_image_is_no_matter_to_a_disk_that_is_there() {
    let mut lab = Lab::in_files();
    let disk = lab.made("pc1", 1);
    write(&disk, 3, vec![1; 512]).unwrap();
    let mut expected = image(1);
    expected[3 * 512..4 * 512].fill(1);
    fs::File::options().write(true).open(lab.image_path("one")).unwrap().set_len(1 << 20).unwrap();
    assert!(whole(&disk) == expected);
    fs::remove_file(lab.image_path("one")).unwrap();
    drop(disk);
    lab.restart();
    let adopted = lab.engine().reap().unwrap();
    assert_eq!(adopted.len(), 1);
    assert!(whole(&adopted[0]) == expected);
    // What is discarded reads as zeros.
    volume(&adopted[0]).discard(range(64, 16)).unwrap();
    expected[64 * 512..80 * 512].fill(0);
    assert!(whole(&adopted[0]) == expected);
}

#[test]
fn what_a_disk_has_of_its_own_is_told() {
    let lab = Lab::in_files();
    let (one, _two) = (lab.made("pc1", 1), lab.made("pc2", 1));
    let used = || lab.engine().status().iter().map(|status| status.overlay_used.0).collect::<Vec<_>>();
    let on_the_medium = || sh("sync -f $1", &[lab.root.path().to_str().unwrap()]);
    on_the_medium();
    assert_eq!(used(), [0, 0]);
    write(&one, 0, vec![7; 1 << 20]).unwrap();
    on_the_medium();
    // It is not looked at each time.
    until("it is seen", || used()[0] > 0);
    let [first, second] = used()[..] else { panic!("two disks") };
    // A file system may take more than is written at once, so that a file lies in few pieces.
    assert!((1 << 20..=SIZE as u64 + 4096).contains(&first), "{first}");
    assert_eq!(second, 0);
    let shown = kernel::files(&lab.root.path().join("overlays")).unwrap();
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].client.as_str(), shown[0].own, shown[0].bytes), ("pc1", first, SIZE as u64));
}

#[test]
fn what_is_on_other_file_systems_is_refused_and_not_copied() {
    let lab = Lab::in_files();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let refused = open(elsewhere.path()).err().expect("a file system without shared blocks").to_string();
    assert!(refused.contains("tmpfs") && refused.contains("mkfs.xfs"), "{refused}");
    let path = elsewhere.path().join("image");
    fs::write(&path, image(1)).unwrap();
    let refused = lab.engine().attach(lvm::DiskRequest { path, ..lab.request("pc1", 1) }).err().unwrap();
    assert!(refused.to_string().contains("on different file systems"), "{refused}");
    assert_eq!(lab.files(), Vec::<String>::new(), "something is left");
}

/// A file system of its own, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(lab: &Lab) -> Self {
        let (file, place) = (lab.root.path().join("medium"), lab.root.path().join("mounted"));
        fs::create_dir(&place).unwrap();
        let script = "truncate -s 320M $1 && mkfs.xfs -q $1 && mount -t xfs -o loop $1 $2";
        sh(script, &[file.to_str().unwrap(), place.to_str().unwrap()]);
        Self(place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_file_system_gets_no_more_disks_and_fails_new_blocks_only() {
    let lab = Lab::sim_that_shares();
    let medium = Mounted::new(&lab);
    let root = medium.0.as_path();
    fs::copy(lab.image_path("one"), root.join("debian@one.img")).unwrap();
    let engine = open(root).unwrap();
    let disk = attached(&engine, root, 1);
    write(&disk, 0, vec![7; 3 << 20]).unwrap();
    sh("sync -f $1", &[root.to_str().unwrap()]);
    // Nearly full.
    let space = rustix::fs::statvfs(root).unwrap();
    let filler = fs::File::create(root.join("filler")).unwrap();
    let mut end = 0;
    let mut fill = |size: u64| {
        let done = rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), end, size);
        end += if done.is_ok() { size } else { 0 };
        done.is_ok()
    };
    let least = space.f_blocks * space.f_frsize / 100 * 5;
    assert!(fill(space.f_bavail * space.f_frsize + (1 << 20) - least));
    let other = lvm::DiskRequest { client: "pc2".into(), ..request(root, 1) };
    let refused = engine.attach(other).err().expect("a disk without room").to_string();
    assert!(refused.contains("there are no more disks"), "{refused}");
    // Who gives room back gets it.
    let disk = attached(&engine, root, 2);
    assert_eq!(read(&disk, range(0, 8)), image(1)[..4096]);
    write(&disk, 0, vec![7; 4096]).unwrap();
    sh("sync -f $1", &[root.to_str().unwrap()]);
    // And then until nothing more goes.
    for size in [1 << 20, 64 << 10, 4096] {
        while fill(size) {}
    }
    let wrote = (1..SIZE as u64 / 65536).map(|at| write(&disk, at * 128, vec![8; 65536]));
    let failed = wrote.filter_map(kind).next().expect("there was room for all");
    assert_eq!(failed, ErrorKind::NoSpace);
    // What has its blocks goes on.
    write(&disk, 0, vec![9; 4096]).unwrap();
    assert_eq!(read(&disk, range(0, 8)), vec![9; 4096]);
    // A client of LIO's is told as that of a full device is.
    drop((disk, engine));
    let engine = with_lio(root);
    let disk = engine.reap().unwrap().pop().expect("its disk is gone");
    let how = export(root, &disk);
    engine.export(&disk, &how).unwrap();
    let told = kernel_full::write(&how, &lio(root).portals[0].to_string());
    assert!(told.contains(kernel_full::SENSE), "{told}");
    assert!(engine.activity().disks[0].full);
    engine.detach("pc1", 2).unwrap();
    until("LIO has let it go", || exported(root).is_empty());
    drop(engine);
    clean_up(root);
    assert!(fs::read(root.join("debian@one.img")).unwrap() == image(1), "the master image changed");
}

/// Not a test of its own: what the killed process does. A disk, exported; the next boot's; and the end of it.
#[test]
fn child() {
    let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let engine = with_lio(&root);
    engine.reap().unwrap();
    for epoch in [1, 2] {
        let disk = attached(&engine, &root, epoch);
        let file = fs::File::options().write(true).open(file_of(&root, epoch)).unwrap();
        file.write_all_at(&mark_of(epoch), MARKED).unwrap();
        assert_eq!(engine.export(&disk, &export(&root, &disk)).unwrap(), Exporter::Engine);
    }
    engine.detach("pc1", 2).unwrap();
    until("the watch has ended it", || exported(&root).is_empty());
}

fn file_of(root: &Path, epoch: u64) -> PathBuf {
    root.join("overlays").join(format!("{}.disk", names::overlay_name("pc1", epoch).unwrap()))
}

#[test]
fn a_process_that_is_killed_at_any_step_leaves_nothing_behind() {
    let lab = Lab::sim_that_shares();
    let root = lab.root.path();
    // What others have there, and in LIO.
    fs::create_dir(root.join("overlays")).unwrap();
    let theirs = root.join("overlays/theirs.disk");
    fs::write(&theirs, "theirs").unwrap();
    let foreign = Path::new(LIO_ROOT).join(format!("core/fileio_20260/theirs-{}", tag(root)));
    fs::create_dir_all(&foreign).unwrap();
    let ours = || disks(root).len() - 1;
    for step in STEPS {
        kill("only_files::child", CHILD, root, step);
        let engine = with_lio(root);
        let adopted = engine.reap().unwrap();
        assert_eq!(ours(), adopted.len(), "{step}: {:?}", disks(root));
        assert!(exported(root).len() <= adopted.len(), "{step}: {:?}", exported(root));
        assert!(initiators(root).len() <= adopted.len(), "{step}: {:?}", initiators(root));
        for disk in adopted {
            is_taken_up(&engine, root, &disk, &file_of(root, disk.request.epoch), step);
        }
        until("its disk is gone", || exported(root).is_empty() && initiators(root).is_empty());
        assert_eq!(ours(), 0, "{step}: {:?}", disks(root));
        eprintln!("killed at {step}: nothing is left");
    }
    assert_eq!(fs::read_to_string(theirs).unwrap(), "theirs");
    assert!(fs::read(lab.image_path("one")).unwrap() == image(1), "the master image changed");
    fs::remove_dir(foreign).unwrap();
}

#[test]
fn the_kernels_target_serves_a_file_as_it_does_a_device() {
    let lab = Lab::sim_that_shares();
    let root = lab.root.path();
    let before = fs::metadata(lab.image_path("one")).unwrap();
    let engine = with_lio(root);
    let disk = attached(&engine, root, 1);
    assert!(disk.volume.is_none());
    let how = export(root, &disk);
    assert_eq!(engine.export(&disk, &how).unwrap(), Exporter::Engine);
    let (served, inquiry) = ask(root, &how.initiator, &how.secret, &[]);
    assert!(
        served && inquiry.contains("Vendor:BOOTD") && inquiry.contains("Product:Virtual Disk"),
        "{inquiry}"
    );
    let (served, serial) = ask(root, &how.initiator, &how.secret, &["-e", "1", "-c", "128"]);
    assert!(served && serial.contains(&how.serial), "{serial}");
    let (_, designators) = ask_raw(root, &how.initiator, &how.secret, &["-e", "1", "-c", "131"]);
    let naa = names::disk_identity("debian", "pc1").naa;
    assert!(designators.windows(naa.len()).any(|part| part == naa), "no {naa:x?} in {designators:?}");
    assert!(!ask(root, &how.initiator, "hunter3hunter3hu", &[]).0, "a wrong secret was let in");
    let attribute = |name: &str| {
        let disk = Path::new(LIO_ROOT).join("core/fileio_20260").join(&exported(root)[0]);
        fs::read_to_string(disk.join("attrib").join(name)).unwrap().trim().to_owned()
    };
    assert_eq!(attribute("block_size"), "512");
    assert_eq!(attribute("emulate_write_cache"), "0");
    let seen = || engine.activity().disks.into_iter().map(|one| (one.written, one.full)).collect::<Vec<_>>();
    assert_eq!(seen(), [(false, false)]);
    // As LIO writes to it: the file is the disk.
    fs::File::options()
        .write(true)
        .open(&disks(root)[0])
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert_eq!(seen(), [(true, false)]);
    let next = attached(&engine, root, 2);
    engine.export(&next, &export(root, &next)).unwrap();
    until("the last boot's disk is no more", || exported(root).len() == 1);
    assert!(!ask(root, &how.initiator, &how.secret, &[]).0, "what is left of the last boot is let in");
    assert!(ask(root, &how.initiator, &export(root, &next).secret, &[]).0, "this boot is not let in");
    // The next process finds it, in LIO as well.
    drop(engine);
    let engine = with_lio(root);
    assert_eq!(engine.reap().unwrap().len(), 1);
    assert!(ask(root, &how.initiator, &export(root, &next).secret, &[]).0, "it was ended with its process");
    engine.detach("pc1", 2).unwrap();
    until("nobody may log in", || initiators(root).is_empty());
    assert!(disks(root).is_empty());
    // LIO would make the file of a disk that is gone, of zeros.
    let lost = attached(&engine, root, 3);
    fs::remove_file(&disks(root)[0]).unwrap();
    let refused = engine.export(&lost, &export(root, &lost)).unwrap_err().to_string();
    assert!(refused.contains("export the client's disk"), "{refused}");
    assert!(disks(root).is_empty() && exported(root).is_empty() && initiators(root).is_empty());
    let after = fs::metadata(lab.image_path("one")).unwrap();
    assert_eq!(before.mtime_nsec(), after.mtime_nsec());
    assert!(fs::read(lab.image_path("one")).unwrap() == image(1), "the master image changed");
}

#[test]
fn a_disk_of_the_embedded_engines_is_not_taken_for_one() {
    let lab = Lab::sim_that_shares();
    let root = lab.root.path();
    let embedded = crate::lab::open(root).unwrap();
    let (Attached::Made(disk) | Attached::Already(disk)) = embedded.attach(request(root, 1)).unwrap();
    write(&disk, 0, vec![7; 4096]).unwrap();
    drop((disk, embedded));
    let engine = open(root).unwrap();
    assert!(engine.reap().unwrap().is_empty());
    let disk = attached(&engine, root, 1);
    assert!(whole(&disk) == image(1));
    // Nor the other way round.
    drop((disk, engine));
    let embedded = crate::lab::open(root).unwrap();
    assert!(embedded.reap().unwrap().is_empty());
    assert!(disks(root).is_empty());
    let mut out = Segments::new();
    let (Attached::Made(disk) | Attached::Already(disk)) = embedded.attach(request(root, 1)).unwrap();
    volume(&disk).read(range(0, 1), &mut out).unwrap();
    assert!(out.to_bytes()[..] == image(1)[..512]);
}

/// Alone, for its times.
#[test]
fn fifty_disks_at_once() {
    const CLIENTS: u64 = 50;
    let lab = Lab::sim_that_shares();
    let root = lab.root.path();
    let engine = with_lio(root);
    let begin = std::time::Instant::now();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (engine, lab) = (&engine, &lab);
            scope.spawn(move || {
                let request = lab.request(&format!("pc{client}"), 1);
                let (Attached::Made(disk) | Attached::Already(disk)) = engine.attach(request).unwrap();
                engine.export(&disk, &export(lab.root.path(), &disk)).unwrap();
            });
        }
    });
    eprintln!("kernel engine: {CLIENTS} disks that are files, at once, in {:?}", begin.elapsed());
    assert_eq!(exported(root).len() as u64, CLIENTS);
    for client in 0..CLIENTS {
        engine.detach(&format!("pc{client}"), 1).unwrap();
    }
    until("all are gone", || exported(root).is_empty() && initiators(root).is_empty());
    assert!(disks(root).is_empty());
}
