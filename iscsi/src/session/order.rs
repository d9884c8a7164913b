//! The order of commands: requests are taken in the order of their CmdSN, whatever order they come in (RFC 7143
//! 4.2.2.1). On one connection they come in order but for initiators that number on one thread and send on another.

use super::Session;
use crate::event::EndReason;
use crate::link::{Link, Received};
use crate::pdu::{Frame, NO_TAG, Request};
use crate::serial::CmdSn;

/// How many PDUs are kept that came before their turn. One more ends the connection.
const MAX_EARLY: usize = 64;

/// How much data they may have: 32 first bursts. More ends the connection.
const MAX_EARLY_BYTES: u64 = 2 << 20;

/// What came before its turn: a request, or data for one.
#[derive(Debug)]
pub(super) struct Early {
    number: CmdSn,
    itt: u32,
    is_command: bool,
    frame: Frame,
}

impl Early {
    fn byte_len(&self) -> u64 {
        self.frame.data.len() as u64
    }
}

/// What is to be done with a request that came.
pub(super) enum Turn {
    /// It is its turn.
    Now(Frame),
    /// Not yet, or never.
    NotNow,
}

impl Session {
    /// Whether it is the request's turn. Immediate requests, and what has no CmdSN, are always in turn; data that
    /// has waited for its command does not do so again.
    pub(super) fn turn(
        &mut self,
        link: &mut Link,
        request: &Request,
        frame: Frame,
        has_waited: bool,
    ) -> Result<Turn, EndReason> {
        let Some((number, itt)) = number_of(request) else {
            return if has_waited { Ok(Turn::Now(frame)) } else { self.turn_of_data(request, frame) };
        };
        match link.window.receive(number) {
            Received::InOrder => Ok(Turn::Now(frame)),
            Received::Outside => Ok(Turn::NotNow),
            Received::Early if self.is_early(number) => Ok(Turn::NotNow),
            Received::Early => {
                let is_command = matches!(request, Request::Command(_));
                self.keep(Early { number, itt, is_command, frame })
            }
        }
    }

    /// Data follows its command, also into waiting.
    fn turn_of_data(&mut self, request: &Request, frame: Frame) -> Result<Turn, EndReason> {
        let Request::DataOut(pdu) = request else { return Ok(Turn::Now(frame)) };
        match self.early.iter().find(|early| early.itt == pdu.itt).map(|early| early.number) {
            Some(number) if self.tasks.find(pdu.itt).is_none() => {
                self.keep(Early { number, itt: pdu.itt, is_command: false, frame })
            }
            _ => Ok(Turn::Now(frame)),
        }
    }

    fn keep(&mut self, early: Early) -> Result<Turn, EndReason> {
        let bytes = early.byte_len();
        if self.early.len() >= MAX_EARLY || self.early_bytes + bytes > MAX_EARLY_BYTES {
            return Err(EndReason::ProtocolError(format!("commands before {} are missing", early.number.0)));
        }
        self.early_bytes += bytes;
        self.unasked += bytes;
        self.early.push_back(early);
        Ok(Turn::NotNow)
    }

    /// The next PDU whose turn has come meanwhile.
    pub(super) fn next_in_turn(&mut self, link: &Link) -> Option<Frame> {
        // A command has its turn when it is the next; its data when the command has had it.
        let expected = link.window.expected();
        let has_turn = |early: &Early| early.number == expected || early.number.since(expected).is_none();
        let at = self.early.iter().position(has_turn)?;
        let early = self.early.remove(at)?;
        self.uncount_early(early.byte_len());
        Some(early.frame)
    }

    /// The number of the command with that tag, if it has come and waits for its turn.
    pub(super) fn early_command(&self, itt: u32) -> Option<CmdSn> {
        self.early.iter().find(|early| early.is_command && early.itt == itt).map(|early| early.number)
    }

    /// Whether something with that number waits for its turn.
    pub(super) fn is_early(&self, number: CmdSn) -> bool {
        self.early.iter().any(|early| early.number == number)
    }

    /// Forgets what came early with that number, and the data for it.
    pub(super) fn forget_early(&mut self, number: CmdSn) {
        let mut bytes = 0;
        self.early.retain(|early| {
            let stays = early.number != number;
            bytes += if stays { 0 } else { early.byte_len() };
            stays
        });
        self.uncount_early(bytes);
    }

    fn uncount_early(&mut self, bytes: u64) {
        self.early_bytes = self.early_bytes.saturating_sub(bytes);
        self.unasked = self.unasked.saturating_sub(bytes);
    }
}

/// CmdSN and task tag of a request that has its place in the order.
fn number_of(request: &Request) -> Option<(CmdSn, u32)> {
    let (immediate, number, itt) = match request {
        Request::Command(pdu) => (pdu.immediate, pdu.cmd_sn, pdu.itt),
        Request::TaskManagement(pdu) => (pdu.immediate, pdu.cmd_sn, pdu.itt),
        Request::NopOut(pdu) => (pdu.immediate || pdu.itt == NO_TAG, pdu.cmd_sn, pdu.itt),
        Request::Text(pdu) => (pdu.immediate, pdu.cmd_sn, pdu.itt),
        Request::Logout(pdu) => (pdu.immediate, pdu.cmd_sn, pdu.itt),
        Request::DataOut(_) | Request::Login(_) | Request::Snack | Request::Unknown => return None,
    };
    (!immediate).then_some((number, itt))
}
