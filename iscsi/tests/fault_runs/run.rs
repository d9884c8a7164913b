//! One run: a client, its disk, and what befalls them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::{
    BlockError, Checked, Delay, DelayPlan, Durability, Fault, FaultPlan, MemVolume, Overlay, OverlayOptions,
    Segments, Volume,
};
use bytes::Bytes;
use iscsi::{Credentials, Identity, Io, IoOutcome, Lun, LunOptions, Target};

use crate::link::{Ended, Link, Work};
use crate::model::{Dice, Model, Stamp, image, stamped};

/// Things that happen in one run.
const STEPS: u64 = 300;

pub(crate) struct Run {
    dice: Dice,
    path: PathBuf,
    options: OverlayOptions,
    image: Arc<dyn Volume>,
    disk: Arc<dyn Volume>,
    target: Arc<Target>,
    link: Link,
    /// Lost, but the disk is not done with them.
    lost: Vec<Link>,
    model: Model,
    next_stamp: Stamp,
}

impl Run {
    pub(crate) fn new(seed: u64, place: &Path) -> Self {
        let mut dice = Dice::new(seed);
        let reads_per_million = [0, 20_000, 200_000][dice.roll(3) as usize];
        let plan = FaultPlan { seed, reads_per_million, ..FaultPlan::default() };
        let mut image: Arc<dyn Volume> = Arc::new(MemVolume::from_bytes(image()).unwrap());
        image = Arc::new(Fault::new(image, plan));
        if dice.once_in(8) {
            image = Arc::new(Delay::new(image, DelayPlan { seed, varying_us: 20, ..DelayPlan::default() }));
        }
        let limit = [4, 12, 1 << 10][dice.roll(3) as usize] * 4096;
        let options = OverlayOptions { limit: block::Bytes(limit), durability: Durability::Volatile };
        let path = place.join("disk");
        let overlay = Overlay::create(Arc::clone(&image), &path, options).unwrap();
        let disk: Arc<dyn Volume> = Arc::new(Checked::new(Arc::new(overlay)));
        let target = target(&disk);
        let link = Link::new(&target);
        let model = Model::new();
        Self { dice, path, options, image, disk, target, link, lost: Vec::new(), model, next_stamp: 1 << 32 }
    }

    pub(crate) fn play(mut self) {
        for _ in 0..STEPS {
            match self.dice.roll(64) {
                0 => self.kill(),
                1..=3 => self.lose(),
                4..=28 => self.command(),
                29..=50 => self.end_io(),
                _ => {}
            }
            self.settle();
        }
        while self.link.works().next().is_some() || !self.lost.is_empty() || !self.link.is_logged_in() {
            self.end_io();
            self.settle();
        }
        self.model.check(&*self.disk);
        self.kill();
        self.model.check(&*self.disk);
    }

    /// One at a time on each sector: the order of commands that overlap is nobody's promise.
    fn command(&mut self) {
        let sectors = self.dice.range();
        let is_busy = |work: &Work| meets(&work.sectors(), &sectors);
        if !self.link.is_logged_in() || self.link.works().any(is_busy) {
            return;
        }
        let (work, body) = match self.dice.roll(8) {
            0..=2 => (Work::Read(sectors), Bytes::new()),
            3 => {
                let (start, count) = (sectors.start, (sectors.end - sectors.start) as u32);
                let head = [0, 22, 0, 16, 0, 0, 0, 0];
                let list = [&head[..], &start.to_be_bytes(), &count.to_be_bytes(), &[0; 4]].concat();
                (Work::Change(sectors, 0), list.into())
            }
            4 => (Work::Flush, Bytes::new()),
            _ => {
                self.next_stamp += 1;
                let body = stamped(self.next_stamp, &sectors);
                (Work::Change(sectors, self.next_stamp), body)
            }
        };
        if let Work::Change(sectors, stamp) = &work {
            self.model.begin(sectors, *stamp);
        }
        self.link.command(work, body);
    }

