//! Reading and writing blocks, and the cache in between.

use bytes::Bytes;

use super::Lun;
use super::blocks::{addressed, byte_len, check_writable, to_end_if_none, transfer, truncated, whole_blocks};
use super::cdb::Cdb;
use super::limits::MAX_TRANSFER_BLOCKS;
use super::sense::Condition;
use super::task::{Step, Verdict};
use crate::io::{Io, IoOutcome};

/// SBC-3, READ (6), (10), (12) and (16) commands. DPO is advice, and FUA asks for nothing that a read from
/// the cache doesn't give: no write is acknowledged before reads see it.
pub(super) fn read(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let range = transfer(lun, cdb)?;
    if range.is_empty() {
        return Ok(Step::Done);
    }
    Step::io(Io::Read { range }, |_, outcome| match outcome {
        IoOutcome::Data(data) => Ok(Step::Data(data)),
        _ => Err(Condition::INTERNAL_TARGET_FAILURE.into()),
    })
}

/// SBC-3, WRITE (6), (10), (12) and (16) commands.
pub(super) fn write(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let range = transfer(lun, cdb)?;
    check_writable(lun)?;
    let fua = is_durable(lun, cdb);
    Step::get_data(byte_len(range), move |_, data| {
        put(data, |data| Io::Write { start: range.start(), data, fua })
    })
}

/// SBC-3, ORWRITE (16) command.
pub(super) fn or_write(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let range = transfer(lun, cdb)?;
    check_writable(lun)?;
    let fua = is_durable(lun, cdb);
    Step::get_data(byte_len(range), move |_, data| {
        put(data, |data| Io::OrWrite { start: range.start(), data, fua })
    })
}

/// SBC-3, PRE-FETCH (10) and (16) commands. GOOD, not CONDITION MET: nobody promises that the blocks stay in
/// the cache until they are read. Nor does anyone get more than one transfer's worth of them brought there.
pub(super) fn prefetch(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let range = to_end_if_none(lun, cdb)?;
    Step::last_io(Io::Prefetch(truncated(range, u64::from(MAX_TRANSFER_BLOCKS))))
}

/// SBC-3, SYNCHRONIZE CACHE (10) and (16) commands. The whole cache is flushed whatever the range. IMMED is not made
/// use of: the answer comes when all is done.
pub(super) fn synchronize_cache(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    addressed(lun, cdb, u64::from(cdb.length()))?;
    Step::last_io(Io::Flush)
}

/// Whether a write may only end when its data is on the medium.
pub(super) fn is_durable(lun: &Lun, cdb: &Cdb<'_>) -> bool {
    cdb.fua() || !lun.mode().settings().write_cache
}

