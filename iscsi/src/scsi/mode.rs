//! Mode pages: what the disk lets an initiator see and set (SPC-4 7.5, SBC-3 6.4).

use std::sync::atomic::{AtomicBool, Ordering};

use block::SECTOR_SIZE;

use super::Lun;
use super::cdb::Cdb;
use super::sense::Condition;
use super::task::{Failure, Step, Verdict};

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;

const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// What an initiator can set. Nothing else on the pages is changeable.
#[derive(Debug)]
pub(super) struct ModePages {
    write_cache: AtomicBool,
    descriptor_sense: AtomicBool,
    software_write_protect: AtomicBool,
}

impl Default for ModePages {
    fn default() -> Self {
        Self {
            write_cache: AtomicBool::new(true),
            descriptor_sense: AtomicBool::new(false),
            software_write_protect: AtomicBool::new(false),
        }
    }
}

impl ModePages {
    /// Whether a write may end before its data is durable.
    pub(super) fn write_cache(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    pub(super) fn descriptor_sense(&self) -> bool {
        self.descriptor_sense.load(Ordering::Relaxed)
    }

    pub(super) fn software_write_protect(&self) -> bool {
        self.software_write_protect.load(Ordering::Relaxed)
    }

    /// Back to the defaults, as a reset does (SPC-4 5.10: no values are saved).
    pub(super) fn reset(&self) {
        self.write_cache.store(true, Ordering::Relaxed);
        self.descriptor_sense.store(false, Ordering::Relaxed);
        self.software_write_protect.store(false, Ordering::Relaxed);
    }
}

/// PAGE CONTROL: which values of a page are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    Changeable,
    Default,
}

impl Values {
    fn of(cdb: &Cdb<'_>) -> Result<Self, Failure> {
        match cdb.byte(2) >> 6 {
            0 => Ok(Self::Current),
            1 => Ok(Self::Changeable),
            2 => Ok(Self::Default),
            _ => Err(Condition::SAVING_PARAMETERS_NOT_SUPPORTED.into()),
        }
    }

    /// A page's fixed byte, and a changeable bit in it.
    fn byte(self, fixed: u8, bit: u8, current: bool, default: bool) -> u8 {
        let set = match self {
            Self::Changeable => return bit,
            Self::Current => current,
            Self::Default => default,
        };
        fixed | if set { bit } else { 0 }
    }

    fn fixed(self, value: u8) -> u8 {
        self.byte(value, 0, false, false)
    }
}

/// MODE SENSE (6), SPC-4 6.13.
pub(super) fn sense6(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let descriptor = if has_block_descriptor(cdb) { short_descriptor(lun) } else { Vec::new() };
    let pages = pages(lun, cdb)?;
    let length = u8::try_from(3 + descriptor.len() + pages.len()).unwrap_or(u8::MAX);
    let descriptor_length = u8::try_from(descriptor.len()).unwrap_or(0);
    let mut data = vec![length, 0, device_specific(lun), descriptor_length];
    data.extend(descriptor);
    data.extend(pages);
    Step::parameter_data(data, cdb.allocation_length())
}

/// MODE SENSE (10), SPC-4 6.14.
pub(super) fn sense10(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    const LLBAA: u8 = 0x10;
    let long = cdb.flag(1, LLBAA);
    let descriptor = match (has_block_descriptor(cdb), long) {
        (false, _) => Vec::new(),
        (true, false) => short_descriptor(lun),
        (true, true) => long_descriptor(lun),
    };
    let pages = pages(lun, cdb)?;
    let length = u16::try_from(6 + descriptor.len() + pages.len()).unwrap_or(u16::MAX);
    let descriptor_length = u16::try_from(descriptor.len()).unwrap_or(0);
    let mut data = length.to_be_bytes().to_vec();
    data.extend([0, device_specific(lun), u8::from(long && !descriptor.is_empty()), 0]);
    data.extend(descriptor_length.to_be_bytes());
    data.extend(descriptor);
    data.extend(pages);
    Step::parameter_data(data, cdb.allocation_length())
}

