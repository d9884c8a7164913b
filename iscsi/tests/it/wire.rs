//! PDUs as an initiator writes and reads them.

use bytes::{Buf, BytesMut};

/// A PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pdu {
    pub(crate) bhs: [u8; 48],
    pub(crate) data: Vec<u8>,
}

pub(crate) const NO_TAG: u32 = 0xffff_ffff;

impl Pdu {
    pub(crate) fn new(opcode: u8, flags: u8, itt: u32) -> Self {
        let mut bhs = [0; 48];
        (bhs[0], bhs[1]) = (opcode, flags);
        Self { bhs, data: Vec::new() }.with(16, itt)
    }

    /// Puts a word somewhere in the header.
    pub(crate) fn with(mut self, at: usize, word: u32) -> Self {
        self.bhs[at..at + 4].copy_from_slice(&word.to_be_bytes());
        self
    }

    pub(crate) fn with_bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bhs[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    pub(crate) fn with_text(self, pairs: &[&str]) -> Self {
        self.with_data(pairs.iter().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>())
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bhs[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    pub(crate) fn flags(&self) -> u8 {
        self.bhs[1]
    }

    pub(crate) fn itt(&self) -> u32 {
        self.word(16)
    }

    /// The text in the data segment.
    pub(crate) fn text(&self) -> Vec<String> {
        let text = String::from_utf8(self.data.clone()).unwrap();
        text.split('\0').filter(|pair| !pair.is_empty()).map(str::to_owned).collect()
    }

    /// The value of a key in the text.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let prefix = format!("{key}=");
        self.text().iter().find_map(|pair| pair.strip_prefix(&prefix).map(str::to_owned))
    }

    /// Status class and detail of a login response.
    pub(crate) fn login_status(&self) -> u16 {
        assert_eq!(self.opcode(), 0x23, "{self:02x?}");
        u16::from_be_bytes([self.bhs[36], self.bhs[37]])
    }

    /// Sense key, code and qualifier of a SCSI Response.
    pub(crate) fn sense(&self) -> (u8, u8, u8) {
        assert_eq!((self.opcode(), self.bhs[3]), (0x21, 2), "{self:02x?}");
        let length = usize::from(u16::from_be_bytes([self.data[0], self.data[1]]));
        assert_eq!(self.data.len(), length + 2, "the sense data is as long as it says");
        (self.data[4] & 0x0f, self.data[14], self.data[15])
    }

    pub(crate) fn encode(&self, header_digest: bool, data_digest: bool) -> Vec<u8> {
        let mut bhs = self.bhs;
        bhs[5..8].copy_from_slice(&u32::try_from(self.data.len()).unwrap().to_be_bytes()[1..]);
        let mut bytes = bhs.to_vec();
        if header_digest {
            bytes.extend(crc32c::crc32c(&bhs).to_le_bytes());
        }
        if !self.data.is_empty() {
            let mut data = self.data.clone();
            data.resize(data.len().next_multiple_of(4), 0);
            bytes.extend(&data);
            if data_digest {
                bytes.extend(crc32c::crc32c(&data).to_le_bytes());
            }
        }
        bytes
    }

    /// Takes the first PDU off `bytes`.
    pub(crate) fn decode(bytes: &mut BytesMut, header_digest: bool, data_digest: bool) -> Option<Self> {
        let bhs: [u8; 48] = bytes.get(..48)?.try_into().unwrap();
        assert_eq!(bhs[4], 0, "no initiator expects additional headers");
        let len = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        bytes.advance(48);
        if header_digest {
            assert_eq!(bytes.get_u32_le(), crc32c::crc32c(&bhs), "header digest");
        }
        let padded = bytes.split_to(len.next_multiple_of(4));
        if data_digest && len > 0 {
            assert_eq!(bytes.get_u32_le(), crc32c::crc32c(&padded), "data digest");
        }
        assert!(padded[len..].iter().all(|byte| *byte == 0), "padding is zero");
        Some(Self { bhs, data: padded[..len].to_vec() })
    }
}
