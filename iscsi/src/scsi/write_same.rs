//! WRITE SAME: one block of data for many blocks of the disk, or none of data to make them zero.

use block::{BlockRange, SECTOR_SIZE};
use bytes::Bytes;

use super::blocks::{addressed, check_writable, split_step, whole_blocks};
use super::cdb::Cdb;
use super::limits::{MAX_WRITE_SAME_BLOCKS, STEP_BLOCKS};
use super::sense::Condition;
use super::task::{Step, Verdict};
use super::{Command, Lun};
use crate::io::Io;

/// Blocks in the pattern of which a step's data is put together.
const PATTERN_BLOCKS: u64 = 128;

/// SBC-3, WRITE SAME (10) and (16) commands.
///
/// With UNMAP, zeros give space back, and other data is written: what is unmapped reads as zero, and a WRITE
/// SAME may not leave anything else than its data behind (SBC-3, WRITE SAME command and unmap operations).
/// Zeros give space back without UNMAP too: the disk may unmap what reads the same (SBC-3, autonomous LBA
/// transitions), and a cleared disk then takes no space.
pub(super) fn write_same(lun: &Lun, cdb: &Cdb<'_>, command: &Command<'_>) -> Verdict {
    const NDOB: u8 = 0x01;
    let count = u64::from(cdb.length());
    let range = addressed(lun, cdb, count)?;
    // WSNZ: a count of 0, which would mean the rest of the disk, is not taken.
    if count == 0 || count > u64::from(MAX_WRITE_SAME_BLOCKS) {
        return Err(cdb.invalid_length());
    }
    check_writable(lun)?;
    if cdb.flag(1, NDOB) {
        return zero(range);
    }
    if command.data_out_len() != SECTOR_SIZE {
        return Err(Condition::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT.into());
    }
    let fua = !lun.mode().settings().write_cache;
    Step::get_data(SECTOR_SIZE, move |_, data| {
        if whole_blocks(&data)? != 1 {
            return Err(Condition::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT.into());
        }
        let block = data.concat();
        if block.iter().all(|byte| *byte == 0) {
            return zero(range);
        }
        let copies = usize::try_from(PATTERN_BLOCKS.min(range.count().get())).unwrap_or(1);
        Fill { rest: range, pattern: block.repeat(copies).into(), fua }.step()
    })
}

/// Makes the blocks read as zero, and gives their space back.
fn zero(range: BlockRange) -> Verdict {
    Step::last_io(Io::Discard(vec![range]))
}

/// Writes a pattern over blocks, in steps that share its memory.
struct Fill {
    rest: BlockRange,
    pattern: Bytes,
    fua: bool,
}

impl Fill {
    fn step(mut self) -> Verdict {
        let Some((range, rest)) = split_step(self.rest, STEP_BLOCKS) else {
            return Ok(Step::Done);
        };
        self.rest = rest;
        let data = self.data(range);
        let write = Io::Write { start: range.start(), data, fua: self.fua };
        Step::io(write, move |_, _| self.step())
    }

