//! What an initiator knows of what it has sent, and what may be answered to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::disk;
use super::wire::{NO_TAG, Pdu};

/// What was agreed on at login, as far as the initiator has to keep to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) initial_r2t: bool,
    pub(super) immediate_data: bool,
    /// The longest segment that we take.
    pub(super) max_receive: u32,
    /// The longest segment that the target takes.
    pub(super) max_send: u32,
    pub(super) max_burst: u32,
    pub(super) first_burst: u32,
    pub(super) max_r2ts: usize,
}

/// A SCSI command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) expected: u32,
    pub(super) is_read: bool,
    pub(super) is_write: bool,
    /// What the initiator has to give; zero behind its end.
    pub(super) body: Bytes,
    /// The place of what it reads, for plain reads.
    pub(super) reads_at: Option<u64>,
    /// Its CmdSN, where it has one of its own.
    pub(super) number: Option<u32>,
    /// Whether it was sent beyond the window.
    pub(super) is_lost: bool,
    received: u32,
    /// Data-In of the sequence that goes on.
    sequence: u32,
    /// Data-In and R2T PDUs.
    data_pdus: u32,
    open_r2ts: usize,
    /// Bytes that R2Ts have asked for.
    requested: u32,
}

impl Command {
    pub(super) fn new(
        expected: u32,
        (is_read, is_write): (bool, bool),
        body: Bytes,
        reads_at: Option<u64>,
    ) -> Self {
        Self {
            expected,
            is_read,
            is_write,
            body,
            reads_at,
            number: None,
            is_lost: false,
            received: 0,
            sequence: 0,
            data_pdus: 0,
            open_r2ts: 0,
            requested: 0,
        }
    }

    /// `len` bytes from `offset` on of what it has to give.
    pub(super) fn slice(&self, offset: u32, len: u32) -> Bytes {
        let (from, len) = (offset as usize, len as usize);
        match self.body.len() {
            all if from + len <= all => self.body.slice(from..from + len),
            _ => self.body.iter().copied().skip(from).chain(std::iter::repeat(0)).take(len).collect(),
        }
    }
}

/// Everything under one task tag.
#[derive(Debug, Default)]
struct Sent {
    times: u32,
    answers: u32,
    /// Aborted, and known to be: nothing may come any more.
    is_dead: bool,
    /// `None` if the tag is no command's, or was used twice, so that nobody knows whose data it is.
    command: Option<Command>,
}

/// What an R2T asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) itt: u32,
    pub(super) ttt: u32,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// All tags of a session.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    sent: BTreeMap<u32, Sent>,
    /// What waits for an answer to a task management function: its tag, and the tags that it aborts.
    functions: BTreeMap<u32, Vec<u32>>,
    /// Whether there were PDUs that may have been anything: then tags are not looked after any more.
    pub(super) is_blurred: bool,
}

impl Ledger {
    pub(super) fn note(&mut self, itt: u32, command: Option<Command>) {
        let sent = self.sent.entry(itt).or_default();
        sent.times += 1;
        sent.command = if sent.times == 1 { command } else { None };
    }

    /// A function that aborts one command, or all that were sent so far.
    pub(super) fn note_abort(&mut self, itt: u32, only: Option<u32>) {
        let is_it = |tag: &u32, sent: &Sent| sent.command.is_some() && only.is_none_or(|only| only == *tag);
        let doomed = self.sent.iter().filter(|(tag, sent)| is_it(tag, sent)).map(|(tag, _)| *tag).collect();
        self.functions.insert(itt, doomed);
    }

    /// A request beside the commands that has not been answered: a function, a ping, a text.
    pub(super) fn unanswered_request(&self) -> Option<u32> {
        let is_open = |sent: &Sent| sent.command.is_none() && sent.answers < sent.times;
        let open = self.sent.iter().find(|(_, sent)| is_open(sent)).map(|(itt, _)| *itt);
        open.filter(|_| !self.is_blurred)
    }

    pub(super) fn command(&self, itt: u32) -> Option<&Command> {
        self.sent.get(&itt)?.command.as_ref()
    }

    /// Commands that may still be open.
    pub(super) fn open(&self) -> impl Iterator<Item = (u32, &Command)> {
        let is_open = |sent: &&Sent| sent.answers == 0 && !sent.is_dead;
        let open = self.sent.iter().filter(move |(_, sent)| is_open(sent));
        open.filter_map(|(itt, sent)| Some((*itt, sent.command.as_ref()?)))
    }

    /// A command that the target has yet to answer.
    pub(super) fn unanswered(&self) -> Option<(u32, &Command)> {
        self.open().find(|(_, command)| !command.is_lost).filter(|_| !self.is_blurred)
    }

    /// Bytes that R2Ts of open commands have asked for; none while it is not known which commands are open.
    pub(super) fn requested(&self) -> u64 {
        if self.is_blurred || !self.functions.is_empty() {
            return 0;
        }
        self.open().map(|(_, command)| u64::from(command.requested)).sum()
    }

