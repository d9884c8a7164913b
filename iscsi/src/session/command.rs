//! SCSI commands: from the PDU to a task, from a task's wishes to the disk and back, to how it ended.

use block::Segments;
use bytes::Bytes;

use super::Session;
use super::data_out::{Incoming, UNEXPECTED_UNSOLICITED_DATA};
use super::tasks::{Ending, Flight, Open, Outgoing, Slot};
use crate::event::Event;
use crate::io::{Io, IoId, IoOutcome};
use crate::limits::IMMEDIATE_COMMANDS;
use crate::link::Link;
use crate::pdu::{Attribute, RejectReason, Residual, ScsiCommand};
use crate::scsi::{Action, Command, Completion, Condition, Direction, Sense, Status, Task};

impl Session {
    /// Begins a command. `Err`: it is rejected, for that reason.
    pub(super) fn handle_command(
        &mut self,
        link: &mut Link,
        pdu: &ScsiCommand,
        data: Bytes,
    ) -> Result<(), RejectReason> {
        if !pdu.immediate && self.is_covered(pdu) {
            return Ok(());
        }
        if self.tasks.find(pdu.itt).is_some() {
            return Err(RejectReason::TaskInProgress);
        }
        if pdu.extended_cdb {
            return Err(RejectReason::InvalidPduField);
        }
        if pdu.immediate {
            if self.immediate_open >= IMMEDIATE_COMMANDS {
                return Err(RejectReason::ImmediateCommandReject);
            }
            self.immediate_open += 1;
        } else {
            link.window.open();
        }
        let direction = match (pdu.read, pdu.write) {
            (false, false) => Direction::None,
            (true, false) => Direction::Read,
            (false, true) => Direction::Write,
            (true, true) => Direction::Both,
        };
        let read_len = match direction {
            Direction::Read => pdu.expected_len,
            Direction::Both => pdu.bidirectional_read_len.unwrap_or(0),
            Direction::Write | Direction::None => 0,
        };
        let is_allowed = self.is_allowed(pdu, data.len());
        let incoming = (is_allowed && pdu.write && !(data.is_empty() && pdu.is_final)).then(|| {
            let is_whole = data.len() as u64 >= u64::from(pdu.expected_len);
            let unsolicited_end =
                (!pdu.is_final).then(|| self.params.first_burst_length.min(pdu.expected_len));
            Box::new(Incoming::new(data, is_whole, unsolicited_end))
        });
        let unasked = incoming.as_ref().map_or(0, |incoming| incoming.received());
        let slot = self.tasks.insert(Open {
            itt: pdu.itt,
            lun: pdu.lun,
            cmd_sn: pdu.cmd_sn,
            immediate: pdu.immediate,
            attribute: pdu.attribute,
            cdb: pdu.cdb,
            direction,
            expected_len: pdu.expected_len,
            read_len,
            task: None,
            incoming,
            outgoing: None,
            flight: None,
            data_pdus: 0,
            held: 0,
            unasked: 0,
            aborted: false,
            has_started: false,
        });
        self.count_unasked(slot, unasked);
        if !is_allowed {
            self.fail(link, slot, UNEXPECTED_UNSOLICITED_DATA);
        } else if self.may_start(pdu.attribute) {
            self.start(link, slot);
        } else {
            self.deferred.push_back(slot);
        }
        Ok(())
    }

