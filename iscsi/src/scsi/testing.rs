//! For tests: a disk in memory, and a session that sends commands to a LUN on it.

use std::collections::BTreeSet;

use block::{BlockCount, BlockRange, ErrorKind, Extent, Geometry, Lba, Provisioning, SECTOR_SIZE, Segments};
use bytes::Bytes;

use super::{
    Action, Command, Completion, Direction, Identity, InitiatorPort, Lun, LunOptions, NexusId, Task,
};
use crate::io::{Io, IoOutcome};

/// Blocks of the disk that tests use unless they say otherwise.
pub(super) const BLOCKS: u64 = 4096;

const SECTOR: usize = SECTOR_SIZE as usize;

/// A disk that keeps what it is told to.
pub(super) struct Disk {
    pub(super) bytes: Vec<u8>,
    deallocated: BTreeSet<u64>,
    /// Every request that was made, in order.
    pub(super) requests: Vec<Io>,
    /// What the next requests fail with.
    pub(super) fails: Option<ErrorKind>,
}

impl Disk {
    fn new(blocks: u64) -> Self {
        let bytes = vec![0; usize::try_from(blocks).unwrap() * SECTOR];
        Self { bytes, deallocated: BTreeSet::new(), requests: Vec::new(), fails: None }
    }

    /// The bytes of these blocks.
    pub(super) fn blocks(&mut self, start: u64, count: u64) -> &mut [u8] {
        let start = usize::try_from(start).unwrap() * SECTOR;
        &mut self.bytes[start..start + usize::try_from(count).unwrap() * SECTOR]
    }

    fn range(&mut self, range: BlockRange) -> &mut [u8] {
        self.blocks(range.start().get(), range.count().get())
    }

    fn write(&mut self, start: Lba, data: &[u8]) {
        assert!(!data.is_empty() && data.len().is_multiple_of(SECTOR), "only whole blocks are written");
        let count = (data.len() / SECTOR) as u64;
        self.blocks(start.get(), count).copy_from_slice(data);
        (start.get()..start.get() + count).for_each(|block| _ = self.deallocated.remove(&block));
    }

    fn execute(&mut self, io: Io) -> IoOutcome {
        self.requests.push(io.clone());
        if let Some(kind) = self.fails {
            return IoOutcome::Failed(kind);
        }
        match io {
            Io::Read { range } => {
                assert!(!range.is_empty(), "nothing is read");
                IoOutcome::Data(Bytes::copy_from_slice(self.range(range)).into())
            }
            Io::Write { start, data, .. } => {
                self.write(start, &data.concat());
                IoOutcome::Done
            }
            Io::Flush | Io::Prefetch(_) => IoOutcome::Done,
            Io::Discard(ranges) => {
                for range in ranges {
                    self.range(range).fill(0);
                    self.deallocated.extend(range.start().get()..range.end().get());
                }
                IoOutcome::Done
            }
            Io::CompareAndWrite { start, expect, data, .. } => {
                let (expect, data) = (expect.concat(), data.concat());
                assert_eq!(expect.len(), data.len());
                let here = self.blocks(start.get(), (data.len() / SECTOR) as u64).to_vec();
                if let Some(offset) = here.iter().zip(&expect).position(|(a, b)| a != b) {
                    return IoOutcome::Mismatch { offset: offset as u64 };
                }
                self.write(start, &data);
                IoOutcome::Done
            }
            Io::OrWrite { start, data, .. } => {
                let mut data = data.concat();
                let here = self.blocks(start.get(), (data.len() / SECTOR) as u64);
                data.iter_mut().zip(here).for_each(|(new, old)| *new |= *old);
                self.write(start, &data);
                IoOutcome::Done
            }
            Io::Provisioning(range) => IoOutcome::Extent(self.extent(range)),
        }
    }

    fn extent(&self, range: BlockRange) -> Extent {
        let is_free = |block: u64| self.deallocated.contains(&block);
        let start = range.start().get();
        let end = (start..range.end().get()).find(|it| is_free(*it) != is_free(start));
        let count = BlockCount::new(end.unwrap_or(range.end().get()) - start);
        let state = if is_free(start) { Provisioning::Deallocated } else { Provisioning::Mapped };
        Extent { range: BlockRange::new(range.start(), count).unwrap(), state }
    }
}

