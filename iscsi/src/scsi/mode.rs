//! Mode pages: what the disk lets an initiator see (SPC-4 and SBC-3, mode parameters). [`super::mode_select`]
//! sets them.

use std::sync::atomic::{AtomicU8, Ordering};

use block::SECTOR_SIZE;

use super::Lun;
use super::cdb::Cdb;
use super::sense::Condition;
use super::task::{Failure, Step, Verdict};

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;

/// The pages that the disk has, in ascending order.
const PAGES: [u8; 3] = [CACHING, CONTROL, INFORMATIONAL_EXCEPTIONS];

const WCE: u8 = 0x04;
const D_SENSE: u8 = 0x04;
const SWP: u8 = 0x08;

/// What an initiator can set. Nothing else on the pages is changeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    /// WCE: a write may end before its data is durable.
    pub(super) write_cache: bool,
    /// D_SENSE: sense data has descriptors.
    pub(super) descriptor_sense: bool,
    /// SWP: writes are refused.
    pub(super) write_protect: bool,
}

impl Settings {
    const DEFAULT: Self = Self { write_cache: true, descriptor_sense: false, write_protect: false };
    const ALL: Self = Self { write_cache: true, descriptor_sense: true, write_protect: true };
    const NONE: Self = Self { write_cache: false, descriptor_sense: false, write_protect: false };

    /// With what a page says, its first two bytes included.
    pub(super) fn changed_by(mut self, page: &[u8]) -> Self {
        let flag = |at: usize, bit: u8| page.get(at).is_some_and(|byte| byte & bit != 0);
        match page.first().map(|code| code & 0x3f) {
            Some(CACHING) => self.write_cache = flag(2, WCE),
            Some(CONTROL) => {
                self.descriptor_sense = flag(2, D_SENSE);
                self.write_protect = flag(4, SWP);
            }
            _ => {}
        }
        self
    }

    const fn to_bits(self) -> u8 {
        self.write_cache as u8 | (self.descriptor_sense as u8) << 1 | (self.write_protect as u8) << 2
    }

    const fn from_bits(bits: u8) -> Self {
        Self { write_cache: bits & 1 != 0, descriptor_sense: bits & 2 != 0, write_protect: bits & 4 != 0 }
    }
}

/// The settings as they are, for all sessions (one copy of the mode pages).
#[derive(Debug)]
pub(super) struct ModePages {
    /// One word, so that a reader never sees half of a change and never waits.
    bits: AtomicU8,
}

impl Default for ModePages {
    fn default() -> Self {
        Self { bits: AtomicU8::new(Settings::DEFAULT.to_bits()) }
    }
}

impl ModePages {
    pub(super) fn settings(&self) -> Settings {
        Settings::from_bits(self.bits.load(Ordering::Relaxed))
    }

    /// Sets them all, and says whether one has changed.
    pub(super) fn set(&self, settings: Settings) -> bool {
        let bits = settings.to_bits();
        self.bits.swap(bits, Ordering::Relaxed) != bits
    }

    /// Back to the defaults, as a reset does: no values are saved.
    pub(super) fn reset(&self) {
        self.set(Settings::DEFAULT);
    }
}

/// SPC-4, MODE SENSE (6) command.
pub(super) fn sense6(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let descriptor = if has_block_descriptor(cdb) { short_descriptor(lun) } else { Vec::new() };
    let pages = pages(lun, cdb)?;
    let length = u8::try_from(3 + descriptor.len() + pages.len()).unwrap_or(u8::MAX);
    let descriptor_length = u8::try_from(descriptor.len()).unwrap_or(0);
    let header = [length, 0, device_specific(lun), descriptor_length];
    Step::parameter_data([&header, &descriptor[..], &pages].concat(), cdb.allocation_length())
}

/// SPC-4, MODE SENSE (10) command.
pub(super) fn sense10(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    const LLBAA: u8 = 0x10;
    let long = cdb.flag(1, LLBAA) && has_block_descriptor(cdb);
    let descriptor = match (has_block_descriptor(cdb), long) {
        (false, _) => Vec::new(),
        (true, false) => short_descriptor(lun),
        (true, true) => long_descriptor(lun),
    };
    let pages = pages(lun, cdb)?;
    let length = u16::try_from(6 + descriptor.len() + pages.len()).unwrap_or(u16::MAX);
    let descriptor_length = u16::try_from(descriptor.len()).unwrap_or(0);
    let mut header = length.to_be_bytes().to_vec();
    header.extend([0, device_specific(lun), u8::from(long), 0]);
    header.extend(descriptor_length.to_be_bytes());
    Step::parameter_data([header, descriptor, pages].concat(), cdb.allocation_length())
}

