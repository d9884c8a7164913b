//! Times what every client's request goes through, and what every boot does, without network and protocol.
//!
//! `cargo run --release -p bootd-lvm --example hot_paths [DIRECTORY]`: the overlays and a sparse image of 1 TiB go
//! under the directory (the system's for temporary files by default).
#![allow(clippy::unwrap_used)] // a tool for developers: whatever fails, fails loudly

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use block::{BlockCount, BlockRange, Bytes, Lba, Segments};
use lvm::{Attached, Disk, DiskRequest, Embedded, EmbeddedConfig, Engine};

/// How long each path is taken.
const TIME: Duration = Duration::from_millis(500);

fn request(path: &Path, client: &str, epoch: u64) -> DiskRequest {
    DiskRequest {
        client: client.to_owned(),
        epoch,
        image: "example".to_owned(),
        version: "1".to_owned(),
        path: path.to_owned(),
        overlay_limit: Bytes(1 << 30),
        note: String::new(),
    }
}

fn attach(engine: &Embedded, path: &Path, client: &str, epoch: u64) -> Disk {
    let (Attached::Made(disk) | Attached::Already(disk)) =
        engine.attach(request(path, client, epoch)).unwrap();
    disk
}

/// Blocks of 4 KiB of the first 256 MiB, in no order.
fn places() -> impl FnMut() -> Lba {
    let mut state = 1u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Lba::new((state >> 33) % (1 << 16) * 8)
    }
}

fn time(what: &str, threads: usize, work: impl Fn() + Sync) {
    let counts = std::thread::scope(|scope| {
        let run = || {
            let begin = Instant::now();
            let mut count = 0u64;
            while begin.elapsed() < TIME {
                (0..64).for_each(|_| work());
                count += 64;
            }
            count
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        all.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
    });
    let ns = TIME.as_nanos() as f64 * threads as f64 / counts as f64;
    println!("{what:<44} {threads} threads {ns:>9.0} ns each");
}

fn main() {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let place = place.join(format!("bootd-hot-paths-{}", std::process::id()));
    let overlays = place.join("overlays");
    let engine = Embedded::open(EmbeddedConfig { overlays, cache: Bytes(1 << 30) }).unwrap();
    let image = place.join("image");
    std::fs::File::create(&image).unwrap().set_len(1 << 40).unwrap();
    let data = std::fs::File::options().write(true).open(&image).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, &vec![7; 256 << 20], 0).unwrap();

    let one = |start| BlockRange::new(start, BlockCount::new(8)).unwrap();
    let disk = attach(&engine, &image, "reader", 1);
    let volume = disk.volume.as_ref().unwrap();
    for chunk in 0..4096 {
        let mut out = Segments::new();
        let range = BlockRange::new(Lba::new(chunk * 128), BlockCount::new(128)).unwrap();
        volume.read(range, &mut out).unwrap();
    }
    for threads in [1, 2] {
        let next = parking_lot::Mutex::new(places());
        let list: Vec<_> = (0..4096).map(|_| next.lock()()).collect();
        let at = std::sync::atomic::AtomicUsize::new(0);
        let pick = || list[at.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % list.len()];
        time("read 4 KiB of the image from the cache", threads, || {
            let mut out = Segments::new();
            assert!(volume.try_read(one(pick()), &mut out).unwrap());
        });
        let bytes = [bytes::Bytes::from(vec![1; 4096])];
        let fresh = attach(&engine, &image, "writer", threads as u64);
        let fresh = fresh.volume.as_ref().unwrap();
        list.iter().for_each(|start| fresh.write(*start, &bytes, false).unwrap());
        time("write 4 KiB over a block that was written", threads, || {
            fresh.write(pick(), &bytes, false).unwrap();
        });
        time("read 4 KiB that was written", threads, || {
            fresh.read(one(pick()), &mut Segments::new()).unwrap();
        });
        let whole = fresh.geometry().whole();
        let begin = Instant::now();
        fresh.discard(whole).unwrap();
        println!("{:<44} {:?}", "discard 1 TiB", begin.elapsed());
        let begin = Instant::now();
        (0..20_000u64).for_each(|i| fresh.write(Lba::new(i * 8 * 7), &bytes, false).unwrap());
        println!("{:<44} {:?} each", "write 4 KiB to a block for the first time", begin.elapsed() / 20_000);
    }

    for client in 0..500 {
        attach(&engine, &image, &format!("other{client}"), 1);
    }
    let reset = |epoch| {
        let begin = Instant::now();
        attach(&engine, &image, "booting", epoch);
        begin.elapsed()
    };
    let mut times: Vec<_> = (1..1001).map(reset).collect();
    times.sort();
    println!(
        "attach 1 TiB beside 500 others: median {:?}, 99 % {:?}, longest {:?}",
        times[500], times[990], times[999]
    );
    drop(engine);
    std::fs::remove_dir_all(place).unwrap();
}
