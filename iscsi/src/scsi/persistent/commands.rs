//! PERSISTENT RESERVE IN and OUT: the commands around [`Persistent`].

use super::super::cdb::Cdb;
use super::super::sense::{Condition, Sense};
use super::super::table::Op;
use super::super::task::{Failure, Step, Verdict};
use super::super::{InitiatorPort, Lun, NexusId};
use super::{Kind, Persistent};

/// SPC-4, PERSISTENT RESERVE OUT command.
pub(in super::super) fn reserve_out(cdb: &Cdb<'_>, nexus: NexusId) -> Verdict {
    const PARAMETER_LIST_LENGTH: u32 = 24;
    let action = Action::of(cdb)?;
    if cdb.length() != PARAMETER_LIST_LENGTH {
        return Err(Condition::PARAMETER_LIST_LENGTH_ERROR.into());
    }
    Step::get_data(PARAMETER_LIST_LENGTH, move |lun, data| {
        let (key, action_key) = parse(&data.concat(), action)?;
        lun.change(|state| {
            let port = state.nexuses.port(nexus).ok_or(Condition::INTERNAL_TARGET_FAILURE)?.clone();
            let persistent = &mut state.persistent;
            let notices = match action {
                Action::Register => persistent.register(&port, Some(key), action_key),
                Action::RegisterAndIgnoreExistingKey => persistent.register(&port, None, action_key),
                Action::Reserve(kind) => persistent.reserve(&port, key, kind),
                Action::Release(kind) => persistent.release(&port, key, kind),
                Action::Clear => persistent.clear(&port, key),
                Action::Preempt(kind) => persistent.preempt(&port, key, action_key, kind),
            }?;
            for (port, condition) in notices {
                state.nexuses.tell_port(&port, condition);
            }
            Ok(Step::Done)
        })
    })
}

/// A service action, with the kind of reservation where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Register,
    Reserve(Kind),
    Release(Kind),
    Clear,
    Preempt(Kind),
    RegisterAndIgnoreExistingKey,
}

impl Action {
    fn of(cdb: &Cdb<'_>) -> Result<Self, Failure> {
        let kind = || Kind::from_scope_and_type(cdb.byte(2)).ok_or_else(|| Cdb::invalid(2, None));
        Ok(match cdb.byte(1) & 0x1f {
            0x00 => Self::Register,
            0x01 => Self::Reserve(kind()?),
            0x02 => Self::Release(kind()?),
            0x03 => Self::Clear,
            0x04 => Self::Preempt(kind()?),
            0x06 => Self::RegisterAndIgnoreExistingKey,
            _ => return Err(Cdb::invalid(1, Some(4))),
        })
    }

    fn registers(self) -> bool {
        matches!(self, Self::Register | Self::RegisterAndIgnoreExistingKey)
    }
}

/// The basic parameter list: RESERVATION KEY and SERVICE ACTION RESERVATION KEY. The target has one
/// port, so ALL_TG_PT changes nothing; other initiators can't be registered, nor can anything outlive the target.
fn parse(list: &[u8], action: Action) -> Result<(u64, u64), Failure> {
    const SPEC_I_PT: u8 = 0x08;
    const APTPL: u8 = 0x01;
    let too_short = Condition::PARAMETER_LIST_LENGTH_ERROR;
    let (key, rest) = list.split_first_chunk().ok_or(too_short)?;
    let (action_key, rest) = rest.split_first_chunk().ok_or(too_short)?;
    let [_, _, _, _, flags, _, _, _] = rest else {
        return Err(too_short.into());
    };
    if action.registers() && flags & (SPEC_I_PT | APTPL) != 0 {
        return Err(Sense::from(Condition::INVALID_FIELD_IN_PARAMETER_LIST).at_parameter(20).into());
    }
    Ok((u64::from_be_bytes(*key), u64::from_be_bytes(*action_key)))
}

/// SPC-4, PERSISTENT RESERVE IN command.
pub(in super::super) fn reserve_in(lun: &Lun, cdb: &Cdb<'_>) -> Verdict {
    let data = lun.look(|state| match cdb.spec().op {
        Op::ReserveInKeys => keys(&state.persistent),
        Op::ReserveInReservation => reservation(&state.persistent),
        Op::ReserveInFullStatus => full_status(&state.persistent),
        _ => CAPABILITIES.to_vec(),
    });
    Step::parameter_data(data, cdb.allocation_length())
}

/// REPORT CAPABILITIES: ATP_C, TMV, and all six types.
const CAPABILITIES: [u8; 8] = [0, 8, 0x04, 0x80, 0xea, 0x01, 0, 0];

/// READ KEYS.
fn keys(persistent: &Persistent) -> Vec<u8> {
    let keys: Vec<u8> = persistent.registrations().iter().flat_map(|it| it.key.to_be_bytes()).collect();
    with_header(persistent, &keys)
}

/// READ RESERVATION.
fn reservation(persistent: &Persistent) -> Vec<u8> {
    let body = persistent.reservation().map(|(kind, key)| {
        let mut body = key.to_be_bytes().to_vec();
        body.extend([0, 0, 0, 0, 0, kind as u8, 0, 0]);
        body
    });
    with_header(persistent, &body.unwrap_or_default())
}

/// READ FULL STATUS.
fn full_status(persistent: &Persistent) -> Vec<u8> {
    const ALL_TG_PT: u8 = 0x02;
    const R_HOLDER: u8 = 0x01;
    const RELATIVE_TARGET_PORT: [u8; 2] = [0, 1];
    let mut body = Vec::new();
    for registration in persistent.registrations() {
        let held = persistent.reservation().filter(|_| persistent.is_holder(&registration.port));
        let id = transport_id(&registration.port);
        let length = u32::try_from(id.len()).unwrap_or(0);
        body.extend(registration.key.to_be_bytes());
        body.extend([0, 0, 0, 0, ALL_TG_PT | if held.is_some() { R_HOLDER } else { 0 }]);
        body.extend([held.map_or(0, |(kind, _)| kind as u8), 0, 0, 0, 0]);
        body.extend(RELATIVE_TARGET_PORT);
        body.extend(length.to_be_bytes());
        body.extend(id);
    }
    with_header(persistent, &body)
}

/// An iSCSI initiator port's TransportID: name and ISID, ended by a zero byte, filled to a multiple
/// of four.
fn transport_id(port: &InitiatorPort) -> Vec<u8> {
    const ISCSI_WITH_ISID: u8 = 0x45;
    let isid: String = port.isid.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = format!("{},i,0x{isid}", port.iqn).into_bytes();
    name.resize((name.len() + 1).next_multiple_of(4).max(20), 0);
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
    let mut id = vec![ISCSI_WITH_ISID, 0];
    id.extend(length.to_be_bytes());
    id.extend(name);
    id
}

fn with_header(persistent: &Persistent, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&persistent.generation().to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}
