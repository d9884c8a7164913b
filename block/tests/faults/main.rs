//! An overlay through whatever may befall it, by seed: reads of the image that fail, delays, its limit, refused calls,
//! a process that is killed between any two writes to its files. After each, it holds what was acknowledged.
//!
//! A run that failed is run again by its seed, which its message names. `BOOTD_SEEDS=20000` does more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

mod model;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{
    BlockError, Checked, Delay, DelayPlan, Durability, ErrorKind, Fault, FaultPlan, Lba, MemVolume, Overlay,
    OverlayOptions, Segments, Volume,
};
use model::{Dice, Model, Stamp, blocks, image, place, seeds, stamped};

/// Calls in one run.
const CALLS: u64 = 60;

struct Run {
    seed: u64,
    dice: Dice,
    path: PathBuf,
    options: OverlayOptions,
    image: Arc<dyn Volume>,
    overlay: Arc<Overlay>,
    disk: Arc<dyn Volume>,
    model: Model,
    next_stamp: Stamp,
}

impl Run {
    fn new(seed: u64, place: &Path) -> Self {
        let mut dice = Dice::new(seed);
        let plan = FaultPlan {
            seed,
            reads_per_million: [0, 20_000, 300_000][dice.roll(3) as usize],
            ..FaultPlan::default()
        };
        let mut image: Arc<dyn Volume> = Arc::new(MemVolume::from_bytes(image()).unwrap());
        image = Arc::new(Fault::new(image, plan));
        if dice.once_in(8) {
            image = Arc::new(Delay::new(image, DelayPlan { seed, varying_us: 20, ..DelayPlan::default() }));
        }
        let durability = if dice.once_in(8) { Durability::Persistent } else { Durability::Volatile };
        let limit = [4, 12, 1 << 10][dice.roll(3) as usize] * 4096;
        let options = OverlayOptions { limit: block::Bytes(limit), durability };
        let path = place.join("disk");
        let overlay = Arc::new(Overlay::create(Arc::clone(&image), &path, options).unwrap());
        let disk = stack(&overlay, seed);
        Self { seed, dice, path, options, image, overlay, disk, model: Model::new(), next_stamp: 1 << 32 }
    }

    /// The next process takes the overlay up.
    fn reopen(&mut self) {
        let overlay = Overlay::open(Arc::clone(&self.image), &self.path, self.options).unwrap();
        self.overlay = Arc::new(overlay);
        self.disk = stack(&self.overlay, self.dice.roll(1 << 40));
    }

    fn call(&mut self) {
        let sectors = self.dice.range();
        match self.dice.roll(16) {
            0..=5 => {
                let change = self.change(sectors);
                self.apply(&change).ok();
            }
            6..=8 => self.read(&sectors),
            9..=11 => {
                let change = Change { stamp: 0, sectors };
                self.apply(&change).ok();
            }
            12 => self.disk.flush().unwrap_or_else(|error| assert_planned(&error)),
            13 => self.reopen(),
            _ => {
                let change = match self.dice.once_in(3) {
                    // Whole blocks only: what is left at the ends is a write like others.
                    true => Change { stamp: 0, sectors: whole_blocks(&sectors) },
                    false => self.change(sectors),
                };
                self.killed_amid(&change);
            }
        }
        assert!(self.overlay.used() <= self.options.limit, "seed {}: more than its limit", self.seed);
    }

    fn change(&mut self, sectors: Range<u64>) -> Change {
        self.next_stamp += 1;
        Change { stamp: self.next_stamp, sectors }
    }

    fn read(&mut self, sectors: &Range<u64>) {
        let mut out = Segments::new();
        let done = match self.dice.once_in(2) {
            true => self.disk.try_read(blocks(sectors), &mut out),
            false => self.disk.read(blocks(sectors), &mut out).map(|()| true),
        };
        match done {
            Ok(true) => self.model.saw(sectors, &out.to_bytes(), |_| true),
            Ok(false) => assert!(out.is_empty(), "an attempt left something behind"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ReadFailed, "{error}"),
        }
    }

