//! A disk that always holds the same: each byte follows from its place. Whoever writes to it by plain writes writes
//! just that, so any other byte, in a write or in what is read, has been mixed up on the way.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use block::{BlockCount, BlockRange, ErrorKind, Extent, Geometry, Lba, Provisioning, Segments};
use bytes::Bytes;
use iscsi::{Io, IoOutcome, MAX_TRANSFER_BLOCKS, MAX_UNMAP_DESCRIPTORS};

/// Blocks of the disk: small, so that its end is often met.
pub(super) const BLOCKS: u64 = 256;

const SECTOR: usize = 512;
const DISK_LEN: usize = BLOCKS as usize * SECTOR;

/// The longest run of bytes that [`pattern`] makes.
pub(super) const LONGEST: usize = DISK_LEN;

pub(super) fn geometry() -> Geometry {
    Geometry::new(BlockCount::new(BLOCKS)).unwrap()
}

/// What the disk holds from byte `at` on; it goes round behind the end.
pub(super) fn pattern(at: u64, len: usize) -> Bytes {
    static TWICE: OnceLock<Bytes> = OnceLock::new();
    let twice = TWICE.get_or_init(|| {
        let byte = |at: usize| (at % DISK_LEN / SECTOR) as u8 ^ (at % SECTOR / 4) as u8;
        (0..2 * DISK_LEN).map(byte).collect()
    });
    let at = (at % DISK_LEN as u64) as usize;
    twice.slice(at..at + len.min(LONGEST))
}

/// What holds for every request that a target may make.
pub(super) fn check(io: &Io) {
    let on_disk = |range: BlockRange| assert!(geometry().contains(range), "{range} is not on the disk");
    let run = |start: Lba, len: usize| {
        assert!(len > 0 && len.is_multiple_of(SECTOR), "a write of {len} bytes");
        let count = BlockCount::from_bytes(len as u64).unwrap();
        on_disk(BlockRange::new(start, count).unwrap());
    };
    assert!(io.byte_len() <= u64::from(MAX_TRANSFER_BLOCKS) * SECTOR as u64, "too much at once: {io:?}");
    match io {
        Io::Read { range } => {
            assert!(!range.is_empty(), "a read of nothing");
            on_disk(*range);
        }
        Io::Provisioning(range) => {
            assert!(!range.is_empty(), "a question about nothing");
            on_disk(*range);
        }
        Io::Prefetch(range) => on_disk(*range),
        Io::Write { start, data, .. } | Io::OrWrite { start, data, .. } => run(*start, length(data)),
        Io::CompareAndWrite { start, expect, data, .. } => {
            assert_eq!(length(expect), length(data), "compares and writes different blocks");
            run(*start, length(data));
        }
        Io::Discard(ranges) => {
            assert!(ranges.len() <= usize::from(MAX_UNMAP_DESCRIPTORS));
            ranges.iter().for_each(|range| on_disk(*range));
        }
        Io::Flush => {}
    }
}

/// Whether all that is written is what the disk holds there already.
pub(super) fn changes_nothing(io: &Io) -> bool {
    let same = |start: &Lba, data: &[Bytes]| {
        let mut at = start.get() * SECTOR as u64;
        data.iter().all(|piece| {
            let same = *piece == pattern(at, piece.len());
            at += piece.len() as u64;
            same
        })
    };
    match io {
        Io::Write { start, data, .. } | Io::OrWrite { start, data, .. } => same(start, data),
        Io::CompareAndWrite { start, expect, data, .. } => same(start, expect) && same(start, data),
        _ => true,
    }
}

fn length(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// The right outcome of a request.
pub(super) fn done(io: &Io) -> IoOutcome {
    match io {
        Io::Read { range } => IoOutcome::Data(contents(*range)),
        Io::Provisioning(range) => {
            // Runs of eight blocks, every other one of which is not there.
            let start = range.start().get();
            let count = range.count().get().min(8 - start % 8);
            let run = BlockRange::new(range.start(), BlockCount::new(count)).unwrap();
            let mapped = (start / 8).is_multiple_of(2);
            let state = if mapped { Provisioning::Mapped } else { Provisioning::Deallocated };
            IoOutcome::Extent(Extent { range: run, state })
        }
        _ => IoOutcome::Done,
    }
}

/// Any outcome that a request may have.
pub(super) fn outcome(input: &mut Unstructured<'_>, io: &Io) -> Result<IoOutcome> {
    const FAILURES: [ErrorKind; 7] = [
        ErrorKind::OutOfRange,
        ErrorKind::WrongLength,
        ErrorKind::ReadOnly,
        ErrorKind::NoSpace,
        ErrorKind::ReadFailed,
        ErrorKind::WriteFailed,
        ErrorKind::Gone,
    ];
    Ok(match input.int_in_range(0..=15_u8)? {
        0 => IoOutcome::Failed(*input.choose(&FAILURES)?),
        1 if let Io::CompareAndWrite { expect, .. } = io => {
            let last = length(expect).saturating_sub(1) as u64;
            IoOutcome::Mismatch { offset: input.int_in_range(0..=last)? }
        }
        _ => done(io),
    })
}

/// In several pieces, as a cache of chunks gives them.
fn contents(range: BlockRange) -> Segments {
    const PIECE: usize = 3 * SECTOR;
    let mut all = Segments::new();
    let mut rest = pattern(range.byte_start(), range.byte_len() as usize);
    while !rest.is_empty() {
        all.push(rest.split_to(rest.len().min(PIECE)));
    }
    all
}
