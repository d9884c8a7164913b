//! The seam between the transport and the disk: what a command is when it comes, and what it is when it ends.

use block::Segments;

use super::Sense;
use crate::io::Io;

/// An I_T nexus: one session of one initiator with this target. Numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NexusId(u64);

impl NexusId {
    /// The nexus with this number.
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

/// An initiator port (RFC 7143 4.4.2: iSCSI name and ISID). It outlives its sessions: a persistent reservation
/// is found again after a new login from the same port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct InitiatorPort {
    /// The initiator's iSCSI name.
    pub iqn: String,
    /// The session identifier that the initiator chose.
    pub isid: [u8; 6],
}

/// Which way the initiator is ready to move data: the R and W bits of the SCSI Command PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Neither.
    None,
    /// To the initiator.
    Read,
    /// From the initiator.
    Write,
    /// Both; the expected length is that of the data from the initiator.
    Both,
}

/// A command as it came, undecoded.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The eight bytes of the LUN field, big-endian.
    pub lun: u64,
    /// The CDB. iSCSI pads a short one to 16 bytes; what lies behind the command's own length is not looked at.
    pub cdb: &'a [u8],
    /// The session that it came through.
    pub nexus: NexusId,
    /// Expected Data Transfer Length: bytes that the initiator is ready to move.
    pub expected_len: u32,
    /// Which way.
    pub direction: Direction,
}

impl Command<'_> {
    /// Bytes that the initiator has to give.
    pub(super) fn data_out_len(&self) -> u32 {
        match self.direction {
            Direction::Write | Direction::Both => self.expected_len,
            Direction::Read | Direction::None => 0,
        }
    }
}

/// What must happen next for a command.
#[derive(Debug)]
pub enum Action {
    /// Get this many bytes from the initiator, then call [`Task::handle_data`](super::Task::handle_data). Never
    /// none, and never more than the initiator has to give.
    GetData {
        /// How many bytes.
        length: u32,
    },
    /// Do this on the disk, then call [`Task::handle_io`](super::Task::handle_io).
    Io(Io),
    /// The command has ended.
    Finish(Completion),
}

/// The status byte (SAM-5, status codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It was done.
    Good = 0x00,
    /// It failed, and the sense data says why.
    CheckCondition = 0x02,
    /// Another nexus has reserved the disk.
    ReservationConflict = 0x18,
}

impl Status {
    /// The status byte.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The status.
    pub status: Status,
    /// With CHECK CONDITION, why; with GOOD never.
    pub sense: Option<Sense>,
    /// Data for the initiator. The transport cuts it to the expected length.
    pub data_in: Segments,
    /// Bytes that the command moves by its CDB, in whichever direction, for the residual count. The length of
    /// `data_in` where there is any.
    pub data_length: u32,
}

impl Completion {
    /// Done, with nothing for the initiator; the CDB took `data_length` bytes from it.
    pub(super) fn good(data_length: u32) -> Self {
        Self { status: Status::Good, sense: None, data_in: Segments::new(), data_length }
    }

    /// Done, with data for the initiator. What does not fit 32 bits can't have been asked for.
    pub(super) fn data(data_in: Segments) -> Self {
        let data_length = u32::try_from(data_in.len()).unwrap_or(u32::MAX);
        Self { status: Status::Good, sense: None, data_in, data_length }
    }

    /// Failed; the CDB took `data_length` bytes from the initiator.
    pub(super) fn failed(sense: Sense, data_length: u32) -> Self {
        let status = Status::CheckCondition;
        Self { status, sense: Some(sense), ..Self::good(data_length) }
    }

    /// Refused because of another nexus' reservation.
    pub(super) fn conflict() -> Self {
        Self { status: Status::ReservationConflict, ..Self::good(0) }
    }
}
