//! Data from the initiator: what comes with a command, what comes behind it unasked, and what R2Ts ask for
//! (RFC 7143 11.7, 11.8).

use std::collections::VecDeque;

use block::Segments;
use bytes::{Bytes, BytesMut};

use super::Session;
use super::tasks::Slot;
use crate::link::Link;
use crate::pdu::{DataOut, NO_TAG, R2t};
use crate::scsi::{Action, Condition, SenseKey};

/// Pieces shorter than this are copied together: iPXE sends 512 bytes at a time, and a small piece must not keep
/// the whole buffer alive that it was received in.
const COPY_BELOW: usize = 16 << 10;

/// RFC 7143 11.4.7.2.
pub(super) const UNEXPECTED_UNSOLICITED_DATA: Condition =
    Condition { key: SenseKey::AbortedCommand, asc: 0x0c, ascq: 0x0c };
/// RFC 7143 11.4.7.2.
const INCORRECT_AMOUNT_OF_DATA: Condition =
    Condition { key: SenseKey::AbortedCommand, asc: 0x0c, ascq: 0x0d };
/// RFC 7143 11.4.7.2.
const PROTOCOL_SERVICE_CRC_ERROR: Condition =
    Condition { key: SenseKey::AbortedCommand, asc: 0x47, ascq: 0x05 };

/// A sequence that an R2T asked for.
#[derive(Debug)]
struct Burst {
    ttt: u32,
    end: u32,
    next_data_sn: u32,
}

/// Data that comes behind its command unasked.
#[derive(Debug)]
struct Unsolicited {
    end: u32,
    next_data_sn: u32,
}

/// The data of one command, as far as it has come. It comes in order: DataPDUInOrder and DataSequenceInOrder are
/// always agreed on.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// What the command takes; `None` until it has asked.
    wanted: Option<u32>,
    received: u32,
    /// Up to where R2Ts have asked.
    requested: u32,
    unsolicited: Option<Unsolicited>,
    bursts: VecDeque<Burst>,
    pieces: Vec<Bytes>,
    tail: BytesMut,
    handed_over: bool,
}

impl Incoming {
    /// With the data that came in the command's own PDU. More may come unasked up to `unsolicited_end`; `is_whole`
    /// says that no more will come in any way.
    pub(super) fn new(immediate: Bytes, is_whole: bool, unsolicited_end: Option<u32>) -> Self {
        let unsolicited = unsolicited_end.map(|end| Unsolicited { end, next_data_sn: 0 });
        let mut incoming = Self { received: immediate.len() as u32, unsolicited, ..Self::default() };
        if is_whole {
            incoming.pieces.push(immediate);
        } else {
            incoming.append(immediate);
        }
        incoming
    }

