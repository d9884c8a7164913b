//! A disk that takes no more space than it holds: UNMAP gives space back, GET LBA STATUS tells where it is taken,
//! and SANITIZE gives all of it back.

use block::{BlockRange, Provisioning};

use super::Lun;
use super::blocks::{addressed, check_writable, on_disk, split_step};
use super::cdb::Cdb;
use super::limits::{MAX_LBA_STATUS_DESCRIPTORS, MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS};
use super::sense::{Condition, Sense};
use super::task::{Failure, Step, Verdict};
use crate::io::{Io, IoOutcome};

/// SBC-3, UNMAP command. Every descriptor is checked before the first is done.
pub(super) fn unmap(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    check_writable(lun)?;
    let length = cdb.length();
    if length == 0 {
        return Ok(Step::Done);
    }
    Step::get_data(length, |lun, data| {
        let ranges = parse_unmap(lun, &data.concat())?;
        if ranges.is_empty() { Ok(Step::Done) } else { Step::last_io(Io::Discard(ranges)) }
    })
}

/// SBC-3, UNMAP parameter list: a header of 8 bytes, then 16 for each range. Ranges of no block are left out.
fn parse_unmap(lun: &Lun, list: &[u8]) -> Result<Vec<BlockRange>, Failure> {
    let (header, rest) = list.split_first_chunk::<8>().ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?;
    let [_, _, high, low, ..] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let descriptors = rest.get(..length).ok_or(Condition::PARAMETER_LIST_LENGTH_ERROR)?;
    if length / 16 > usize::from(MAX_UNMAP_DESCRIPTORS) {
        return Err(Sense::from(Condition::INVALID_FIELD_IN_PARAMETER_LIST).at_parameter(2).into());
    }
    let mut ranges = Vec::new();
    let mut total = 0;
    // A descriptor that the length cuts off is ignored.
    for (lba, count) in descriptors.chunks_exact(16).filter_map(unmap_descriptor) {
        let range = on_disk(lun.geometry(), lba, u64::from(count))?;
        total += u64::from(count);
        if !range.is_empty() {
            ranges.push(range);
        }
    }
    if total > u64::from(MAX_UNMAP_BLOCKS) {
        return Err(Sense::from(Condition::INVALID_FIELD_IN_PARAMETER_LIST).at_parameter(8).into());
    }
    Ok(ranges)
}

fn unmap_descriptor(bytes: &[u8]) -> Option<(u64, u32)> {
    let (lba, rest) = bytes.split_first_chunk()?;
    let (count, _) = rest.split_first_chunk()?;
    Some((u64::from_be_bytes(*lba), u32::from_be_bytes(*count)))
}

/// SBC-3, GET LBA STATUS command: runs of blocks from LBA on, until the disk or the room for them ends. There is
/// always one.
pub(super) fn get_lba_status(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    const HEADER: usize = 8;
    const DESCRIPTOR: usize = 16;
    let allocation_length = cdb.allocation_length();
    let room = allocation_length.saturating_sub(HEADER) / DESCRIPTOR;
    let rest = addressed(lun, cdb, lun.geometry().blocks().get().saturating_sub(cdb.lba()))?;
    let room = room.clamp(1, MAX_LBA_STATUS_DESCRIPTORS);
    LbaStatus { rest, found: Vec::new(), room, allocation_length }.step()
}

/// Collects runs, one [`Io::Provisioning`] after the other.
struct LbaStatus {
    rest: BlockRange,
    found: Vec<(BlockRange, Provisioning)>,
    room: usize,
    allocation_length: usize,
}

impl LbaStatus {
    fn step(mut self) -> Verdict {
        if self.rest.is_empty() || self.found.len() == self.room {
            return Step::parameter_data(self.parameter_data(), self.allocation_length);
        }
        Step::io(Io::Provisioning(self.rest), move |_, outcome| {
            let IoOutcome::Extent(extent) = outcome else {
                return Err(Condition::INTERNAL_TARGET_FAILURE.into());
            };
            // A run of more blocks than a descriptor can count goes on in the next one.
            let count = extent.range.count().get().min(u64::from(u32::MAX));
            let (run, rest) = split_step(self.rest, count).ok_or(Condition::INTERNAL_TARGET_FAILURE)?;
            self.found.push((run, extent.state));
            self.rest = rest;
            self.step()
        })
    }

    /// SBC-3, GET LBA STATUS parameter data.
    fn parameter_data(&self) -> Vec<u8> {
        let length = u32::try_from(4 + 16 * self.found.len()).unwrap_or(u32::MAX);
        let mut data = length.to_be_bytes().to_vec();
        data.extend([0; 4]);
        for (run, state) in &self.found {
            let count = u32::try_from(run.count().get()).unwrap_or(u32::MAX);
            let status = match state {
                Provisioning::Mapped => 0,
                Provisioning::Deallocated => 1,
            };
            data.extend(run.start().get().to_be_bytes());
            data.extend(count.to_be_bytes());
            data.extend([status, 0, 0, 0]);
        }
        data
    }
}

/// SBC-3, SANITIZE command with BLOCK ERASE: what the client ever wrote is gone, and the disk reads as zero. It is
/// one request, so it can't be interrupted half-way, and it ends before the command does whatever IMMED says.
pub(super) fn sanitize_block_erase(lun: &Lun) -> Verdict {
    check_writable(lun)?;
    Step::last_io(Io::Discard(vec![lun.geometry().whole()]))
}

