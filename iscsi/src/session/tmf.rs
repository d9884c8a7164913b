//! Task management (RFC 7143 11.5, 11.6). A function is answered when no task that it ended can do anything more
//! to the disk.

use super::Session;
use super::tasks::Slot;
use crate::link::Link;
use crate::pdu::{RejectReason, TaskManagement, TaskManagementResponse};
use crate::target::order;
use block::Segments;

/// How many functions may wait for the disk at a time. Further ones are rejected.
const MAX_PENDING: usize = 16;

const FUNCTION_COMPLETE: u8 = 0;
const TASK_DOES_NOT_EXIST: u8 = 1;
const LUN_DOES_NOT_EXIST: u8 = 2;
const REASSIGNMENT_NOT_SUPPORTED: u8 = 4;
const FUNCTION_NOT_SUPPORTED: u8 = 5;
const FUNCTION_REJECTED: u8 = 255;

impl Session {
    pub(super) fn handle_task_management(
        &mut self,
        link: &mut Link,
        pdu: &TaskManagement,
    ) -> Result<(), RejectReason> {
        if self.pending_functions.len() >= MAX_PENDING {
            return Err(RejectReason::ImmediateCommandReject);
        }
        let response = match pdu.function {
            1 => self.abort_task(link, pdu),
            2 => self.abort_task_set(link, pdu),
            4 => self.clear_task_set(link, pdu),
            5 => self.reset_logical_unit(link, pdu),
            6 => self.reset_target(link, order::ABORT_TASKS),
            7 => {
                self.close_when_sent = true;
                self.reset_target(link, order::COLD_RESET)
            }
            // There is no ACA to clear: the NACA bit is not supported.
            3 => FUNCTION_NOT_SUPPORTED,
            8 => REASSIGNMENT_NOT_SUPPORTED,
            _ => FUNCTION_REJECTED,
        };
        self.pending_functions.push_back(TaskManagementResponse { itt: pdu.itt, response });
        self.on_abort_done(link);
        Ok(())
    }

    fn abort_task(&mut self, link: &mut Link, pdu: &TaskManagement) -> u8 {
        if let Some(slot) = self.tasks.find(pdu.referenced_itt) {
            self.abort(link, slot);
            return FUNCTION_COMPLETE;
        }
        // A command that the initiator has numbered but not sent: it is taken for received, and for aborted.
        if link.window.contains(pdu.ref_cmd_sn) && pdu.cmd_sn.since(pdu.ref_cmd_sn).is_some_and(|n| n > 0) {
            link.window.forsake(pdu.ref_cmd_sn);
            return FUNCTION_COMPLETE;
        }
        TASK_DOES_NOT_EXIST
    }

    fn abort_task_set(&mut self, link: &mut Link, pdu: &TaskManagement) -> u8 {
        if pdu.lun != 0 {
            return LUN_DOES_NOT_EXIST;
        }
        self.abort_all(link);
        FUNCTION_COMPLETE
    }

    fn clear_task_set(&mut self, link: &mut Link, pdu: &TaskManagement) -> u8 {
        if pdu.lun != 0 {
            return LUN_DOES_NOT_EXIST;
        }
        self.abort_all(link);
        if let Some(disk) = &self.disk {
            disk.order_others(order::ABORT_TASKS);
        }
        FUNCTION_COMPLETE
    }

    fn reset_logical_unit(&mut self, link: &mut Link, pdu: &TaskManagement) -> u8 {
        if pdu.lun != 0 {
            return LUN_DOES_NOT_EXIST;
        }
        self.reset_target(link, order::ABORT_TASKS)
    }

    /// The target has one logical unit, so resetting one is resetting the other.
    fn reset_target(&mut self, link: &mut Link, orders: u8) -> u8 {
        self.abort_all(link);
        if let Some(disk) = &self.disk {
            disk.lun().reset();
            disk.order_others(orders);
        }
        FUNCTION_COMPLETE
    }

    pub(super) fn abort_all(&mut self, link: &mut Link) {
        for slot in self.tasks.slots() {
            self.abort(link, slot);
        }
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

    /// Answers the functions that waited, if the disk is done with all that was aborted.
    pub(super) fn on_abort_done(&mut self, link: &mut Link) {
        if self.tasks.any_aborted() {
            return;
        }
        while let Some(response) = self.pending_functions.pop_front() {
            let numbers = link.status_numbers();
            link.send(response.encode(&numbers), Segments::new());
        }
    }
}
