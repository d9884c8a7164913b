//! What a target answers (RFC 7143 11.4 to 11.19). Every PDU carries StatSN, ExpCmdSN and MaxCmdSN, also where
//! the RFC leaves a field reserved: iPXE takes its CmdSN and ExpStatSN from whatever came last.

use super::NO_TAG;
use super::header::{BHS_LEN, Bhs};
use crate::serial::CmdSn;

/// The numbers that every PDU of a target carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) stat_sn: u32,
    pub(crate) exp_cmd_sn: CmdSn,
    pub(crate) max_cmd_sn: CmdSn,
}

/// A header under construction.
struct Builder(Bhs);

impl Builder {
    fn new(opcode: u8, flags: u8, itt: u32, numbers: &Numbers) -> Self {
        let mut bhs = [0; BHS_LEN];
        bhs[0] = opcode;
        bhs[1] = flags;
        Self(bhs)
            .word::<16>(itt)
            .word::<24>(numbers.stat_sn)
            .word::<28>(numbers.exp_cmd_sn.0)
            .word::<32>(numbers.max_cmd_sn.0)
    }

    const fn byte<const AT: usize>(mut self, value: u8) -> Self {
        self.0[AT] = value;
        self
    }

    const fn half<const AT: usize>(mut self, value: u16) -> Self {
        [self.0[AT], self.0[AT + 1]] = value.to_be_bytes();
        self
    }

    const fn word<const AT: usize>(mut self, value: u32) -> Self {
        [self.0[AT], self.0[AT + 1], self.0[AT + 2], self.0[AT + 3]] = value.to_be_bytes();
        self
    }

    const fn lun(self, lun: u64) -> Self {
        self.word::<8>((lun >> 32) as u32).word::<12>(lun as u32)
    }
}

/// By how much what a command moves differs from what the initiator expected (11.4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residual {
    None,
    /// The initiator expected that much less.
    Overflow(u32),
    /// The initiator expected that much more.
    Underflow(u32),
}

impl Residual {
    /// Of a command that moves `actual` bytes where `expected` were expected.
    pub(crate) fn of(expected: u32, actual: u32) -> Self {
        match actual.abs_diff(expected) {
            0 => Self::None,
            more if actual > expected => Self::Overflow(more),
            less => Self::Underflow(less),
        }
    }

    const fn flags_and_count(self) -> (u8, u32) {
        match self {
            Self::None => (0, 0),
            Self::Overflow(count) => (0x04, count),
            Self::Underflow(count) => (0x02, count),
        }
    }
}

/// SCSI Response (11.4).
#[derive(Debug)]
pub(crate) struct ScsiResponse {
    pub(crate) itt: u32,
    pub(crate) status: u8,
    pub(crate) residual: Residual,
    /// How many Data-In and R2T PDUs the command had.
    pub(crate) exp_data_sn: u32,
}

impl ScsiResponse {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        let (flags, count) = self.residual.flags_and_count();
        Builder::new(0x21, 0x80 | flags, self.itt, numbers)
            .byte::<3>(self.status)
            .word::<36>(self.exp_data_sn)
            .word::<44>(count)
            .0
    }
}

/// SCSI Data-In (11.7).
#[derive(Debug)]
pub(crate) struct DataIn {
    /// The last of its sequence.
    pub(crate) is_final: bool,
    /// The command ends with it, with status GOOD and no residual.
    pub(crate) has_status: bool,
    pub(crate) itt: u32,
    pub(crate) data_sn: u32,
    pub(crate) offset: u32,
}

impl DataIn {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        let flags = if self.is_final { 0x80 } else { 0 } | if self.has_status { 0x01 } else { 0 };
        Builder::new(0x25, flags, self.itt, numbers)
            .word::<20>(NO_TAG)
            .word::<36>(self.data_sn)
            .word::<40>(self.offset)
            .0
    }
}

/// Ready To Transfer (11.8).
#[derive(Debug)]
pub(crate) struct R2t {
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
    pub(crate) r2t_sn: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

impl R2t {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        Builder::new(0x31, 0x80, self.itt, numbers)
            .lun(self.lun)
            .word::<20>(self.ttt)
            .word::<36>(self.r2t_sn)
            .word::<40>(self.offset)
            .word::<44>(self.length)
            .0
    }
}

/// Task Management Function Response (11.6).
#[derive(Debug)]
pub(crate) struct TaskManagementResponse {
    pub(crate) itt: u32,
    pub(crate) response: u8,
}

impl TaskManagementResponse {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        Builder::new(0x22, 0x80, self.itt, numbers).byte::<2>(self.response).0
    }
}

/// Login Response (11.13).
#[derive(Debug)]
pub(crate) struct LoginResponse {
    pub(crate) transit: bool,
    pub(crate) csg: u8,
    pub(crate) nsg: u8,
    pub(crate) isid: [u8; 6],
    pub(crate) tsih: u16,
    pub(crate) itt: u32,
    /// Status class and detail.
    pub(crate) status: u16,
}

