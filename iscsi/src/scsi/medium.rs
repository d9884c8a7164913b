//! Commands for media that a virtual disk doesn't have: to spin up and down, to be taken out, to be worn.

use super::cdb::Cdb;
use super::task::{Step, Verdict};
use crate::io::Io;

/// SBC-3, START STOP UNIT command. The disk is always ready, and stays so for the other sessions whatever one of
/// them asks; but what a stop promises is kept: the cache is flushed. The medium can't be ejected.
pub(super) fn start_stop(cdb: &Cdb<'_>) -> Verdict {
    const NO_FLUSH: u8 = 0x04;
    const LOEJ: u8 = 0x02;
    const START: u8 = 0x01;
    const POWER_CONDITION: u8 = 0xf0;
    if cdb.flag(4, LOEJ) {
        return Err(Cdb::invalid(4, Some(1)));
    }
    if cdb.flag(4, START | NO_FLUSH | POWER_CONDITION) { Ok(Step::Done) } else { Step::last_io(Io::Flush) }
}

/// SBC-3, PREVENT ALLOW MEDIUM REMOVAL command: there is nothing to prevent.
pub(super) fn prevent_allow() -> Verdict {
    Ok(Step::Done)
}

/// SBC-3, READ DEFECT DATA (10) and (12) commands: an empty list, in the format that was asked for.
pub(super) fn read_defect_data(cdb: &Cdb<'_>) -> Verdict {
    let ten = cdb.spec().opcode() == 0x37;
    let format = cdb.byte(if ten { 2 } else { 1 });
    let mut header = vec![0, format];
    header.resize(if ten { 4 } else { 8 }, 0);
    Step::parameter_data(header, cdb.allocation_length())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use crate::io::Io;

    #[test]
    fn a_stop_flushes_unless_told_not_to_and_the_disk_stays_ready() {
        let mut bench = Bench::new();
        for (byte_4, flushes) in [(0x00, 1), (0x04, 0), (0x01, 0), (0x30, 0)] {
            bench.disk.requests.clear();
            bench.good(&[0x1b, 0, 0, 0, byte_4, 0], &[]);
            assert_eq!(bench.disk.requests, vec![Io::Flush; flushes], "{byte_4:02x}");
            bench.good(&[0x00, 0, 0, 0, 0, 0], &[]);
        }
        assert_eq!(bench.bad(&[0x1b, 0, 0, 0, 0x02, 0], &[]), (5, 0x24, 0));
        bench.good(&[0x1e, 0, 0, 0, 1, 0], &[]);
    }

    #[test]
    fn there_are_no_defects() {
        let mut bench = Bench::new();
        assert_eq!(bench.good(&[0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0], &[]), [0, 0x1d, 0, 0]);
        assert_eq!(
            bench.good(&[0xb7, 0x18, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], &[]),
            [0, 0x18, 0, 0, 0, 0, 0, 0]
        );
    }
}
