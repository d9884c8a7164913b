//! TFTP packets as bytes (RFC 1350 §5, RFC 2347).

/// The longest text of an ERROR that is kept or sent, in bytes.
const MAX_MESSAGE_LEN: usize = 128;

pub(super) const RRQ: u16 = 1;
pub(super) const WRQ: u16 = 2;
pub(super) const DATA: u16 = 3;
pub(super) const ACK: u16 = 4;
pub(super) const ERROR: u16 = 5;
pub(super) const OACK: u16 = 6;

/// The length of what precedes a block in a DATA packet.
pub(super) const DATA_HEADER: usize = 4;

/// What an ERROR packet says is wrong (RFC 1350 §5, RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the message.
    NotDefined = 0,
    /// There is no such file.
    FileNotFound = 1,
    /// It may not be read, or not by this client.
    AccessViolation = 2,
    /// No valid request.
    IllegalOperation = 4,
}

/// An ERROR packet. The message is cut where it is too long.
#[must_use]
pub fn error_packet(code: ErrorCode, message: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(5 + message.len());
    packet.extend_from_slice(&ERROR.to_be_bytes());
    packet.extend_from_slice(&(code as u16).to_be_bytes());
    packet.extend(message.bytes().filter(|byte| *byte != 0).take(MAX_MESSAGE_LEN));
    packet.push(0);
    packet
}

/// An OACK packet with these options.
pub(super) fn oack_packet(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = OACK.to_be_bytes().to_vec();
    for (name, value) in options {
        packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    packet
}

/// What a client may send in the course of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FromClient {
    Ack(u16),
    Error { code: u16, message: String },
}

impl FromClient {
    /// `None`: nothing that a reader of files sends; to be ignored.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[op_high, op_low, high, low], rest) = bytes.split_first_chunk::<4>()?;
        let number = u16::from_be_bytes([high, low]);
        match u16::from_be_bytes([op_high, op_low]) {
            ACK => Some(Self::Ack(number)),
            ERROR => {
                let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                let message = text.iter().take(MAX_MESSAGE_LEN).copied().collect::<Vec<_>>();
                Some(Self::Error { code: number, message: message.escape_ascii().to_string() })
            }
            _ => None,
        }
    }
}
