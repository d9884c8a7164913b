//! The one table of commands. The decoder, the reservation rules and REPORT SUPPORTED OPERATION CODES all read
//! it, so what is reported is what is done.
//!
//! A row's usage map is the CDB as SPC-4 wants it reported (CDB USAGE DATA): the opcode and the service action
//! as they are, then a one for each bit that is looked at. The decoder refuses a CDB with any other bit set.
//! That also refuses RDPROTECT, WRPROTECT and VRPROTECT, ANCHOR and NACA, whose meanings the disk doesn't have.
//! GROUP NUMBER is let pass: it only sorts statistics, which nobody asks for.

/// What to do. Forms of one command that differ only in their CDB share a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    CompareAndWrite,
    GetLbaStatus,
    Inquiry,
    ModeSelect,
    ModeSense6,
    ModeSense10,
    OrWrite,
    Prefetch,
    PreventAllow,
    Read,
    ReadCapacity10,
    ReadCapacity16,
    ReadDefectData,
    Release6,
    ReportLuns,
    ReportOpcodes,
    ReportTaskManagement,
    RequestSense,
    Reserve6,
    ReserveInCapabilities,
    ReserveInFullStatus,
    ReserveInKeys,
    ReserveInReservation,
    ReserveOut,
    SanitizeBlockErase,
    SanitizeExitFailureMode,
    StartStop,
    SynchronizeCache,
    TestUnitReady,
    Unmap,
    Verify,
    Write,
    WriteAndVerify,
    WriteSame,
}

/// Whom another nexus' reservation keeps out (SPC-4 and SBC-3, commands that are allowed in the
/// presence of various reservations; SPC-2, reservations).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nobody, and no unit attention either: INQUIRY, REPORT LUNS and REQUEST SENSE.
    Always,
    /// Nobody.
    Free,
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
    /// Whether the low five bits of byte 1 choose among commands of one opcode.
    pub(super) has_service_action: bool,
    /// LOGICAL BLOCK ADDRESS.
    pub(super) lba: Option<Field>,
    /// TRANSFER LENGTH, ALLOCATION LENGTH, PARAMETER LIST LENGTH or whatever counts the data.
    pub(super) length: Option<Field>,
    usage: [u8; 16],
    cdb_len: usize,
}

/// Usage of a number's bytes, and of GROUP NUMBER.
const ALL: u8 = 0xff;
const GROUP: u8 = 0x1f;
/// Flags in byte 1.
const DPO: u8 = 0x10;
const FUA: u8 = 0x08;
const BYTCHK: u8 = 0x06;
const IMMED: u8 = 0x02;
const UNMAP: u8 = 0x08;
const NDOB: u8 = 0x01;

impl Spec {
    /// The CDB usage data; its length is the CDB's.
    pub(super) fn usage(&self) -> &[u8] {
        self.usage.get(..self.cdb_len).unwrap_or(&self.usage)
    }

    pub(super) const fn opcode(&self) -> u8 {
        self.usage[0]
    }

    /// The service action, for an opcode that has several.
    pub(super) const fn service_action(&self) -> Option<u8> {
        if self.has_service_action { Some(self.usage[1] & 0x1f) } else { None }
    }

    /// With the data counted in those bytes.
    const fn counted(mut self, at: usize, bytes: usize) -> Self {
        self.length = Some(Field { at, bytes });
        self
    }

    /// With an address in those bytes.
    const fn addressed(mut self, at: usize, bytes: usize) -> Self {
        self.lba = Some(Field { at, bytes });
        self
    }

    /// With the bits of those numbers in the usage map.
    const fn mapped(mut self) -> Self {
        let fields = [self.lba, self.length];
        let mut which = 0;
        while which < fields.len() {
            if let Some(Field { at, bytes }) = fields[which] {
                let mut byte = at;
                while byte < at + bytes {
                    self.usage[byte] = ALL;
                    byte += 1;
                }
            }
            which += 1;
        }
        self
    }
}

/// A command whose usage map is written out, but for its address and length.
const fn row(op: Op, access: Access, usage: &[u8]) -> Spec {
    let mut map = [0; 16];
    let mut byte = 0;
    while byte < usage.len() {
        map[byte] = usage[byte];
        byte += 1;
    }
    let (has_service_action, lba, length, cdb_len) = (false, None, None, usage.len());
    Spec { op, access, has_service_action, lba, length, usage: map, cdb_len }
}

/// The same, for an opcode with service actions.
const fn action(op: Op, access: Access, usage: &[u8]) -> Spec {
    let mut spec = row(op, access, usage);
    spec.has_service_action = true;
    spec
}

/// READ (6) and WRITE (6): 21 bits of address.
const fn blocks6(op: Op, access: Access, opcode: u8) -> Spec {
    let mut spec = row(op, access, &[opcode, 0, 0, 0, 0, 0]).addressed(1, 3).counted(4, 1).mapped();
    spec.usage[1] = 0x1f;
    spec
}

/// The common forms of a command on blocks: flags in byte 1, then address, length, and GROUP NUMBER.
const fn blocks10(op: Op, access: Access, opcode: u8, flags: u8) -> Spec {
    row(op, access, &[opcode, flags, 0, 0, 0, 0, GROUP, 0, 0, 0]).addressed(2, 4).counted(7, 2).mapped()
}

const fn blocks12(op: Op, access: Access, opcode: u8, flags: u8) -> Spec {
    let usage = [opcode, flags, 0, 0, 0, 0, 0, 0, 0, 0, GROUP, 0];
    row(op, access, &usage).addressed(2, 4).counted(6, 4).mapped()
}

