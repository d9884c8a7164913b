//! The units of a disk. Each is a type, so that blocks, bytes and addresses can't be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes in a logical block of every disk that bootd serves. BIOS firmware boots from nothing else.
pub const SECTOR_SIZE: u32 = 512;

/// A unit's value that can't exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A length in bytes that is not a whole number of blocks.
    #[error("{bytes} bytes is not a whole number of {SECTOR_SIZE}-byte blocks")]
    NotWholeBlocks {
        /// The length that was given.
        bytes: u64,
    },
    /// A range whose end can't be written down.
    #[error("a range of {count} blocks from block {start} goes beyond the largest block address")]
    Overflow {
        /// First block.
        start: u64,
        /// Number of blocks.
        count: u64,
    },
    /// A disk of no blocks.
    #[error("a disk must have at least one block")]
    Empty,
}

/// A logical block address: the number of a 512-byte block, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lba(u64);

impl Lba {
    /// The first block of a disk.
    pub const ZERO: Self = Self(0);

    /// The block with this number.
    #[must_use]
    pub const fn new(block: u64) -> Self {
        Self(block)
    }

    /// The block's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Where the block begins, in bytes from the start of the disk; `None` past 2^64.
    #[must_use]
    pub const fn byte_offset(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_SIZE as u64)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number of 512-byte blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockCount(u64);

impl BlockCount {
    /// That many blocks.
    #[must_use]
    pub const fn new(blocks: u64) -> Self {
        Self(blocks)
    }

    /// The blocks that `bytes` fill.
    ///
    /// # Errors
    /// When `bytes` is not a whole number of blocks.
    pub const fn from_bytes(bytes: u64) -> Result<Self, UnitError> {
        if bytes.is_multiple_of(SECTOR_SIZE as u64) {
            Ok(Self(bytes / SECTOR_SIZE as u64))
        } else {
            Err(UnitError::NotWholeBlocks { bytes })
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The length in bytes; `None` past 2^64.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_SIZE as u64)
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A length or a limit in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bytes(pub u64);

/// Consecutive blocks. It may be empty; its end never overflows, nor do its byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockRange {
    start: Lba,
    count: BlockCount,
}

impl BlockRange {
    /// `count` blocks from `start` on.
    ///
    /// # Errors
    /// When the range's end, in bytes, can't be written in 64 bits.
    pub const fn new(start: Lba, count: BlockCount) -> Result<Self, UnitError> {
        let overflow = UnitError::Overflow { start: start.0, count: count.0 };
        match start.0.checked_add(count.0) {
            Some(end) if end <= u64::MAX / SECTOR_SIZE as u64 => Ok(Self { start, count }),
            _ => Err(overflow),
        }
    }

    /// The blocks that bytes `from..to` of a disk fill, both rounded down to whole blocks; none when `to` is not
    /// behind `from`.
    #[must_use]
    pub const fn from_bytes(from: u64, to: u64) -> Self {
        let start = from / SECTOR_SIZE as u64;
        Self { start: Lba(start), count: BlockCount((to / SECTOR_SIZE as u64).saturating_sub(start)) }
    }

    /// The first block.
    #[must_use]
    pub const fn start(self) -> Lba {
        self.start
    }

    /// How many blocks.
    #[must_use]
    pub const fn count(self) -> BlockCount {
        self.count
    }

    /// The first block behind the range.
    #[must_use]
    pub const fn end(self) -> Lba {
        Lba(self.start.0 + self.count.0)
    }

    /// Whether it holds no block.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.count.0 == 0
    }

    /// Where it begins, in bytes from the start of the disk.
    #[must_use]
    pub const fn byte_start(self) -> u64 {
        self.start.0 * SECTOR_SIZE as u64
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn byte_len(self) -> u64 {
        self.count.0 * SECTOR_SIZE as u64
    }
}

impl fmt::Display for BlockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks {}..{}", self.start.0, self.end().0)
    }
}

/// How large a disk is and what its blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    blocks: BlockCount,
}

impl Geometry {
    /// A disk of that many blocks.
    ///
    /// # Errors
    /// When there are none, or more than 2^64 bytes of them.
    pub const fn new(blocks: BlockCount) -> Result<Self, UnitError> {
        if blocks.0 == 0 {
            return Err(UnitError::Empty);
        }
        match BlockRange::new(Lba::ZERO, blocks) {
            Ok(_) => Ok(Self { blocks }),
            Err(e) => Err(e),
        }
    }

    /// How many blocks the disk has.
    #[must_use]
    pub const fn blocks(self) -> BlockCount {
        self.blocks
    }

    /// The disk's length in bytes.
    #[must_use]
    pub const fn byte_len(self) -> u64 {
        self.blocks.0 * SECTOR_SIZE as u64
    }

    /// The whole disk as a range.
    #[must_use]
    pub const fn whole(self) -> BlockRange {
        BlockRange { start: Lba::ZERO, count: self.blocks }
    }

    /// Whether every block of `range` is on the disk. An empty range may begin at the disk's end, not behind it.
    #[must_use]
    pub const fn contains(self, range: BlockRange) -> bool {
        range.end().0 <= self.blocks.0
    }
}
