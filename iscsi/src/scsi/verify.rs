//! VERIFY, WRITE AND VERIFY and COMPARE AND WRITE: commands that look whether the medium holds what it should.

use block::{BlockRange, SECTOR_SIZE, Segments};
use bytes::Bytes;

use super::blocks::{
    addressed, byte_len, check_writable, first_difference, split_step, transfer, truncated, whole_blocks,
};
use super::cdb::Cdb;
use super::limits::STEP_BLOCKS;
use super::rw::is_durable;
use super::sense::{Condition, Sense};
use super::task::{Failure, Step, Verdict};
use super::{Command, Lun};
use crate::io::{Io, IoOutcome};

/// SBC-3, VERIFY (10) command, BYTCHK: what the blocks are compared with.
enum ByteCheck {
    /// Nothing: they need only be readable.
    Medium,
    /// The data, block by block.
    Data,
    /// One block of data, each of them.
    OneBlock,
}

impl ByteCheck {
    fn of(cdb: &Cdb<'_>) -> Result<Self, Failure> {
        match (cdb.byte(1) & 0x06) >> 1 {
            0 => Ok(Self::Medium),
            1 => Ok(Self::Data),
            3 => Ok(Self::OneBlock),
            _ => Err(Cdb::invalid(1, Some(2))),
        }
    }
}

/// SBC-3, VERIFY (10), (12) and (16) commands.
pub(super) fn verify(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let check = ByteCheck::of(cdb)?;
    let range = transfer(lun, cdb)?;
    match check {
        ByteCheck::Medium => Verification { rest: range, expected: Expected::Anything }.step(),
        ByteCheck::Data => Step::get_data(byte_len(range), move |_, data| {
            let rest = truncated_to(range, &data)?;
            Verification { rest, expected: Expected::Data(segments(data)) }.step()
        }),
        ByteCheck::OneBlock if range.is_empty() => Ok(Step::Done),
        ByteCheck::OneBlock => Step::get_data(SECTOR_SIZE, move |_, data| {
            if whole_blocks(&data)? != 1 {
                return Err(Condition::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT.into());
            }
            let block = segments(data).to_bytes();
            Verification { rest: range, expected: Expected::Block(block) }.step()
        }),
    }
}

/// SBC-3, WRITE AND VERIFY (10), (12) and (16) commands: written through, then read back.
pub(super) fn write_and_verify(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let compare = match ByteCheck::of(cdb)? {
        ByteCheck::Medium => false,
        ByteCheck::Data => true,
        ByteCheck::OneBlock => return Err(Cdb::invalid(1, Some(2))),
    };
    let range = transfer(lun, cdb)?;
    check_writable(lun)?;
    Step::get_data(byte_len(range), move |_, data| {
        let rest = truncated_to(range, &data)?;
        if rest.is_empty() {
            return Ok(Step::Done);
        }
        let expected = if compare { Expected::Data(segments(data.clone())) } else { Expected::Anything };
        let write = Io::Write { start: rest.start(), data, fua: true };
        Step::io(write, move |_, _| Verification { rest, expected }.step())
    })
}

/// SBC-3, COMPARE AND WRITE command: as much data to compare with as to write. An initiator whose data is not as long
/// as its CDB says is refused, for it can't mean what it asks.
pub(super) fn compare_and_write(lun: &Lun, cdb: &Cdb<'_>, command: &Command<'_>) -> Verdict {
    let range = addressed(lun, cdb, u64::from(cdb.length()))?;
    check_writable(lun)?;
    let half = byte_len(range);
    if command.data_out_len() != 2 * half {
        return Err(cdb.invalid_length());
    }
    let fua = is_durable(lun, cdb);
    Step::get_data(2 * half, move |_, data| {
        if range.is_empty() {
            return Ok(Step::Done);
        }
        let mut data = segments(data);
        let expect = data.split_to(half as usize);
        let [expect, data] = [expect, data].map(|it| it.into_iter().collect());
        let io = Io::CompareAndWrite { start: range.start(), expect, data, fua };
        Step::io(io, |_, outcome| match outcome {
            IoOutcome::Mismatch { offset } => Err(miscompare(offset)),
            _ => Ok(Step::Done),
        })
    })
}

