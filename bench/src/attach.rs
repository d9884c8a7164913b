//! How long a client waits for its disk: made and reset, among many others, whatever the image's size.

use std::error::Error;
use std::fs::File;
use std::time::{Duration, Instant};

use lvm::{Attached, Engine};
use serde::Serialize;

use crate::target;

/// The image's size: sparse, for only its length matters.
const IMAGE_LEN: u64 = 1 << 40;

/// Disks that are there already.
const OTHERS: usize = 500;

/// Disks that are made, and then reset, under the clock.
const SAMPLES: usize = 1000;

/// Times of one kind of call, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) p50: u128,
    pub(crate) p99: u128,
    pub(crate) max: u128,
}

impl Times {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: usize| all.get(all.len() * share / 100).map_or(0, Duration::as_micros);
        Self { p50: at(50), p99: at(99), max: all.last().map_or(0, Duration::as_micros) }
    }
}

/// Making and resetting disks.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct AttachTimes {
    pub(crate) made: Times,
    pub(crate) reset: Times,
}

/// Measures both, each reset after the client has written to its disk.
///
/// # Errors
/// When the engine fails.
pub(crate) fn run() -> Result<AttachTimes, Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let image = folder.path().join("image.img");
    File::create(&image)?.set_len(IMAGE_LEN)?;
    let engine = target::engine(&folder.path().join("overlays"), 64)?;
    let write = |attached: Attached| -> Result<(), Box<dyn Error>> {
        let (Attached::Made(disk) | Attached::Already(disk)) = attached;
        let volume = disk.volume.ok_or("the engine exports disks by itself")?;
        let data = bytes::Bytes::from(vec![7; 65536]);
        for place in 0..16 {
            volume.write(block::Lba::new(place * 4_000_000), std::slice::from_ref(&data), false)?;
        }
        Ok(())
    };
    for disk in 0..OTHERS {
        write(engine.attach(target::request(disk, &image, 1))?)?;
    }
    let mut times = [Vec::new(), Vec::new()];
    for sample in 0..SAMPLES {
        let disk = OTHERS + sample % 100;
        for (times, epoch) in times.iter_mut().zip([1, 2]) {
            let request = target::request(disk, &image, epoch);
            let begun = Instant::now();
            let attached = engine.attach(request)?;
            times.push(begun.elapsed());
            write(attached)?;
        }
        engine.detach(&format!("client{disk}"), 2)?;
    }
    let [made, reset] = times;
    Ok(AttachTimes { made: Times::of(made), reset: Times::of(reset) })
}