impl LoginResponse {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        let flags = if self.transit { 0x80 | self.nsg } else { 0 } | self.csg << 2;
        let [a, b, c, d, e, f] = self.isid;
        Builder::new(0x23, flags, self.itt, numbers)
            .word::<8>(u32::from_be_bytes([a, b, c, d]))
            .half::<12>(u16::from_be_bytes([e, f]))
            .half::<14>(self.tsih)
            .half::<36>(self.status)
            .0
    }
}

/// Text Response (11.11).
#[derive(Debug)]
pub(crate) struct TextResponse {
    pub(crate) is_final: bool,
    pub(crate) goes_on: bool,
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
}

impl TextResponse {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        let flags = if self.is_final { 0x80 } else { 0 } | if self.goes_on { 0x40 } else { 0 };
        Builder::new(0x24, flags, self.itt, numbers).lun(self.lun).word::<20>(self.ttt).0
    }
}

/// Logout Response (11.15).
#[derive(Debug)]
pub(crate) struct LogoutResponse {
    pub(crate) itt: u32,
    pub(crate) response: u8,
}

impl LogoutResponse {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        Builder::new(0x26, 0x80, self.itt, numbers).byte::<2>(self.response).0
    }
}

/// NOP-In (11.19): the answer to a ping, or a ping.
#[derive(Debug)]
pub(crate) struct NopIn {
    pub(crate) lun: u64,
    pub(crate) itt: u32,
    pub(crate) ttt: u32,
}

impl NopIn {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        Builder::new(0x20, 0x80, self.itt, numbers).lun(self.lun).word::<20>(self.ttt).0
    }
}

/// Why a PDU is rejected (11.17.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RejectReason {
    DataDigestError = 0x02,
    SnackReject = 0x03,
    ProtocolError = 0x04,
    CommandNotSupported = 0x05,
    ImmediateCommandReject = 0x06,
    TaskInProgress = 0x07,
    InvalidPduField = 0x09,
}

/// Reject (11.17). Its data segment is the header of what was rejected.
#[derive(Debug)]
pub(crate) struct Reject {
    pub(crate) reason: RejectReason,
}

impl Reject {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        Builder::new(0x3f, 0x80, NO_TAG, numbers).byte::<2>(self.reason as u8).0
    }
}

/// Asynchronous Message (11.9): "all connections of this session will be dropped", to be taken up again at once.
#[derive(Debug)]
pub(crate) struct AsyncMessage;

impl AsyncMessage {
    pub(crate) fn encode(&self, numbers: &Numbers) -> Bhs {
        const DROP_ALL_CONNECTIONS: u8 = 3;
        Builder::new(0x32, 0x80, NO_TAG, numbers).byte::<36>(DROP_ALL_CONNECTIONS).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers =
        Numbers { stat_sn: 0x0102_0304, exp_cmd_sn: CmdSn(0x1112_1314), max_cmd_sn: CmdSn(0x2122_2324) };

    #[test]
    fn every_field_is_where_the_rfc_has_it() {
        let response = ScsiResponse {
            itt: 0xa1a2_a3a4,
            status: 2,
            residual: Residual::of(1024, 512),
            exp_data_sn: 0xd1d2_d3d4,
        };
        let mut expected = [0; BHS_LEN];
        expected[..4].copy_from_slice(&[0x21, 0x82, 0, 2]);
        expected[16..20].copy_from_slice(&[0xa1, 0xa2, 0xa3, 0xa4]);
        expected[24..36].copy_from_slice(&[1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24]);
        expected[36..40].copy_from_slice(&[0xd1, 0xd2, 0xd3, 0xd4]);
        expected[44..].copy_from_slice(&[0, 0, 2, 0]);
        assert_eq!(response.encode(&NUMBERS), expected);
    }

    #[test]
    fn residuals_say_who_expected_more() {
        assert_eq!(Residual::of(512, 512), Residual::None);
        assert_eq!(Residual::of(512, 1024), Residual::Overflow(512));
        assert_eq!(Residual::of(u32::MAX, 0), Residual::Underflow(u32::MAX));
    }

    #[test]
    fn a_login_response_keeps_nsg_reserved_until_it_transits() {
        let mut response = LoginResponse {
            transit: false,
            csg: 1,
            nsg: 3,
            isid: [0x40, 1, 2, 3, 4, 5],
            tsih: 0x0708,
            itt: 1,
            status: 0x0201,
        };
        let bhs = response.encode(&NUMBERS);
        assert_eq!(bhs[1], 0x04);
        assert_eq!(bhs[8..16], [0x40, 1, 2, 3, 4, 5, 7, 8]);
        assert_eq!(bhs[36..38], [2, 1]);
        response.transit = true;
        assert_eq!(response.encode(&NUMBERS)[1], 0x87);
    }
}