    /// The disk does any of its requests, also one of a connection that was lost meanwhile.
    fn end_io(&mut self) {
        let mut links: Vec<_> = self.lost.iter_mut().chain([&mut self.link]).collect();
        links.retain(|link| !link.io.is_empty());
        let Some(last) = links.len().checked_sub(1) else { return };
        let link = &mut links[self.dice.roll(last as u64 + 1) as usize];
        let (id, io) = link.io.swap_remove(self.dice.roll(link.io.len() as u64) as usize);
        let outcome = carry_out(&*self.disk, io).unwrap_or_else(|error| IoOutcome::Failed(error.kind()));
        link.end_io(id, outcome);
    }

    /// The connection is lost, and the client logs in again at once. What was open may have been done or not, and may
    /// yet be until the target has let go of the old session.
    fn lose(&mut self) {
        let old = std::mem::replace(&mut self.link, Link::new(&self.target));
        self.lost.push(old);
        if let Some(old) = self.lost.last_mut() {
            // What it had said before, the client has heard.
            Self::hear(&mut self.model, old, &[]);
            old.lose();
        }
    }

    /// The daemon is killed, and the next one takes the overlay up.
    fn kill(&mut self) {
        self.lost.clear();
        let overlay = Overlay::open(Arc::clone(&self.image), &self.path, self.options).unwrap();
        self.disk = Arc::new(Checked::new(Arc::new(overlay)));
        self.target = target(&self.disk);
        self.link = Link::new(&self.target);
    }

    fn settle(&mut self) {
        for link in &mut self.lost {
            link.advance(0);
        }
        self.lost.retain(|link| !link.is_closed());
        let under_way = self.lost.iter().map(|link| link.io.len()).sum::<usize>();
        let most = self.dice.roll(4);
        self.link.advance(most);
        assert!(under_way == 0 || !self.link.is_logged_in(), "a session beside the one that it takes over");
        let open: Vec<Work> = self.link.works().cloned().collect();
        Self::hear(&mut self.model, &mut self.link, &open);
    }

    fn hear(model: &mut Model, link: &mut Link, open: &[Work]) {
        for Ended { work, is_good, data } in link.ended.drain(..) {
            match work {
                Work::Read(sectors) if is_good => {
                    let changes = open.iter().filter(|work| matches!(work, Work::Change(..)));
                    let changes: Vec<_> = changes.map(Work::sectors).collect();
                    model.saw(&sectors, &data, |at| !changes.iter().any(|sectors| sectors.contains(&at)));
                }
                Work::Change(sectors, stamp) if is_good => model.done(&sectors, stamp),
                // A discard may have done the whole blocks when the rest fails.
                Work::Change(sectors, stamp) if stamp != 0 => model.refused(&sectors, stamp),
                Work::Read(_) | Work::Change(..) | Work::Flush => {}
            }
        }
    }
}

fn meets(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn target(disk: &Arc<dyn Volume>) -> Arc<Target> {
    let name = "iqn.2026-01.internal.lab.server:image:c1:1";
    let identity = Identity {
        vendor: "BOOTD".to_owned(),
        product: "Virtual Disk".to_owned(),
        revision: "1".to_owned(),
        serial: "1".to_owned(),
        naa: [0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        target_name: name.to_owned(),
    };
    let lun = Lun::new(identity, disk.geometry(), LunOptions::default());
    Arc::new(Target::new(name, Credentials::default(), Arc::new(lun)))
}

fn carry_out(disk: &dyn Volume, io: Io) -> Result<IoOutcome, BlockError> {
    match io {
        Io::Read { range } => {
            let mut data = Segments::new();
            disk.read(range, &mut data)?;
            return Ok(IoOutcome::Data(data));
        }
        Io::Write { start, data, fua } => disk.write(start, &data, fua)?,
        Io::Flush => disk.flush()?,
        Io::Discard(ranges) => ranges.into_iter().try_for_each(|range| disk.discard(range))?,
        other => panic!("no command asks for {other:?}"),
    }
    Ok(IoOutcome::Done)
}