fn has_block_descriptor(cdb: &Cdb<'_>) -> bool {
    const DBD: u8 = 0x08;
    !cdb.flag(1, DBD)
}

/// DEVICE-SPECIFIC PARAMETER (SBC-3, mode parameter header): WP, and DPOFUA, for DPO and FUA are taken everywhere.
fn device_specific(lun: &Lun) -> u8 {
    const WP: u8 = 0x80;
    const DPOFUA: u8 = 0x10;
    DPOFUA | if lun.is_write_protected() { WP } else { 0 }
}

/// SBC-3, short LBA mode parameter block descriptor.
pub(super) fn short_descriptor(lun: &Lun) -> Vec<u8> {
    let blocks = u32::try_from(lun.geometry().blocks().get()).unwrap_or(u32::MAX);
    [blocks.to_be_bytes(), SECTOR_SIZE.to_be_bytes()].concat()
}

/// SBC-3, long LBA mode parameter block descriptor.
pub(super) fn long_descriptor(lun: &Lun) -> Vec<u8> {
    let blocks = lun.geometry().blocks().get().to_be_bytes();
    [&blocks[..], &[0; 4], &SECTOR_SIZE.to_be_bytes()].concat()
}

/// The page that the CDB names, or all of them, with the values that its PAGE CONTROL names.
fn pages(lun: &Lun, cdb: &Cdb<'_>) -> Result<Vec<u8>, Failure> {
    const ALL_SUBPAGES: u8 = 0xff;
    let code = cdb.byte(2) & 0x3f;
    let make: fn(&Lun, u8) -> Vec<u8> = match cdb.byte(2) >> 6 {
        0 => |lun, code| page(code, lun.mode().settings()),
        1 => |_, code| changeable(code),
        2 => |_, code| page(code, Settings::DEFAULT),
        _ => return Err(Condition::SAVING_PARAMETERS_NOT_SUPPORTED.into()),
    };
    if code != ALL_PAGES && !PAGES.contains(&code) {
        return Err(Cdb::invalid(2, Some(5)));
    }
    if !matches!(cdb.byte(3), 0 | ALL_SUBPAGES) {
        return Err(Cdb::invalid(3, None));
    }
    let wanted = PAGES.into_iter().filter(|it| code == ALL_PAGES || code == *it);
    Ok(wanted.flat_map(|it| make(lun, it)).collect())
}

/// A page with those settings; empty if the disk doesn't have it.
pub(super) fn page(code: u8, settings: Settings) -> Vec<u8> {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    match code {
        // SBC-3, Caching mode page.
        CACHING => filled(20, &[CACHING, 0x12, bit(settings.write_cache, WCE)]),
        // SPC-4, Control mode page: commands may be done in any order, and the disk is never busy for longer than 30 s.
        CONTROL => {
            const UNRESTRICTED_REORDERING: u8 = 0x10;
            const BUSY_TIMEOUT: [u8; 2] = 300_u16.to_be_bytes();
            let sense = bit(settings.descriptor_sense, D_SENSE);
            let protect = bit(settings.write_protect, SWP);
            let head = [CONTROL, 0x0a, sense, UNRESTRICTED_REORDERING, protect, 0, 0, 0];
            filled(12, &[&head[..], &BUSY_TIMEOUT].concat())
        }
        // SPC-4, Informational Exceptions Control mode page, DEXCPT: exceptions are not reported.
        INFORMATIONAL_EXCEPTIONS => filled(12, &[INFORMATIONAL_EXCEPTIONS, 0x0a, 0x08]),
        _ => Vec::new(),
    }
}

/// The page with a one for each bit that can be changed: those that differ when all settings do.
pub(super) fn changeable(code: u8) -> Vec<u8> {
    let (all, none) = (page(code, Settings::ALL), page(code, Settings::NONE));
    let header = all.iter().take(2).copied();
    let mask = all.iter().zip(&none).skip(2).map(|(a, b)| a ^ b);
    header.chain(mask).collect()
}

