//! A machine that is busy on its disk, knows what must be there, and comes back by itself when its target goes away.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Ended, Failure, Initiator, Member, Result, SECTOR, ensure};

/// Sectors that are written and checked as one.
pub(crate) const BLOCK: usize = 8;

/// Blocks of the disk that a machine works on.
pub(crate) const BLOCKS: usize = 1024;

/// The longest read or write, in blocks: so long that the target has to ask for a part of the data.
const LONGEST: usize = 32;

/// Commands outstanding.
const DEPTH: usize = 4;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long between two attempts to come back. Real initiators take from one to five seconds.
const PAUSE: Duration = Duration::from_millis(50);

/// What a machine is told, and what it tells.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// It is to end, and to check its whole disk.
    pub(crate) stop: AtomicBool,
    /// How often it was told to log in again beside the session that it has.
    pub(crate) log_ins: AtomicU64,
    pub(crate) told: Mutex<Told>,
}

/// What a machine tells.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    /// Writes that were acknowledged.
    pub(crate) writes: u64,
    /// Reads that were what they had to be.
    pub(crate) reads: u64,
    /// How often it logged in beside the session that it had.
    pub(crate) log_ins: u64,
    /// When it was last back, and how often it was refused until then.
    pub(crate) back: Option<(Instant, u32)>,
    /// What went wrong.
    pub(crate) failure: Option<String>,
}

/// Why a session ended.
enum Trouble {
    /// The connection broke, which is no fault.
    Lost,
    Wrong(Failure),
}

type Step<T = ()> = std::result::Result<T, Trouble>;

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidData | ErrorKind::PermissionDenied => Self::Wrong(error.into()),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Self::Wrong(Failure::new(format!("no answer in {} s", PATIENCE.as_secs())))
            }
            _ => Self::Lost,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

/// A command that is under way.
#[derive(Debug, Clone, Copy)]
struct Doing {
    first: usize,
    count: usize,
    /// What it writes; `None`: it reads.
    generation: Option<u32>,
}