    /// A write or discard, acknowledged or refused.
    fn apply(&mut self, Change { stamp, sectors }: &Change) -> Result<(), BlockError> {
        self.model.begin(sectors, *stamp);
        let done = match stamp {
            0 => self.disk.discard(blocks(sectors)),
            _ => {
                let bytes = stamped(*stamp, sectors);
                let cut = bytes.len() / 3;
                let data = [bytes.slice(..cut), bytes.slice(cut..)];
                let (start, fua) = (Lba::new(sectors.start), self.dice.once_in(8));
                let tried = match self.dice.once_in(2) {
                    true => self.disk.try_write(start, &data, fua),
                    false => Ok(false),
                };
                tried.and_then(|done| if done { Ok(()) } else { self.disk.write(start, &data, fua) })
            }
        };
        match &done {
            Ok(()) => self.model.done(sectors, *stamp),
            Err(error) => {
                assert_planned(error);
                // A discard may have done the whole blocks when the rest fails.
                if *stamp != 0 {
                    self.model.refused(sectors, *stamp);
                }
            }
        }
        done
    }

    /// The process is killed while it makes the change: of what it would have written to its files, only the first part
    /// was, in the order in which the overlay writes. That order is: a write's data, then the record; a discard's
    /// record, then the holes.
    fn killed_amid(&mut self, change: &Change) {
        let files = Overlay::files(&self.path);
        let before = files.each_ref().map(|file| fs::read(file).unwrap());
        let acknowledged = self.model.clone();
        let done = self.apply(change);
        let after = files.each_ref().map(|file| fs::read(file).unwrap());
        if done.is_err() {
            return self.reopen();
        }
        self.model = acknowledged;
        self.model.begin(&change.sectors, change.stamp);
        let order = if change.stamp == 0 { [1, 0] } else { [0, 1] };
        let all: Vec<(usize, usize)> = order
            .into_iter()
            .flat_map(|file| {
                let pages = before[file].len().max(after[file].len()).div_ceil(model::SECTOR);
                (0..pages).map(move |page| (file, page * model::SECTOR))
            })
            .filter(|(file, at)| piece(&before[*file], *at) != piece(&after[*file], *at))
            .collect();
        let written = self.dice.roll(all.len() as u64 + 1) as usize;
        let mut found = before.clone();
        for (file, at) in &all[..written] {
            let new = piece(&after[*file], *at);
            let file = &mut found[*file];
            file.resize(file.len().max(at + new.len()), 0);
            file[*at..at + new.len()].copy_from_slice(new);
        }
        for (file, bytes) in files.iter().zip(&found) {
            // In place: the killed process's own handles must not matter.
            fs::write(file, bytes).unwrap();
        }
        self.reopen();
    }
}

fn whole_blocks(sectors: &Range<u64>) -> Range<u64> {
    const BLOCK: u64 = 8;
    sectors.start / BLOCK * BLOCK..sectors.end.next_multiple_of(BLOCK).min(model::SECTORS)
}

fn piece(file: &[u8], at: usize) -> &[u8] {
    file.get(at..file.len().min(at + model::SECTOR)).unwrap_or_default()
}

/// A write, or a discard where the stamp is zero.
struct Change {
    stamp: Stamp,
    sectors: Range<u64>,
}

/// As a daemon has it, with a layer above the overlay that refuses some calls.
fn stack(overlay: &Arc<Overlay>, seed: u64) -> Arc<dyn Volume> {
    let plan =
        FaultPlan { seed, reads_per_million: 10_000, writes_per_million: 30_000, ..FaultPlan::default() };
    let overlay = Arc::clone(overlay) as Arc<dyn Volume>;
    Arc::new(Checked::new(Arc::new(Fault::new(overlay, plan))))
}

fn assert_planned(error: &BlockError) {
    let planned = [ErrorKind::ReadFailed, ErrorKind::WriteFailed, ErrorKind::NoSpace];
    assert!(planned.contains(&error.kind()), "{error}");
}

#[test]
fn what_was_acknowledged_is_there() {
    for seed in seeds(300) {
        // Shown only if the run fails.
        println!("seed {seed}");
        let place = place();
        let mut run = Run::new(seed, place.path());
        for _ in 0..CALLS {
            run.call();
        }
        run.model.check(&*run.disk);
        run.reopen();
        run.model.check(&*run.disk);
    }
}
