//! What an initiator may ask (RFC 7143 11.3 to 11.19).

use super::header::{Bhs, Header};
use crate::serial::CmdSn;

/// A request, decoded. What a field may hold is checked by whoever acts on it.
#[derive(Debug)]
pub(crate) enum Request {
    NopOut(NopOut),
    Command(ScsiCommand),
    TaskManagement(TaskManagement),
    Login(LoginRequest),
    Text(TextRequest),
    DataOut(DataOut),
    Logout(LogoutRequest),
    Snack,
    /// An opcode that no initiator sends.
    Unknown,
}

impl Request {
    pub(crate) fn parse(bhs: &Bhs, ahs: &[u8]) -> Self {
        let header = Header(bhs);
        match header.opcode() {
            0x00 => Self::NopOut(NopOut::parse(header)),
            0x01 => Self::Command(ScsiCommand::parse(header, ahs)),
            0x02 => Self::TaskManagement(TaskManagement::parse(header)),
            0x03 => Self::Login(LoginRequest::parse(header)),
            0x04 => Self::Text(TextRequest::parse(header)),
            0x05 => Self::DataOut(DataOut::parse(header)),
            0x06 => Self::Logout(LogoutRequest::parse(header)),
            0x10 => Self::Snack,
            _ => Self::Unknown,
        }
    }
}

/// NOP-Out: a ping, or the answer to one (11.18).
#[derive(Debug)]
pub(crate) struct NopOut {
    pub(crate) immediate: bool,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) cmd_sn: CmdSn,
}

impl NopOut {
    fn parse(header: Header<'_>) -> Self {
        Self {
            immediate: header.immediate(),
            lun: header.lun(),
            itt: header.itt(),
            cmd_sn: CmdSn(header.cmd_sn()),
        }
    }
}

/// When a command may begin, as to others of its session (11.3.1; SAM-5 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// As soon as nothing ordered is before it.
    Simple,
    /// When all before it has ended; and nothing behind it begins before it has ended.
    Ordered,
    /// At once.
    HeadOfQueue,
}

impl Attribute {
    /// Untagged commands, and those of attributes that there are not, are simple ones.
    const fn of(flags: u8) -> Self {
        match flags & 0x07 {
            2 => Self::Ordered,
            3 => Self::HeadOfQueue,
            _ => Self::Simple,
        }
    }
}

/// SCSI Command (11.3).
#[derive(Debug)]
pub(crate) struct ScsiCommand {
    pub(crate) immediate: bool,
    /// No unsolicited Data-Out follows.
    pub(crate) is_final: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) attribute: Attribute,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) expected_len: u32,
    pub(crate) cmd_sn: CmdSn,
    pub(crate) cdb: [u8; 16],
    /// From the AHS of a bidirectional command: how much the initiator expects to read (11.2.2.3).
    pub(crate) bidirectional_read_len: Option<u32>,
    /// The CDB goes on in an AHS (11.2.2.2). No command of a disk is that long.
    pub(crate) extended_cdb: bool,
}

impl ScsiCommand {
    fn parse(header: Header<'_>, ahs: &[u8]) -> Self {
        let flags = header.flags();
        let mut command = Self {
            immediate: header.immediate(),
            is_final: flags & 0x80 != 0,
            read: flags & 0x40 != 0,
            write: flags & 0x20 != 0,
            attribute: Attribute::of(flags),
            lun: header.lun(),
            itt: header.itt(),
            expected_len: header.word::<20>(),
            cmd_sn: CmdSn(header.cmd_sn()),
            cdb: header.0.last_chunk().copied().unwrap_or_default(),
            bidirectional_read_len: None,
            extended_cdb: false,
        };
        if !ahs.is_empty() {
            command.parse_ahs(ahs);
        }
        command
    }

