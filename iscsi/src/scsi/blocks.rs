//! Ranges and data in whole blocks: the arithmetic that the commands on blocks have in common.

use block::{BlockCount, BlockRange, Geometry, Lba};
use bytes::Bytes;

use super::Lun;
use super::cdb::Cdb;
use super::limits::MAX_TRANSFER_BLOCKS;
use super::sense::{Condition, Sense};
use super::task::Failure;

/// `count` blocks from `lba` on, if all are on the disk. No block at all may stand at the disk's end.
pub(super) fn on_disk(geometry: Geometry, lba: u64, count: u64) -> Result<BlockRange, Failure> {
    match BlockRange::new(Lba::new(lba), BlockCount::new(count)) {
        Ok(range) if geometry.contains(range) => Ok(range),
        _ => Err(out_of_range(geometry, lba)),
    }
}

/// The blocks that LBA and `count` name, all of them on the disk. An LBA behind the last block is out of range
/// even with no block to transfer (SBC-3, logical block addresses).
pub(super) fn addressed(lun: &Lun, cdb: &Cdb<'_>, count: u64) -> Result<BlockRange, Failure> {
    let (geometry, lba) = (lun.geometry(), cdb.lba());
    if lba >= geometry.blocks().get() {
        return Err(out_of_range(geometry, lba));
    }
    on_disk(geometry, lba, count)
}

/// The blocks that the CDB transfers: on the disk, and no more than one command may.
pub(super) fn transfer(lun: &Lun, cdb: &Cdb<'_>) -> Result<BlockRange, Failure> {
    let count = cdb.blocks();
    let range = addressed(lun, cdb, count)?;
    if count > u64::from(MAX_TRANSFER_BLOCKS) {
        return Err(cdb.invalid_length());
    }
    Ok(range)
}

/// The blocks from LBA on that `count` names, where 0 names all to the end of the disk.
pub(super) fn to_end_if_none(lun: &Lun, cdb: &Cdb<'_>) -> Result<BlockRange, Failure> {
    let rest = lun.geometry().blocks().get().saturating_sub(cdb.lba());
    let count = u64::from(cdb.length());
    addressed(lun, cdb, if count == 0 { rest } else { count })
}

/// LBA OUT OF RANGE, with the first address that isn't on the disk.
fn out_of_range(geometry: Geometry, lba: u64) -> Failure {
    let first_bad = lba.max(geometry.blocks().get());
    Sense::from(Condition::LBA_OUT_OF_RANGE).with_information(first_bad).into()
}

/// Refuses a write to a protected disk.
pub(super) fn check_writable(lun: &Lun) -> Result<(), Failure> {
    if lun.is_write_protected() { Err(Condition::WRITE_PROTECTED.into()) } else { Ok(()) }
}

/// The first `max` blocks of `range`, and the others; `None` if it has no block.
pub(super) fn split_step(range: BlockRange, max: u64) -> Option<(BlockRange, BlockRange)> {
    let count = range.count().get().min(max);
    if count == 0 {
        return None;
    }
    let head = BlockRange::new(range.start(), BlockCount::new(count)).ok()?;
    let rest = BlockRange::new(head.end(), BlockCount::new(range.count().get() - count)).ok()?;
    Some((head, rest))
}

/// How many blocks the data fills; data that ends within a block is refused.
pub(super) fn whole_blocks(data: &[Bytes]) -> Result<u64, Failure> {
    let bytes = data.iter().map(|piece| piece.len() as u64).sum();
    match BlockCount::from_bytes(bytes) {
        Ok(count) => Ok(count.get()),
        Err(_) => Err(Condition::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT.into()),
    }
}

/// The first `count` blocks of `range`, or all.
pub(super) fn truncated(range: BlockRange, count: u64) -> BlockRange {
    let count = BlockCount::new(count.min(range.count().get()));
    // Part of a range is one.
    BlockRange::new(range.start(), count).unwrap_or(range)
}

/// The range's length as the transport counts it. The limits of each command keep it far below 2^32.
pub(super) fn byte_len(range: BlockRange) -> u32 {
    u32::try_from(range.byte_len()).unwrap_or(u32::MAX)
}

/// Where two runs of bytes first differ, both of them in pieces and of one length.
pub(super) fn first_difference(a: &[Bytes], b: &[Bytes]) -> Option<u64> {
    let (mut left, mut right) = (a.iter().map(Bytes::as_ref), b.iter().map(Bytes::as_ref));
    let (mut x, mut y): (&[u8], &[u8]) = (&[], &[]);
    let mut before = 0;
    loop {
        while x.is_empty() {
            x = left.next()?;
        }
        while y.is_empty() {
            y = right.next()?;
        }
        let (head_x, tail_x) = x.split_at(x.len().min(y.len()));
        let (head_y, tail_y) = y.split_at(head_x.len());
        if head_x != head_y {
            let at = head_x.iter().zip(head_y).position(|(p, q)| p != q);
            return Some(before + at.unwrap_or(0) as u64);
        }
        before += head_x.len() as u64;
        (x, y) = (tail_x, tail_y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_wherever_the_pieces_end() {
        let whole: Vec<u8> = (0..100).collect();
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            let pieces = [Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail)];
            assert_eq!(first_difference(&pieces, &[Bytes::copy_from_slice(&whole)]), None);
            for at in [0, cut.saturating_sub(1), cut.min(99), 99] {
                let mut other = whole.clone();
                other[at] ^= 1;
                assert_eq!(first_difference(&pieces, &[Bytes::from(other)]), Some(at as u64));
            }
        }
    }

    #[test]
    fn steps_cover_the_range() {
        let mut range = BlockRange::new(Lba::new(7), BlockCount::new(10)).unwrap();
        let mut steps = Vec::new();
        while let Some((head, rest)) = split_step(range, 4) {
            steps.push((head.start().get(), head.count().get()));
            range = rest;
        }
        assert_eq!(steps, [(7, 4), (11, 4), (15, 2)]);
    }

    #[test]
    fn a_range_can_be_cut_to_nothing() {
        let range = BlockRange::new(Lba::new(7), BlockCount::new(10)).unwrap();
        assert_eq!([0, 3, 10, 11].map(|count| truncated(range, count).count().get()), [0, 3, 10, 10]);
    }
}
