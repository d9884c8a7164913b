//! A sans-I/O iSCSI target: bytes and time in, bytes and Io requests out.
//!
//! A [`Connection`] is one TCP connection of an initiator. It is given what was read from the socket and what came
//! of requests to the disk, and gives what is to be written and what is to be done on the disk. A [`Target`] is
//! what initiators log in to, a [`Lun`] the disk behind it as SCSI sees it, a [`Directory`] finds targets by name.
//! Nothing here knows of sockets, files, clocks or where a disk's blocks are.

mod connection;
mod event;
mod io;
mod limits;
mod link;
mod login;
mod output;
mod params;
mod pdu;
mod scsi;
mod serial;
mod session;
mod target;
mod text;

pub use connection::Connection;
pub use event::{EndReason, Event, LoginStatus};
pub use io::{Io, IoId, IoOutcome};
pub use limits::{
    BYTES_IN_FLIGHT, COMMAND_WINDOW, FIRST_BURST_LENGTH, IMMEDIATE_COMMANDS, LOGIN_TIMEOUT, Limits,
    MAX_BURST_LENGTH, MAX_LOGIN_DATA, MAX_LOGIN_REQUESTS, MAX_OUTSTANDING_R2T, MAX_RECV_DATA_SEGMENT_LENGTH,
    MAX_TEXT, OUTPUT_BACKLOG, PING_AFTER, PING_TIMEOUT, SESSIONS_PER_TARGET,
};
pub use output::Output;
pub use scsi::{
    Action, Command, Completion, Condition, Direction, FieldPointer, Identity, InitiatorPort, Lun,
    LunOptions, MAX_COMPARE_AND_WRITE_BLOCKS, MAX_TRANSFER_BLOCKS, MAX_UNMAP_BLOCKS, MAX_UNMAP_DESCRIPTORS,
    MAX_WRITE_SAME_BLOCKS, NexusId, OPTIMAL_TRANSFER_BLOCKS, Sense, SenseFormat, SenseKey, Status, Task,
};
pub use target::{Account, Credentials, Directory, Secret, SessionInfo, Target, Wake};
