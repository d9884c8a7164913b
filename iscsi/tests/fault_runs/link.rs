//! One connection of the client: its PDUs, and the target's side.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use iscsi::{Connection, Directory, Io, IoId, IoOutcome, Limits, Target};

use crate::model::{SECTOR, Stamp};
use crate::wire::{Digests, NO_TAG, Pdu};

const NOW: Duration = Duration::from_secs(1000);

/// Data-Out segments, short so that connections are lost between them.
const SEGMENT: usize = 2048;

pub(crate) struct Only(pub(crate) Arc<Target>);

impl Directory for Only {
    fn target(&self, _: &str) -> Option<Arc<Target>> {
        Some(Arc::clone(&self.0))
    }

    fn targets_for(&self, _: &str) -> Vec<Arc<Target>> {
        vec![Arc::clone(&self.0)]
    }
}

/// What a command does.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    Read(Range<u64>),
    /// Writes the stamp, or discards where it is zero.
    Change(Range<u64>, Stamp),
    Flush,
}

impl Work {
    pub(crate) fn sectors(&self) -> Range<u64> {
        match self {
            Self::Read(sectors) | Self::Change(sectors, _) => sectors.clone(),
            Self::Flush => 0..0,
        }
    }
}

/// A command that has ended, with its status and what it read.
pub(crate) struct Ended {
    pub(crate) work: Work,
    pub(crate) is_good: bool,
    pub(crate) data: Vec<u8>,
}

struct Open {
    work: Work,
    body: Bytes,
    data: Vec<u8>,
}

pub(crate) struct Link {
    connection: Connection,
    /// Requests that the disk has.
    pub(crate) io: Vec<(IoId, Io)>,
    open: BTreeMap<u32, Open>,
    pub(crate) ended: Vec<Ended>,
    /// PDUs that the client has yet to send.
    outbox: VecDeque<Pdu>,
    cmd_sn: u32,
    next_itt: u32,
    woken: Arc<AtomicBool>,
    to_target: BytesMut,
    to_client: BytesMut,
}

impl Link {
    /// Connects, and asks for a session: always as the same initiator port.
    pub(crate) fn new(target: &Arc<Target>) -> Self {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let wake = Arc::new(move || flag.store(true, Ordering::Relaxed));
        let limits = Limits { max_recv_data_segment_length: SEGMENT as u32, ..Limits::default() };
        let (directory, portal) = (Arc::new(Only(Arc::clone(target))), ([10, 0, 0, 1], 3260).into());
        let mut link = Self {
            connection: Connection::new(directory, portal, limits, [7; 32], wake, NOW),
            io: Vec::new(),
            open: BTreeMap::new(),
            ended: Vec::new(),
            outbox: VecDeque::new(),
            cmd_sn: 1,
            next_itt: 1,
            woken,
            to_target: BytesMut::new(),
            to_client: BytesMut::new(),
        };
        let text = format!("InitiatorName=iqn.2026-01.lab:c1\0TargetName={}\0", target.name());
        link.send(&Pdu::new(0x43, 0x87, 1).with(24, 1).with_data(text));
        link
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.connection.is_logged_in()
    }

    /// Whether the target has let go of everything.
    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(crate) fn lose(&mut self) -> Vec<Work> {
        self.connection.handle_disconnect();
        self.outbox.clear();
        std::mem::take(&mut self.open).into_values().map(|open| open.work).collect()
    }

    pub(crate) fn works(&self) -> impl Iterator<Item = &Work> {
        self.open.values().map(|open| &open.work)
    }

    /// Sends a command; a write's data follows when it is asked for.
    pub(crate) fn command(&mut self, work: Work, body: Bytes) {
        let sectors = work.sectors();
        let (lba, count) = (sectors.start as u32, (sectors.end - sectors.start) as u16);
        let cdb10 =
            |opcode: u8| [&[opcode, 0][..], &lba.to_be_bytes(), &[0], &count.to_be_bytes(), &[0]].concat();
        let len = u32::from(count) * SECTOR as u32;
        let (cdb, flags, expected) = match &work {
            Work::Read(_) => (cdb10(0x28), 0xc1, len),
            Work::Change(_, 0) => (vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 0xa1, 24),
            Work::Change(..) => (cdb10(0x2a), 0xa1, len),
            Work::Flush => (cdb10(0x35), 0x81, 0),
        };
        self.next_itt += 1;
        let pdu = Pdu::new(0x01, flags, self.next_itt).with(20, expected).with(24, self.cmd_sn);
        self.cmd_sn += 1;
        self.open.insert(self.next_itt, Open { work, body, data: Vec::new() });
        self.outbox.push_back(pdu.with_bytes(32, &cdb));
    }

    /// Sends what is to be sent, at most so many PDUs, and lets the target go on.
    pub(crate) fn advance(&mut self, most: u64) {
        for _ in 0..most {
            let Some(pdu) = self.outbox.pop_front() else { break };
            self.send(&pdu);
        }
        if self.woken.swap(false, Ordering::Relaxed) {
            self.connection.handle_wake(NOW);
        }
        self.io.extend(std::iter::from_fn(|| self.connection.poll_io()));
        while self.connection.poll_event().is_some() {}
        loop {
            let output = self.connection.poll_transmit(64 << 10);
            let len = output.remaining();
            if len == 0 {
                break;
            }
            self.to_client.extend_from_slice(&output.copy_to_bytes(len));
        }
        while let Some(pdu) = Pdu::decode(&mut self.to_client, Digests::default()) {
            self.receive(&pdu);
        }
    }

    pub(crate) fn end_io(&mut self, id: IoId, outcome: IoOutcome) {
        self.connection.handle_io(id, outcome);
    }

    fn send(&mut self, pdu: &Pdu) {
        pdu.encode(Digests::default(), &mut self.to_target);
        self.connection.handle_input(&mut self.to_target, NOW);
    }

    fn receive(&mut self, pdu: &Pdu) {
        let itt = pdu.itt();
        match pdu.opcode() {
            0x23 => assert_eq!(pdu.bhs[36], 0, "a login that was refused"),
            0x25 => {
                let open = self.open.get_mut(&itt).expect("data of an open command");
                open.data.extend_from_slice(&pdu.data);
                if pdu.has_status() {
                    self.end(itt, true);
                }
            }
            0x21 => self.end(itt, pdu.bhs[3] == 0),
            0x31 => self.give(itt, pdu.word(20), pdu.word(40) as usize, pdu.word(44) as usize),
            opcode => panic!("opcode {opcode:#x}"),
        }
    }

    fn give(&mut self, itt: u32, ttt: u32, offset: usize, len: usize) {
        assert_ne!(ttt, NO_TAG);
        let body = self.open.get(&itt).expect("an open command").body.slice(offset..offset + len);
        for (sn, at) in (0..).zip((0..len).step_by(SEGMENT)) {
            let data = body.slice(at..len.min(at + SEGMENT));
            let flags = if at + data.len() == len { 0x80 } else { 0 };
            let pdu = Pdu::new(0x05, flags, itt).with(20, ttt).with(36, sn);
            self.outbox.push_back(pdu.with(40, (offset + at) as u32).with_data(data));
        }
    }

    fn end(&mut self, itt: u32, is_good: bool) {
        let Open { work, data, .. } = self.open.remove(&itt).expect("an open command");
        self.ended.push(Ended { work, is_good, data });
    }
}
