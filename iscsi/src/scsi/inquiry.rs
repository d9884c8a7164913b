//! INQUIRY: the standard data, and the way to the VPD pages.

use super::Lun;
use super::cdb::Cdb;
use super::lun::Identity;
use super::task::{Step, Verdict};
use super::vpd;

/// PERIPHERAL QUALIFIER and DEVICE TYPE that stand for a logical unit that the target doesn't have.
const NOT_CAPABLE: u8 = 0x7f;

/// VERSION: SPC-4.
const VERSION_SPC_4: u8 = 0x06;

/// HISUP, and RESPONSE DATA FORMAT 2.
const HISUP_FORMAT_2: u8 = 0x12;

/// CMDQUE: full task management.
const CMDQUE: u8 = 0x02;

/// ADDITIONAL LENGTH of the standard data, which is 96 bytes long.
const ADDITIONAL_LENGTH: u8 = 91;

/// The standards that the disk is made by (SPC-4, VERSION DESCRIPTOR values): SAM-5, SPC-4, SBC-3, iSCSI.
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

/// SPC-4, INQUIRY command.
pub(super) fn inquiry(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    const EVPD: u8 = 0x01;
    let page_code = cdb.byte(2);
    let data = match (cdb.flag(1, EVPD), page_code) {
        (true, _) => vpd::page(lun, page_code).ok_or_else(|| Cdb::invalid(2, None))?,
        (false, 0) => standard(lun.identity(), 0x00),
        (false, _) => return Err(Cdb::invalid(2, None)),
    };
    Step::parameter_data(data, cdb.allocation_length())
}

/// INQUIRY to a logical unit that isn't there.
pub(super) fn absent(cdb: &Cdb<'_>) -> Verdict {
    let mut data = vec![NOT_CAPABLE, 0, VERSION_SPC_4, HISUP_FORMAT_2, ADDITIONAL_LENGTH];
    data.resize(usize::from(ADDITIONAL_LENGTH) + 5, 0);
    Step::parameter_data(data, cdb.allocation_length())
}

/// SPC-4, standard INQUIRY data.
fn standard(identity: &Identity, peripheral: u8) -> Vec<u8> {
    let mut data = vec![peripheral, 0, VERSION_SPC_4, HISUP_FORMAT_2, ADDITIONAL_LENGTH, 0, 0, CMDQUE];
    data.extend(ascii::<8>(&identity.vendor));
    data.extend(ascii::<16>(&identity.product));
    data.extend(ascii::<4>(&identity.revision));
    data.resize(58, 0);
    data.extend(VERSION_DESCRIPTORS.iter().flat_map(|it| it.to_be_bytes()));
    data.resize(usize::from(ADDITIONAL_LENGTH) + 5, 0);
    data
}

/// A left-aligned ASCII field, filled with spaces (SPC-4, ASCII data field requirements). What isn't printable
/// ASCII becomes a space.
pub(super) fn ascii<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [b' '; N];
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        if (0x20..0x7f).contains(&byte) {
            *place = byte;
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;

    #[test]
    fn standard_data_says_what_the_disk_is() {
        let mut bench = Bench::new();
        let data = bench.good(&[0x12, 0, 0, 1, 0, 0], &[]);
        assert_eq!((data.len(), usize::from(data[4])), (96, 91));
        assert_eq!(data[..8], [0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
        assert_eq!(&data[8..36], b"BOOTD   Virtual Disk    0001");
        assert_eq!(data[58..66], [0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60]);
        for length in 0..100_u8 {
            let cut = bench.good(&[0x12, 0, 0, 0, length, 0], &[]);
            assert_eq!(cut, data[..data.len().min(usize::from(length))]);
        }
    }

    #[test]
    fn a_field_is_printable_ascii_and_of_one_length() {
        assert_eq!(&super::ascii::<6>("ab"), b"ab    ");
        assert_eq!(&super::ascii::<6>("abcdefgh"), b"abcdef");
        assert_eq!(&super::ascii::<6>("a\nb\u{e9}"), b"a b   ");
    }
}
