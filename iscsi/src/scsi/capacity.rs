//! How large the disk is, and which logical units there are.

use block::SECTOR_SIZE;

use super::Lun;
use super::cdb::Cdb;
use super::task::{Step, Verdict};

/// READ CAPACITY (10), SBC-3 5.15: a disk too large for 32 bits says so by all ones.
pub(super) fn read_capacity_10(lun: &Lun) -> Verdict {
    let last = u32::try_from(last_lba(lun)).unwrap_or(u32::MAX);
    let data = [last.to_be_bytes(), SECTOR_SIZE.to_be_bytes()].concat();
    Step::parameter_data(data, 8)
}

/// READ CAPACITY (16), SBC-3 5.16.
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

/// REPORT LUNS, SPC-4 6.33: LUN 0 and no well-known ones.
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
