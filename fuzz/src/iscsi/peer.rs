//! One connection: the target's side, and all that an initiator sees of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use iscsi::{Connection, Io, IoId, IoOutcome, Limits, Target};

use super::disk;
use super::sent::{Ask, Ledger, Terms};
use super::targets::{INITIATOR, Targets};
use super::wire::{Digests, NO_TAG, Pdu};

/// How much is made ready to be sent at a time.
const SEND_AHEAD: usize = 8 << 10;

/// An initiator on one connection.
pub(super) struct Peer {
    pub(super) connection: Connection,
    pub(super) limits: Limits,
    pub(super) terms: Terms,
    pub(super) ledger: Ledger,
    /// Requests that the disk has and has not answered.
    pub(super) io: Vec<(IoId, Io)>,
    pub(super) asked: VecDeque<Ask>,
    /// What is numbered and has yet to be sent.
    pub(super) late: Vec<Pdu>,
    /// Tags of the target's pings.
    pub(super) pings: Vec<u32>,
    pub(super) cmd_sn: u32,
    /// ExpCmdSN and MaxCmdSN as last heard.
    pub(super) window: (u32, u32),
    pub(super) next_itt: u32,
    pub(super) logged_in: bool,
    /// Whether PDUs were sent that may have been anything.
    pub(super) is_wild: bool,
    stat_sn: u32,
    digests: Digests,
    woken: Arc<AtomicBool>,
    to_target: BytesMut,
    to_initiator: BytesMut,
}

impl Peer {
    pub(super) fn new(targets: &Arc<Targets>, limits: &Limits, now: Duration) -> Self {
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let wake = Arc::new(move || flag.store(true, Ordering::Relaxed));
        let portal = ([10, 0, 0, 1], 3260).into();
        let directory = Arc::clone(targets);
        Self {
            connection: Connection::new(directory, portal, limits.clone(), [7; 32], wake, now),
            limits: limits.clone(),
            terms: Terms {
                initial_r2t: true,
                immediate_data: true,
                max_receive: 8192,
                max_send: limits.max_recv_data_segment_length,
                max_burst: 262_144,
                first_burst: 65_536,
                max_r2ts: 1,
            },
            ledger: Ledger::default(),
            io: Vec::new(),
            asked: VecDeque::new(),
            late: Vec::new(),
            pings: Vec::new(),
            cmd_sn: u32::MAX - 7,
            window: (0, 0),
            next_itt: 1,
            logged_in: false,
            is_wild: false,
            stat_sn: 0,
            digests: Digests::default(),
            woken,
            to_target: BytesMut::new(),
            to_initiator: BytesMut::new(),
        }
    }

    /// Asks for a session, straight from the operational stage.
    pub(super) fn log_in(&mut self, target: &Target, isid: u8, keys: &[String], now: Duration) {
        let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={}", target.name())];
        let text: String = names.iter().chain(keys).map(|pair| format!("{pair}\0")).collect();
        for key in keys {
            if let Some(value) = key.strip_prefix("MaxRecvDataSegmentLength=") {
                self.terms.max_receive = value.parse().unwrap();
            }
        }
        let itt = self.tag();
        self.ledger.note(itt, None);
        let request =
            Pdu::new(0x43, 0x87, itt).with_bytes(8, &[0x40, 0, 0, 0, 0, isid]).with(24, self.cmd_sn);
        self.send(&request.with_data(text), now);
    }

    pub(super) fn tag(&mut self) -> u32 {
        self.next_itt += 1;
        self.next_itt
    }

    pub(super) fn send(&mut self, pdu: &Pdu, now: Duration) {
        let mut bytes = BytesMut::new();
        pdu.encode(self.digests, &mut bytes);
        self.send_bytes(&bytes, now);
    }

    pub(super) fn send_bytes(&mut self, bytes: &[u8], now: Duration) {
        self.to_target.extend_from_slice(bytes);
        self.deliver(now);
    }

    /// Hands over what was sent, unless the target holds it back; whether it took any.
    pub(super) fn deliver(&mut self, now: Duration) -> bool {
        let before = self.to_target.len();
        if before > 0 && self.connection.wants_input() {
            self.connection.handle_input(&mut self.to_target, now);
        }
        self.to_target.len() < before
    }

    /// Whether the target has a PDU of which only a part was sent.
    pub(super) fn is_amid(&self) -> bool {
        !self.to_target.is_empty()
    }

    /// Does what other connections have caused, and fetches the requests to the disk.
    pub(super) fn settle(&mut self, now: Duration) -> bool {
        let mut busy = false;
        if self.woken.swap(false, Ordering::Relaxed) {
            self.connection.handle_wake(now);
            busy = true;
        }
        while let Some((id, io)) = self.connection.poll_io() {
            disk::check(&io);
            assert!(self.is_wild || disk::changes_nothing(&io), "data mixed up on its way: {io:?}");
            assert!(self.io.iter().all(|(known, _)| *known != id), "a request named as another");
            self.io.push((id, io));
            busy = true;
        }
        while self.connection.poll_event().is_some() {}
        self.check_bounds();
        busy
    }

    pub(super) fn end_io(&mut self, at: usize, outcome: impl FnOnce(&Io) -> IoOutcome) {
        let (id, io) = self.io.swap_remove(at);
        let outcome = outcome(&io);
        self.connection.handle_io(id, outcome);
    }

    /// Takes up to `most` bytes off the target; whether there were any.
    pub(super) fn read(&mut self, most: usize) -> bool {
        let output = self.connection.poll_transmit(SEND_AHEAD);
        let len = output.remaining().min(most);
        self.to_initiator.extend_from_slice(&output.copy_to_bytes(len));
        while let Some(pdu) = Pdu::decode(&mut self.to_initiator, self.digests) {
            self.receive(&pdu);
        }
        len > 0
    }

