//! Vital product data: the pages by which an initiator learns who the disk is and what it can do (SPC-4 and
//! SBC-3, vital product data parameters). Windows believes page 00h to the letter, so it lists exactly what
//! [`page`] can answer.

use super::Lun;
use super::inquiry::ascii;
use super::limits::{
    GRANULARITY_BLOCKS, MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BLOCKS, MAX_UNMAP_BLOCKS,
    MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BLOCKS, OPTIMAL_TRANSFER_BLOCKS,
};

/// RELATIVE TARGET PORT IDENTIFIER: the target has one port.
const TARGET_PORT: [u8; 4] = [0, 0, 0, 1];

/// The codes that [`page`] answers.
const SUPPORTED_PAGES: [u8; 7] = [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2];

/// Longest value of a designator.
const MAX_DESIGNATOR: usize = 252;

/// The page with this code, whole; `None` if there is none.
pub(super) fn page(lun: &Lun, code: u8) -> Option<Vec<u8>> {
    let body = match code {
        0x00 => SUPPORTED_PAGES.to_vec(),
        0x80 => lun.identity().serial.clone().into_bytes(),
        0x83 => device_identification(lun),
        0x86 => extended_inquiry(),
        0xb0 => block_limits(lun),
        0xb1 => block_device_characteristics(),
        0xb2 => logical_block_provisioning(),
        _ => return None,
    };
    let length = u16::try_from(body.len()).ok()?;
    let mut page = vec![0x00, code];
    page.extend(length.to_be_bytes());
    page.extend(body);
    Some(page)
}

/// SPC-4, Device Identification VPD page: the logical unit by NAA and by T10 vendor, the target port by number
/// and name, the target device by name.
fn device_identification(lun: &Lun) -> Vec<u8> {
    const BINARY: u8 = 1;
    const ASCII: u8 = 2;
    const UTF8: u8 = 3;
    const LOGICAL_UNIT: u8 = 0x00;
    const TARGET_PORT_OF_ISCSI: u8 = 0x90;
    const TARGET_DEVICE_OF_ISCSI: u8 = 0xa0;
    let identity = lun.identity();
    let t10: Vec<u8> = [&ascii::<8>(&identity.vendor)[..], identity.serial.as_bytes()].concat();
    let port_name = name_string(&format!("{},t,0x0001", identity.target_name));
    let device_name = name_string(&identity.target_name);
    [
        designator(BINARY, LOGICAL_UNIT | 0x3, &identity.naa),
        designator(ASCII, LOGICAL_UNIT | 0x1, &t10),
        designator(BINARY, TARGET_PORT_OF_ISCSI | 0x4, &TARGET_PORT),
        designator(UTF8, TARGET_PORT_OF_ISCSI | 0x8, &port_name),
        designator(UTF8, TARGET_DEVICE_OF_ISCSI | 0x8, &device_name),
    ]
    .concat()
}

/// A designation descriptor (SPC-4, designation descriptor). `kind` is PIV, ASSOCIATION and DESIGNATOR TYPE.
fn designator(code_set: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    const PROTOCOL_ISCSI: u8 = 0x50;
    const PIV: u8 = 0x80;
    let value = value.get(..MAX_DESIGNATOR).unwrap_or(value);
    let protocol = if kind & PIV != 0 { PROTOCOL_ISCSI } else { 0 };
    let length = u8::try_from(value.len()).unwrap_or(0);
    let mut all = vec![protocol | code_set, kind, 0, length];
    all.extend(value);
    all
}

/// A SCSI name string: ended by a zero byte, filled to a multiple of four (SPC-4, SCSI name string
/// designator format).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(MAX_DESIGNATOR - 4);
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// SPC-4, Extended INQUIRY Data VPD page: simple, ordered and head-of-queue tasks, and a volatile cache.
fn extended_inquiry() -> Vec<u8> {
    let mut body = vec![0x00, 0x07, 0x01];
    body.resize(60, 0);
    body
}

/// SBC-3, Block Limits VPD page.
fn block_limits(lun: &Lun) -> Vec<u8> {
    const WSNZ: u8 = 0x01;
    // UGAVALID, with granules that begin at block 0.
    const UNMAP_GRANULARITY_ALIGNMENT: u32 = 0x8000_0000;
    let granularity = GRANULARITY_BLOCKS.max(1 << lun.options().physical_block_exponent.min(15));
    let mut body = vec![WSNZ, MAX_COMPARE_AND_WRITE_BLOCKS];
    body.extend(granularity.to_be_bytes());
    for limit in [
        MAX_TRANSFER_BLOCKS,
        OPTIMAL_TRANSFER_BLOCKS,
        0, // any PRE-FETCH is taken
        MAX_UNMAP_BLOCKS,
        u32::from(MAX_UNMAP_DESCRIPTORS),
        u32::from(granularity),
        UNMAP_GRANULARITY_ALIGNMENT,
    ] {
        body.extend(limit.to_be_bytes());
    }
    body.extend(u64::from(MAX_WRITE_SAME_BLOCKS).to_be_bytes());
    body.resize(60, 0);
    body
}