/// A busy machine.
pub(crate) struct Machine<'a> {
    member: &'a Member,
    number: u8,
    shared: &'a Shared,
    random: u64,
    generation: u32,
    /// For each block, the generations that may be on the disk: one, or several where a write was under way when the
    /// connection broke. 0 is the image.
    expected: Vec<Vec<u32>>,
    doing: HashMap<u32, Doing>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(member: &'a Member, number: u8, shared: &'a Shared) -> Self {
        let random = 0x9e37_79b9_7f4a_7c15 ^ u64::from(number) << 32;
        let expected = vec![vec![0]; BLOCKS];
        Self { member, number, shared, random, generation: 0, expected, doing: HashMap::new() }
    }

    /// Works until it is told to stop, then checks all that it has written.
    pub(crate) fn run(mut self) {
        if let Err(failure) = self.work() {
            self.told(|told| told.failure = Some(failure.while_doing(&self.member.name).to_string()));
        }
    }

    fn work(&mut self) -> Result {
        let mut session = self.log_in()?;
        loop {
            match self.use_session(&mut session) {
                Ok(()) => return Ok(()),
                Err(Trouble::Wrong(failure)) => return Err(failure),
                Err(Trouble::Lost) => session = self.come_back()?,
            }
        }
    }

    fn log_in(&self) -> io::Result<Initiator> {
        let isid = [0x80, 0xb0, 0x07, 0xd0, 0, self.number];
        let mut session = Initiator::log_in(&self.member.disk, self.member.address, isid, PATIENCE)?;
        session.settle()?;
        Ok(session)
    }

    fn come_back(&mut self) -> Result<Initiator> {
        self.doing.clear();
        let (lost, mut refused) = (Instant::now(), 0);
        while lost.elapsed() < PATIENCE * 3 {
            match self.log_in() {
                Ok(session) => {
                    self.told(|told| told.back = Some((Instant::now(), refused)));
                    return Ok(session);
                }
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => refused += 1,
                Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidData) => {
                    return Err(e.into());
                }
                Err(_) => {}
            }
            ensure!(!self.shared.stop.load(Ordering::Relaxed), "the target went away for good");
            sleep(PAUSE);
        }
        Err(Failure::new("could not come back"))
    }

    /// Works in one session until the end.
    fn use_session(&mut self, session: &mut Initiator) -> Step {
        self.check_doubtful(session)?;
        let mut log_ins = self.shared.log_ins.load(Ordering::Relaxed);
        loop {
            let stop = self.shared.stop.load(Ordering::Relaxed);
            if stop && self.doing.is_empty() {
                return self.check(session, |_| true);
            }
            let wanted = self.shared.log_ins.load(Ordering::Relaxed);
            if std::mem::replace(&mut log_ins, wanted) != wanted {
                // With commands under way in the session that it ends.
                let mut old = std::mem::replace(session, self.log_in()?);
                self.doing.clear();
                self.check_doubtful(session)?;
                if !old.is_closed() {
                    return Err(Failure::new("a session goes on though its initiator logged in anew").into());
                }
                self.told(|told| told.log_ins += 1);
            }
            while !stop && self.doing.len() < DEPTH {
                self.begin(session)?;
            }
            let ended = session.wait()?;
            self.end(&ended)?;
        }
    }

    /// Begins a read or a write somewhere where none is under way.
    fn begin(&mut self, session: &mut Initiator) -> Step {
        let (first, count) = loop {
            let count = 1 + self.below(LONGEST);
            let first = self.below(BLOCKS - count);
            let meets = |other: &Doing| first < other.first + other.count && other.first < first + count;
            if !self.doing.values().any(meets) {
                break (first, count);
            }
        };
        let generation = (self.below(3) > 0).then(|| {
            self.generation += 1;
            self.generation
        });
        let lba = (first * BLOCK) as u64;
        let tag = match generation {
            None => session.read(lba, (count * BLOCK) as u32),
            Some(generation) => {
                let blocks = self.expected.iter_mut().skip(first).take(count);
                blocks.for_each(|block| block.push(generation));
                let sectors = first * BLOCK..(first + count) * BLOCK;
                let data = sectors.flat_map(|sector| pattern(self.number, sector, generation)).collect();
                session.write(lba, data)
            }
        }?;
        self.doing.insert(tag, Doing { first, count, generation });
        Ok(())
    }

    fn end(&mut self, ended: &Ended) -> Result {
        let doing = self.doing.remove(&ended.tag);
        let Some(Doing { first, count, generation }) = doing else {
            return Err(Failure::new("a command ended that was not under way"));
        };
        ensure!(ended.status == 0, "a command failed: status {}, sense {:?}", ended.status, ended.sense);
        match generation {
            Some(generation) => {
                let blocks = self.expected.iter_mut().skip(first).take(count);
                blocks.for_each(|block| *block = vec![generation]);
                self.told(|told| told.writes += 1);
            }
            None => {
                for (block, data) in (first..).zip(ended.data.chunks(BLOCK * SECTOR)) {
                    self.compare(block, data)?;
                }
                self.told(|told| told.reads += 1);
            }
        }
        Ok(())
    }

    /// Checks what was under way when a session ended.
    fn check_doubtful(&mut self, session: &mut Initiator) -> Step {
        self.check(session, |expected| expected.len() > 1)
    }

    fn check(&mut self, session: &mut Initiator, which: impl Fn(&[u32]) -> bool) -> Step {
        for first in 0..BLOCKS {
            if self.expected.get(first).is_some_and(|expected| which(expected)) {
                let tag = session.read((first * BLOCK) as u64, BLOCK as u32)?;
                let ended = session.finish(tag)?;
                self.doing.insert(tag, Doing { first, count: 1, generation: None });
                self.end(&ended)?;
            }
        }
        Ok(())
    }

    /// Each sector must be of one of the generations that may be there; what has been seen must then stay.
    fn compare(&mut self, block: usize, data: &[u8]) -> Result {
        let expected = self.expected.get_mut(block);
        let Some(expected) = expected else { return Err(Failure::new("more was read than asked for")) };
        let mut seen: Vec<u32> = Vec::new();
        for (sector, found) in (block * BLOCK..).zip(data.chunks(SECTOR)) {
            let of = expected.iter().find(|generation| pattern(self.number, sector, **generation) == found);
            let Some(generation) = of else {
                let head: Vec<_> = found.iter().take(16).collect();
                return Err(Failure::new(format!(
                    "sector {sector} should be of generation {expected:?} and begins {head:x?}"
                )));
            };
            if !seen.contains(generation) {
                seen.push(*generation);
            }
        }
        // Where it is whole. Of a write that was broken off, parts may be there.
        if let [one] = seen.as_slice() {
            *expected = vec![*one];
        }
        Ok(())
    }

    fn told(&self, tell: impl FnOnce(&mut Told)) {
        if let Ok(mut told) = self.shared.told.lock() {
            tell(&mut told);
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(next(&mut self.random) % limit as u64).unwrap_or_default()
    }
}

/// What that machine writes to that sector in that generation. Generation 0 is the image, which all machines share.
pub(crate) fn pattern(machine: u8, sector: usize, generation: u32) -> Vec<u8> {
    let machine = if generation == 0 { 0 } else { u64::from(machine) };
    let mut state = (machine << 56 | (sector as u64) << 32 | u64::from(generation)) ^ 0x5eed_b007_d15c_0000;
    (0..SECTOR / 8).flat_map(|_| next(&mut state).to_le_bytes()).collect()
}

/// Numbers that look random and are the same each time (xorshift64*).
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
