//! How large the disk is, and which logical units there are.

use block::SECTOR_SIZE;

use super::Lun;
use super::cdb::Cdb;
use super::task::{Step, Verdict};

/// SBC-3, READ CAPACITY (10) command: a disk too large for 32 bits says so by all ones.
pub(super) fn read_capacity_10(lun: &Lun) -> Verdict {
    let last = u32::try_from(last_lba(lun)).unwrap_or(u32::MAX);
    let data = [last.to_be_bytes(), SECTOR_SIZE.to_be_bytes()].concat();
    Step::parameter_data(data, 8)
}

/// SBC-3, READ CAPACITY (16) command.
pub(super) fn read_capacity_16(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    const LBPME_LBPRZ: u8 = 0xc0;
    let options = lun.options();
    let mut data = last_lba(lun).to_be_bytes().to_vec();
    data.extend(SECTOR_SIZE.to_be_bytes());
    data.extend([0x00, options.physical_block_exponent.min(15)]);
    data.extend([LBPME_LBPRZ, 0]);
    data.resize(32, 0);
    Step::parameter_data(data, cdb.allocation_length())
}

fn last_lba(lun: &Lun) -> u64 {
    lun.geometry().blocks().get().saturating_sub(1)
}

/// SPC-4, REPORT LUNS command: LUN 0 and no well-known ones.
pub(super) fn report_luns(cdb: &Cdb<'_>) -> Verdict {
    const MIN_ALLOCATION_LENGTH: usize = 16;
    let luns: &[[u8; 8]] = match cdb.byte(2) {
        0x00 | 0x02 => &[[0; 8]],
        0x01 => &[],
        _ => return Err(Cdb::invalid(2, None)),
    };
    if cdb.allocation_length() < MIN_ALLOCATION_LENGTH {
        return Err(cdb.invalid_length());
    }
    let mut data = u32::try_from(luns.len() * 8).unwrap_or(0).to_be_bytes().to_vec();
    data.resize(8, 0);
    data.extend(luns.concat());
    Step::parameter_data(data, cdb.allocation_length())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, lun};
    use super::super::{Action, Command, Direction, LunOptions, Task, testing::A};

    #[test]
    fn capacity_is_the_last_block_and_its_size() {
        let mut bench = Bench::new();
        assert_eq!(bench.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]), [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
        let cdb = |length| [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, length, 0, 0];
        let long = bench.good(&cdb(96), &[]);
        assert_eq!(long[..16], [0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0, 0, 0, 0xc0, 0]);
        assert_eq!(long[16..], [0; 16]);
        for length in 0..32 {
            assert_eq!(bench.good(&cdb(length), &[]), long[..usize::from(length)]);
        }
    }

    #[test]
    fn a_disk_of_more_than_32_bits_sends_the_initiator_to_the_long_form() {
        for (blocks, expected) in
            [(1 << 32, u32::MAX), ((1 << 32) + 1, u32::MAX), (u64::from(u32::MAX), u32::MAX - 1)]
        {
            let lun = lun(LunOptions::default(), blocks);
            let cdb = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let command =
                Command { lun: 0, cdb: &cdb, nexus: A, expected_len: 8, direction: Direction::Read };
            let (_, Action::Finish(completion)) = Task::start(&lun, &command) else {
                panic!("no data is needed")
            };
            assert_eq!(completion.data_in.to_bytes()[..4], expected.to_be_bytes());
        }
    }

    #[test]
    fn physical_blocks_may_be_larger() {
        let options = LunOptions { physical_block_exponent: 3, ..LunOptions::default() };
        let mut bench = Bench::with(options, 8);
        let cdb = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
        assert_eq!(bench.good(&cdb, &[])[13], 3);
    }
}
