//! The disk as SCSI sees it: one direct-access logical unit, number 0, by SPC-4 and SBC-3, as a pure state
//! machine. It knows nothing of PDUs, and asks for I/O by [`Io`](crate::Io) instead of doing it.
//!
//! A [`Lun`] is what all sessions of a target share: who the disk says it is, its reservations, the unit
//! attentions that each session has yet to hear. A [`Task`] is one command; its [`Action`]s say what it needs
//! next, until it ends in a [`Completion`].
//!
//! Standards are cited by the names of their sections; the numbers change from draft to draft.
//!
//! A command passes [`dispatch`] (which LUN, which command, may this session do it now?) and goes to the module
//! of its family. What a CDB may hold is said once, in [`table`].

mod blocks;
mod capacity;
mod cdb;
mod command;
mod dispatch;
mod inquiry;
mod limits;
mod lun;
mod medium;
mod mode;
mod mode_select;
mod nexus;
mod opcodes;
mod persistent;
mod reserve;
mod rw;
mod sense;
mod table;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thin;
mod verify;
mod vpd;
mod write_same;

pub(crate) use dispatch::is_lun_zero;

pub use command::{Action, Command, Completion, Direction, InitiatorPort, NexusId, Status};
pub use limits::{
    MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BLOCKS, MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS,
    MAX_WRITE_SAME_BLOCKS, OPTIMAL_TRANSFER_BLOCKS,
};
pub use lun::{Identity, Lun, LunOptions};
pub use sense::{Condition, FieldPointer, Sense, SenseFormat, SenseKey};
pub use task::Task;