#[cfg(test)]
mod tests {
    use super::super::LunOptions;
    use super::super::testing::{BLOCKS, Bench};
    use super::*;

    fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
        let length = u16::try_from(descriptors.len() * 16).unwrap();
        let mut list = (length + 6).to_be_bytes().to_vec();
        list.extend(length.to_be_bytes());
        list.extend([0; 4]);
        for (lba, count) in descriptors {
            list.extend(lba.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        list
    }

    fn unmap_cdb(length: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
        vec![0x42, 0, 0, 0, 0, 0, 0, high, low, 0]
    }

    fn get_lba_status(lba: u64, allocation_length: u32) -> Vec<u8> {
        let mut cdb = vec![0x9e, 0x12];
        cdb.extend(lba.to_be_bytes());
        cdb.extend(allocation_length.to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    }

    /// What GET LBA STATUS found: address, count, and whether deallocated.
    fn runs(data: &[u8]) -> Vec<(u64, u32, u8)> {
        let length = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
        assert_eq!(length + 4, data.len());
        let run = |it: &[u8]| {
            let (lba, count) = (it[..8].try_into().unwrap(), it[8..12].try_into().unwrap());
            (u64::from_be_bytes(lba), u32::from_be_bytes(count), it[12])
        };
        data[8..].chunks(16).map(run).collect()
    }

    #[test]
    fn unmapped_blocks_read_as_zero_and_are_reported() {
        let mut bench = Bench::new();
        bench.disk.bytes.fill(0xaa);
        let list = unmap_list(&[(8, 8), (0, 0), (32, 1), (BLOCKS, 0)]);
        bench.good(&unmap_cdb(list.len()), &list);
        assert_eq!(bench.disk.blocks(8, 8), [0; 4096]);
        assert_eq!(bench.disk.blocks(16, 1), [0xaa; 512]);
        let end = BLOCKS as u32 - 33;
        let all = [(0, 8, 0), (8, 8, 1), (16, 16, 0), (32, 1, 1), (33, end, 0)];
        assert_eq!(runs(&bench.good(&get_lba_status(0, 4096), &[])), all);
        assert_eq!(runs(&bench.good(&get_lba_status(0, 24 + 16), &[])), all[..2]);
        assert_eq!(runs(&bench.good(&get_lba_status(10, 24), &[])), [(10, 6, 1)]);
        assert_eq!(bench.good(&get_lba_status(10, 3), &[]).len(), 3);
        for lba in [BLOCKS, BLOCKS + 1, u64::MAX] {
            assert_eq!(bench.bad(&get_lba_status(lba, 24), &[]), (5, 0x21, 0));
        }
    }

    #[test]
    fn an_unmap_of_nothing_is_done() {
        let mut bench = Bench::new();
        bench.good(&unmap_cdb(0), &[]);
        bench.good(&unmap_cdb(8), &unmap_list(&[]));
        let list = unmap_list(&[(BLOCKS, 0)]);
        bench.good(&unmap_cdb(list.len()), &list);
        assert_eq!(bench.disk.requests, []);
    }

    #[test]
    fn an_unmap_is_checked_as_a_whole() {
        let mut bench = Bench::with(LunOptions::default(), u64::from(MAX_UNMAP_BLOCKS) + 1);
        let good = unmap_list(&[(0, 1), (1, 1)]);
        let blocks = MAX_UNMAP_BLOCKS + 1;
        for (list, expected) in [
            (good[..7].to_vec(), (5, 0x1a, 0)),
            (good[..39].to_vec(), (5, 0x1a, 0)),
            (unmap_list(&[(0, 1), (u64::from(blocks), 1)]), (5, 0x21, 0)),
            (unmap_list(&[(0, 1), (u64::MAX, 0)]), (5, 0x21, 0)),
            (unmap_list(&[(0, 1), (0, blocks)]), (5, 0x26, 0)),
            (unmap_list(&[(0, MAX_UNMAP_BLOCKS), (0, 1)]), (5, 0x26, 0)),
            (unmap_list(&[(0, 1); MAX_UNMAP_DESCRIPTORS as usize + 1]), (5, 0x26, 0)),
        ] {
            assert_eq!(bench.bad(&unmap_cdb(list.len()), &list), expected);
        }
        assert_eq!(bench.disk.requests, []);
        let most = unmap_list(&[(3, 1); MAX_UNMAP_DESCRIPTORS as usize]);
        bench.good(&unmap_cdb(most.len()), &most);
        let all = unmap_list(&[(0, MAX_UNMAP_BLOCKS)]);
        bench.good(&unmap_cdb(all.len()), &all);
    }

    #[test]
    fn block_erase_leaves_an_empty_disk_and_takes_no_parameters() {
        let mut bench = Bench::new();
        bench.disk.bytes.fill(1);
        bench.good(&[0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        assert!(bench.disk.bytes.iter().all(|it| *it == 0));
        assert_eq!(runs(&bench.good(&get_lba_status(0, 256), &[])), [(0, BLOCKS as u32, 1)]);
        for cdb in [[0x48, 0x02, 0, 0, 0, 0, 0, 0, 8, 0], [0x48, 0x42, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(bench.bad(&cdb, &[]), (5, 0x24, 0));
        }
        for action in (0..32).filter(|it| ![2, 0x1f].contains(it)) {
            assert_eq!(bench.bad(&[0x48, action, 0, 0, 0, 0, 0, 0, 0, 0], &[]), (5, 0x24, 0));
        }
    }
}
