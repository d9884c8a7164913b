//! The basic header segment: 48 bytes, of which some mean the same in every PDU (RFC 7143 11.2.1).
//!
//! ```text
//!  0 | I + opcode | F + flags   | by opcode                 |
//!  4 | AHS length / 4 | data segment length (24 bits)       |
//!  8 | LUN, or by opcode                                    |
//! 16 | initiator task tag                                   |
//! 20 | by opcode; target transfer tag where there is one    |
//! 24 | CmdSN or StatSN       28 | ExpStatSN or ExpCmdSN     |
//! 32 | by opcode; MaxCmdSN in what the target sends         |
//! ```

/// Length of a basic header segment.
pub(crate) const BHS_LEN: usize = 48;

/// A basic header segment.
pub(crate) type Bhs = [u8; BHS_LEN];

/// A view of a received header. Any 48 bytes are one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a>(pub(crate) &'a Bhs);

impl Header<'_> {
    /// The opcode, without the immediate bit.
    pub(crate) const fn opcode(self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Whether the request bypasses the order of commands.
    pub(crate) const fn immediate(self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The byte of flags: F (or T) is its highest bit in all requests that have it.
    pub(crate) const fn flags(self) -> u8 {
        self.0[1]
    }

    /// Length of all additional header segments, in bytes.
    pub(crate) const fn ahs_len(self) -> usize {
        self.0[4] as usize * 4
    }

    /// Length of the data segment without its padding, in bytes.
    pub(crate) const fn data_len(self) -> usize {
        (self.word::<4>() & 0x00ff_ffff) as usize
    }

    /// The LUN field.
    pub(crate) const fn lun(self) -> u64 {
        (self.word::<8>() as u64) << 32 | self.word::<12>() as u64
    }

    /// The initiator task tag.
    pub(crate) const fn itt(self) -> u32 {
        self.word::<16>()
    }

    /// The CmdSN of a request that has one.
    pub(crate) const fn cmd_sn(self) -> u32 {
        self.word::<24>()
    }

    /// The four bytes from `AT` on.
    pub(crate) const fn word<const AT: usize>(self) -> u32 {
        u32::from_be_bytes([self.0[AT], self.0[AT + 1], self.0[AT + 2], self.0[AT + 3]])
    }

    /// The two bytes from `AT` on.
    pub(crate) const fn half<const AT: usize>(self) -> u16 {
        u16::from_be_bytes([self.0[AT], self.0[AT + 1]])
    }
}
