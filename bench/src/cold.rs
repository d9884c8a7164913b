//! Cold caches: an image on a real file system of which nothing is in memory, read once. A target that has a cache
//! of its own starts with an empty one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Serialize;

use crate::load::Spec;
use crate::peers::{self, Server};
use crate::rows::{self, Effort, Figures};
use crate::table;

/// The image: so large that no load below gets to its end in a second or two.
const IMAGE_LEN: u64 = 1 << 30;

/// What bootd caches at a time. Of places taken at random, one in four of its chunks is read, so nearly every read is
/// the first of its chunk.
const CHUNK: u64 = 64 << 10;

/// The file itself, read cold and by nothing but a loop.
const RAW_READ: usize = 1 << 20;

/// One row: a load on cold caches.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) bootd: Run,
    pub(crate) tgt: Run,
}

/// What one server made of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) figures: Figures,
    /// Bytes that the server had read from storage, for each byte that was asked for.
    pub(crate) from_storage: f64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cold {
    pub(crate) file_system: String,
    /// Bytes per second of the file itself.
    pub(crate) raw: f64,
    pub(crate) rows: Vec<Row>,
}

fn loads(effort: Effort) -> Vec<Spec> {
    const KIB: usize = 1024;
    let spec = |random, kib, depth, initiators: usize| {
        let size = kib * KIB;
        // Once over the disk, all initiators together, and not a block twice.
        let most = if random { IMAGE_LEN / CHUNK / 4 } else { IMAGE_LEN / size as u64 } / initiators as u64;
        let duration = Duration::from_secs_f64(effort.seconds);
        Spec { size, depth, initiators, write: false, random, span: IMAGE_LEN, duration, most }
    };
    vec![
        spec(false, 64, 1, 1),
        spec(false, 64, 32, 1),
        spec(false, 1024, 8, 1),
        spec(false, 64, 4, 8),
        spec(true, 4, 1, 1),
        spec(true, 4, 32, 1),
        spec(true, 4, 4, 8),
    ]
}

/// Makes the kernel forget the image. What is not on the disk yet can't be forgotten, so that is written first.
fn forget(image: &Path) -> io::Result<()> {
    let file = File::open(image)?;
    file.sync_all()?;
    Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
}

fn raw(image: &Path, effort: Effort) -> io::Result<f64> {
    forget(image)?;
    let mut file = File::open(image)?;
    let mut buffer = vec![0; RAW_READ];
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < effort.seconds {
        match file.read(&mut buffer)? {
            0 => break,
            count => bytes += count,
        }
    }
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

fn measure(server: &Server, image: &Path, spec: &Spec) -> io::Result<Run> {
    forget(image)?;
    let before = server.usage();
    let figures = rows::measure(server, spec)?;
    let read = server.usage().storage.saturating_sub(before.storage);
    let from_storage = read as f64 / (figures.outcome.bytes * figures.outcome.seconds).max(1.0);
    // Some chunks are hit twice; half of them are not.
    if from_storage < 0.5 {
        let text = format!("{}: most of it was not read from storage: the caches were not cold", server.name);
        return Err(io::Error::other(text));
    }
    Ok(Run { figures, from_storage })
}

fn median(mut all: Vec<Run>) -> Option<Run> {
    all.sort_by(|a, b| a.figures.outcome.ops.total_cmp(&b.figures.outcome.ops));
    all.get(all.len() / 2).copied()
}

/// Measures every row in `folder` and prints each as it is done.
///
/// # Errors
/// When the folder is in memory, a server does not start or fails under load, or the caches don't get cold.
pub(crate) fn run(effort: Effort, folder: &Path) -> io::Result<Cold> {
    let folder = tempfile::tempdir_in(folder)?;
    if statfs(folder.path())?.filesystem_type() == TMPFS_MAGIC {
        let text = format!("{} is in memory: nothing there is ever cold", folder.path().display());
        return Err(io::Error::other(text));
    }
    let file_system =
        peers::first_line("findmnt", &["-no", "FSTYPE", "-T", &folder.path().to_string_lossy()])?;
    let image = folder.path().join("image.img");
    peers::make_image(&image, IMAGE_LEN)?;
    let mut cold = Cold { file_system, raw: raw(&image, effort)?, rows: Vec::new() };
    table::cold_header(&cold);
    for spec in loads(effort) {
        let (mut us, mut them) = (Vec::new(), Vec::new());
        for _ in 0..effort.repeats {
            let overlays = tempfile::tempdir_in("/dev/shm")?;
            let ours = peers::bootd(&image, overlays.path(), spec.initiators)?;
            us.push(measure(&ours, &image, &spec)?);
            drop(ours);
            let theirs = peers::tgt(&image, None, spec.initiators)?;
            them.push(measure(&theirs, &image, &spec)?);
        }
        if let (Some(bootd), Some(tgt)) = (median(us), median(them)) {
            let row = Row { name: rows::name(&spec), bootd, tgt };
            table::cold_row(&row);
            cold.rows.push(row);
        }
    }
    Ok(cold)
}
