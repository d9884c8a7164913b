//! A sans-I/O iSCSI target: bytes and time in, bytes and Io requests out.
//!
//! Nothing here knows of sockets, files, clocks or disks.

mod io;
mod scsi;

pub use io::{Io, IoId, IoOutcome};
pub use scsi::*;
