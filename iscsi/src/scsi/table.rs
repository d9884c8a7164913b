//! The one table of commands. The decoder, the reservation rules and REPORT SUPPORTED OPERATION CODES all read
//! it, so what is reported is what is done.
//!
//! A row's usage map is the CDB as SPC-4 6.27.3 wants it reported: the opcode and the service action as they
//! are, then a one for each bit that is looked at. The decoder refuses a CDB with any other bit set.

/// What to do. Forms of one command that differ only in their CDB share a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    TestUnitReady,
    RequestSense,
    Inquiry,
    ModeSense6,
    ModeSense10,
    ReadCapacity10,
    ReadCapacity16,
    ReportLuns,
    Read,
    Write,
    SynchronizeCache,
}

/// Whom another nexus' reservation keeps out (SPC-4 table 65, SBC-3 table 13, SPC-2 table 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody, and no unit attention either: INQUIRY, REPORT LUNS and REQUEST SENSE.
    Always,
    /// Nobody by a persistent reservation; everybody by RESERVE(6).
    Status,
    /// Looks at the medium: kept out by Exclusive Access.
    Read,
    /// Changes the disk: kept out by Write Exclusive too.
    Write,
}

/// Where a number lies in a CDB: first byte, and how many, big-endian.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) at: usize,
    pub(super) bytes: usize,
}

/// One command that the disk knows.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) op: Op,
    pub(super) access: Access,
    /// The CDB usage data; its length is the CDB's.
    pub(super) usage: &'static [u8],
    /// Whether the low five bits of byte 1 choose among commands of one opcode.
    pub(super) has_service_action: bool,
    /// LOGICAL BLOCK ADDRESS.
    pub(super) lba: Option<Field>,
    /// TRANSFER LENGTH, ALLOCATION LENGTH, PARAMETER LIST LENGTH or whatever counts the data.
    pub(super) length: Option<Field>,
}

impl Spec {
    pub(super) const fn opcode(&self) -> u8 {
        match self.usage {
            [opcode, ..] => *opcode,
            [] => 0,
        }
    }

    /// The service action, for an opcode that has several.
    pub(super) const fn service_action(&self) -> Option<u8> {
        match self.usage {
            [_, action, ..] if self.has_service_action => Some(*action & 0x1f),
            _ => None,
        }
    }

    const fn lba(mut self, at: usize, bytes: usize) -> Self {
        self.lba = Some(Field { at, bytes });
        self
    }

    const fn length(mut self, at: usize, bytes: usize) -> Self {
        self.length = Some(Field { at, bytes });
        self
    }
}

const fn row(op: Op, access: Access, usage: &'static [u8]) -> Spec {
    Spec { op, access, usage, has_service_action: false, lba: None, length: None }
}

const fn action(op: Op, access: Access, usage: &'static [u8]) -> Spec {
    Spec { op, access, usage, has_service_action: true, lba: None, length: None }
}

/// Every command, by opcode and service action. Rows of one opcode stand together.
#[rustfmt::skip]
pub(super) const TABLE: &[Spec] = &[
    row(Op::TestUnitReady, Access::Status, &[0x00, 0, 0, 0, 0, 0]),
    row(Op::RequestSense, Access::Always, &[0x03, 0x01, 0, 0, 0xff, 0]).length(4, 1),
    row(Op::Read, Access::Read, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0]).lba(1, 3).length(4, 1),
    row(Op::Write, Access::Write, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0]).lba(1, 3).length(4, 1),
    row(Op::Inquiry, Access::Always, &[0x12, 0x01, 0xff, 0xff, 0xff, 0]).length(3, 2),
    row(Op::ModeSense6, Access::Read, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0]).length(4, 1),
    row(Op::ReadCapacity10, Access::Status, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    row(Op::Read, Access::Read, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]).lba(2, 4).length(7, 2),
    row(Op::Write, Access::Write, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]).lba(2, 4).length(7, 2),
    row(Op::SynchronizeCache, Access::Write, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0])
        .lba(2, 4).length(7, 2),
    row(Op::ModeSense10, Access::Read, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]).length(7, 2),
    row(Op::Read, Access::Read,
        &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .lba(2, 8).length(10, 4),
    row(Op::Write, Access::Write,
        &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .lba(2, 8).length(10, 4),
    row(Op::SynchronizeCache, Access::Write,
        &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0])
        .lba(2, 8).length(10, 4),
    action(Op::ReadCapacity16, Access::Status,
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]).length(10, 4),
    row(Op::ReportLuns, Access::Always, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]).length(6, 4),
    row(Op::Read, Access::Read,
        &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]).lba(2, 4).length(6, 4),
    row(Op::Write, Access::Write,
        &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]).lba(2, 4).length(6, 4),
];
