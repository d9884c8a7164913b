//! Caches of fixed size in RAM, under images and under overlays, and overlays that lie in RAM alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use block::Bytes;
use lvm::kernel::{self, Kernel, KernelConfig, SpaceConfig};
use lvm::{Attached, DiskRequest, Engine, EngineError};

use crate::lab::{Lab, SIZE, image, range, read, whole, write};
use crate::only_kernel::{self, FAULT, devices, tag, until};

/// Told by its environment where to work.
pub(crate) const CHILD: &str = "BOOTD_TEST_KERNEL_CACHE";

/// Steps that only a cache has.
const STEPS: &[&str] = &["library", "cache-ram", "cache", "library-image", "image", "disk", "recorded"];

/// Larger than an image of the lab's, smaller than two; a client's writes don't fit.
const CACHE: Bytes = Bytes(4 << 20);

fn config(root: &Path) -> KernelConfig {
    KernelConfig { cache: Some(CACHE), write_cache: Some(CACHE), ..only_kernel::config(root) }
}

pub(crate) fn open(root: &Path) -> Result<Kernel, EngineError> {
    Kernel::open(config(root))
}

#[test]
fn what_one_client_read_the_next_one_gets_from_the_kernels_cache() {
    let lab = Lab::kernel_cached();
    fs::write(lab.image_path("two"), image(2)).unwrap();
    let before = fs::metadata(lab.image_path("one")).unwrap();
    let (one, two) = (lab.made("pc1", 1), lab.made("pc2", 1));
    let hits = || lab.engine().cache()[0].hits;
    // It takes in what is asked for more than once, in its own time.
    until("the cache has the image", || {
        let already = hits();
        assert!(whole(&one) == image(1) && whole(&two) == image(1));
        hits() - already > 2 * (SIZE as u64 / 65536) * 9 / 10
    });
    // Another version, for which there is not room beside it, and the first again.
    let request = DiskRequest { version: "two".into(), path: lab.image_path("two"), ..lab.request("pc3", 1) };
    let (Attached::Made(three) | Attached::Already(three)) = lab.engine().attach(request).unwrap();
    for _ in 0..4 {
        assert!(whole(&three) == image(2) && whole(&one) == image(1));
    }
    write(&one, 0, vec![7; 1 << 20]).unwrap();
    assert!(read(&one, range(0, 2048)) == vec![7; 1 << 20]);
    assert!(whole(&two) == image(1), "another client sees what this one wrote");
    assert!(fs::read(lab.image_path("one")).unwrap() == image(1), "the master image changed");
    let after = fs::metadata(lab.image_path("one")).unwrap();
    assert_eq!((before.mtime_nsec(), before.blocks()), (after.mtime_nsec(), after.blocks()));
}

#[test]
fn what_does_not_fit_into_the_cache_for_writing_goes_below() {
    let lab = Lab::kernel_cached();
    let path = lab.image_path("large");
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let overlay_limit = Bytes(48 << 20);
    let request = DiskRequest { version: "large".into(), path, overlay_limit, ..lab.request("pc1", 1) };
    let (Attached::Made(disk) | Attached::Already(disk)) = lab.engine().attach(request).unwrap();
    let sectors = (1 << 20) / 512;
    for mib in 0..32 {
        write(&disk, mib * sectors, vec![mib as u8 + 1; 1 << 20]).unwrap();
    }
    for mib in (0..32).rev() {
        assert!(read(&disk, range(mib * sectors, sectors)) == vec![mib as u8 + 1; 1 << 20], "MiB {mib}");
    }
}

#[test]
fn the_cache_keeps_an_image_until_its_file_is_gone() {
    let lab = Lab::kernel_cached();
    let root = lab.root.path();
    lab.made("pc1", 1);
    lab.engine().detach("pc1", 1).unwrap();
    let kept = ["cache", "image-debian-", "images", "space"];
    until("the disk is gone, and nothing else", || {
        let left = devices(root);
        left.len() == kept.len() && left.iter().zip(kept).all(|(name, part)| name.contains(part))
    });
    let image_device = devices(root)[1].clone();
    assert!(whole(&lab.made("pc1", 2)) == image(1));
    assert!(devices(root).contains(&image_device), "it was made anew");
    lab.engine().detach("pc1", 2).unwrap();
    fs::remove_file(lab.image_path("one")).unwrap();
    until("the file is let go of", || devices(root).len() == 3);
    // In the same place, and of the same size: only its number tells that it is another.
    fs::write(lab.image_path("one"), image(9)).unwrap();
    assert!(whole(&lab.made("pc1", 3)) == image(9), "the cache shows what was there before");
}

