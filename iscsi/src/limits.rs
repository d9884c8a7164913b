//! What a connection may cost: every length, count and wait of the protocol, by name.

use std::time::Duration;

/// Longest data segment that the target takes in one PDU; declared as `MaxRecvDataSegmentLength`. A longer one
/// ends the connection.
pub const MAX_RECV_DATA_SEGMENT_LENGTH: u32 = 256 << 10;

/// Longest sequence of Data-In or Data-Out PDUs; the initiator may ask for less. Longer transfers become several
/// sequences.
pub const MAX_BURST_LENGTH: u32 = 1 << 20;

/// Most data that may come with a command before the target asks for it; the initiator may ask for less. What
/// goes beyond fails the command.
pub const FIRST_BURST_LENGTH: u32 = 64 << 10;

/// How many R2Ts of one command may be open at a time; the initiator may ask for fewer.
pub const MAX_OUTSTANDING_R2T: u16 = 8;

/// How many commands a session may have open. Further ones lie outside the window and are dropped unread, as RFC
/// 7143 4.2.2.1 has it.
pub const COMMAND_WINDOW: u32 = 128;

/// How many commands marked "immediate", which the window does not count, may be open besides. Further ones are
/// rejected with reason 0x06.
pub const IMMEDIATE_COMMANDS: u32 = 16;

/// Longest data segment of a login request, as RFC 7143 13.12 has it before anything is agreed on. A longer one
/// ends the connection.
pub const MAX_LOGIN_DATA: u32 = 8192;

/// Longest text of one login or text negotiation, over all its PDUs. More ends the login, or is rejected.
pub const MAX_TEXT: usize = 64 << 10;

/// How many requests one login may take. One more is refused with status 0200.
pub const MAX_LOGIN_REQUESTS: u32 = 32;

/// How long a connection may take until it is logged in. Then it is closed.
pub const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Bytes of one connection that are being read, waited for, came unasked or are not yet sent. At the limit further
/// disk reads and R2Ts wait; one command is always let through, however large.
pub const BYTES_IN_FLIGHT: u64 = 8 << 20;

/// Bytes that may wait for a peer that does not read. At the limit nothing more is taken from it.
pub const OUTPUT_BACKLOG: usize = 1 << 20;

/// How long a session that answers pings may be silent before it is pinged.
pub const PING_AFTER: Duration = Duration::from_secs(30);

/// How long the answer to a ping may take. Then the connection is closed.
pub const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// How many sessions one target may have: firmware and operating system, and what a client that was switched off
/// left behind. A further login is refused with status 0302 until an old session has died.
pub const SESSIONS_PER_TARGET: usize = 16;

/// The limits of a connection that a shell may set. Each field's doc is that of the constant it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`MAX_RECV_DATA_SEGMENT_LENGTH`].
    pub max_recv_data_segment_length: u32,
    /// See [`MAX_BURST_LENGTH`].
    pub max_burst_length: u32,
    /// See [`FIRST_BURST_LENGTH`].
    pub first_burst_length: u32,
    /// See [`MAX_OUTSTANDING_R2T`].
    pub max_outstanding_r2t: u16,
    /// See [`COMMAND_WINDOW`]. At least 1.
    pub command_window: u32,
    /// See [`MAX_TEXT`].
    pub max_text: usize,
    /// See [`LOGIN_TIMEOUT`].
    pub login_timeout: Duration,
    /// See [`BYTES_IN_FLIGHT`].
    pub bytes_in_flight: u64,
    /// See [`OUTPUT_BACKLOG`].
    pub output_backlog: usize,
    /// See [`PING_AFTER`].
    pub ping_after: Duration,
    /// See [`PING_TIMEOUT`].
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_recv_data_segment_length: MAX_RECV_DATA_SEGMENT_LENGTH,
            max_burst_length: MAX_BURST_LENGTH,
            first_burst_length: FIRST_BURST_LENGTH,
            max_outstanding_r2t: MAX_OUTSTANDING_R2T,
            command_window: COMMAND_WINDOW,
            max_text: MAX_TEXT,
            login_timeout: LOGIN_TIMEOUT,
            bytes_in_flight: BYTES_IN_FLIGHT,
            output_backlog: OUTPUT_BACKLOG,
            ping_after: PING_AFTER,
            ping_timeout: PING_TIMEOUT,
        }
    }
}
