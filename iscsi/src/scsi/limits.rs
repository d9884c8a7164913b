//! How much one command may ask for. The block limits VPD page tells the initiator each of these, and a CDB or
//! parameter list beyond one is refused before anything is read, written or allocated.

/// Blocks that one READ, WRITE, VERIFY or ORWRITE may transfer: 8 MiB, which leaves room for the 3.4 MB that
/// GRUB reads at once. Beyond it, INVALID FIELD IN CDB.
pub const MAX_TRANSFER_BLOCKS: u32 = 16 * 1024;

/// Blocks in the transfers that serve the initiator best: 1 MiB.
pub const OPTIMAL_TRANSFER_BLOCKS: u32 = 2 * 1024;

/// Blocks that one COMPARE AND WRITE may compare: all that its one-byte field can say.
pub const MAX_COMPARE_AND_WRITE_BLOCKS: u8 = u8::MAX;

/// Blocks that one UNMAP may give back, over all its descriptors: 512 MiB. Beyond it, INVALID FIELD IN PARAMETER
/// LIST.
pub const MAX_UNMAP_BLOCKS: u32 = 1024 * 1024;

/// Block descriptors in one UNMAP. Beyond it, INVALID FIELD IN PARAMETER LIST.
pub const MAX_UNMAP_DESCRIPTORS: u16 = 256;

/// Blocks that one WRITE SAME may fill: 512 MiB, done in steps of [`STEP_BLOCKS`]. Beyond it, INVALID FIELD IN
/// CDB.
pub const MAX_WRITE_SAME_BLOCKS: u32 = 1024 * 1024;

/// Blocks that one step of a command in several steps moves: 1 MiB. It bounds the memory of WRITE SAME, VERIFY
/// and SANITIZE whatever their length.
pub(super) const STEP_BLOCKS: u64 = 2 * 1024;

/// Blocks that one step gives back: 1 GiB. It bounds how long the disk is busy with one request.
pub(super) const DISCARD_STEP_BLOCKS: u64 = 2 * 1024 * 1024;

/// Unit attentions that one nexus can have to hear. There are fewer conditions than that, and none is kept
/// twice; should there ever be more, the newest is dropped.
pub(super) const MAX_ATTENTIONS: usize = 8;