/// SBC-3, Block Device Characteristics VPD page: a medium that doesn't rotate, so that nobody defragments it,
/// and which can be read right after a BLOCK ERASE.
fn block_device_characteristics() -> Vec<u8> {
    const NON_ROTATING: [u8; 2] = [0x00, 0x01];
    const WABEREQ_READABLE: u8 = 0x40;
    let mut body = NON_ROTATING.to_vec();
    body.extend([0, WABEREQ_READABLE]);
    body.resize(60, 0);
    body
}

/// SBC-3, Logical Block Provisioning VPD page: UNMAP and both forms of WRITE SAME give space back, such blocks
/// read as zero, and the disk is thin.
fn logical_block_provisioning() -> Vec<u8> {
    const LBPU: u8 = 0x80;
    const LBPWS: u8 = 0x40;
    const LBPWS10: u8 = 0x20;
    const LBPRZ: u8 = 0x04;
    const THIN: u8 = 0x02;
    vec![0x00, LBPU | LBPWS | LBPWS10 | LBPRZ, THIN, 0x00]
}

#[cfg(test)]
mod tests {
    use super::super::LunOptions;
    use super::super::testing::{BLOCKS, Bench};

    fn page(bench: &mut Bench, code: u8) -> Vec<u8> {
        let page = bench.good(&[0x12, 1, code, 1, 0, 0], &[]);
        assert_eq!((page[0], page[1]), (0, code));
        assert_eq!(usize::from(u16::from_be_bytes([page[2], page[3]])), page.len() - 4);
        page[4..].to_vec()
    }

    #[test]
    fn exactly_the_listed_pages_are_there() {
        let mut bench = Bench::new();
        let listed = page(&mut bench, 0);
        assert!(listed.is_sorted());
        for code in 0..=u8::MAX {
            let completion = bench.run(&[0x12, 1, code, 1, 0, 0], &[]);
            assert_eq!(completion.sense.is_none(), listed.contains(&code), "{code:02x}");
        }
        assert_eq!(bench.bad(&[0x12, 0, 0x80, 0, 255, 0], &[]), (5, 0x24, 0), "a page without EVPD");
    }

    #[test]
    fn the_disk_is_named_by_all_that_initiators_look_for() {
        let mut bench = Bench::new();
        assert_eq!(page(&mut bench, 0x80), b"0123456789abcdef");
        let ids = page(&mut bench, 0x83);
        let mut rest = &ids[..];
        let mut found = Vec::new();
        while let [protocol_and_set, kind, 0, length, ..] = *rest {
            let (value, tail) = rest[4..].split_at(usize::from(length));
            found.push((protocol_and_set, kind, value.to_vec()));
            rest = tail;
        }
        assert_eq!(rest, []);
        let name = "iqn.2026-01.internal.lab.server:image:client:1";
        let padded = |name: String| {
            let mut bytes = name.into_bytes();
            bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
            bytes
        };
        assert_eq!(
            found,
            [
                (0x01, 0x03, vec![0x60, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
                (0x02, 0x01, b"BOOTD   0123456789abcdef".to_vec()),
                (0x51, 0x94, vec![0, 0, 0, 1]),
                (0x53, 0x98, padded(format!("{name},t,0x0001"))),
                (0x53, 0xa8, padded(name.to_owned())),
            ]
        );
    }

    #[test]
    fn the_limits_are_those_that_are_enforced() {
        let mut bench = Bench::new();
        let limits = page(&mut bench, 0xb0);
        let word = |at: usize| u32::from_be_bytes(limits[at..at + 4].try_into().unwrap());
        assert_eq!(limits.len(), 60);
        assert_eq!(limits[..4], [1, 255, 0, 8], "WSNZ, COMPARE AND WRITE, granularity");
        assert_eq!([word(4), word(8), word(12)], [16384, 2048, 0], "transfers, PRE-FETCH");
        assert_eq!([word(16), word(20), word(24), word(28)], [1 << 20, 256, 8, 1 << 31], "UNMAP");
        assert_eq!([word(32), word(36)], [0, 65535], "WRITE SAME");
        assert_eq!(limits[40..], [0; 20], "no atomic writes");
    }

    #[test]
    fn the_disk_does_not_rotate_and_is_thin() {
        let mut bench = Bench::new();
        assert_eq!(page(&mut bench, 0xb1)[..4], [0, 1, 0, 0x40]);
        assert_eq!(page(&mut bench, 0xb2), [0, 0xe4, 2, 0]);
        assert_eq!(page(&mut bench, 0x86)[..3], [0, 7, 1]);
    }

    #[test]
    fn larger_physical_blocks_widen_the_granularity() {
        let options = LunOptions { physical_block_exponent: 4, ..LunOptions::default() };
        let mut bench = Bench::with(options, BLOCKS);
        assert_eq!(page(&mut bench, 0xb0)[2..4], [0, 16]);
    }
}
