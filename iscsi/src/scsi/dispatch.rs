//! From a command as it came to the family that does it.

use super::cdb::Cdb;
use super::command::{Command, NexusId};
use super::sense::{Condition, Sense, SenseFormat};
use super::table::Op;
use super::task::{Step, Verdict};
use super::{
    Lun, capacity, inquiry, medium, mode, mode_select, opcodes, persistent, reserve, rw, thin, verify,
    write_same,
};

/// The first step of `command`, or why it is refused.
pub(super) fn begin(lun: &Lun, command: &Command<'_>) -> Verdict {
    if !is_lun_zero(command.lun) {
        return on_absent_lun(command);
    }
    let nexus = command.nexus;
    let decoded = Cdb::decode(command.cdb);
    lun.admit(nexus, decoded.as_ref().ok().map(Cdb::access))?;
    let cdb = decoded?;
    match cdb.spec().op {
        Op::CompareAndWrite => verify::compare_and_write(lun, &cdb, command),
        Op::GetLbaStatus => thin::get_lba_status(lun, &cdb),
        Op::Inquiry => inquiry::inquiry(lun, &cdb),
        Op::ModeSelect => mode_select::mode_select(&cdb, nexus),
        Op::ModeSense6 => mode::sense6(lun, &cdb),
        Op::ModeSense10 => mode::sense10(lun, &cdb),
        Op::OrWrite => rw::or_write(lun, &cdb),
        Op::Prefetch => rw::prefetch(lun, &cdb),
        Op::PreventAllow => medium::prevent_allow(),
        Op::Read => rw::read(lun, &cdb),
        Op::ReadCapacity10 => capacity::read_capacity_10(lun),
        Op::ReadCapacity16 => capacity::read_capacity_16(lun, &cdb),
        Op::ReadDefectData => medium::read_defect_data(&cdb),
        Op::Release6 => reserve::release(lun, nexus),
        Op::ReportLuns => capacity::report_luns(&cdb),
        Op::ReportOpcodes => opcodes::report_opcodes(&cdb),
        Op::ReportTaskManagement => opcodes::report_task_management(&cdb),
        Op::RequestSense => request_sense(lun, nexus, &cdb),
        Op::Reserve6 => reserve::reserve(lun, nexus),
        Op::ReserveInCapabilities
        | Op::ReserveInFullStatus
        | Op::ReserveInKeys
        | Op::ReserveInReservation => persistent::reserve_in(lun, &cdb),
        Op::ReserveOut => persistent::reserve_out(&cdb, nexus),
        Op::SanitizeBlockErase => thin::sanitize_block_erase(lun),
        // No sanitizing of ours stays failed, so there is nothing to leave.
        Op::SanitizeExitFailureMode | Op::TestUnitReady => Ok(Step::Done),
        Op::StartStop => medium::start_stop(&cdb),
        Op::SynchronizeCache => rw::synchronize_cache(lun, &cdb),
        Op::Unmap => thin::unmap(lun, &cdb),
        Op::Verify => verify::verify(lun, &cdb),
        Op::Write => rw::write(lun, &cdb),
        Op::WriteAndVerify => verify::write_and_verify(lun, &cdb),
        Op::WriteSame => write_same::write_same(lun, &cdb, command),
    }
}

/// LUN 0, in the peripheral device or the flat space addressing method (SAM-5, LUN formats).
pub(crate) fn is_lun_zero(lun: u64) -> bool {
    matches!(lun, 0 | 0x4000_0000_0000_0000)
}

/// What a target answers for a logical unit that it doesn't have (SPC-4, incorrect logical unit numbers).
fn on_absent_lun(command: &Command<'_>) -> Verdict {
    let cdb = Cdb::decode(command.cdb).map_err(|_| Condition::LOGICAL_UNIT_NOT_SUPPORTED)?;
    match cdb.spec().op {
        Op::Inquiry => inquiry::absent(&cdb),
        Op::ReportLuns => capacity::report_luns(&cdb),
        Op::RequestSense => sense_data(Condition::LOGICAL_UNIT_NOT_SUPPORTED, &cdb),
        _ => Err(Condition::LOGICAL_UNIT_NOT_SUPPORTED.into()),
    }
}

/// SPC-4, REQUEST SENSE command: a unit attention that waits, as data; hearing it this way clears it too.
fn request_sense(lun: &Lun, nexus: NexusId, cdb: &Cdb<'_>) -> Verdict {
    let attention = lun.change(|state| state.nexuses.take_attention(nexus));
    sense_data(attention.unwrap_or(Condition::NO_SENSE), cdb)
}

fn sense_data(condition: Condition, cdb: &Cdb<'_>) -> Verdict {
    const DESC: u8 = 0x01;
    let format = if cdb.flag(1, DESC) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    let bytes = Sense::from(condition).in_format(format).to_bytes();
    Step::parameter_data(bytes, cdb.allocation_length())
}
