//! MODE SELECT: an initiator changes what the mode pages say it can, and the other sessions are told.

use super::cdb::Cdb;
use super::mode::{self, Settings};
use super::sense::{Condition, Sense};
use super::task::{Failure, Step, Verdict};
use super::{Lun, NexusId};

/// SPC-4, MODE SELECT (6) and (10) commands. All pages are checked before the first takes effect.
pub(super) fn mode_select(cdb: &Cdb<'_>, nexus: NexusId) -> Verdict {
    const PF: u8 = 0x10;
    let six = cdb.spec().opcode() == 0x15;
    if cdb.length() == 0 {
        return Ok(Step::Done);
    }
    if !cdb.flag(1, PF) {
        return Err(Cdb::invalid(1, Some(4)));
    }
    Step::get_data(cdb.length(), move |lun, data| {
        let list = data.concat();
        let settings = parse(lun, &list, six)?;
        if lun.mode().set(settings) {
            lun.change(|state| state.nexuses.tell_others(nexus, Condition::MODE_PARAMETERS_CHANGED));
        }
        Ok(Step::Done)
    })
}

/// SPC-4, mode parameter list format: a header, a block descriptor that changes nothing, and pages.
fn parse(lun: &Lun, list: &[u8], six: bool) -> Result<Settings, Failure> {
    let (header, rest) = list.split_at_checked(if six { 4 } else { 8 }).ok_or_else(too_short)?;
    let (descriptor_length, long) = match header {
        [_, _, _, length] => (usize::from(*length), false),
        [_, _, _, _, long, _, high, low] => (usize::from(u16::from_be_bytes([*high, *low])), long & 1 != 0),
        _ => return Err(too_short()),
    };
    let (descriptor, mut pages) = rest.split_at_checked(descriptor_length).ok_or_else(too_short)?;
    if !changes_nothing(lun, descriptor, long) {
        return Err(invalid(header.len()));
    }
    let mut settings = lun.mode().settings();
    while let [code, length, ..] = pages {
        let (page, rest) = pages.split_at_checked(usize::from(*length) + 2).ok_or_else(too_short)?;
        check_page(page, *code & 0x7f, settings).map_err(|at| invalid(list.len() - pages.len() + at))?;
        settings = settings.changed_by(page);
        pages = rest;
    }
    if pages.is_empty() { Ok(settings) } else { Err(too_short()) }
}

/// The disk's size and its blocks are fixed: a descriptor may repeat them, or leave the size out.
fn changes_nothing(lun: &Lun, descriptor: &[u8], long: bool) -> bool {
    let ours = if long { mode::long_descriptor(lun) } else { mode::short_descriptor(lun) };
    let size = ours.len() / 2;
    match descriptor.split_at_checked(size) {
        None => descriptor.is_empty(),
        Some((blocks, rest)) => {
            let (our_blocks, our_rest) = ours.split_at(size);
            rest == our_rest && (blocks == our_blocks || blocks.iter().all(|byte| *byte == 0))
        }
    }
}

/// Refuses a page that the disk doesn't have, or that changes a bit which can't be changed; says where.
fn check_page(page: &[u8], code: u8, settings: Settings) -> Result<(), usize> {
    let (now, mask) = (mode::page(code, settings), mode::changeable(code));
    if now.is_empty() {
        return Err(0);
    }
    if page.len() != now.len() {
        return Err(1);
    }
    let bytes = page.iter().zip(&now).zip(&mask).enumerate().skip(2);
    match bytes.into_iter().find(|(_, ((new, old), mask))| (*new ^ *old) & !**mask != 0) {
        Some((at, _)) => Err(at),
        None => Ok(()),
    }
}

fn too_short() -> Failure {
    Condition::PARAMETER_LIST_LENGTH_ERROR.into()
}