    fn receive(&mut self, pdu: &Pdu) {
        assert!(pdu.data.len() <= self.terms.max_receive.max(8192) as usize, "{} bytes", pdu.data.len());
        self.check_numbers(pdu);
        match (pdu.opcode(), pdu.itt()) {
            (0x20, NO_TAG) => self.pings.push(pdu.word(20)),
            (0x20 | 0x21 | 0x24 | 0x26, _) => self.ledger.answered(pdu),
            (0x22, _) => self.ledger.function_answered(pdu),
            (0x23, _) => self.login_answered(pdu),
            (0x25, _) => self.ledger.data_in(pdu, &self.terms),
            (0x31, _) => self.asked.extend(self.ledger.r2t(pdu, &self.terms)),
            (0x32, _) => {}
            (0x3f, itt) => {
                assert_eq!((itt, pdu.data.len()), (NO_TAG, 48), "what was rejected comes back");
                self.ledger.rejected(&pdu.data);
            }
            (opcode, _) => panic!("opcode {opcode:#x}"),
        }
    }

    /// StatSN counts what has a status; the window never moves back (RFC 7143 4.2.2).
    fn check_numbers(&mut self, pdu: &Pdu) {
        assert_eq!(pdu.word(24), self.stat_sn, "StatSN: {pdu:02x?}");
        self.stat_sn = self.stat_sn.wrapping_add(u32::from(pdu.has_status()));
        let now = (pdu.word(28), pdu.word(32));
        if self.logged_in {
            let forward = |from: u32, to: u32| to.wrapping_sub(from) < 1 << 31;
            assert!(forward(self.window.0, now.0), "ExpCmdSN goes back: {pdu:02x?}");
            assert!(forward(self.window.1, now.1), "MaxCmdSN goes back: {pdu:02x?}");
        }
        let size = now.1.wrapping_sub(now.0).wrapping_add(1);
        assert!(size <= self.limits.command_window, "a window of {size}");
        self.window = now;
    }

    fn login_answered(&mut self, pdu: &Pdu) {
        self.ledger.answered(pdu);
        let has_status = pdu.bhs[36] != 0;
        if has_status || pdu.flags() & 0x83 != 0x83 {
            return;
        }
        self.logged_in = true;
        let text = String::from_utf8(pdu.data.to_vec()).unwrap();
        for (key, value) in text.split('\0').filter_map(|pair| pair.split_once('=')) {
            let number = || value.parse().unwrap();
            match key {
                "InitialR2T" => self.terms.initial_r2t = value == "Yes",
                "ImmediateData" => self.terms.immediate_data = value == "Yes",
                "MaxBurstLength" => self.terms.max_burst = number(),
                "FirstBurstLength" => self.terms.first_burst = number(),
                "MaxOutstandingR2T" => self.terms.max_r2ts = number() as usize,
                "HeaderDigest" => self.digests.header = value == "CRC32C",
                "DataDigest" => self.digests.data = value == "CRC32C",
                "MaxRecvDataSegmentLength" => assert_eq!(number(), self.terms.max_send),
                "TargetPortalGroupTag" => {}
                _ => panic!("{key} was not asked for"),
            }
        }
        self.terms.first_burst = self.terms.first_burst.min(self.terms.max_burst);
    }

    /// What the target holds for this one connection.
    fn check_bounds(&mut self) {
        let commands = self.limits.command_window as usize + iscsi::IMMEDIATE_COMMANDS as usize;
        // Beside data, each command has one answer with its sense data, and its R2Ts.
        let answers = (commands + 32) * (400 + 64 * self.terms.max_r2ts);
        let most = self.limits.output_backlog + SEND_AHEAD + self.terms.max_receive as usize + answers;
        let waits = self.connection.poll_transmit(0).remaining();
        assert!(waits <= most, "{waits} bytes wait to be sent, at most {most} may");

        let reads = self.io.iter().filter(|(_, io)| matches!(io, Io::Read { .. }));
        let reads: u64 = reads.map(|(_, io)| io.byte_len()).sum();
        let requested = self.ledger.requested();
        // One is let through however large it is; COMPARE AND WRITE takes its blocks twice.
        let most = self.limits.bytes_in_flight.max(2 * disk::LONGEST as u64);
        assert!(reads <= most && requested <= most, "{reads} + {requested} bytes in flight");
        assert!(self.io.len() <= commands, "{} requests to the disk", self.io.len());
    }

    /// Sends the data that an R2T asked for, a segment at a time.
    pub(super) fn answer_r2t(&mut self, ask: Ask, now: Duration) {
        let mut sn = 0;
        let mut at = 0;
        while at < ask.len {
            let len = self.terms.max_send.min(ask.len - at);
            let Some(command) = self.ledger.command(ask.itt) else { return };
            let data = command.slice(ask.offset + at, len);
            let is_last = at + len == ask.len;
            self.send_data(ask.itt, ask.ttt, sn, ask.offset + at, data, is_last, now);
            at += len;
            sn += 1;
        }
        self.ledger.fulfilled(ask.itt);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a Data-Out PDU")]
    pub(super) fn send_data(
        &mut self,
        itt: u32,
        ttt: u32,
        sn: u32,
        offset: u32,
        data: Bytes,
        is_last: bool,
        now: Duration,
    ) {
        let flags = if is_last { 0x80 } else { 0 };
        let pdu = Pdu::new(0x05, flags, itt).with(20, ttt).with(36, sn).with(40, offset);
        self.send(&pdu.with_data(data), now);
    }
}