    /// How many bytes have come.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    fn append(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.tail.extend_from_slice(&data);
            return;
        }
        self.end_tail();
        self.pieces.push(data);
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }

    /// Takes a PDU. An error is one in the numbers, offset or amount.
    fn take(&mut self, pdu: &DataOut, data: Bytes) -> Result<(), Condition> {
        let (end, next_data_sn) = if pdu.ttt == NO_TAG {
            let unsolicited = self.unsolicited.as_mut().ok_or(UNEXPECTED_UNSOLICITED_DATA)?;
            (unsolicited.end, &mut unsolicited.next_data_sn)
        } else {
            let burst = self.bursts.front_mut().filter(|burst| burst.ttt == pdu.ttt);
            let burst = burst.ok_or(INCORRECT_AMOUNT_OF_DATA)?;
            (burst.end, &mut burst.next_data_sn)
        };
        let after = self.received.checked_add(data.len() as u32).filter(|after| *after <= end);
        let Some(after) = after.filter(|_| pdu.data_sn == *next_data_sn && pdu.offset == self.received)
        else {
            return Err(INCORRECT_AMOUNT_OF_DATA);
        };
        *next_data_sn = next_data_sn.wrapping_add(1);
        self.received = after;
        if pdu.ttt == NO_TAG {
            if pdu.is_final {
                self.unsolicited = None;
            }
        } else if pdu.is_final != (after == end) {
            return Err(INCORRECT_AMOUNT_OF_DATA);
        } else if pdu.is_final {
            self.bursts.pop_front();
        }
        if !self.handed_over {
            self.append(data);
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        !self.handed_over && self.wanted.is_some_and(|wanted| self.received >= wanted)
    }

    /// The data, when it is all there. What comes unasked beyond it is still received, and dropped.
    fn hand_over(&mut self) -> Vec<Bytes> {
        self.end_tail();
        self.handed_over = true;
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut left = self.wanted.unwrap_or(0) as usize;
        for piece in &mut pieces {
            piece.truncate(left);
            left -= piece.len();
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

impl Session {
    /// The command asks for `length` bytes. Gives them if they are there.
    pub(super) fn want_data(&mut self, link: &mut Link, slot: Slot, length: u32) -> Option<Action> {
        let incoming = self.tasks.get_mut(slot)?.incoming.get_or_insert_default();
        incoming.wanted = Some(length);
        self.go_on_with_data(link, slot)
    }

    pub(super) fn handle_data_out(&mut self, link: &mut Link, pdu: &DataOut, data: Bytes, intact: bool) {
        // Data for a command that has ended meanwhile is no error: it was under way.
        let Some(slot) = self.tasks.find(pdu.itt) else { return };
        let Some(open) = self.tasks.get_mut(slot) else { return };
        let mut unasked = 0;
        let taken = match &mut open.incoming {
            None => Err(UNEXPECTED_UNSOLICITED_DATA),
            Some(_) if !intact => Err(PROTOCOL_SERVICE_CRC_ERROR),
            Some(incoming) => {
                if pdu.ttt == NO_TAG && !incoming.handed_over {
                    unasked = data.len() as u32;
                }
                incoming.take(pdu, data)
            }
        };
        match taken {
            Err(condition) => self.fail(link, slot, condition),
            Ok(()) => {
                self.count_unasked(slot, unasked);
                if let Some(action) = self.go_on_with_data(link, slot) {
                    self.apply(link, slot, action);
                }
            }
        }
    }

    /// Hands over the data if it is all there, else sees that it comes.
    fn go_on_with_data(&mut self, link: &mut Link, slot: Slot) -> Option<Action> {
        let open = self.tasks.get_mut(slot)?;
        if let Some(incoming) = open.incoming.as_mut().filter(|incoming| incoming.is_complete()) {
            let pieces = incoming.hand_over();
            let (task, disk) = (open.task.as_mut()?, self.disk.as_ref()?);
            return Some(task.handle_data(disk.lun(), pieces));
        }
        if self.wants_r2t(slot) && !self.waiting_for_r2t.contains(&slot) {
            // Who has room goes first: it makes room for others when it has all of its data.
            let has_room = self.tasks.get_mut(slot).is_some_and(|open| open.held > 0);
            if has_room {
                self.waiting_for_r2t.push_front(slot);
            } else {
                self.waiting_for_r2t.push_back(slot);
            }
            self.send_r2ts(link);
        }
        None
    }

    fn wants_r2t(&mut self, slot: Slot) -> bool {
        let most = self.params.max_outstanding_r2t as usize;
        let incoming = self.tasks.get_mut(slot).and_then(|open| open.incoming.as_ref());
        incoming.is_some_and(|it| {
            !it.handed_over
                && it.unsolicited.is_none()
                && it.bursts.len() < most
                && it.wanted.is_some_and(|wanted| it.requested.max(it.received) < wanted)
        })
    }

    /// Sends R2Ts as far as the limits allow, each command in its turn.
    pub(super) fn send_r2ts(&mut self, link: &mut Link) {
        while let Some(&slot) = self.waiting_for_r2t.front() {
            if !self.wants_r2t(slot) {
                self.waiting_for_r2t.pop_front();
                continue;
            }
            if !self.send_r2t(link, slot) {
                return;
            }
        }
    }

    /// Sends one R2T; `false` if that must wait.
    fn send_r2t(&mut self, link: &mut Link, slot: Slot) -> bool {
        let Some(open) = self.tasks.get_mut(slot) else { return true };
        let Some(incoming) = &mut open.incoming else { return true };
        let offset = incoming.requested.max(incoming.received);
        let left = incoming.wanted.unwrap_or(0).saturating_sub(offset);
        let length = left.min(self.params.max_burst_length);
        // The first R2T takes room for all: commands that each had room for a part would wait for each other.
        let is_first = incoming.requested == 0;
        let held = open.held + if is_first { u64::from(left) } else { 0 };
        if is_first && !self.may_fly(left.into()) {
            return false;
        }
        self.next_ttt = self.next_ttt.wrapping_add(1) % NO_TAG;
        let Some(open) = self.tasks.get_mut(slot) else { return true };
        let Some(incoming) = &mut open.incoming else { return true };
        incoming.requested = offset + length;
        incoming.bursts.push_back(Burst { ttt: self.next_ttt, end: offset + length, next_data_sn: 0 });
        let r2t =
            R2t { lun: open.lun, itt: open.itt, ttt: self.next_ttt, r2t_sn: open.data_pdus, offset, length };
        open.data_pdus = open.data_pdus.wrapping_add(1);
        self.hold(slot, held);
        let numbers = link.numbers();
        link.send(r2t.encode(&numbers), Segments::new());
        true
    }
}