    /// One R2T has had its data.
    pub(super) fn fulfilled(&mut self, itt: u32) {
        if let Some(command) = self.sent.get_mut(&itt).and_then(|sent| sent.command.as_mut()) {
            command.open_r2ts = command.open_r2ts.saturating_sub(1);
        }
    }

    /// `None` once nobody knows what has which tag.
    fn find(&mut self, pdu: &Pdu) -> Option<&mut Sent> {
        if self.is_blurred {
            return None;
        }
        let sent =
            self.sent.get_mut(&pdu.itt()).unwrap_or_else(|| panic!("an answer to nothing: {pdu:02x?}"));
        assert!(!sent.is_dead, "an answer to an aborted task: {pdu:02x?}");
        Some(sent)
    }

    /// The last word on what has this tag.
    pub(super) fn answered(&mut self, pdu: &Pdu) {
        let Some(sent) = self.find(pdu) else { return };
        sent.answers += 1;
        assert!(sent.answers <= sent.times, "answered once too often: {pdu:02x?}");
        let Some(command) = &sent.command else { return };
        let underflow = if pdu.flags() & 0x02 != 0 { pdu.word(44) } else { 0 };
        if pdu.opcode() == 0x21 && pdu.bhs[3] == 0 && command.is_read && !command.is_write {
            assert_eq!(
                command.received + underflow,
                command.expected,
                "GOOD, but not all was sent: {pdu:02x?}"
            );
        }
        if pdu.opcode() == 0x21 {
            assert_eq!(pdu.word(36), command.data_pdus, "ExpDataSN: {pdu:02x?}");
        }
    }

    /// The header of a request that is not done.
    pub(super) fn rejected(&mut self, bhs: &[u8]) {
        let itt = bhs[16..20].iter().fold(0, |itt, byte| itt << 8 | u32::from(*byte));
        self.functions.remove(&itt);
        if let Some(sent) = self.sent.get_mut(&itt) {
            sent.answers += 1;
        }
    }

    pub(super) fn function_answered(&mut self, pdu: &Pdu) {
        const FUNCTION_COMPLETE: u8 = 0;
        self.answered(pdu);
        let doomed = self.functions.remove(&pdu.itt()).unwrap_or_default();
        if pdu.bhs[2] != FUNCTION_COMPLETE {
            return;
        }
        for itt in doomed {
            if let Some(sent) = self.sent.get_mut(&itt) {
                sent.is_dead = sent.answers == 0;
            }
        }
    }

    pub(super) fn data_in(&mut self, pdu: &Pdu, terms: &Terms) {
        let is_final = pdu.flags() & 0x80 != 0;
        let has_status = pdu.flags() & 0x01 != 0;
        assert!(is_final || !has_status, "a status before the last: {pdu:02x?}");
        let Some(sent) = self.find(pdu) else { return };
        assert!(sent.answers == 0 || sent.times > 1, "data behind the status: {pdu:02x?}");
        if let Some(command) = &mut sent.command {
            let len = pdu.data.len() as u32;
            assert!(command.is_read, "data that nobody reads: {pdu:02x?}");
            assert!(len > 0 && len <= terms.max_receive, "a segment of {len} bytes");
            assert_eq!(
                (pdu.word(36), pdu.word(40)),
                (command.data_pdus, command.received),
                "DataSN and offset"
            );
            if let Some(at) = command.reads_at {
                let right = disk::pattern(at + u64::from(command.received), pdu.data.len());
                assert_eq!(pdu.data, right, "other bytes than the disk's: {:02x?}", pdu.bhs);
            }
            command.data_pdus += 1;
            command.received += len;
            command.sequence += len;
            assert!(command.received <= command.expected || command.is_write, "more than was expected");
            assert!(command.sequence <= terms.max_burst, "a sequence of {} bytes", command.sequence);
            if is_final {
                command.sequence = 0;
            }
            if has_status && !command.is_write {
                assert_eq!(command.received, command.expected, "a status with the data needs all of it");
            }
        }
        if has_status {
            self.answered(pdu);
        }
    }

    pub(super) fn r2t(&mut self, pdu: &Pdu, terms: &Terms) -> Option<Ask> {
        let ask = Ask { itt: pdu.itt(), ttt: pdu.word(20), offset: pdu.word(40), len: pdu.word(44) };
        let command = self.find(pdu)?.command.as_mut()?;
        assert_ne!(ask.ttt, NO_TAG);
        assert!(command.is_write, "asks for data of what writes nothing: {pdu:02x?}");
        assert!((1..=terms.max_burst).contains(&ask.len), "asks for {} bytes", ask.len);
        assert!(ask.offset.checked_add(ask.len).is_some_and(|end| end <= command.expected), "{ask:?}");
        assert_eq!(pdu.word(36), command.data_pdus, "R2TSN");
        command.data_pdus += 1;
        command.open_r2ts += 1;
        command.requested += ask.len;
        assert!(command.open_r2ts <= terms.max_r2ts, "{} R2Ts at a time", command.open_r2ts);
        Some(ask)
    }
}
