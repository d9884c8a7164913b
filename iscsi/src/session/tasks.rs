//! The open commands of a session: a table with room for as many as the window lets in.

use block::Segments;

use super::data_out::Incoming;
use crate::io::IoId;
use crate::pdu::{Attribute, Residual};
use crate::scsi::{Direction, Task};
use crate::serial::CmdSn;

/// A place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u16);

/// A request to the disk that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) id: IoId,
    /// Whether the shell has it already. Then it can't be called back.
    pub(super) handed_out: bool,
}

/// Data on its way to the initiator, and how the command ends behind it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) data: Segments,
    pub(super) offset: u32,
    pub(super) ending: Ending,
}

/// How a command ends: what its last PDU says.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) status: u8,
    pub(super) residual: Residual,
    /// With its length in front, as in the data segment of a SCSI Response.
    pub(super) sense: Vec<u8>,
}

/// An open command.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) itt: u32,
    pub(super) lun: u64,
    pub(super) cmd_sn: CmdSn,
    pub(super) immediate: bool,
    pub(super) attribute: Attribute,
    pub(super) cdb: [u8; 16],
    pub(super) direction: Direction,
    pub(super) expected_len: u32,
    pub(super) read_len: u32,
    pub(super) task: Option<Task>,
    pub(super) incoming: Option<Box<Incoming>>,
    pub(super) outgoing: Option<Outgoing>,
    pub(super) flight: Option<Flight>,
    /// Data-In and R2T PDUs sent so far: their common DataSN and R2TSN.
    pub(super) data_pdus: u32,
    /// Bytes that count against the connection's limit.
    pub(super) held: u64,
    /// Bytes that came unasked.
    pub(super) unasked: u64,
    /// Whether it was its turn.
    pub(super) has_started: bool,
    /// Nobody waits for it any more; the place is kept until the disk is done with it.
    pub(super) aborted: bool,
}

/// All open commands.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    places: Vec<Option<Open>>,
    /// Task tags by place, apart from the commands so that a look-up stays within a few cache lines.
    itts: Vec<Option<u32>>,
    free: Vec<Slot>,
    next_io: u64,
}

impl Tasks {
    pub(super) fn find(&self, itt: u32) -> Option<Slot> {
        self.itts.iter().position(|it| *it == Some(itt)).map(|at| Slot(at as u16))
    }

    pub(super) fn insert(&mut self, open: Open) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.itts.push(None);
            Slot((self.places.len() - 1) as u16)
        });
        self.set_itt(slot, Some(open.itt));
        if let Some(place) = self.places.get_mut(usize::from(slot.0)) {
            *place = Some(open);
        }
        slot
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Open> {
        self.places.get_mut(usize::from(slot.0))?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Open> {
        let open = self.places.get_mut(usize::from(slot.0))?.take()?;
        self.set_itt(slot, None);
        self.free.push(slot);
        Some(open)
    }

    /// Forgets the tag of a command that keeps its place: the initiator may use it again.
    pub(super) fn forget_itt(&mut self, slot: Slot) {
        self.set_itt(slot, None);
    }

    fn set_itt(&mut self, slot: Slot, itt: Option<u32>) {
        if let Some(known) = self.itts.get_mut(usize::from(slot.0)) {
            *known = itt;
        }
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether the disk is still busy with a command that was aborted.
    pub(super) fn any_aborted(&self) -> bool {
        self.places.iter().flatten().any(|open| open.aborted)
    }

    /// The places that are taken.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let taken = self.places.iter().zip(0..).filter(|(place, _)| place.is_some());
        taken.map(|(_, at)| Slot(at)).collect()
    }

    /// A name for the next request of the command in that place, from which the place is found again.
    pub(super) fn name_io(&mut self, slot: Slot) -> IoId {
        self.next_io += 1;
        IoId::new(self.next_io << 16 | u64::from(slot.0))
    }

    /// Whether the command whose request that is counts against the connection's limit already.
    pub(super) fn has_room(&self, id: IoId) -> bool {
        let open = self.places.get(usize::from(id.get() as u16)).and_then(Option::as_ref);
        open.is_some_and(|open| open.held > 0)
    }

    /// The place of the command whose request that is.
    pub(super) fn slot_of(&mut self, id: IoId) -> Option<Slot> {
        let slot = Slot(id.get() as u16);
        let flight = self.get_mut(slot)?.flight?;
        (flight.id == id).then_some(slot)
    }
}