#[test]
fn another_size_is_taken_when_nobody_uses_the_last() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let made = |engine: &Kernel, client, epoch| {
        let (Attached::Made(disk) | Attached::Already(disk)) =
            engine.attach(lab.request(client, epoch)).unwrap();
        disk
    };
    let ram = SpaceConfig::Ram { size: Bytes(256 << 20) };
    let with = |cache| KernelConfig { cache, space: ram.clone(), ..only_kernel::config(root) };
    let engine = Kernel::open(with(Some(CACHE))).unwrap();
    let disk = made(&engine, "pc1", 1);
    write(&disk, 0, vec![5; 4096]).unwrap();
    drop((disk, engine));
    // Without a cache now, but not for who has it already.
    let engine = Kernel::open(with(None)).unwrap();
    let adopted = engine.reap().unwrap();
    assert!(read(&adopted[0], range(0, 8)) == vec![5; 4096], "what was in RAM is gone");
    assert_eq!(engine.cache().len(), 1);
    engine.detach("pc1", 1).unwrap();
    drop(adopted);
    until("its disk is gone", || !devices(root).iter().any(|name| name.contains("-disk-")));
    drop(engine);
    let engine = Kernel::open(with(None)).unwrap();
    engine.reap().unwrap();
    assert_eq!(engine.cache().len(), 0);
    assert_eq!(devices(root), [format!("{}-space", tag(root))]);
    assert!(whole(&made(&engine, "pc1", 2)) == image(1));
    engine.detach("pc1", 2).unwrap();
    until("its disk is gone", || devices(root).len() == 1);
    drop(engine);
    // Elsewhere, with nothing there.
    let engine = Kernel::open(config(root)).unwrap();
    assert!(whole(&made(&engine, "pc1", 3)) == image(1));
    let refused = {
        drop(engine);
        Kernel::open(with(None)).err().expect("another space under a client").to_string()
    };
    assert!(refused.contains("lie elsewhere"), "{refused}");
    only_kernel::clean_up(root);
}

#[test]
fn what_a_running_engine_holds_nobody_else_makes_anew() {
    let lab = Lab::sim();
    let root = lab.root.path();
    let space = SpaceConfig::Ram { size: Bytes(256 << 20) };
    let with = |cache| KernelConfig { cache: Some(cache), space: space.clone(), ..only_kernel::config(root) };
    let (asked, other) = (with(CACHE), with(Bytes(CACHE.0 * 2)));
    let hold = || kernel::hold(&asked.directory);
    assert_eq!(kernel::prepare(&asked, &hold().unwrap()).unwrap().len(), 3);
    let engine = Kernel::open(asked.clone()).unwrap();
    // An image that is kept in the cache, and stands in nobody's way.
    engine.attach(lab.request("pc1", 1)).unwrap();
    engine.detach("pc1", 1).unwrap();
    until("its disk is gone", || devices(root).len() == 4);
    assert!(matches!(hold(), Err(EngineError::InUse { .. })));
    assert_eq!(kernel::differences(&asked).unwrap(), Vec::<String>::new());
    let differences = kernel::differences(&other).unwrap();
    assert!(differences.len() == 1 && differences[0].contains("one of 8388608 bytes"), "{differences:?}");
    let elsewhere = KernelConfig { space: only_kernel::config(root).space, ..asked.clone() };
    assert!(kernel::differences(&elsewhere).unwrap()[0].contains("elsewhere"));
    drop(engine);
    // And then it is.
    kernel::prepare(&other, &hold().unwrap()).unwrap();
    assert_eq!(kernel::differences(&other).unwrap(), Vec::<String>::new());
}

/// Not a test of its own: what the killed process does.
#[test]
fn child() {
    let Some(root) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let engine = open(&root).unwrap();
    engine.reap().unwrap();
    engine.attach(only_kernel::request(&root, 1)).unwrap();
}

#[test]
fn a_process_that_is_killed_while_it_makes_a_cache_leaves_nothing_wrong() {
    let lab = Lab::sim();
    let root = lab.root.path();
    for step in STEPS {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kernel_cache::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, root)
            .env(FAULT, step)
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9), "{step}: it was not killed there");
        let engine = open(root).unwrap();
        for disk in engine.reap().unwrap() {
            assert!(whole(&disk) == image(1), "{step}");
            engine.detach("pc1", disk.request.epoch).unwrap();
        }
        let (Attached::Made(disk) | Attached::Already(disk)) =
            engine.attach(only_kernel::request(root, 2)).unwrap();
        assert!(whole(&disk) == image(1), "{step}");
        // The space, the cache with what is below, one image, and a disk's four.
        until("strays are gone", || devices(root).len() == 3 + 1 + 4);
        drop((disk, engine));
        only_kernel::clean_up(root);
        assert_eq!(devices(root), Vec::<String>::new(), "{step}");
        eprintln!("killed at {step}: nothing is wrong");
    }
}