/// A LUN with its disk, and sessions on it.
pub(super) struct Bench {
    pub(super) lun: Lun,
    pub(super) disk: Disk,
}

/// The session that [`Bench::new`] begins.
pub(super) const A: NexusId = NexusId::new(1);
/// For a second session.
pub(super) const B: NexusId = NexusId::new(2);

impl Bench {
    /// A bench with session [`A`] on it, which has heard of the power on.
    pub(super) fn new() -> Self {
        Self::with(LunOptions::default(), BLOCKS)
    }

    pub(super) fn with(options: LunOptions, blocks: u64) -> Self {
        let bench = Self { lun: lun(options, blocks), disk: Disk::new(blocks) };
        bench.join(A);
        bench
    }

    /// Begins a session, and hears its power on.
    pub(super) fn join(&self, nexus: NexusId) {
        self.lun.join(nexus, port(nexus));
        self.lun.change(|state| while state.nexuses.take_attention(nexus).is_some() {});
    }

    /// A command of session [`A`], with the data that goes with it.
    pub(super) fn run(&mut self, cdb: &[u8], data: &[u8]) -> Completion {
        self.run_as(A, cdb, data)
    }

    pub(super) fn run_as(&mut self, nexus: NexusId, cdb: &[u8], data: &[u8]) -> Completion {
        let expected_len = u32::try_from(data.len()).unwrap();
        let direction = if data.is_empty() { Direction::Read } else { Direction::Write };
        self.execute(&Command { lun: 0, cdb, nexus, expected_len, direction }, data)
    }

    pub(super) fn execute(&mut self, command: &Command<'_>, data: &[u8]) -> Completion {
        let (mut task, mut action) = Task::start(&self.lun, command);
        loop {
            action = match action {
                Action::GetData { length } => {
                    let length = length as usize;
                    assert!(length > 0 && length <= data.len(), "no more is asked for than there is");
                    // Cut in an odd place: a task must not care where the pieces end.
                    let (head, tail) = data[..length].split_at(length / 3);
                    let pieces = [head, tail].into_iter().filter(|it| !it.is_empty());
                    task.handle_data(&self.lun, pieces.map(Bytes::copy_from_slice).collect())
                }
                Action::Io(io) => {
                    let outcome = self.disk.execute(io);
                    task.handle_io(&self.lun, outcome)
                }
                Action::Finish(completion) => return completion,
            }
        }
    }

    /// As [`run`](Self::run), of a command that must succeed: what it returned.
    pub(super) fn good(&mut self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let completion = self.run(cdb, data);
        assert_eq!(completion.status, super::Status::Good, "{cdb:02x?}: {completion:?}");
        bytes(&completion.data_in)
    }

    /// As [`run`](Self::run), of a command that must fail: key, ASC and ASCQ.
    pub(super) fn bad(&mut self, cdb: &[u8], data: &[u8]) -> (u8, u8, u8) {
        sense(&self.run(cdb, data))
    }
}

/// Key, ASC and ASCQ of a CHECK CONDITION.
pub(super) fn sense(completion: &Completion) -> (u8, u8, u8) {
    assert_eq!(completion.status, super::Status::CheckCondition, "{completion:?}");
    let condition = completion.sense.unwrap().condition();
    (condition.key as u8, condition.asc, condition.ascq)
}

pub(super) fn bytes(segments: &Segments) -> Vec<u8> {
    segments.to_bytes().to_vec()
}

pub(super) fn lun(options: LunOptions, blocks: u64) -> Lun {
    let identity = Identity {
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "0001".into(),
        serial: "0123456789abcdef".into(),
        naa: [0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        target_name: "iqn.2026-01.internal.lab.server:image:client:1".into(),
    };
    Lun::new(identity, Geometry::new(BlockCount::new(blocks)).unwrap(), options)
}

/// The port of a session in tests: one for each.
pub(super) fn port(nexus: NexusId) -> InitiatorPort {
    let isid = [0x40, 0, 0, 0, 0, u8::try_from(nexus.get()).unwrap()];
    InitiatorPort { iqn: "iqn.2026-01.internal.lab.client:system-disk".into(), isid }
}