/// Writes what came. An initiator that had less to give than its CDB says has written the blocks that it gave
/// (RFC 7143 11.4.5.2); a torn block is refused before any is written.
fn put(data: Vec<Bytes>, io: impl FnOnce(Vec<Bytes>) -> Io) -> Verdict {
    if whole_blocks(&data)? == 0 { Ok(Step::Done) } else { Step::last_io(io(data)) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{BLOCKS, Bench, sense};
    use super::super::{LunOptions, Status};
    use super::*;

    const LAST: u32 = BLOCKS as u32 - 1;

    /// The four forms of a command that have a form for each CDB length; the 6-byte form may be missing.
    fn forms(opcodes: [u8; 4], lba: u32, blocks: u16) -> Vec<Vec<u8>> {
        let [six, ten, twelve, sixteen] = opcodes;
        let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
        let mut all = vec![
            vec![ten, 0, l[0], l[1], l[2], l[3], 0, b[0], b[1], 0],
            vec![twelve, 0, l[0], l[1], l[2], l[3], 0, 0, b[0], b[1], 0, 0],
            vec![sixteen, 0, 0, 0, 0, 0, l[0], l[1], l[2], l[3], 0, 0, b[0], b[1], 0, 0],
        ];
        if six != 0 && blocks <= 256 && blocks > 0 {
            all.push(vec![six, l[1], l[2], l[3], b[1], 0]);
        }
        all
    }

    const READ: [u8; 4] = [0x08, 0x28, 0xa8, 0x88];
    const WRITE: [u8; 4] = [0x0a, 0x2a, 0xaa, 0x8a];

    #[test]
    fn every_form_of_write_is_read_back_by_every_form_of_read() {
        let mut bench = Bench::new();
        for (seed, write) in forms(WRITE, 7, 3).iter().enumerate() {
            let data: Vec<u8> = (0..3 * 512).map(|at| (at + seed * 31) as u8).collect();
            let written = bench.run(write, &data);
            assert_eq!((written.status, written.data_length), (Status::Good, 1536));
            for read in forms(READ, 7, 3) {
                assert_eq!(bench.good(&read, &[]), data, "{read:02x?}");
            }
        }
        assert!(bench.disk.bytes[..7 * 512].iter().chain(&bench.disk.bytes[10 * 512..]).all(|it| *it == 0));
    }

    #[test]
    fn a_six_byte_length_of_0_is_256_blocks() {
        let mut bench = Bench::new();
        assert_eq!(bench.good(&[0x08, 0, 0, 0, 0, 0], &[]).len(), 256 * 512);
        assert_eq!(bench.good(&[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]).len(), 0);
    }

    #[test]
    fn what_is_beyond_the_end_is_refused_before_any_data_even_if_it_is_nothing() {
        let mut bench = Bench::new();
        for opcodes in [READ, WRITE] {
            for (lba, blocks, fits) in [
                (LAST, 1, true),
                (LAST, 0, true),
                (LAST, 2, false),
                (LAST + 1, 0, false),
                (LAST + 1, 1, false),
                (u32::MAX, 0, false),
                (u32::MAX, 1, false),
            ] {
                for cdb in forms(opcodes, lba, blocks) {
                    bench.disk.requests.clear();
                    let completion = bench.run(&cdb, &[]);
                    if fits || cdb.len() == 6 && lba == u32::MAX {
                        continue;
                    }
                    assert_eq!(sense(&completion), (5, 0x21, 0), "{cdb:02x?}");
                    assert_eq!(bench.disk.requests, [], "{cdb:02x?}");
                }
            }
        }
        let mut wrap = vec![0x88, 0];
        wrap.extend(u64::MAX.to_be_bytes());
        wrap.extend([0, 0, 0, 2, 0, 0]);
        assert_eq!(bench.bad(&wrap, &[]), (5, 0x21, 0));
    }

    #[test]
    fn one_block_more_than_the_limit_is_an_invalid_field() {
        let limit = u64::from(MAX_TRANSFER_BLOCKS);
        let mut bench = Bench::with(LunOptions::default(), limit + 1);
        let fits = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0];
        assert_eq!(bench.good(&fits, &[]).len(), 8 << 20);
        let too_long = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 1, 0, 0];
        assert_eq!(bench.bad(&too_long, &[]), (5, 0x24, 0));
    }

    #[test]
    fn an_initiator_with_less_data_than_its_cdb_says_writes_the_blocks_that_it_has() {
        let mut bench = Bench::new();
        let two_blocks = [0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        let completion = bench.run(&two_blocks, &[0xaa; 512]);
        assert_eq!((completion.status, completion.data_length), (Status::Good, 1024));
        assert_eq!(bench.disk.blocks(0, 2), [[0xaa; 512], [0; 512]].concat());
        let torn = bench.run(&two_blocks, &[0xbb; 700]);
        assert_eq!((sense(&torn), torn.data_length), ((5, 0x0e, 3), 1024));
        assert_eq!(bench.disk.blocks(0, 1), [0xaa; 512]);
        let nothing = bench.run(&two_blocks, &[]);
        assert_eq!((nothing.status, nothing.data_length), (Status::Good, 1024));
    }

    #[test]
    fn or_write_sets_bits() {
        let mut bench = Bench::new();
        bench.disk.blocks(3, 1).fill(0xa5);
        let cdb = [0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0];
        bench.good(&cdb, &[0x5a; 512]);
        assert_eq!(bench.disk.blocks(3, 1), [0xff; 512]);
        assert_eq!(bench.bad(&cdb, &[0; 100]), (5, 0x0e, 3));
    }

    #[test]
    fn a_prefetch_is_only_a_hint_and_only_for_so_much() {
        let blocks = u64::from(MAX_TRANSFER_BLOCKS) + 9;
        let mut bench = Bench::with(LunOptions::default(), blocks);
        for (cdb, count) in [
            (vec![0x34, 2, 0, 0, 0, 7, 3, 0, 2, 0], 2),
            (vec![0x34, 0, 0, 0, 0, 7, 0, 0, 0, 0], u64::from(MAX_TRANSFER_BLOCKS)),
            (vec![0x90, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0], 1),
        ] {
            bench.good(&cdb, &[]);
            let Some(Io::Prefetch(range)) = bench.disk.requests.last() else { panic!("{cdb:02x?}") };
            assert_eq!((range.start().get(), range.count().get()), (7, count));
        }
        let beyond = [0x90, 0, 0, 0, 0, 0, 0, 0, 0x40, 9, 0, 0, 0, 0, 0, 0];
        assert_eq!(bench.bad(&beyond, &[]), (5, 0x21, 0));
    }

    #[test]
    fn a_flush_is_of_the_whole_cache_and_of_blocks_that_are_there() {
        let mut bench = Bench::new();
        bench.good(&[0x35, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        bench.good(&[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0], &[]);
        assert_eq!(bench.disk.requests, [Io::Flush, Io::Flush]);
        assert_eq!(bench.bad(&[0x35, 0, 0xff, 0, 0, 0, 0, 0, 1, 0], &[]), (5, 0x21, 0));
    }

    #[test]
    fn fua_reaches_the_disk() {
        let mut bench = Bench::new();
        for (flags, expected) in [(0x00, false), (0x08, true), (0x10, false), (0x18, true)] {
            bench.good(&[0x2a, flags, 0, 0, 0, 0, 0, 0, 1, 0], &[1; 512]);
            let last = bench.disk.requests.last();
            assert!(matches!(last, Some(Io::Write { fua, .. }) if *fua == expected), "{last:?}");
        }
    }

    #[test]
    fn a_failing_disk_is_told_in_sense_data() {
        let mut bench = Bench::new();
        bench.disk.fails = Some(block::ErrorKind::NoSpace);
        let completion = bench.run(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[1; 512]);
        assert_eq!((sense(&completion), completion.data_length), ((7, 0x27, 7), 512));
        bench.disk.fails = Some(block::ErrorKind::ReadFailed);
        assert_eq!(bench.bad(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]), (3, 0x11, 0));
    }
}