    fn data(&self, range: BlockRange) -> Vec<Bytes> {
        let bytes = usize::try_from(range.byte_len()).unwrap_or(usize::MAX);
        let mut data = vec![self.pattern.clone(); bytes / self.pattern.len()];
        let rest = bytes % self.pattern.len();
        if rest > 0 {
            data.push(self.pattern.slice(..rest));
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{BLOCKS, Bench};
    use super::super::{LunOptions, Status};
    use super::*;

    const UNMAP: u8 = 0x08;
    const ANCHOR: u8 = 0x10;
    const NDOB: u8 = 0x01;

    fn ten(flags: u8, lba: u32, blocks: u16) -> Vec<u8> {
        let mut cdb = vec![0x41, flags];
        cdb.extend(lba.to_be_bytes());
        cdb.push(0);
        cdb.extend(blocks.to_be_bytes());
        cdb.push(0);
        cdb
    }

    fn sixteen(flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
        let mut cdb = vec![0x93, flags];
        cdb.extend(lba.to_be_bytes());
        cdb.extend(blocks.to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    }

    #[test]
    fn one_block_fills_many_in_bounded_steps() {
        let blocks = 5000;
        let mut bench = Bench::with(LunOptions::default(), blocks + 2);
        let block: Vec<u8> = (0..512).map(|at| (at % 251) as u8).collect();
        let completion = bench.run(&sixteen(0, 1, 5000), &block);
        assert_eq!((completion.status, completion.data_length), (Status::Good, 512));
        assert!(bench.disk.blocks(1, blocks).chunks(512).all(|it| it == block));
        assert_eq!(bench.disk.blocks(0, 1), [0; 512]);
        assert_eq!(bench.disk.blocks(blocks + 1, 1), [0; 512]);
        assert_eq!(bench.disk.requests.len(), 3);
        assert!(bench.disk.requests.iter().all(|io| io.byte_len() <= STEP_BLOCKS * 512));
    }

    #[test]
    fn zeros_give_space_back_and_other_data_does_not() {
        let mut bench = Bench::new();
        for (cdb, data, discards) in [
            (ten(UNMAP, 0, 9), vec![0; 512], true),
            (ten(0, 0, 9), vec![0; 512], true),
            (sixteen(UNMAP, 0, 9), vec![0; 512], true),
            (sixteen(UNMAP | NDOB, 0, 9), vec![], true),
            (sixteen(NDOB, 0, 9), vec![], true),
            (ten(UNMAP, 0, 9), vec![0xa6; 512], false),
            (sixteen(UNMAP, 0, 9), vec![0xa6; 512], false),
        ] {
            bench.disk.blocks(0, 9).fill(0xff);
            bench.disk.requests.clear();
            bench.good(&cdb, &data);
            let expected = data.first().copied().unwrap_or(0);
            assert!(bench.disk.blocks(0, 9).iter().all(|it| *it == expected), "{cdb:02x?}");
            assert_eq!(matches!(bench.disk.requests[..], [Io::Discard(_)]), discards, "{cdb:02x?}");
        }
    }

    #[test]
    fn what_the_disk_does_not_take_is_refused_before_anything_is_written() {
        let mut bench = Bench::with(LunOptions::default(), u64::from(MAX_WRITE_SAME_BLOCKS) + 10);
        let one = [1; 512];
        for (cdb, data, expected) in [
            (ten(ANCHOR, 0, 1), &one[..], (5, 0x24, 0)),
            (ten(ANCHOR | UNMAP, 0, 1), &one, (5, 0x24, 0)),
            (sixteen(ANCHOR | UNMAP, 0, 1), &one, (5, 0x24, 0)),
            (ten(NDOB, 0, 1), &[], (5, 0x24, 0)),
            (ten(0x20, 0, 1), &one, (5, 0x24, 0)),
            (ten(0, 0, 0), &one, (5, 0x24, 0)),
            (sixteen(0, 0, 0), &one, (5, 0x24, 0)),
            (sixteen(0, 0, MAX_WRITE_SAME_BLOCKS + 1), &one, (5, 0x24, 0)),
            (ten(UNMAP, 0, 1), &one[..256], (5, 0x0e, 3)),
            (ten(UNMAP, 0, 1), &[1; 1024], (5, 0x0e, 3)),
            (ten(0, 0, 1), &[], (5, 0x0e, 3)),
            (sixteen(0, u64::from(MAX_WRITE_SAME_BLOCKS), 11), &one, (5, 0x21, 0)),
            (sixteen(0, u64::MAX, 0), &one, (5, 0x21, 0)),
        ] {
            assert_eq!(bench.bad(&cdb, data), expected, "{cdb:02x?}");
        }
        assert_eq!(bench.disk.requests, []);
        bench.good(&sixteen(0, 10, MAX_WRITE_SAME_BLOCKS), &one);
    }

    #[test]
    fn the_last_block_can_be_filled() {
        let mut bench = Bench::new();
        bench.good(&sixteen(0, BLOCKS - 1, 1), &[3; 512]);
        assert_eq!(bench.disk.blocks(BLOCKS - 1, 1), [3; 512]);
        assert_eq!(bench.bad(&sixteen(0, BLOCKS - 1, 2), &[3; 512]), (5, 0x21, 0));
    }
}
