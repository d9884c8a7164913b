//! What the disk can do, told from the table by which it does it.

use super::cdb::{Cdb, rows_of};
use super::table::{Spec, TABLE};
use super::task::{Step, Verdict};

/// A command timeouts descriptor (SPC-4, command timeouts descriptor) that gives no times: those are the
/// storage's, not ours.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// SPC-4, REPORT SUPPORTED OPERATION CODES command.
pub(super) fn report_opcodes(cdb: &Cdb<'_>) -> Verdict {
    const RCTD: u8 = 0x80;
    const REPORTING_OPTIONS: u8 = 0x07;
    let timeouts = cdb.flag(2, RCTD);
    let (opcode, action) = (cdb.byte(3), u16::from_be_bytes([cdb.byte(4), cdb.byte(5)]));
    let has_actions = rows_of(opcode).any(|row| row.has_service_action);
    let is_action = |row: &&Spec| row.service_action().map(u16::from) == Some(action);
    let data = match cdb.byte(2) & REPORTING_OPTIONS {
        0 => all_commands(timeouts),
        1 if has_actions => return Err(Cdb::invalid(2, Some(2))),
        1 => one_command(rows_of(opcode).next(), timeouts),
        2 if !has_actions => return Err(Cdb::invalid(2, Some(2))),
        2 => one_command(rows_of(opcode).find(is_action), timeouts),
        3 if has_actions => one_command(rows_of(opcode).find(is_action), timeouts),
        3 => one_command(rows_of(opcode).next().filter(|_| action == 0), timeouts),
        _ => return Err(Cdb::invalid(2, Some(2))),
    };
    Step::parameter_data(data, cdb.allocation_length())
}

/// SPC-4, all_commands parameter data format.
fn all_commands(timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x02;
    const SERVACTV: u8 = 0x01;
    let mut descriptors = Vec::new();
    for row in TABLE {
        let action = u16::from(row.service_action().unwrap_or(0));
        let ctdp = if timeouts { CTDP } else { 0 };
        let servactv = if row.has_service_action { SERVACTV } else { 0 };
        let length = u16::try_from(row.usage().len()).unwrap_or(0);
        descriptors.extend([row.opcode(), 0]);
        descriptors.extend(action.to_be_bytes());
        descriptors.extend([0, ctdp | servactv]);
        descriptors.extend(length.to_be_bytes());
        if timeouts {
            descriptors.extend(TIMEOUTS);
        }
    }
    let length = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &descriptors[..]].concat()
}

/// SPC-4, one_command parameter data format.
fn one_command(row: Option<&Spec>, timeouts: bool) -> Vec<u8> {
    const CTDP: u8 = 0x80;
    const NOT_SUPPORTED: u8 = 1;
    const SUPPORTED: u8 = 3;
    let Some(row) = row else {
        return vec![0, NOT_SUPPORTED, 0, 0];
    };
    let length = u16::try_from(row.usage().len()).unwrap_or(0);
    let mut data = vec![0, SUPPORTED | if timeouts { CTDP } else { 0 }];
    data.extend(length.to_be_bytes());
    data.extend(row.usage());
    if timeouts {
        data.extend(TIMEOUTS);
    }
    data
}

/// SPC-4, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS command: ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL
/// UNIT RESET, TARGET RESET.
pub(super) fn report_task_management(cdb: &Cdb<'_>) -> Verdict {
    const MIN_ALLOCATION_LENGTH: usize = 4;
    if cdb.allocation_length() < MIN_ALLOCATION_LENGTH {
        return Err(cdb.invalid_length());
    }
    Step::parameter_data(vec![0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0, 0], cdb.allocation_length())
}
