//! Task management (RFC 7143 4.2.3, 11.5, 11.6). A function is answered when no task that it ended can do anything
//! more to the disk, whichever session the task was of.
//!
//! A function on all tasks covers those that were numbered before it, and no others. If it is immediate, commands of
//! theirs may still be missing: they are waited for, and end when they come. What R2Ts have asked for is not waited
//! for, though RFC 7143 4.2.3.3 says so: Linux stops answering R2Ts when it aborts, and would wait for us in turn. Data
//! that does come is dropped, so nothing of it reaches the disk.

use block::Segments;

use super::Session;
use super::tasks::Slot;
use crate::link::Link;
use crate::pdu::{RejectReason, ScsiCommand, TaskManagement, TaskManagementResponse};
use crate::scsi::is_lun_zero;
use crate::serial::CmdSn;
use crate::target::{Awaited, order};

/// How many functions may wait for the disk at a time. Further ones are rejected.
const MAX_PENDING: usize = 16;

const FUNCTION_COMPLETE: u8 = 0;
const TASK_DOES_NOT_EXIST: u8 = 1;
const LUN_DOES_NOT_EXIST: u8 = 2;
const REASSIGNMENT_NOT_SUPPORTED: u8 = 4;
const FUNCTION_NOT_SUPPORTED: u8 = 5;
const FUNCTION_REJECTED: u8 = 255;

/// A function that has been done, and is yet to be answered.
pub(super) struct Function {
    itt: u32,
    response: u8,
    /// Commands with numbers before this one are covered by it.
    before: Option<CmdSn>,
    /// The other sessions whose tasks it ended.
    others: Awaited,
}

impl Session {
    pub(super) fn handle_task_management(
        &mut self,
        link: &mut Link,
        pdu: &TaskManagement,
    ) -> Result<(), RejectReason> {
        if self.pending_functions.len() >= MAX_PENDING {
            return Err(RejectReason::ImmediateCommandReject);
        }
        let refused = |response| Function { itt: pdu.itt, response, before: None, others: Awaited::nobody() };
        let is_on_lun = matches!(pdu.function, 2 | 4 | 5);
        let function = match pdu.function {
            _ if is_on_lun && !is_lun_zero(pdu.lun) => refused(LUN_DOES_NOT_EXIST),
            1 => refused(self.abort_task(link, pdu)),
            2 => self.end_tasks(link, pdu, None),
            4 => self.end_tasks(link, pdu, Some(order::CLEAR_TASKS)),
            // The target has one logical unit, so resetting one is resetting the other.
            5 | 6 => self.end_tasks(link, pdu, Some(order::ABORT_TASKS)),
            7 => {
                self.close_when_sent = true;
                // Nothing more is taken from this session, so nothing is waited for (RFC 7143 4.2.3.3 b).
                Function { before: None, ..self.end_tasks(link, pdu, Some(order::COLD_RESET)) }
            }
            // There is no ACA to clear: the NACA bit is not supported.
            3 => refused(FUNCTION_NOT_SUPPORTED),
            8 => refused(REASSIGNMENT_NOT_SUPPORTED),
            _ => refused(FUNCTION_REJECTED),
        };
        self.pending_functions.push_back(function);
        self.answer_functions(link);
        Ok(())
    }

    fn abort_task(&mut self, link: &mut Link, pdu: &TaskManagement) -> u8 {
        if let Some(slot) = self.tasks.find(pdu.referenced_itt) {
            self.abort(link, slot);
            return FUNCTION_COMPLETE;
        }
        if let Some(number) = self.early_command(pdu.referenced_itt) {
            self.forget_early(number);
            link.window.forsake(number);
            return FUNCTION_COMPLETE;
        }
        // A command that has not come is taken for received, and for aborted. What has come with that number is
        // another request: it stays, or nobody would ever answer it.
        let number = pdu.ref_cmd_sn;
        let is_missing = link.window.contains(number) && !self.is_early(number);
        if is_missing && pdu.cmd_sn.since(number).is_some_and(|ahead| ahead > 0) {
            link.window.forsake(number);
            return FUNCTION_COMPLETE;
        }
        TASK_DOES_NOT_EXIST
    }

