//! Sense data: why a command failed, in the two formats of SPC-4, and the one place where a disk's error
//! becomes a SCSI error.

use block::ErrorKind;

/// The sense key (SPC-4, sense key and additional sense code definitions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to say.
    NoSense = 0x0,
    /// The disk can't be reached.
    NotReady = 0x2,
    /// The medium is at fault.
    MediumError = 0x3,
    /// The target is at fault.
    HardwareError = 0x4,
    /// The initiator is at fault.
    IllegalRequest = 0x5,
    /// Something happened that this nexus must know of.
    UnitAttention = 0x6,
    /// The blocks may not be written.
    DataProtect = 0x7,
    /// The target gave up.
    AbortedCommand = 0xb,
    /// Data differs from the medium.
    Miscompare = 0xe,
}

/// A sense key with its additional sense code and qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The kind of trouble.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
}

macro_rules! conditions {
    ($($name:ident = $key:ident $asc:literal $ascq:literal;)*) => {
        impl Condition {
            $(
                #[doc = concat!("SPC-4, ASC and ASCQ assignments: ", stringify!($name), ".")]
                pub const $name: Self = Self { key: SenseKey::$key, asc: $asc, ascq: $ascq };
            )*
        }
    };
}

conditions! {
    NO_SENSE = NoSense 0x00 0x00;
    LOGICAL_UNIT_NOT_READY = NotReady 0x04 0x00;
    UNRECOVERED_READ_ERROR = MediumError 0x11 0x00;
    WRITE_ERROR = MediumError 0x0c 0x00;
    INTERNAL_TARGET_FAILURE = HardwareError 0x44 0x00;
    INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT = IllegalRequest 0x0e 0x03;
    PARAMETER_LIST_LENGTH_ERROR = IllegalRequest 0x1a 0x00;
    INVALID_COMMAND_OPERATION_CODE = IllegalRequest 0x20 0x00;
    INVALID_RELEASE_OF_PERSISTENT_RESERVATION = IllegalRequest 0x26 0x04;
    INSUFFICIENT_REGISTRATION_RESOURCES = IllegalRequest 0x55 0x04;
    LBA_OUT_OF_RANGE = IllegalRequest 0x21 0x00;
    INVALID_FIELD_IN_CDB = IllegalRequest 0x24 0x00;
    LOGICAL_UNIT_NOT_SUPPORTED = IllegalRequest 0x25 0x00;
    INVALID_FIELD_IN_PARAMETER_LIST = IllegalRequest 0x26 0x00;
    SAVING_PARAMETERS_NOT_SUPPORTED = IllegalRequest 0x39 0x00;
    POWER_ON = UnitAttention 0x29 0x00;
    BUS_DEVICE_RESET = UnitAttention 0x29 0x03;
    MODE_PARAMETERS_CHANGED = UnitAttention 0x2a 0x01;
    RESERVATIONS_PREEMPTED = UnitAttention 0x2a 0x03;
    RESERVATIONS_RELEASED = UnitAttention 0x2a 0x04;
    REGISTRATIONS_PREEMPTED = UnitAttention 0x2a 0x05;
    COMMANDS_CLEARED_BY_ANOTHER_INITIATOR = UnitAttention 0x2f 0x00;
    WRITE_PROTECTED = DataProtect 0x27 0x00;
    SPACE_ALLOCATION_FAILED_WRITE_PROTECT = DataProtect 0x27 0x07;
    MISCOMPARE_DURING_VERIFY = Miscompare 0x1d 0x00;
}

impl Condition {
    /// What a client is told when its disk failed. The map is the whole of bootd's: no other place makes sense
    /// data out of a disk's error.
    pub(super) const fn of_disk_error(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::OutOfRange => Self::LBA_OUT_OF_RANGE,
            ErrorKind::ReadOnly => Self::WRITE_PROTECTED,
            ErrorKind::NoSpace => Self::SPACE_ALLOCATION_FAILED_WRITE_PROTECT,
            ErrorKind::ReadFailed => Self::UNRECOVERED_READ_ERROR,
            ErrorKind::WriteFailed => Self::WRITE_ERROR,
            ErrorKind::Gone => Self::LOGICAL_UNIT_NOT_READY,
            // `WrongLength` is our own mistake; so is a kind that this map doesn't know yet.
            _ => Self::INTERNAL_TARGET_FAILURE,
        }
    }
}

/// The layout of sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenseFormat {
    /// 18 bytes. The INFORMATION field holds 32 bits.
    #[default]
    Fixed,
    /// 8 bytes, and a descriptor for each thing more.
    Descriptor,
}

/// Where in a CDB or parameter list the fault lies (SPC-4, field pointer sense key specific data).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldPointer {
    /// Whether in the CDB; else in the parameter list.
    pub in_cdb: bool,
    /// The byte, from 0.
    pub byte: u16,
    /// The most significant bit of the field, where it is less than a byte.
    pub bit: Option<u8>,
}