/// What blocks should hold.
enum Expected {
    Anything,
    Data(Segments),
    Block(Bytes),
}

impl Expected {
    /// What the next `count` blocks should hold.
    fn next(&mut self, count: u64) -> Option<Vec<Bytes>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        match self {
            Self::Anything => None,
            Self::Data(data) => Some(data.split_to(count * SECTOR_SIZE as usize).into_iter().collect()),
            Self::Block(block) => Some(vec![block.clone(); count]),
        }
    }
}

/// Reads blocks back, in steps.
struct Verification {
    rest: BlockRange,
    expected: Expected,
}

impl Verification {
    fn step(mut self) -> Verdict {
        let Some((range, rest)) = split_step(self.rest, STEP_BLOCKS) else {
            return Ok(Step::Done);
        };
        self.rest = rest;
        Step::io(Io::Read { range }, move |_, outcome| {
            let IoOutcome::Data(read) = outcome else {
                return Err(Condition::INTERNAL_TARGET_FAILURE.into());
            };
            if let Some(expected) = self.expected.next(range.count().get())
                && let Some(offset) = first_difference(read.pieces(), &expected)
            {
                return Err(miscompare(range.start().get() + offset / u64::from(SECTOR_SIZE)));
            }
            self.step()
        })
    }
}

/// MISCOMPARE. The information is the offset in the data for COMPARE AND WRITE, and the block's address for the
/// others.
fn miscompare(information: u64) -> Failure {
    Sense::from(Condition::MISCOMPARE_DURING_VERIFY).with_information(information).into()
}

/// As much of `range` as there is data for.
fn truncated_to(range: BlockRange, data: &[Bytes]) -> Result<BlockRange, Failure> {
    Ok(truncated(range, whole_blocks(data)?))
}

