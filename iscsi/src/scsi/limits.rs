//! How much one command may ask for. The block limits VPD page tells the initiator each of these, and a CDB or
//! parameter list beyond one is refused before anything is read, written or allocated.

/// Blocks that one READ, WRITE, VERIFY or ORWRITE may transfer: 8 MiB, which leaves room for the 3.4 MB that
/// GRUB reads at once. Beyond it, INVALID FIELD IN CDB.
pub const MAX_TRANSFER_BLOCKS: u32 = 16 * 1024;

/// Blocks in the transfers that serve the initiator best: 1 MiB.
pub const OPTIMAL_TRANSFER_BLOCKS: u32 = 2 * 1024;

/// Blocks to which transfers and discards are best aligned: 4 KiB, the pages of the caches below.
pub(super) const GRANULARITY_BLOCKS: u16 = 8;

/// Blocks that one COMPARE AND WRITE may compare: all that its one-byte field can say.
pub const MAX_COMPARE_AND_WRITE_BLOCKS: u8 = u8::MAX;

/// Blocks that one UNMAP may give back, over all its descriptors: 512 MiB. Beyond it, INVALID FIELD IN PARAMETER
/// LIST.
pub const MAX_UNMAP_BLOCKS: u32 = 1024 * 1024;

/// Block descriptors in one UNMAP. Beyond it, INVALID FIELD IN PARAMETER LIST.
pub const MAX_UNMAP_DESCRIPTORS: u16 = 256;

/// Blocks that one WRITE SAME may fill: all that its 10-byte form can say, done in steps of 1 MiB. Beyond it, INVALID
/// FIELD IN CDB.
pub const MAX_WRITE_SAME_BLOCKS: u32 = u16::MAX as u32;

/// Blocks that one step of a command in several steps moves: 1 MiB. It bounds the memory of WRITE SAME and
/// VERIFY whatever their length.
pub(super) const STEP_BLOCKS: u64 = 2 * 1024;

/// Runs that one GET LBA STATUS reports: 4 KiB of them. The initiator asks again from where they end.
pub(super) const MAX_LBA_STATUS_DESCRIPTORS: usize = 256;

/// Unit attentions that one nexus can have to hear. There are fewer conditions than that, and none is kept
/// twice; should there ever be more, the newest is dropped.
pub(super) const MAX_ATTENTIONS: usize = 8;

/// Initiator ports that can be registered for persistent reservations. One more is refused with INSUFFICIENT
/// REGISTRATION RESOURCES.
pub(super) const MAX_REGISTRATIONS: usize = 64;