impl FieldPointer {
    fn sense_key_specific(self) -> [u8; 3] {
        let bit = self.bit.map_or(0, |bit| 0x08 | (bit & 0x07));
        let [high, low] = self.byte.to_be_bytes();
        [0x80 | u8::from(self.in_cdb) << 6 | bit, high, low]
    }
}

/// Sense data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    condition: Condition,
    information: Option<u64>,
    field: Option<FieldPointer>,
    format: SenseFormat,
}

impl From<Condition> for Sense {
    fn from(condition: Condition) -> Self {
        Self { condition, information: None, field: None, format: SenseFormat::Fixed }
    }
}

impl Sense {
    /// What is wrong.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// The INFORMATION field: by the command, an address or an offset.
    #[must_use]
    pub fn information(&self) -> Option<u64> {
        self.information
    }

    pub(super) fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// With the fault in this byte of the CDB, `bit` being the field's most significant one if it has a few only.
    pub(super) fn at_cdb(mut self, byte: usize, bit: Option<u8>) -> Self {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        self.field = Some(FieldPointer { in_cdb: true, byte, bit });
        self
    }

    /// With the fault in this byte of the parameter list.
    pub(super) fn at_parameter(mut self, byte: usize) -> Self {
        let byte = u16::try_from(byte).unwrap_or(u16::MAX);
        self.field = Some(FieldPointer { in_cdb: false, byte, bit: None });
        self
    }

    pub(super) fn in_format(mut self, format: SenseFormat) -> Self {
        self.format = format;
        self
    }

    /// The bytes, in the format that the client chose by the D_SENSE bit.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.format {
            SenseFormat::Fixed => self.fixed(),
            SenseFormat::Descriptor => self.descriptors(),
        }
    }

    fn fixed(&self) -> Vec<u8> {
        const ADDITIONAL_LENGTH: u8 = 10;
        // An address that 32 bits can't hold is left out, and VALID with it.
        let information = self.information.and_then(|value| u32::try_from(value).ok());
        let mut bytes =
            vec![0x70 | if information.is_some() { 0x80 } else { 0 }, 0, self.condition.key as u8];
        bytes.extend(information.unwrap_or(0).to_be_bytes());
        bytes.extend([ADDITIONAL_LENGTH, 0, 0, 0, 0, self.condition.asc, self.condition.ascq, 0]);
        bytes.extend(self.field.map_or([0; 3], FieldPointer::sense_key_specific));
        bytes
    }

    fn descriptors(&self) -> Vec<u8> {
        let mut bytes =
            vec![0x72, self.condition.key as u8, self.condition.asc, self.condition.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend([0x00, 0x0a, 0x80, 0x00]);
            bytes.extend(information.to_be_bytes());
        }
        if let Some(field) = self.field {
            bytes.extend([0x02, 0x06, 0x00, 0x00]);
            bytes.extend(field.sense_key_specific());
            bytes.push(0);
        }
        let additional = u8::try_from(bytes.len() - 8).unwrap_or(u8::MAX);
        if let Some(length) = bytes.get_mut(7) {
            *length = additional;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_is_18_bytes_with_the_field_pointer() {
        let sense = Sense::from(Condition::INVALID_FIELD_IN_CDB).at_cdb(2, Some(7));
        assert_eq!(sense.to_bytes(), [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2]);
    }

    #[test]
    fn information_that_does_not_fit_32_bits_is_only_in_descriptor_format() {
        let sense = Sense::from(Condition::LBA_OUT_OF_RANGE).with_information(1 << 40);
        assert_eq!(sense.to_bytes()[0], 0x70);
        let bytes = sense.in_format(SenseFormat::Descriptor).to_bytes();
        assert_eq!(bytes[..8], [0x72, 5, 0x21, 0, 0, 0, 0, 12]);
        assert_eq!(bytes[8..], [0, 0x0a, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(
            Sense::from(Condition::LBA_OUT_OF_RANGE).with_information(7).to_bytes()[..7],
            [0xf0, 0, 5, 0, 0, 0, 7]
        );
    }

    #[test]
    fn every_kind_of_disk_error_has_its_own_answer() {
        let cases = [
            (ErrorKind::OutOfRange, (0x5, 0x21, 0x00)),
            (ErrorKind::WrongLength, (0x4, 0x44, 0x00)),
            (ErrorKind::ReadOnly, (0x7, 0x27, 0x00)),
            (ErrorKind::NoSpace, (0x7, 0x27, 0x07)),
            (ErrorKind::ReadFailed, (0x3, 0x11, 0x00)),
            (ErrorKind::WriteFailed, (0x3, 0x0c, 0x00)),
            (ErrorKind::Gone, (0x2, 0x04, 0x00)),
        ];
        for (kind, (key, asc, ascq)) in cases {
            let condition = Condition::of_disk_error(kind);
            assert_eq!((condition.key as u8, condition.asc, condition.ascq), (key, asc, ascq), "{kind:?}");
        }
    }
}