fn segments(data: Vec<Bytes>) -> Segments {
    let mut all = Segments::new();
    data.into_iter().for_each(|piece| all.push(piece));
    all
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::testing::{BLOCKS, Bench, sense};

    const MISCOMPARE: (u8, u8, u8) = (0xe, 0x1d, 0);

    /// VERIFY (10), (12), (16), or WRITE AND VERIFY by their opcodes, with BYTCHK.
    fn forms([ten, twelve, sixteen]: [u8; 3], bytchk: u8, lba: u8, blocks: u8) -> [Vec<u8>; 3] {
        let flags = bytchk << 1;
        [
            vec![ten, flags, 0, 0, 0, lba, 0, 0, blocks, 0],
            vec![twelve, flags, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0],
            vec![sixteen, flags, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0],
        ]
    }

    const VERIFY: [u8; 3] = [0x2f, 0xaf, 0x8f];
    const WRITE_AND_VERIFY: [u8; 3] = [0x2e, 0xae, 0x8e];

    #[test]
    fn verify_compares_every_byte() {
        let mut bench = Bench::new();
        let data: Vec<u8> = (0..1024).map(|at| (at / 7) as u8).collect();
        bench.disk.blocks(5, 2).copy_from_slice(&data);
        for at in [0, 511, 512, 1023] {
            let mut other = data.clone();
            other[at] ^= 0x80;
            for cdb in forms(VERIFY, 1, 5, 2) {
                bench.good(&cdb, &data);
                let completion = bench.run(&cdb, &other);
                assert_eq!(sense(&completion), MISCOMPARE);
                assert_eq!(completion.sense.unwrap().information(), Some(5 + at as u64 / 512));
            }
            for cdb in forms(VERIFY, 0, 5, 2) {
                bench.good(&cdb, &other);
            }
        }
    }

    #[test]
    fn verify_compares_one_block_with_all() {
        let mut bench = Bench::new();
        bench.disk.blocks(0, 3).fill(7);
        for cdb in forms(VERIFY, 3, 0, 3) {
            bench.good(&cdb, &[7; 512]);
            assert_eq!(bench.bad(&cdb, &[8; 512]), MISCOMPARE);
            assert_eq!(bench.bad(&cdb, &[7; 100]), (5, 0x0e, 3));
        }
        for cdb in forms(VERIFY, 2, 0, 3) {
            assert_eq!(bench.bad(&cdb, &[7; 512]), (5, 0x24, 0), "BYTCHK 10b is reserved");
        }
    }

    #[test]
    fn a_long_verify_reads_in_steps_and_reports_what_it_cannot_read() {
        let mut bench = Bench::new();
        let all = [0x2f, 0, 0, 0, 0, 0, 0, 0x10, 0, 0];
        bench.good(&all, &[]);
        assert_eq!(bench.disk.requests.len(), 2);
        bench.disk.fails = Some(block::ErrorKind::ReadFailed);
        assert_eq!(bench.bad(&all, &[]), (3, 0x11, 0));
    }

    #[test]
    fn write_and_verify_writes_through_and_reads_back() {
        let mut bench = Bench::new();
        for (bytchk, cdb) in
            [0, 1].into_iter().flat_map(|it| forms(WRITE_AND_VERIFY, it, 9, 2).map(|cdb| (it, cdb)))
        {
            bench.disk.requests.clear();
            let data = [bytchk + cdb[0]; 1024];
            let completion = bench.run(&cdb, &data);
            assert_eq!((completion.status, completion.data_length), (Status::Good, 1024));
            assert_eq!(bench.disk.blocks(9, 2), data);
            assert!(matches!(
                bench.disk.requests[..],
                [crate::io::Io::Write { fua: true, .. }, crate::io::Io::Read { .. }]
            ));
        }
        for cdb in forms(WRITE_AND_VERIFY, 1, 9, 2) {
            let nothing = bench.run(&cdb, &[]);
            assert_eq!(
                (nothing.status, nothing.data_length),
                (Status::Good, 1024),
                "no data, nothing written"
            );
        }
        for cdb in forms(WRITE_AND_VERIFY, 3, 9, 2) {
            assert_eq!(bench.bad(&cdb, &[0; 1024]), (5, 0x24, 0));
        }
    }

    fn compare_and_write(lba: u64, blocks: u8) -> Vec<u8> {
        let mut cdb = vec![0x89, 0];
        cdb.extend(lba.to_be_bytes());
        cdb.extend([0, 0, 0, blocks, 0, 0]);
        cdb
    }

    #[test]
    fn compare_and_write_writes_only_when_all_is_equal() {
        let mut bench = Bench::new();
        for blocks in [1, 2, 255] {
            let half = usize::from(blocks) * 512;
            let mut data = vec![b'A'; 2 * half];
            data[half..].fill(b'B');
            let lba = BLOCKS - u64::from(blocks);
            bench.disk.blocks(lba, u64::from(blocks)).fill(b'A');
            bench.good(&compare_and_write(lba, blocks), &data);
            assert!(bench.disk.blocks(lba, u64::from(blocks)).iter().all(|it| *it == b'B'));
            data[..half].fill(b'B');
            data[half - 27] = b'C';
            let completion = bench.run(&compare_and_write(lba, blocks), &data);
            assert_eq!(sense(&completion), MISCOMPARE);
            assert_eq!(completion.sense.unwrap().information(), Some(half as u64 - 27));
        }
    }

    #[test]
    fn compare_and_write_wants_exactly_the_data_of_its_cdb() {
        let mut bench = Bench::new();
        for (blocks, bytes) in [(1, 2048), (3, 2048), (0, 1024), (1, 0), (2, 1024)] {
            assert_eq!(
                bench.bad(&compare_and_write(0, blocks), &vec![0; bytes]),
                (5, 0x24, 0),
                "{blocks} {bytes}"
            );
        }
        bench.good(&compare_and_write(0, 0), &[]);
        assert_eq!(bench.bad(&compare_and_write(BLOCKS, 0), &[]), (5, 0x21, 0));
    }
}
