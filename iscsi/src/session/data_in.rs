//! Data to the initiator, a PDU at a time, as the socket takes it (RFC 7143 11.7).

use block::Segments;
use bytes::{Buf, Bytes};

use super::Session;
use super::tasks::{Ending, Outgoing, Slot};
use crate::link::Link;
use crate::pdu::{DataIn, Residual, ScsiResponse};

impl Session {
    /// Makes PDUs of what is ready until `max_bytes` wait to be sent.
    pub(crate) fn produce(&mut self, link: &mut Link, max_bytes: usize) {
        while link.output.remaining() < max_bytes
            && let Some(slot) = self.ready.pop_front()
        {
            self.send_sequence(link, slot, max_bytes);
        }
        if !self.deferred.is_empty() {
            self.start_deferred(link);
        }
        // What was sent has made room, and nobody may have anything to say before they come.
        if !self.waiting_for_r2t.is_empty() {
            self.send_r2ts(link);
        }
    }

    /// Sends Data-In up to the end of a sequence; a command that has more is behind the others then.
    fn send_sequence(&mut self, link: &mut Link, slot: Slot, max_bytes: usize) {
        let max_burst = self.params.max_burst_length;
        let max_segment = self.params.max_send_data_segment_length;
        while let Some(open) = self.tasks.get_mut(slot)
            && let Some(Outgoing { data, offset, ending }) = &mut open.outgoing
        {
            let burst_left = max_burst - *offset % max_burst;
            let length = max_segment.min(burst_left);
            let segment = if data.len() > length as usize {
                data.split_to(length as usize)
            } else {
                std::mem::take(data)
            };
            self.ready_bytes -= segment.len();
            let is_last = data.is_empty();
            let is_final = is_last || length == burst_left;
            let has_status = is_last && ending.fits_data_in();
            let data_in =
                DataIn { is_final, has_status, itt: open.itt, data_sn: open.data_pdus, offset: *offset };
            open.data_pdus = open.data_pdus.wrapping_add(1);
            *offset = offset.wrapping_add(segment.len() as u32);
            if !is_last {
                let numbers = link.numbers();
                link.send(data_in.encode(&numbers), segment);
                if is_final {
                    self.ready.push_back(slot);
                    return;
                }
                if link.output.remaining() >= max_bytes {
                    // Within a sequence it stays first.
                    self.ready.push_front(slot);
                    return;
                }
                continue;
            }
            let ending = open.outgoing.take().map(|outgoing| outgoing.ending);
            if has_status {
                self.release(link, slot);
                let numbers = link.status_numbers();
                link.send(data_in.encode(&numbers), segment);
            } else {
                let numbers = link.numbers();
                link.send(data_in.encode(&numbers), segment);
                if let Some(ending) = ending {
                    self.respond(link, slot, ending);
                }
            }
            return;
        }
    }

    /// Ends a command with a SCSI Response.
    pub(super) fn respond(&mut self, link: &mut Link, slot: Slot, ending: Ending) {
        let Some(open) = self.release(link, slot) else { return };
        let response = ScsiResponse {
            itt: open.itt,
            status: ending.status,
            residual: ending.residual,
            exp_data_sn: open.data_pdus,
        };
        let numbers = link.status_numbers();
        link.send(response.encode(&numbers), Segments::from(Bytes::from(ending.sense)));
    }
}

impl Ending {
    /// Whether it can be told in the last Data-In. The RFC would allow a residual there; iPXE takes a status only
    /// behind all the data that it expects.
    fn fits_data_in(&self) -> bool {
        self.status == 0 && self.residual == Residual::None && self.sense.is_empty()
    }
}