    /// Ends all tasks that were numbered before the function, and what `orders` says of those of other sessions.
    fn end_tasks(&mut self, link: &mut Link, pdu: &TaskManagement, orders: Option<u8>) -> Function {
        let before = self.place_of(link, pdu.cmd_sn);
        self.abort_tasks(link, Some(before));
        let mut others = Awaited::nobody();
        if let (Some(orders), Some(disk)) = (orders, &self.disk) {
            // First the order, then the news of it: whoever has heard of a reset has no task from before.
            others = disk.order_others(orders);
            if orders != order::CLEAR_TASKS {
                disk.lun().reset();
            }
        }
        Function { itt: pdu.itt, response: FUNCTION_COMPLETE, before: Some(before), others }
    }

    /// Where in the order of commands a function stands. A number that is nowhere near is not believed: then it stands
    /// behind all that came.
    fn place_of(&self, link: &Link, number: CmdSn) -> CmdSn {
        let expected = link.window.expected();
        let is_near = match number.since(expected) {
            Some(ahead) => ahead == 0 || link.window.contains(number.plus(u32::MAX)),
            None => expected.since(number).is_some_and(|behind| behind <= self.limits.command_window),
        };
        if is_near { number } else { expected }
    }

    /// Whether a command that has come in its turn was ended before.
    pub(super) fn is_covered(&self, pdu: &ScsiCommand) -> bool {
        let covers = |it: &Function| it.before.is_some_and(|before| pdu.cmd_sn.since(before).is_none());
        self.pending_functions.iter().any(covers) && is_lun_zero(pdu.lun)
    }

    pub(super) fn abort_all(&mut self, link: &mut Link) {
        for slot in self.tasks.slots() {
            self.abort(link, slot);
        }
    }

    /// Ends the tasks of the disk that were numbered before `before`, or all; says how many.
    pub(super) fn abort_tasks(&mut self, link: &mut Link, before: Option<CmdSn>) -> usize {
        let mut ended = 0;
        for slot in self.tasks.slots() {
            let Some(open) = self.tasks.get_mut(slot) else { continue };
            let is_before = before.is_none_or(|it| open.immediate || open.cmd_sn.since(it).is_none());
            if is_before && is_lun_zero(open.lun) && !open.aborted {
                self.abort(link, slot);
                ended += 1;
            }
        }
        ended
    }

    /// Ends a command without an answer. Its place is free once the disk is done with it.
    fn abort(&mut self, link: &mut Link, slot: Slot) {
        self.ready.retain(|it| *it != slot);
        self.waiting_for_r2t.retain(|it| *it != slot);
        let Some(open) = self.tasks.get_mut(slot) else { return };
        match open.flight {
            Some(flight) if flight.handed_out => {
                open.aborted = true;
                open.task = None;
                open.incoming = None;
                self.tasks.forget_itt(slot);
            }
            flight => {
                self.io.retain(|(id, _)| flight.is_none_or(|flight| flight.id != *id));
                self.release(link, slot);
            }
        }
    }

    /// Answers the functions that waited, as far as nothing of what they ended is left.
    pub(super) fn answer_functions(&mut self, link: &mut Link) {
        if self.tasks.any_aborted() {
            return;
        }
        let expected = link.window.expected();
        let is_done = |function: &Function| {
            function.before.is_none_or(|before| expected.since(before).is_some()) && function.others.is_over()
        };
        while self.pending_functions.front().is_some_and(is_done)
            && let Some(Function { itt, response, .. }) = self.pending_functions.pop_front()
        {
            let numbers = link.status_numbers();
            link.send(TaskManagementResponse { itt, response }.encode(&numbers), Segments::new());
        }
    }
}
