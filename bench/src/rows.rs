//! The rows of the iSCSI table, and how one row is measured: every server in turn, several times, medians kept.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::load::{self, Outcome, Spec};
use crate::peers::{self, Server};
use crate::{bare, table};

/// The image that is read: larger than any processor's cache, small enough to lie in RAM.
const IMAGE_LEN: u64 = 512 << 20;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) seconds: f64,
    pub(crate) repeats: usize,
}

/// One server's figures in one row.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
    /// Commands per processor second of the server.
    pub(crate) ops_per_cpu: f64,
    /// Processor seconds of the server per GiB moved.
    pub(crate) cpu_per_gib: f64,
}

/// One row: a load, and what each side made of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Bytes of one command.
    pub(crate) size: usize,
    pub(crate) bootd: Figures,
    pub(crate) tgt: Figures,
    /// Responses per second of the bare TCP program.
    pub(crate) bare: f64,
}

fn spec(write: bool, random: bool, size: usize, depth: usize, initiators: usize, effort: Effort) -> Spec {
    // writes stay in a part of the disk, so that overlays of 64 initiators fit in RAM
    let span = if write { IMAGE_LEN / 16 } else { IMAGE_LEN };
    let duration = Duration::from_secs_f64(effort.seconds);
    Spec { size, depth, initiators, write, random, span, duration, most: u64::MAX }
}

fn loads(effort: Effort) -> Vec<Spec> {
    const KIB: usize = 1024;
    let mut all = Vec::new();
    for (size, depth) in [(64, 1), (64, 32), (256, 8), (1024, 1), (1024, 8)] {
        all.push(spec(false, false, size * KIB, depth, 1, effort));
    }
    for (size, depth) in [(64, 1), (64, 32), (1024, 8)] {
        all.push(spec(true, false, size * KIB, depth, 1, effort));
    }
    for initiators in [1, 8, 64] {
        for write in [false, true] {
            for depth in [1, 32] {
                all.push(spec(write, true, 4 * KIB, depth, initiators, effort));
            }
        }
    }
    for initiators in [8, 64] {
        all.push(spec(false, false, 64 * KIB, 4, initiators, effort));
    }
    all
}

pub(crate) fn name(spec: &Spec) -> String {
    let order = if spec.random { "random" } else { "sequential" };
    let kind = if spec.write { "write" } else { "read" };
    let many = if spec.initiators == 1 { String::new() } else { format!(", {} initiators", spec.initiators) };
    format!("{order} {kind} {} KiB, depth {}{many}", spec.size / 1024, spec.depth)
}

pub(crate) fn measure(server: &Server, spec: &Spec) -> io::Result<Figures> {
    let before = server.usage();
    let outcome = load::run(&server.place, spec)
        .map_err(|e| io::Error::other(format!("{}, {}: {e}", server.name, name(spec))))?;
    let cpu = (server.usage().cpu - before.cpu).max(0.01);
    let gib = outcome.bytes * outcome.seconds / f64::from(1 << 30);
    let ops = outcome.ops * outcome.seconds;
    Ok(Figures { outcome, ops_per_cpu: ops / cpu, cpu_per_gib: cpu / gib.max(1e-9) })
}

pub(crate) fn median(mut all: Vec<Figures>) -> Option<Figures> {
    all.sort_by(|a, b| a.outcome.ops.total_cmp(&b.outcome.ops));
    all.get(all.len() / 2).copied()
}

/// Measures every row and prints each as it is done.
///
/// # Errors
/// When a server does not start or fails under load.
pub(crate) fn run(effort: Effort, only: Option<&str>) -> io::Result<Vec<Row>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let image = folder.path().join("image.img");
    peers::make_image(&image, IMAGE_LEN)?;
    let mut rows = Vec::new();
    table::header();
    for spec in loads(effort) {
        let name = name(&spec);
        if only.is_some_and(|text| !name.contains(text)) {
            continue;
        }
        let scratch = tempfile::tempdir_in(folder.path())?;
        let ours = peers::bootd(&image, scratch.path(), spec.initiators)?;
        let theirs = peers::tgt(&image, spec.write.then(|| scratch.path()), spec.initiators)?;
        if !spec.write {
            // both caches warm before the clock runs
            let warm = Spec { size: 1 << 20, depth: 4, initiators: 1, random: false, ..spec.clone() };
            let warm = Spec { duration: Duration::from_secs(1), ..warm };
            load::run(&ours.place, &warm)?;
            load::run(&theirs.place, &warm)?;
        }
        let (mut us, mut them, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..effort.repeats {
            us.push(measure(&ours, &spec)?);
            them.push(measure(&theirs, &spec)?);
            raw.push(bare::run(&spec)?);
        }
        raw.sort_by(f64::total_cmp);
        let bare = raw.get(raw.len() / 2).copied().unwrap_or(0.0);
        if let (Some(bootd), Some(tgt)) = (median(us), median(them)) {
            let row = Row { name, size: spec.size, bootd, tgt, bare };
            table::row(&row);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// What each more client costs: figures of the same load, spread over ever more initiators.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Scale {
    pub(crate) initiators: usize,
    /// Commands per second of all together.
    pub(crate) ops: f64,
    /// Server's processor time per command, in microseconds.
    pub(crate) cpu_micros: f64,
    pub(crate) fairness: f64,
}

/// Measures cost per client from 1 to 500 of them.
///
/// # Errors
/// As [`run`].
pub(crate) fn scale(effort: Effort) -> io::Result<Vec<Scale>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let image = folder.path().join("image.img");
    peers::make_image(&image, IMAGE_LEN)?;
    let mut all = Vec::new();
    for initiators in [1, 8, 64, 200, 500] {
        let server = peers::bootd(&image, folder.path(), initiators)?;
        let spec = spec(false, true, 4096, if initiators == 1 { 32 } else { 4 }, initiators, effort);
        let warm = Spec { size: 1 << 20, depth: 4, initiators: 1, random: false, ..spec.clone() };
        load::run(&server.place, &warm)?;
        let figures = measure(&server, &spec)?;
        all.push(Scale {
            initiators,
            ops: figures.outcome.ops,
            cpu_micros: 1e6 / figures.ops_per_cpu,
            fairness: figures.outcome.fairness,
        });
    }
    table::scale(&all);
    Ok(all)
}