fn has_block_descriptor(cdb: &Cdb<'_>) -> bool {
    const DBD: u8 = 0x08;
    !cdb.flag(1, DBD)
}

/// DEVICE-SPECIFIC PARAMETER (SBC-3 6.4.1): WP, and DPOFUA, for DPO and FUA are taken everywhere.
fn device_specific(lun: &Lun) -> u8 {
    const WP: u8 = 0x80;
    const DPOFUA: u8 = 0x10;
    DPOFUA | if lun.is_write_protected() { WP } else { 0 }
}

/// SBC-3 6.4.2.2.
fn short_descriptor(lun: &Lun) -> Vec<u8> {
    let blocks = u32::try_from(lun.geometry().blocks().get()).unwrap_or(u32::MAX);
    [blocks.to_be_bytes(), SECTOR_SIZE.to_be_bytes()].concat()
}

/// SBC-3 6.4.2.3.
fn long_descriptor(lun: &Lun) -> Vec<u8> {
    let mut bytes = lun.geometry().blocks().get().to_be_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(SECTOR_SIZE.to_be_bytes());
    bytes
}

/// The page that the CDB names, or all of them in ascending order.
fn pages(lun: &Lun, cdb: &Cdb<'_>) -> Result<Vec<u8>, Failure> {
    const ALL_SUBPAGES: u8 = 0xff;
    let values = Values::of(cdb)?;
    let code = cdb.byte(2) & 0x3f;
    match (code, cdb.byte(3)) {
        (CACHING | CONTROL | INFORMATIONAL_EXCEPTIONS | ALL_PAGES, 0 | ALL_SUBPAGES) => {}
        (CACHING | CONTROL | INFORMATIONAL_EXCEPTIONS | ALL_PAGES, _) => return Err(Cdb::invalid(3, None)),
        _ => return Err(Cdb::invalid(2, Some(5))),
    }
    let mode = lun.mode();
    let all = [
        (CACHING, caching(mode, values)),
        (CONTROL, control(mode, values)),
        (INFORMATIONAL_EXCEPTIONS, informational_exceptions(values)),
    ];
    Ok(all
        .into_iter()
        .filter(|(it, _)| code == ALL_PAGES || code == *it)
        .flat_map(|(_, page)| page)
        .collect())
}

/// SBC-3 6.4.5.
fn caching(mode: &ModePages, values: Values) -> Vec<u8> {
    let mut page = vec![CACHING, 0x12, values.byte(0, WCE, mode.write_cache(), true)];
    page.resize(20, 0);
    page
}

/// SPC-4 7.5.8: commands may be done in any order, and no answer takes longer than 30 s of being busy.
fn control(mode: &ModePages, values: Values) -> Vec<u8> {
    const UNRESTRICTED_REORDERING: u8 = 0x10;
    let descriptor_sense = values.byte(0, D_SENSE, mode.descriptor_sense(), false);
    let write_protect = values.byte(0, SWP, mode.software_write_protect(), false);
    let mut page =
        vec![CONTROL, 0x0a, descriptor_sense, values.fixed(UNRESTRICTED_REORDERING), write_protect];
    page.extend([0, 0, 0]);
    // BUSY TIMEOUT PERIOD, in units of 100 ms.
    page.extend([values.fixed(0x01), values.fixed(0x2c)]);
    page.extend([0, 0]);
    page
}

/// SPC-4 7.5.12: informational exceptions are not reported.
fn informational_exceptions(values: Values) -> Vec<u8> {
    const DEXCPT: u8 = 0x08;
    let mut page = vec![INFORMATIONAL_EXCEPTIONS, 0x0a, values.fixed(DEXCPT)];
    page.resize(12, 0);
    page
}