const fn blocks16(op: Op, access: Access, opcode: u8, flags: u8) -> Spec {
    let usage = [opcode, flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, GROUP, 0];
    row(op, access, &usage).addressed(2, 8).counted(10, 4).mapped()
}

/// Every command, by opcode and service action. Rows of one opcode stand together.
#[rustfmt::skip]
pub(super) const TABLE: &[Spec] = &[
    row(Op::TestUnitReady, Access::Status, &[0x00, 0, 0, 0, 0, 0]),
    row(Op::RequestSense, Access::Always, &[0x03, 0x01, 0, 0, 0, 0]).counted(4, 1).mapped(),
    blocks6(Op::Read, Access::Read, 0x08),
    blocks6(Op::Write, Access::Write, 0x0a),
    row(Op::Inquiry, Access::Always, &[0x12, 0x01, ALL, 0, 0, 0]).counted(3, 2).mapped(),
    row(Op::ModeSelect, Access::Write, &[0x15, 0x10, 0, 0, 0, 0]).counted(4, 1).mapped(),
    row(Op::Reserve6, Access::Status, &[0x16, 0, 0, 0, 0, 0]),
    row(Op::Release6, Access::Free, &[0x17, 0, 0, 0, 0, 0]),
    row(Op::ModeSense6, Access::Read, &[0x1a, 0x08, ALL, ALL, 0, 0]).counted(4, 1).mapped(),
    row(Op::StartStop, Access::Write, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0]),
    row(Op::PreventAllow, Access::Write, &[0x1e, 0, 0, 0, 0x01, 0]),
    row(Op::ReadCapacity10, Access::Status, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    blocks10(Op::Read, Access::Read, 0x28, DPO | FUA),
    blocks10(Op::Write, Access::Write, 0x2a, DPO | FUA),
    blocks10(Op::WriteAndVerify, Access::Write, 0x2e, DPO | BYTCHK),
    blocks10(Op::Verify, Access::Read, 0x2f, DPO | BYTCHK),
    blocks10(Op::Prefetch, Access::Read, 0x34, IMMED),
    blocks10(Op::SynchronizeCache, Access::Write, 0x35, IMMED),
    row(Op::ReadDefectData, Access::Read, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    blocks10(Op::WriteSame, Access::Write, 0x41, UNMAP),
    row(Op::Unmap, Access::Write, &[0x42, 0, 0, 0, 0, 0, GROUP, 0, 0, 0]).counted(7, 2).mapped(),
    // IMMED and AUSE. Neither erasing action has a parameter list, so its length must be 0.
    action(Op::SanitizeBlockErase, Access::Write, &[0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0]),
    action(Op::SanitizeExitFailureMode, Access::Write, &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0]),
    row(Op::ModeSelect, Access::Write, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    row(Op::ModeSense10, Access::Read, &[0x5a, 0x18, ALL, ALL, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    action(Op::ReserveInKeys, Access::Status, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    action(Op::ReserveInReservation, Access::Status, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    action(Op::ReserveInCapabilities, Access::Status, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    action(Op::ReserveInFullStatus, Access::Status, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0, 0, 0]).counted(7, 2).mapped(),
    // REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, REGISTER AND IGNORE EXISTING KEY.
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x00, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x01, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x02, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x03, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x04, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    action(Op::ReserveOut, Access::Status, &[0x5f, 0x06, ALL, 0, 0, 0, 0, 0, 0, 0]).counted(5, 4).mapped(),
    blocks16(Op::Read, Access::Read, 0x88, DPO | FUA),
    row(Op::CompareAndWrite, Access::Write, &[0x89, DPO | FUA, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, GROUP, 0])
        .addressed(2, 8).counted(13, 1).mapped(),
    blocks16(Op::Write, Access::Write, 0x8a, DPO | FUA),
    blocks16(Op::OrWrite, Access::Write, 0x8b, DPO | FUA),
    blocks16(Op::WriteAndVerify, Access::Write, 0x8e, DPO | BYTCHK),
    blocks16(Op::Verify, Access::Read, 0x8f, DPO | BYTCHK),
    blocks16(Op::Prefetch, Access::Read, 0x90, IMMED),
    blocks16(Op::SynchronizeCache, Access::Write, 0x91, IMMED),
    blocks16(Op::WriteSame, Access::Write, 0x93, UNMAP | NDOB),
    action(Op::ReadCapacity16, Access::Status, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .counted(10, 4).mapped(),
    action(Op::GetLbaStatus, Access::Read, &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .addressed(2, 8).counted(10, 4).mapped(),
    row(Op::ReportLuns, Access::Always, &[0xa0, 0, ALL, 0, 0, 0, 0, 0, 0, 0, 0, 0]).counted(6, 4).mapped(),
    // RCTD and REPORTING OPTIONS, then the opcode and the service action that are asked about.
    action(Op::ReportOpcodes, Access::Status, &[0xa3, 0x0c, 0x87, ALL, ALL, ALL, 0, 0, 0, 0, 0, 0])
        .counted(6, 4).mapped(),
    action(Op::ReportTaskManagement, Access::Status, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .counted(6, 4).mapped(),
    blocks12(Op::Read, Access::Read, 0xa8, DPO | FUA),
    blocks12(Op::Write, Access::Write, 0xaa, DPO | FUA),
    blocks12(Op::WriteAndVerify, Access::Write, 0xae, DPO | BYTCHK),
    blocks12(Op::Verify, Access::Read, 0xaf, DPO | BYTCHK),
    row(Op::ReadDefectData, Access::Read, &[0xb7, 0x1f, ALL, ALL, ALL, ALL, 0, 0, 0, 0, 0, 0])
        .counted(6, 4).mapped(),
];
