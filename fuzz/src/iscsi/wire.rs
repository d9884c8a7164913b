//! PDUs as an initiator writes and reads them, apart from the target's own code: one can't hide the other's mistake.

use bytes::{Buf, Bytes, BytesMut};

pub(super) const BHS_LEN: usize = 48;
pub(super) const NO_TAG: u32 = 0xffff_ffff;

/// Which digests are in force.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

/// A PDU without additional headers.
#[derive(Debug, Clone)]
pub(super) struct Pdu {
    pub(super) bhs: [u8; BHS_LEN],
    pub(super) data: Bytes,
}

impl Pdu {
    pub(super) fn new(opcode: u8, flags: u8, itt: u32) -> Self {
        let mut bhs = [0; BHS_LEN];
        (bhs[0], bhs[1]) = (opcode, flags);
        Self { bhs, data: Bytes::new() }.with(16, itt)
    }

    pub(super) fn with(self, at: usize, word: u32) -> Self {
        self.with_bytes(at, &word.to_be_bytes())
    }

    pub(super) fn with_bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bhs[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(super) fn with_data(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| self.bhs[at + n]);
        u32::from_be_bytes([a, b, c, d])
    }

    pub(super) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    pub(super) fn flags(&self) -> u8 {
        self.bhs[1]
    }

    pub(super) fn itt(&self) -> u32 {
        self.word(16)
    }

    /// Whether it takes a StatSN (RFC 7143 11): all do but data, R2Ts and the target's own pings.
    pub(super) fn has_status(&self) -> bool {
        match self.opcode() {
            0x25 => self.flags() & 1 != 0,
            0x20 => self.itt() != NO_TAG,
            0x31 => false,
            _ => true,
        }
    }

    pub(super) fn encode(&self, digests: Digests, into: &mut BytesMut) {
        let mut bhs = self.bhs;
        bhs[5..8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        into.extend_from_slice(&bhs);
        if digests.header {
            into.extend_from_slice(&crc32c::crc32c(&bhs).to_le_bytes());
        }
        let begin = into.len();
        into.extend_from_slice(&self.data);
        into.resize(begin + self.data.len().next_multiple_of(4), 0);
        if digests.data && !self.data.is_empty() {
            let digest = crc32c::crc32c(&into[begin..]);
            into.extend_from_slice(&digest.to_le_bytes());
        }
    }

    /// Takes the first whole PDU off `bytes`, and checks what holds for every PDU of a target.
    pub(super) fn decode(bytes: &mut BytesMut, digests: Digests) -> Option<Self> {
        let bhs = *bytes.first_chunk::<BHS_LEN>()?;
        assert_eq!(bhs[4], 0, "additional headers in {bhs:02x?}");
        let opcode = bhs[0];
        assert!(
            matches!(opcode, 0x20..=0x26 | 0x31 | 0x32 | 0x3f),
            "no target sends opcode {opcode:#x}: {bhs:02x?}"
        );
        let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        let header_digest = if digests.header { 4 } else { 0 };
        let data_digest = if digests.data && len > 0 { 4 } else { 0 };
        let padded = len.next_multiple_of(4);
        if bytes.len() < BHS_LEN + header_digest + padded + data_digest {
            return None;
        }
        bytes.advance(BHS_LEN);
        if digests.header {
            assert_eq!(bytes.get_u32_le(), crc32c::crc32c(&bhs), "header digest");
        }
        let mut data = bytes.split_to(padded).freeze();
        if data_digest > 0 {
            assert_eq!(bytes.get_u32_le(), crc32c::crc32c(&data), "data digest");
        }
        assert!(data[len..].iter().all(|byte| *byte == 0), "padding that is not zero");
        data.truncate(len);
        Some(Self { bhs, data })
    }
}
