//! The few iSCSI PDUs that the load generator sends and reads, written anew from RFC 7143 so that a mistake in
//! the target's own codec can't hide behind the same mistake here.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a basic header segment.
pub(crate) const BHS_LEN: usize = 48;
const RESERVED_TAG: u32 = 0xffff_ffff;

/// Target opcodes (RFC 7143, 11.2.1.2).
pub(crate) mod opcode {
    pub(crate) const NOP_IN: u8 = 0x20;
    pub(crate) const SCSI_RESPONSE: u8 = 0x21;
    pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
    pub(crate) const DATA_IN: u8 = 0x25;
    pub(crate) const R2T: u8 = 0x31;
}

/// A received header: the fields that the load generator looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; BHS_LEN],
}

impl Header {
    pub(crate) fn read(input: &[u8]) -> Option<Self> {
        let bytes = input.get(..BHS_LEN)?.try_into().ok()?;
        Some(Self { bytes })
    }

    fn word(&self, at: usize) -> u32 {
        self.bytes[at..at + 4].iter().fold(0, |all, &byte| all << 8 | u32::from(byte))
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.bytes[0] & 0x3f
    }

    pub(crate) fn flags(&self) -> u8 {
        self.bytes[1]
    }

    /// The SCSI status of a SCSI Response, or of a Data-In with its S bit set.
    pub(crate) fn status(&self) -> u8 {
        self.bytes[3]
    }

    /// Data segment length, without padding.
    pub(crate) fn data_len(&self) -> usize {
        (self.word(4) & 0x00ff_ffff) as usize
    }

    /// Everything behind the basic header: additional headers, data, padding.
    pub(crate) fn tail_len(&self) -> usize {
        usize::from(self.bytes[4]) * 4 + self.data_len().next_multiple_of(4)
    }

    pub(crate) fn itt(&self) -> u32 {
        self.word(16)
    }

    pub(crate) fn ttt(&self) -> u32 {
        self.word(20)
    }

    pub(crate) fn stat_sn(&self) -> u32 {
        self.word(24)
    }

    /// Login status class and detail.
    pub(crate) fn login_status(&self) -> u16 {
        (self.word(36) >> 16) as u16
    }

    /// Buffer offset of an R2T.
    pub(crate) fn buffer_offset(&self) -> usize {
        self.word(40) as usize
    }

    /// Desired data transfer length of an R2T.
    pub(crate) fn desired_len(&self) -> usize {
        self.word(44) as usize
    }
}

fn header(op: u8, flags: u8, data_len: usize, lun_or_isid: [u8; 8], itt: u32) -> BytesMut {
    let mut out = BytesMut::with_capacity(BHS_LEN);
    out.put_u8(op);
    out.put_u8(flags);
    out.put_u16(0);
    out.put_u32(u32::try_from(data_len).unwrap_or(0) & 0x00ff_ffff);
    out.put_slice(&lun_or_isid);
    out.put_u32(itt);
    out
}

/// A LUN below 256 as the eight bytes of a header (SAM-5, 4.7.7.3: single level, peripheral device).
fn lun_field(lun: u8) -> [u8; 8] {
    [0, lun, 0, 0, 0, 0, 0, 0]
}

/// A login request that goes from operational negotiation straight to the full feature phase.
pub(crate) fn login(isid: [u8; 6], text: &[u8]) -> Bytes {
    const IMMEDIATE_LOGIN: u8 = 0x43;
    const TRANSIT_OPERATIONAL_TO_FULL: u8 = 0x87;
    let mut isid_and_tsih = [0; 8];
    isid_and_tsih[..6].copy_from_slice(&isid);
    let mut out = header(IMMEDIATE_LOGIN, TRANSIT_OPERATIONAL_TO_FULL, text.len(), isid_and_tsih, 0);
    out.put_u32(0); // CID
    out.put_u32(1); // CmdSN
    out.put_u32(0); // ExpStatSN
    out.put_bytes(0, 16);
    out.put_slice(text);
    out.put_bytes(0, text.len().next_multiple_of(4) - text.len());
    out.freeze()
}

/// What a SCSI Command carries besides its CDB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub(crate) lun: u8,
    pub(crate) itt: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) exp_stat_sn: u32,
    pub(crate) expected_len: u32,
    pub(crate) write: bool,
    /// Bytes of immediate data that follow this header.
    pub(crate) immediate: usize,
    pub(crate) cdb: [u8; 16],
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        const FINAL: u8 = 0x80;
        const READ: u8 = 0x40;
        const WRITE: u8 = 0x20;
        const SIMPLE: u8 = 1;
        let direction = match (self.write, self.expected_len) {
            (_, 0) => 0,
            (true, _) => WRITE,
            (false, _) => READ,
        };
        let mut out = header(0x01, FINAL | direction | SIMPLE, self.immediate, lun_field(self.lun), self.itt);
        out.put_u32(self.expected_len);
        out.put_u32(self.cmd_sn);
        out.put_u32(self.exp_stat_sn);
        out.put_slice(&self.cdb);
        out.freeze()
    }
}

/// One Data-Out PDU's header, in answer to an R2T.
pub(crate) fn data_out(
    r2t: &Header,
    data_sn: u32,
    offset: usize,
    len: usize,
    last: bool,
    exp_stat_sn: u32,
) -> Bytes {
    let mut out = header(0x05, if last { 0x80 } else { 0 }, len, [0; 8], r2t.itt());
    out.put_u32(r2t.ttt());
    out.put_u32(0);
    out.put_u32(exp_stat_sn);
    out.put_u32(0);
    out.put_u32(data_sn);
    out.put_u32(u32::try_from(offset).unwrap_or(u32::MAX));
    out.put_u32(0);
    out.freeze()
}

/// The answer to a NOP-In that wants one; `None` where it does not.
pub(crate) fn nop_out(ping: &Header, cmd_sn: u32, exp_stat_sn: u32) -> Option<Bytes> {
    if ping.ttt() == RESERVED_TAG {
        return None;
    }
    let mut out = header(0x40, 0x80, 0, [0; 8], RESERVED_TAG);
    out.put_u32(ping.ttt());
    out.put_u32(cmd_sn);
    out.put_u32(exp_stat_sn);
    out.put_bytes(0, 16);
    Some(out.freeze())
}

/// READ(16) or WRITE(16) of `blocks` from `lba`; TEST UNIT READY and READ CAPACITY(10) beside them.
pub(crate) fn rw16(write: bool, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = if write { 0x8a } else { 0x88 };
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