    /// Whether a command that has just come need not wait for others.
    fn may_start(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::HeadOfQueue => true,
            Attribute::Simple => self.deferred.is_empty() && self.ordered_open == 0,
            Attribute::Ordered => self.tasks.len() == 1,
        }
    }

    /// Starts the commands that waited for others, as far as those have ended.
    pub(super) fn start_deferred(&mut self, link: &mut Link) {
        while let Some(&slot) = self.deferred.front() {
            let is_ordered = self.tasks.get_mut(slot).is_some_and(|it| it.attribute == Attribute::Ordered);
            let may_start =
                self.ordered_open == 0 && (!is_ordered || self.tasks.len() == self.deferred.len());
            if !may_start {
                return;
            }
            self.deferred.pop_front();
            self.start(link, slot);
        }
    }

    fn start(&mut self, link: &mut Link, slot: Slot) {
        let (Some(disk), Some(open)) = (&self.disk, self.tasks.get_mut(slot)) else { return };
        if open.attribute == Attribute::Ordered {
            self.ordered_open += 1;
        }
        let command = Command {
            lun: open.lun,
            cdb: &open.cdb,
            nexus: disk.nexus(),
            expected_len: open.expected_len,
            direction: open.direction,
        };
        let (task, action) = Task::start(disk.lun(), &command);
        open.task = Some(task);
        open.has_started = true;
        self.apply(link, slot, action);
    }

    /// Whether the data that comes unasked, here or behind, is within what was agreed.
    fn is_allowed(&self, pdu: &ScsiCommand, data_len: usize) -> bool {
        let most = self.params.first_burst_length.min(pdu.expected_len) as usize;
        let immediate = data_len == 0 || (pdu.write && self.params.immediate_data && data_len <= most);
        let unsolicited = pdu.is_final || (pdu.write && !self.params.initial_r2t);
        immediate && unsolicited
    }

    /// Does what a task wants next, until it has to wait or has ended.
    pub(super) fn apply(&mut self, link: &mut Link, slot: Slot, action: Action) {
        let mut next = Some(action);
        while let Some(action) = next {
            next = match action {
                Action::GetData { length } => self.want_data(link, slot, length),
                Action::Io(io) => {
                    self.queue_io(link, slot, io);
                    None
                }
                Action::Finish(completion) => {
                    self.finish(link, slot, completion);
                    None
                }
            };
        }
    }

    fn queue_io(&mut self, link: &mut Link, slot: Slot, io: Io) {
        if io.is_write() && !self.has_written {
            self.has_written = true;
            link.events.push_back(Event::FirstWrite);
        }
        let id = self.tasks.name_io(slot);
        if let Some(open) = self.tasks.get_mut(slot) {
            open.flight = Some(Flight { id, handed_out: false });
            self.io.push_back((id, io));
        }
    }

    /// The next request to the disk, unless too much is in flight.
    pub(crate) fn poll_io(&mut self) -> Option<(IoId, Io)> {
        let (id, io) = self.next_io().and_then(|at| self.io.remove(at))?;
        let slot = self.tasks.slot_of(id)?;
        let open = self.tasks.get_mut(slot)?;
        open.flight = Some(Flight { id, handed_out: true });
        if matches!(io, Io::Read { .. }) {
            let held = open.held.max(io.byte_len());
            self.hold(slot, held);
        }
        self.handed_out += 1;
        Some((id, io))
    }

    /// The place of the next request that may be given out. Reads wait for room in their turn. What is no read, or is
    /// of a command that has room, does not wait behind them: it may be what will make room.
    fn next_io(&self) -> Option<usize> {
        let mut is_full = false;
        self.io.iter().position(|(id, io)| {
            if !matches!(io, Io::Read { .. }) || !is_full && self.may_fly(io.byte_len()) {
                return true;
            }
            is_full = true;
            self.tasks.has_room(*id)
        })
    }

    pub(crate) fn handle_io(&mut self, link: &mut Link, id: IoId, outcome: IoOutcome) {
        let Some(slot) = self.tasks.slot_of(id) else { return };
        let Some(open) = self.tasks.get_mut(slot) else { return };
        open.flight = None;
        self.handed_out = self.handed_out.saturating_sub(1);
        if open.aborted {
            self.release(link, slot);
            return;
        }
        let (Some(task), Some(disk)) = (&mut open.task, &self.disk) else { return };
        let action = task.handle_io(disk.lun(), outcome);
        self.apply(link, slot, action);
    }

    fn finish(&mut self, link: &mut Link, slot: Slot, completion: Completion) {
        let Completion { status, sense, mut data_in, data_length } = completion;
        let Some(open) = self.tasks.get_mut(slot) else { return };
        let expected = match open.direction {
            Direction::Read => open.read_len,
            Direction::Write | Direction::Both => open.expected_len,
            Direction::None => 0,
        };
        let ending = Ending {
            status: status.code(),
            residual: Residual::of(expected, data_length),
            sense: sense.map(|sense| with_length(&sense)).unwrap_or_default(),
        };
        open.task = None;
        open.incoming = None;
        data_in.truncate(open.read_len as usize);
        if data_in.is_empty() {
            self.respond(link, slot, ending);
            return;
        }
        let bytes = data_in.len();
        open.outgoing = Some(Outgoing { data: data_in, offset: 0, ending });
        self.hold(slot, bytes as u64);
        self.ready_bytes += bytes;
        self.ready.push_back(slot);
    }

    /// Ends a command that the transport itself finds fault with.
    pub(super) fn fail(&mut self, link: &mut Link, slot: Slot, condition: Condition) {
        let Some(open) = self.tasks.get_mut(slot) else { return };
        if open.flight.is_some() || open.outgoing.is_some() {
            // It is past the point where data from the initiator matters.
            return;
        }
        let completion = Completion {
            status: Status::CheckCondition,
            sense: Some(Sense::from(condition)),
            data_in: Segments::new(),
            data_length: 0,
        };
        self.finish(link, slot, completion);
    }

    /// Whether that many more bytes may be read or asked for. If none are, they may: what came unasked must not keep
    /// its own commands from going on.
    pub(super) fn may_fly(&self, bytes: u64) -> bool {
        self.held == 0 || self.held + self.unasked + bytes <= self.limits.bytes_in_flight
    }

    /// That many bytes of a command came unasked.
    pub(super) fn count_unasked(&mut self, slot: Slot, bytes: u32) {
        if let Some(open) = self.tasks.get_mut(slot) {
            open.unasked += u64::from(bytes);
            self.unasked += u64::from(bytes);
        }
    }

    /// A command keeps that many bytes from now on.
    pub(super) fn hold(&mut self, slot: Slot, bytes: u64) {
        if let Some(open) = self.tasks.get_mut(slot) {
            self.held = self.held.saturating_sub(open.held) + bytes;
            open.held = bytes;
        }
    }

    /// Forgets a command; its place in the window is free.
    pub(super) fn release(&mut self, link: &mut Link, slot: Slot) -> Option<Open> {
        let open = self.tasks.remove(slot)?;
        if !open.has_started {
            self.deferred.retain(|it| *it != slot);
        } else if open.attribute == Attribute::Ordered {
            self.ordered_open -= 1;
        }
        self.held = self.held.saturating_sub(open.held);
        self.unasked = self.unasked.saturating_sub(open.unasked);
        self.ready_bytes -= open.outgoing.as_ref().map_or(0, |outgoing| outgoing.data.len());
        if open.immediate {
            self.immediate_open = self.immediate_open.saturating_sub(1);
        } else {
            link.window.close();
        }
        Some(open)
    }
}

/// Sense data as it stands in a SCSI Response: behind its length (RFC 7143 11.4.7). iPXE relies on that too.
fn with_length(sense: &Sense) -> Vec<u8> {
    let bytes = sense.to_bytes();
    let length = (bytes.len() as u16).to_be_bytes();
    [&length, bytes.as_slice()].concat()
}
