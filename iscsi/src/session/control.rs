//! What keeps a session in order: pings both ways, logout, rejects, and its end.

use std::time::Duration;

use block::Segments;
use bytes::Bytes;

use super::Session;
use crate::event::{EndReason, Event};
use crate::link::Link;
use crate::pdu::{
    AsyncMessage, Bhs, LogoutRequest, LogoutResponse, NO_TAG, NopIn, NopOut, Reject, RejectReason,
};
use crate::target::{Membership, Orders, order};

/// How a session ends.
#[derive(Debug)]
pub(super) enum Closing {
    /// The initiator has asked for it, and is told when the disk is done with all its tasks.
    Logout { itt: u32 },
    /// Without a further word.
    Silently,
}

impl Session {
    pub(super) fn handle_nop_out(&mut self, link: &mut Link, pdu: &NopOut, data: Bytes) {
        self.answers_pings = true;
        // Without a tag of its own it is the answer to a ping of ours: that it came is all it says.
        if pdu.itt == NO_TAG {
            return;
        }
        let mut echo = Segments::from(data);
        echo.truncate(self.params.max_send_data_segment_length as usize);
        let nop_in = NopIn { lun: pdu.lun, itt: pdu.itt, ttt: NO_TAG };
        let numbers = link.status_numbers();
        link.send(nop_in.encode(&numbers), echo);
    }

    /// Asks whether the initiator is still there. Only one that is known to answer is asked: iPXE does not, and
    /// does not even say so.
    pub(super) fn ping(&mut self, link: &mut Link, now: Duration) {
        self.pinged = Some(now);
        self.next_ttt = self.next_ttt.wrapping_add(1) % NO_TAG;
        let nop_in = NopIn { lun: 0, itt: NO_TAG, ttt: self.next_ttt };
        let numbers = link.numbers();
        link.send(nop_in.encode(&numbers), Segments::new());
    }

    pub(super) fn handle_logout(&mut self, link: &mut Link, pdu: &LogoutRequest) -> Result<(), RejectReason> {
        const CID_NOT_FOUND: u8 = 1;
        const RECOVERY_NOT_SUPPORTED: u8 = 2;
        let refusal = match pdu.reason {
            0 => None,
            1 if pdu.cid == self.cid => None,
            1 => Some(CID_NOT_FOUND),
            2 => Some(RECOVERY_NOT_SUPPORTED),
            _ => return Err(RejectReason::InvalidPduField),
        };
        if let Some(response) = refusal {
            let numbers = link.status_numbers();
            link.send(LogoutResponse { itt: pdu.itt, response }.encode(&numbers), Segments::new());
            return Ok(());
        }
        self.abort_all(link);
        self.closing = Some(Closing::Logout { itt: pdu.itt });
        Ok(())
    }

    pub(super) fn reject(&self, link: &mut Link, bhs: &Bhs, reason: RejectReason) {
        let numbers = link.status_numbers();
        link.send(Reject { reason }.encode(&numbers), Segments::from(Bytes::copy_from_slice(bhs)));
    }

    /// Does what other sessions, or the shell, want of this one.
    pub(super) fn follow_orders(&mut self, link: &mut Link) {
        let Some(Orders { bits: orders, errands }) = self.disk.as_ref().and_then(Membership::take_orders)
        else {
            return;
        };
        self.errands.extend(errands);
        if orders & order::CLEAR_TASKS != 0
            && self.abort_tasks(link, None) > 0
            && let Some(disk) = &self.disk
        {
            disk.lun().commands_cleared(disk.nexus());
        }
        if orders & order::ABORT_TASKS != 0 {
            self.abort_tasks(link, None);
        }
        if orders & order::REINSTATED != 0 {
            self.end(link, EndReason::Reinstated);
        } else if orders & order::REMOVED != 0 {
            self.end(link, EndReason::TargetRemoved);
        } else if orders & order::COLD_RESET != 0 {
            self.end(link, EndReason::ColdReset);
        }
    }

    /// Ends the session from our side.
    pub(crate) fn end(&mut self, link: &mut Link, why: EndReason) {
        if self.closing.is_some() {
            return;
        }
        self.abort_all(link);
        // An initiator that does not answer pings would take this for the end of the world.
        if self.answers_pings && matches!(why, EndReason::TargetRemoved | EndReason::ColdReset) {
            let numbers = link.status_numbers();
            link.send(AsyncMessage.encode(&numbers), Segments::new());
        }
        if matches!(why, EndReason::Reinstated | EndReason::PingTimeout) {
            // Nobody is there to read it.
            self.fall_silent(link);
        }
        link.events.push_back(Event::Ended { why });
        self.closing = Some(Closing::Silently);
    }

    /// Nothing of what is left to say is said: also not that functions are complete, when the disk is done with what they
    /// aborted.
    fn fall_silent(&mut self, link: &mut Link) {
        link.output.clear();
        self.pending_functions.clear();
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self, link: &mut Link) {
        self.abort_all(link);
        self.fall_silent(link);
        self.closing = Some(Closing::Silently);
    }

    /// Whether the session is over: it has been ended, and the disk is done with it.
    pub(crate) fn is_over(&mut self, link: &mut Link) -> bool {
        if self.closing.is_none() || self.handed_out > 0 {
            return false;
        }
        if let Some(Closing::Logout { itt }) = self.closing.replace(Closing::Silently) {
            let numbers = link.status_numbers();
            link.send(LogoutResponse { itt, response: 0 }.encode(&numbers), Segments::new());
            link.events.push_back(Event::LoggedOut);
        }
        true
    }
}