    /// Each additional header segment is its length (two bytes, not counting the first three nor padding), its
    /// type, and what it holds, padded to four bytes.
    fn parse_ahs(&mut self, mut ahs: &[u8]) {
        while let [high, low, kind, rest @ ..] = ahs {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            match (kind & 0x3f, rest) {
                (0x01, _) => self.extended_cdb = true,
                (0x02, [_, a, b, c, d, ..]) => {
                    self.bidirectional_read_len = Some(u32::from_be_bytes([*a, *b, *c, *d]));
                }
                _ => {}
            }
            ahs = ahs.get((length + 3).next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// SCSI Data-Out (11.7).
#[derive(Debug)]
pub(crate) struct DataOut {
    /// The last of its sequence.
    pub(crate) is_final: bool,
    pub(crate) itt: u32,
    /// Of the R2T that it answers; [`NO_TAG`](super::NO_TAG) where it is unsolicited.
    pub(crate) ttt: u32,
    pub(crate) data_sn: u32,
    pub(crate) offset: u32,
}

impl DataOut {
    fn parse(header: Header<'_>) -> Self {
        Self {
            is_final: header.flags() & 0x80 != 0,
            itt: header.itt(),
            ttt: header.word::<20>(),
            data_sn: header.word::<36>(),
            offset: header.word::<40>(),
        }
    }
}

/// Task Management Function Request (11.5).
#[derive(Debug)]
pub(crate) struct TaskManagement {
    pub(crate) immediate: bool,
    pub(crate) function: u8,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) referenced_itt: u32,
    pub(crate) cmd_sn: CmdSn,
    pub(crate) ref_cmd_sn: CmdSn,
}

impl TaskManagement {
    fn parse(header: Header<'_>) -> Self {
        Self {
            immediate: header.immediate(),
            function: header.flags() & 0x7f,
            lun: header.lun(),
            itt: header.itt(),
            referenced_itt: header.word::<20>(),
            cmd_sn: CmdSn(header.cmd_sn()),
            ref_cmd_sn: CmdSn(header.word::<32>()),
        }
    }
}

/// Login Request (11.12).
#[derive(Debug, Clone)]
pub(crate) struct LoginRequest {
    /// The initiator is ready to go from `csg` to `nsg`.
    pub(crate) transit: bool,
    /// The text goes on in the next request.
    pub(crate) goes_on: bool,
    pub(crate) csg: u8,
    pub(crate) nsg: u8,
    pub(crate) version_min: u8,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) itt: u32,
    pub(crate) cid: u16,
    pub(crate) cmd_sn: CmdSn,
}

impl LoginRequest {
    fn parse(header: Header<'_>) -> Self {
        let flags = header.flags();
        let [a, b, c, d] = header.word::<8>().to_be_bytes();
        let [e, f] = header.half::<12>().to_be_bytes();
        Self {
            transit: flags & 0x80 != 0,
            goes_on: flags & 0x40 != 0,
            csg: flags >> 2 & 0x03,
            nsg: flags & 0x03,
            version_min: header.0[3],
            isid: [a, b, c, d, e, f],
            tsih: header.half::<14>(),
            itt: header.itt(),
            cid: header.half::<20>(),
            cmd_sn: CmdSn(header.cmd_sn()),
        }
    }
}

/// Text Request (11.10).
#[derive(Debug)]
pub(crate) struct TextRequest {
    pub(crate) immediate: bool,
    pub(crate) is_final: bool,
    /// The text goes on in the next request.
    pub(crate) goes_on: bool,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    /// What the target gave to go on with an exchange; [`NO_TAG`](super::NO_TAG) begins one.
    pub(crate) ttt: u32,
    pub(crate) cmd_sn: CmdSn,
}

impl TextRequest {
    fn parse(header: Header<'_>) -> Self {
        let flags = header.flags();
        Self {
            immediate: header.immediate(),
            is_final: flags & 0x80 != 0,
            goes_on: flags & 0x40 != 0,
            lun: header.lun(),
            itt: header.itt(),
            ttt: header.word::<20>(),
            cmd_sn: CmdSn(header.cmd_sn()),
        }
    }
}

/// Logout Request (11.14).
#[derive(Debug)]
pub(crate) struct LogoutRequest {
    pub(crate) immediate: bool,
    pub(crate) reason: u8,
    pub(crate) itt: u32,
    pub(crate) cid: u16,
    pub(crate) cmd_sn: CmdSn,
}

impl LogoutRequest {
    fn parse(header: Header<'_>) -> Self {
        Self {
            immediate: header.immediate(),
            reason: header.flags() & 0x7f,
            itt: header.itt(),
            cid: header.half::<20>(),
            cmd_sn: CmdSn(header.cmd_sn()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::BHS_LEN;

    #[test]
    fn additional_headers_are_walked_by_their_padded_lengths() {
        let mut bhs = [0; BHS_LEN];
        bhs[0] = 0x01;
        // A vendor's segment of five bytes, then the length of a bidirectional read.
        let ahs = [0, 5, 0x3e, 1, 2, 3, 4, 5, 0, 5, 0x02, 0, 0, 0, 2, 0];
        let Request::Command(command) = Request::parse(&bhs, &ahs) else { panic!("not a command") };
        assert_eq!(command.bidirectional_read_len, Some(512));
        assert!(!command.extended_cdb);
    }

    #[test]
    fn a_login_request_is_taken_apart() {
        let mut bhs = [0; BHS_LEN];
        bhs[..4].copy_from_slice(&[0x43, 0x87, 0, 0]);
        bhs[8..16].copy_from_slice(&[0x40, 0, 0x27, 0x23, 0xab, 0xcd, 0, 0]);
        bhs[16..24].copy_from_slice(&[1, 2, 3, 4, 0, 9, 0, 0]);
        let Request::Login(login) = Request::parse(&bhs, &[]) else { panic!("not a login") };
        assert!(login.transit && !login.goes_on);
        assert_eq!((login.csg, login.nsg, login.cid, login.itt), (1, 3, 9, 0x0102_0304));
        assert_eq!(login.isid, [0x40, 0, 0x27, 0x23, 0xab, 0xcd]);
    }
}