fn invalid(at: usize) -> Failure {
    Sense::from(Condition::INVALID_FIELD_IN_PARAMETER_LIST).at_parameter(at).into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{A, B, Bench, sense};
    use super::*;

    const CONTROL: [u8; 12] = [0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 1, 0x2c, 0, 0];

    fn control(sense: u8, protect: u8) -> [u8; 12] {
        let mut page = CONTROL;
        (page[2], page[4]) = (sense, protect);
        page
    }

    fn select(bench: &mut Bench, parts: &[&[u8]]) -> super::super::Completion {
        let list = parts.concat();
        bench.run(&[0x15, 0x10, 0, 0, list.len() as u8, 0], &list)
    }

    #[test]
    fn write_protection_can_be_set_and_cleared() {
        let mut bench = Bench::new();
        let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        select(&mut bench, &[&[0; 4], &control(0, 8)]);
        assert_eq!(bench.bad(&write, &[0; 512]), (7, 0x27, 0));
        assert_eq!(bench.good(&[0x1a, 8, 0x0a, 0, 255, 0], &[])[2], 0x90);
        bench.good(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[]);
        select(&mut bench, &[&[0; 4], &control(0, 0)]);
        bench.good(&write, &[0; 512]);
    }

    #[test]
    fn sense_data_can_be_in_descriptors() {
        let mut bench = Bench::new();
        let beyond = [0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0];
        assert_eq!(bench.run(&beyond, &[]).sense.unwrap().to_bytes()[0], 0xf0);
        let list = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &control(4, 0)].concat();
        bench.good(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list);
        assert_eq!(bench.run(&beyond, &[]).sense.unwrap().to_bytes()[0], 0x72);
    }

    #[test]
    fn without_a_write_cache_all_writes_go_through() {
        let mut bench = Bench::new();
        let mut caching = [0; 20];
        (caching[0], caching[1]) = (0x08, 0x12);
        select(&mut bench, &[&[0; 4], &caching]);
        // WRITE and WRITE SAME.
        for opcode in [0x2a, 0x41] {
            bench.good(&[opcode, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[1; 512]);
            assert!(matches!(bench.disk.requests.pop(), Some(crate::io::Io::Write { fua: true, .. })));
        }
    }

    #[test]
    fn only_a_change_is_told_and_only_to_others() {
        let mut bench = Bench::new();
        bench.join(B);
        let ready = [0, 0, 0, 0, 0, 0];
        select(&mut bench, &[&[0; 4], &control(0, 0)]);
        assert!(bench.run_as(B, &ready, &[]).sense.is_none());
        select(&mut bench, &[&[0; 4], &control(4, 0)]);
        assert_eq!(sense(&bench.run_as(B, &ready, &[])), (6, 0x2a, 1));
        assert!(bench.run_as(B, &ready, &[]).sense.is_none());
        assert!(bench.run_as(A, &ready, &[]).sense.is_none());
    }

    #[test]
    fn a_wrong_list_changes_nothing() {
        let mut bench = Bench::new();
        let header = [0; 4];
        let descriptor = |blocks: u32, size: u32| [blocks.to_be_bytes(), size.to_be_bytes()].concat();
        let with = |descriptor: &[u8]| [&[0, 0, 0, 8][..], descriptor].concat();
        let good = control(4, 0);
        let mut unchangeable = good;
        unchangeable[3] = 0;
        type Case<'a> = (&'a [&'a [u8]], (u8, u8, u8));
        let cases: [Case<'_>; 9] = [
            (&[&header[..3]], (5, 0x1a, 0)),
            (&[&header, &good, &[0x08]], (5, 0x1a, 0)),
            (&[&header, &good[..11]], (5, 0x1a, 0)),
            (&[&header, &good, &unchangeable], (5, 0x26, 0)),
            (&[&header, &good, &[0x01, 0]], (5, 0x26, 0)),
            (&[&header, &good, &[0x4a, 0]], (5, 0x26, 0)),
            (&[&header, &good, &[0x1c, 1, 8]], (5, 0x26, 0)),
            (&[&with(&descriptor(0, 4096)), &good], (5, 0x26, 0)),
            (&[&with(&descriptor(5, 512)), &good], (5, 0x26, 0)),
        ];
        for (parts, expected) in cases {
            assert_eq!(sense(&select(&mut bench, parts)), expected, "{parts:02x?}");
            assert_eq!(bench.lun.mode().settings(), mode::ModePages::default().settings());
        }
        for blocks in [0, 4096] {
            assert!(select(&mut bench, &[&with(&descriptor(blocks, 512)), &good]).sense.is_none());
        }
        assert_eq!(bench.bad(&[0x15, 0x11, 0, 0, 4, 0], &header), (5, 0x24, 0), "no saving");
        assert_eq!(bench.bad(&[0x15, 0x00, 0, 0, 4, 0], &header), (5, 0x24, 0), "no vendor's format");
        bench.good(&[0x15, 0x10, 0, 0, 0, 0], &[]);
    }
}