fn filled(length: usize, head: &[u8]) -> Vec<u8> {
    let mut page = head.to_vec();
    page.resize(length, 0);
    page
}

#[cfg(test)]
mod tests {
    use super::super::LunOptions;
    use super::super::testing::{BLOCKS, Bench};

    #[test]
    fn each_page_says_how_long_it_is_and_the_header_how_long_all_is() {
        let mut bench = Bench::new();
        let all = bench.good(&[0x1a, 0, 0x3f, 0, 255, 0], &[]);
        assert_eq!((usize::from(all[0]), all[2], all[3]), (all.len() - 1, 0x10, 8));
        assert_eq!(all[4..12], [0, 0, 0x10, 0, 0, 0, 2, 0], "{BLOCKS} blocks of 512 bytes");
        let mut rest = &all[12..];
        let mut codes = Vec::new();
        while let [code, length, ..] = rest {
            codes.push(*code);
            rest = &rest[2 + usize::from(*length)..];
        }
        assert_eq!(codes, [0x08, 0x0a, 0x1c]);
        let ten = bench.good(&[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 1, 0, 0], &[]);
        assert_eq!(usize::from(u16::from_be_bytes([ten[0], ten[1]])), ten.len() - 2);
        assert_eq!(ten[8..], all[4..]);
    }

    #[test]
    fn the_block_descriptor_can_be_left_out_or_long() {
        let mut bench = Bench::new();
        assert_eq!(bench.good(&[0x1a, 8, 0x0a, 0, 255, 0], &[])[..5], [15, 0, 0x10, 0, 0x0a]);
        let long = bench.good(&[0x5a, 0x10, 0x0a, 0, 0, 0, 0, 1, 0, 0], &[]);
        assert_eq!(long[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]);
        assert_eq!(long[8..24], [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        let none = bench.good(&[0x5a, 0x18, 0x0a, 0, 0, 0, 0, 1, 0, 0], &[]);
        assert_eq!(none[..8], [0, 18, 0, 0x10, 0, 0, 0, 0]);
    }

    #[test]
    fn page_control_chooses_the_values() {
        let mut bench = Bench::new();
        let page = |bench: &mut Bench, control: u8, code| {
            bench.good(&[0x1a, 8, control << 6 | code, 0, 255, 0], &[])[4..].to_vec()
        };
        assert_eq!(page(&mut bench, 0, 0x08)[..4], [0x08, 0x12, 0x04, 0]);
        assert_eq!(page(&mut bench, 1, 0x0a), [0x0a, 0x0a, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(page(&mut bench, 2, 0x0a), [0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 1, 0x2c, 0, 0]);
        assert_eq!(page(&mut bench, 1, 0x1c)[2..], [0; 10]);
        assert_eq!(bench.bad(&[0x1a, 8, 0xc8, 0, 255, 0], &[]), (5, 0x39, 0));
        assert_eq!(bench.bad(&[0x1a, 8, 0x01, 0, 255, 0], &[]), (5, 0x24, 0));
        assert_eq!(bench.bad(&[0x1a, 8, 0x0a, 1, 255, 0], &[]), (5, 0x24, 0));
    }

    #[test]
    fn a_read_only_disk_says_so_and_takes_no_write() {
        let mut bench = Bench::with(LunOptions { read_only: true, ..LunOptions::default() }, BLOCKS);
        assert_eq!(bench.good(&[0x1a, 8, 0x0a, 0, 255, 0], &[])[2], 0x90);
        let one = [0; 512];
        let cdbs: [(&[u8], &[u8]); 10] = [
            (&[0x0a, 0, 0, 0, 1, 0], &one),
            (&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &one),
            (&[0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &one),
            (&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &one),
            (&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &one),
            (&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], &one),
            (&[0x2e, 2, 0, 0, 0, 0, 0, 0, 1, 0], &one),
            (&[0x41, 8, 0, 0, 0, 0, 0, 0, 1, 0], &[]),
            (&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &[0; 24]),
            (&[0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0], &[]),
        ];
        for (cdb, data) in cdbs {
            assert_eq!(bench.bad(cdb, data), (7, 0x27, 0), "{cdb:02x?}");
        }
        assert_eq!(bench.disk.requests, []);
        bench.good(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]);
    }
}
