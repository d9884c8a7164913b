//! Vital product data: the pages by which an initiator learns who the disk is and what it can do (SPC-4 7.8,
//! SBC-3 6.5). Windows believes page 00h to the letter, so it lists exactly what [`page`] can answer.

use super::Lun;
use super::inquiry::ascii;
use super::limits::{
    GRANULARITY_BLOCKS, MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BLOCKS, MAX_UNMAP_BLOCKS,
    MAX_UNMAP_DESCRIPTORS, MAX_WRITE_SAME_BLOCKS, OPTIMAL_TRANSFER_BLOCKS,
};

/// RELATIVE TARGET PORT IDENTIFIER and TARGET PORT GROUP: the target has one port, in one group.
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

/// Page 83h, SPC-4 7.8.6: the logical unit by NAA and by T10 vendor, the target port by number, group and
/// name, the target device by name.
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
        designator(BINARY, TARGET_PORT_OF_ISCSI | 0x5, &TARGET_PORT),
        designator(UTF8, TARGET_PORT_OF_ISCSI | 0x8, &port_name),
        designator(UTF8, TARGET_DEVICE_OF_ISCSI | 0x8, &device_name),
    ]
    .concat()
}

/// A designation descriptor (SPC-4 table 587). `kind` is PIV, ASSOCIATION and DESIGNATOR TYPE.
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

/// A SCSI name string: ended by a zero byte, filled to a multiple of four (SPC-4 7.8.6.11).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.truncate(MAX_DESIGNATOR - 4);
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

/// Page 86h, SPC-4 7.8.7: simple, ordered and head-of-queue tasks, and a volatile cache.
fn extended_inquiry() -> Vec<u8> {
    let mut body = vec![0x00, 0x07, 0x01];
    body.resize(60, 0);
    body
}

/// Page B0h, SBC-3 6.5.3.
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

/// Page B1h, SBC-3 6.5.2: a medium that doesn't rotate, so that nobody defragments it, and which can be read
/// right after a BLOCK ERASE.
fn block_device_characteristics() -> Vec<u8> {
    const NON_ROTATING: [u8; 2] = [0x00, 0x01];
    const WABEREQ_READABLE: u8 = 0x40;
    let mut body = NON_ROTATING.to_vec();
    body.extend([0, WABEREQ_READABLE]);
    body.resize(60, 0);
    body
}

/// Page B2h, SBC-3 6.5.4: UNMAP and both forms of WRITE SAME give space back, such blocks read as zero, and
/// the disk is thin.
fn logical_block_provisioning() -> Vec<u8> {
    const LBPU: u8 = 0x80;
    const LBPWS: u8 = 0x40;
    const LBPWS10: u8 = 0x20;
    const LBPRZ: u8 = 0x04;
    const THIN: u8 = 0x02;
    vec![0x00, LBPU | LBPWS | LBPWS10 | LBPRZ, THIN, 0x00]
}
