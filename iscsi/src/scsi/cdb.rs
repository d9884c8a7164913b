//! Decoding: from the bytes of a CDB to a command of the [table](super::table) whose every set bit is known.

use super::sense::{Condition, Sense};
use super::table::{Access, Field, Op, Spec, TABLE};
use super::task::Failure;

/// Bits 4 to 0 of byte 1.
const SERVICE_ACTION: u8 = 0x1f;

/// A CDB that its row of the table allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cdb<'a> {
    spec: &'static Spec,
    bytes: &'a [u8],
}

impl<'a> Cdb<'a> {
    /// Finds the command and refuses what it doesn't define.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Failure> {
        let opcode = bytes.first().copied().ok_or(Condition::INVALID_COMMAND_OPERATION_CODE)?;
        let mut rows = rows_of(opcode).peekable();
        if rows.peek().is_none() {
            return Err(Condition::INVALID_COMMAND_OPERATION_CODE.into());
        }
        let action = bytes.get(1).copied().unwrap_or(0) & SERVICE_ACTION;
        let spec = rows
            .find(|row| row.service_action().is_none_or(|it| it == action))
            .ok_or_else(|| invalid_field(1, Some(4)))?;
        let bytes = bytes.get(..spec.usage().len()).ok_or_else(|| invalid_field(0, None))?;
        for (at, (byte, used)) in bytes.iter().zip(spec.usage()).enumerate().skip(1) {
            let known = if at == 1 && spec.has_service_action { used | SERVICE_ACTION } else { *used };
            let unknown = byte & !known;
            if unknown != 0 {
                return Err(invalid_field(at, highest_bit(unknown)));
            }
        }
        Ok(Self { spec, bytes })
    }

    /// Whom another nexus' reservation keeps out. Two commands let the harmless half of what they do pass.
    pub(super) fn access(&self) -> Access {
        const START: u8 = 0x01;
        const POWER_CONDITION: u8 = 0xf0;
        const PREVENT: u8 = 0x01;
        match self.spec.op {
            Op::StartStop if self.flag(4, START) && !self.flag(4, POWER_CONDITION) => Access::Status,
            Op::PreventAllow if !self.flag(4, PREVENT) => Access::Free,
            _ => self.spec.access,
        }
    }

    /// The row of the table.
    pub(super) fn spec(&self) -> &'static Spec {
        self.spec
    }

    /// One byte; 0 behind the end.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Whether one of the bits in `mask` is set.
    pub(super) fn flag(&self, at: usize, mask: u8) -> bool {
        self.byte(at) & mask != 0
    }

    /// A big-endian number.
    pub(super) fn number(&self, field: Field) -> u64 {
        let bytes = self.bytes.get(field.at..field.at + field.bytes).unwrap_or_default();
        bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// LOGICAL BLOCK ADDRESS.
    pub(super) fn lba(&self) -> u64 {
        self.spec.lba.map_or(0, |field| self.number(field))
    }

    /// The length field as it is: bytes or blocks, by the command.
    pub(super) fn length(&self) -> u32 {
        let length = self.spec.length.map_or(0, |field| self.number(field));
        u32::try_from(length).unwrap_or(u32::MAX)
    }

    /// The bytes that a data-in command may return.
    pub(super) fn allocation_length(&self) -> usize {
        usize::try_from(self.length()).unwrap_or(usize::MAX)
    }

    /// Blocks to transfer. In a 6-byte CDB, 0 means 256 (SBC-3, READ (6) command).
    pub(super) fn blocks(&self) -> u64 {
        match self.length() {
            0 if self.spec.usage().len() == 6 => 256,
            blocks => u64::from(blocks),
        }
    }

    /// FORCE UNIT ACCESS, in every command that has it.
    pub(super) fn fua(&self) -> bool {
        self.spec.usage().len() > 6 && self.flag(1, 0x08)
    }

    /// The error for a field of this CDB whose value can't be taken.
    pub(super) fn invalid(at: usize, bit: Option<u8>) -> Failure {
        invalid_field(at, bit)
    }

    /// The error for a value of the length field that can't be taken.
    pub(super) fn invalid_length(&self) -> Failure {
        invalid_field(self.spec.length.map_or(0, |field| field.at), None)
    }
}

/// The rows of one opcode, none if it is unknown.
pub(super) fn rows_of(opcode: u8) -> impl Iterator<Item = &'static Spec> {
    /// Where each opcode's rows begin, so that a READ does not walk the table.
    static FIRST: [usize; 256] = {
        let mut first = [TABLE.len(); 256];
        let mut row = TABLE.len();
        while row > 0 {
            row -= 1;
            first[TABLE[row].opcode() as usize] = row;
        }
        first
    };
    let first = FIRST.get(usize::from(opcode)).copied().unwrap_or(TABLE.len());
    TABLE.get(first..).unwrap_or_default().iter().take_while(move |row| row.opcode() == opcode)
}

fn highest_bit(byte: u8) -> Option<u8> {
    u8::try_from(byte.checked_ilog2()?).ok()
}

fn invalid_field(at: usize, bit: Option<u8>) -> Failure {
    Sense::from(Condition::INVALID_FIELD_IN_CDB).at_cdb(at, bit).into()
}
