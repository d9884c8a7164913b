//! What the target asks of a disk, and what it is told. The crate never touches a disk itself: whoever owns the
//! socket does the I/O, wherever that blocks nobody, and brings the outcome back.

use block::{BlockRange, ErrorKind, Extent, Lba, Segments};
use bytes::Bytes;

/// Names one [`Io`] of one connection until its outcome is told. Never used twice on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(u64);

impl IoId {
    /// The request with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Something to be done on the disk. Every range is on the disk and every length is that of its range: the SCSI
/// half has checked them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Io {
    /// Read the blocks. Ends in [`IoOutcome::Data`].
    Read {
        /// Which blocks.
        range: BlockRange,
    },
    /// Write the pieces one behind the other. Ends in [`IoOutcome::Done`].
    Write {
        /// The first block.
        start: Lba,
        /// The data: whole blocks in all, cut anywhere.
        data: Vec<Bytes>,
        /// Whether it must be on the medium, not in a cache, when it ends.
        fua: bool,
    },
    /// Make all that ended before durable. Ends in [`IoOutcome::Done`].
    Flush,
    /// Give the blocks' space back. Ends in [`IoOutcome::Done`].
    Discard(Vec<BlockRange>),
    /// Read, compare and, if all is equal, write, with no other write to these blocks in between. Ends in
    /// [`IoOutcome::Done`] or [`IoOutcome::Mismatch`].
    CompareAndWrite {
        /// The first block.
        start: Lba,
        /// What must be there.
        expect: Vec<Bytes>,
        /// What is written then; as long as `expect`.
        data: Vec<Bytes>,
        /// As with [`Io::Write`].
        fua: bool,
    },
    /// Read, or the data in, and write, with no other write to these blocks in between. Ends in
    /// [`IoOutcome::Done`].
    OrWrite {
        /// The first block.
        start: Lba,
        /// The bits to set.
        data: Vec<Bytes>,
        /// As with [`Io::Write`].
        fua: bool,
    },
    /// How the blocks are provisioned. Ends in [`IoOutcome::Extent`].
    Provisioning(BlockRange),
    /// Bring the blocks into the cache soon. A hint: ends in [`IoOutcome::Done`] at once.
    Prefetch(BlockRange),
}

impl Io {
    /// Bytes that the request holds or will bring: what counts against limits on memory.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        let held = |pieces: &[Bytes]| pieces.iter().map(|piece| piece.len() as u64).sum();
        match self {
            Self::Read { range } => range.byte_len(),
            Self::Write { data, .. } | Self::OrWrite { data, .. } => held(data),
            Self::CompareAndWrite { expect, data, .. } => held(expect) + held(data),
            Self::Flush | Self::Discard(_) | Self::Provisioning(_) | Self::Prefetch(_) => 0,
        }
    }

    /// Whether it changes what the disk holds.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard(_) | Self::CompareAndWrite { .. } | Self::OrWrite { .. } => {
                true
            }
            Self::Read { .. } | Self::Flush | Self::Provisioning(_) | Self::Prefetch(_) => false,
        }
    }
}

/// How an [`Io`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoOutcome {
    /// It was done.
    Done,
    /// What was read: exactly the range's bytes.
    Data(Segments),
    /// How the first blocks of the range are provisioned.
    Extent(Extent),
    /// The blocks differ from what was expected, first at this byte. Nothing was written.
    Mismatch {
        /// Bytes from the start of the range.
        offset: u64,
    },
    /// The disk failed.
    Failed(ErrorKind),
}
