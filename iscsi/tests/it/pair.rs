//! An initiator and the target, tied together without a network.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use block::{BlockCount, Geometry, Segments};
use bytes::{Buf, Bytes, BytesMut};
use iscsi::{
    Account, Connection, Credentials, Directory, Event, Identity, Io, IoId, IoOutcome, Limits, Lun,
    LunOptions, Secret, Target,
};

use crate::wire::{NO_TAG, Pdu};

pub(crate) const TARGET: &str = "iqn.2026-01.internal.lab.server:image:c1:1";
pub(crate) const INITIATOR: &str = "iqn.2026-01.internal.lab.c1:system-disk";
pub(crate) const BLOCKS: u64 = 16 * 1024;

/// The targets of a test.
#[derive(Default, Clone)]
pub(crate) struct Targets(pub(crate) Vec<Arc<Target>>);

impl Directory for Targets {
    fn target(&self, iqn: &str) -> Option<Arc<Target>> {
        self.0.iter().find(|target| target.name() == iqn).cloned()
    }

    fn targets_for(&self, initiator: &str) -> Vec<Arc<Target>> {
        let may = |target: &&Arc<Target>| {
            target.credentials().initiator.as_ref().is_none_or(|only| only == initiator)
        };
        self.0.iter().filter(may).cloned().collect()
    }
}

pub(crate) fn target_named(name: &str, credentials: Credentials) -> Arc<Target> {
    let identity = Identity {
        vendor: "BOOTD".into(),
        product: "Virtual Disk".into(),
        revision: "1".into(),
        serial: "1".into(),
        naa: [0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        target_name: name.to_owned(),
    };
    let geometry = Geometry::new(BlockCount::new(BLOCKS)).unwrap();
    Arc::new(Target::new(name, credentials, Arc::new(Lun::new(identity, geometry, LunOptions::default()))))
}

/// A target for anyone.
pub(crate) fn open_target() -> Arc<Target> {
    target_named(TARGET, Credentials::default())
}

pub(crate) fn account(user: &str, secret: &str) -> Account {
    Account { user: user.into(), secret: Secret::new(secret) }
}

/// One connection: the target's side, and what an initiator knows.
pub(crate) struct Pair {
    pub(crate) connection: Connection,
    pub(crate) now: Duration,
    pub(crate) events: Vec<Event>,
    pub(crate) disk: Vec<u8>,
    /// While set, requests to the disk stay in `io`.
    pub(crate) hold_io: bool,
    pub(crate) io: VecDeque<(IoId, Io)>,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    pub(crate) isid: [u8; 6],
    pub(crate) cmd_sn: u32,
    pub(crate) next_itt: u32,
    woken: Arc<AtomicBool>,
    to_target: BytesMut,
    to_initiator: BytesMut,
}

impl Pair {
    pub(crate) fn new(targets: &[&Arc<Target>]) -> Self {
        Self::with_limits(targets, Limits::default())
    }

    pub(crate) fn with_limits(targets: &[&Arc<Target>], limits: Limits) -> Self {
        Self::with_entropy(targets, limits, [7; 32])
    }

    pub(crate) fn with_entropy(targets: &[&Arc<Target>], limits: Limits, entropy: [u8; 32]) -> Self {
        let directory = Arc::new(Targets(targets.iter().map(|target| Arc::clone(target)).collect()));
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        let wake = Arc::new(move || flag.store(true, Ordering::SeqCst));
        let portal = "10.0.0.1:3260".parse().unwrap();
        let now = Duration::from_secs(1000);
        Self {
            connection: Connection::new(directory, portal, limits, entropy, wake, now),
            now,
            events: Vec::new(),
            disk: vec![0; usize::try_from(BLOCKS).unwrap() * 512],
            hold_io: false,
            io: VecDeque::new(),
            header_digest: false,
            data_digest: false,
            isid: [0x40, 0, 0x27, 0x23, 0x12, 0x34],
            cmd_sn: 0x1000,
            next_itt: 1,
            woken,
            to_target: BytesMut::new(),
            to_initiator: BytesMut::new(),
        }
    }

    /// Logged in without authentication, as an operating system does: all of `keys` agreed on.
    pub(crate) fn logged_in_with(targets: &[&Arc<Target>], keys: &[&str]) -> Self {
        let mut pair = Self::new(targets);
        pair.log_in(keys);
        pair
    }

    pub(crate) fn logged_in(targets: &[&Arc<Target>]) -> Self {
        Self::logged_in_with(
            targets,
            &["InitialR2T=No", "ImmediateData=Yes", "MaxRecvDataSegmentLength=262144"],
        )
    }

    /// Logs in, straight to the operational stage, and clears the unit attention.
    pub(crate) fn log_in(&mut self, keys: &[&str]) {
        let response = self.request_login(keys);
        assert_eq!((response.login_status(), response.flags()), (0, 0x87));
        self.header_digest = response.value("HeaderDigest").as_deref() == Some("CRC32C");
        self.data_digest = response.value("DataDigest").as_deref() == Some("CRC32C");
        self.clear_attention();
    }

    pub(crate) fn request_login(&mut self, keys: &[&str]) -> Pdu {
        self.send_login(keys);
        self.receive()
    }

    pub(crate) fn send_login(&mut self, keys: &[&str]) {
        let names = [&format!("InitiatorName={INITIATOR}"), &format!("TargetName={TARGET}")];
        let text: Vec<&str> = names.into_iter().map(String::as_str).chain(keys.iter().copied()).collect();
        let request = self.login(0x87).with_text(&text);
        self.send(&request);
    }

    /// A new session's first command hears of the power on.
    pub(crate) fn clear_attention(&mut self) {
        let response = self.command(&[0], 0, 0);
        assert_eq!(response.sense(), (6, 0x29, 0));
    }

    pub(crate) fn login(&self, flags: u8) -> Pdu {
        Pdu::new(0x43, flags, 0xabcd).with_bytes(8, &self.isid).with(24, self.cmd_sn)
    }

    pub(crate) fn itt(&mut self) -> u32 {
        self.next_itt += 1;
        self.next_itt
    }

    /// A SCSI Command PDU with the next CmdSN.
    pub(crate) fn scsi(&mut self, cdb: &[u8], flags: u8, expected_len: u32) -> Pdu {
        let (itt, cmd_sn) = (self.itt(), self.cmd_sn);
        self.cmd_sn = cmd_sn.wrapping_add(1);
        Pdu::new(0x01, 0x81 | flags, itt).with(20, expected_len).with(24, cmd_sn).with_bytes(32, cdb)
    }

    /// Sends a command and takes its answer.
    pub(crate) fn command(&mut self, cdb: &[u8], flags: u8, expected_len: u32) -> Pdu {
        let pdu = self.scsi(cdb, flags, expected_len);
        self.send(&pdu);
        self.receive()
    }

    pub(crate) fn send(&mut self, pdu: &Pdu) {
        let bytes = pdu.encode(self.header_digest, self.data_digest);
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.to_target.extend_from_slice(bytes);
        self.connection.handle_input(&mut self.to_target, self.now);
        self.settle();
    }

    /// What of the bytes sent has not been taken.
    pub(crate) fn untaken(&self) -> usize {
        self.to_target.len()
    }

    /// Lets the target go on until it waits for something.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.woken.swap(false, Ordering::SeqCst) {
                self.connection.handle_wake(self.now);
            }
            let mut idle = true;
            while let Some(request) = self.connection.poll_io() {
                self.io.push_back(request);
                idle = false;
            }
            while !self.hold_io && self.finish_io() {
                idle = false;
            }
            let output = self.connection.poll_transmit(64 << 10);
            if output.has_remaining() {
                let bytes = output.copy_to_bytes(output.remaining());
                self.to_initiator.extend_from_slice(&bytes);
                idle = false;
            }
            if self.connection.wants_input() && !self.to_target.is_empty() {
                let before = self.to_target.len();
                self.connection.handle_input(&mut self.to_target, self.now);
                idle &= self.to_target.len() == before;
            }
            while let Some(event) = self.connection.poll_event() {
                self.events.push(event);
            }
            if idle {
                return;
            }
        }
    }

    /// Does the oldest request on the disk.
    pub(crate) fn finish_io(&mut self) -> bool {
        let Some((id, io)) = self.io.pop_front() else { return false };
        let outcome = self.execute(&io);
        self.connection.handle_io(id, outcome);
        true
    }

    fn execute(&mut self, io: &Io) -> IoOutcome {
        match io {
            Io::Read { range } => {
                let start = usize::try_from(range.byte_start()).unwrap();
                let end = start + usize::try_from(range.byte_len()).unwrap();
                IoOutcome::Data(Segments::from(Bytes::copy_from_slice(&self.disk[start..end])))
            }
            Io::Write { start, data, .. } => {
                let data = data.concat();
                let start = usize::try_from(start.byte_offset().unwrap()).unwrap();
                self.disk[start..start + data.len()].copy_from_slice(&data);
                IoOutcome::Done
            }
            _ => IoOutcome::Done,
        }
    }

    /// The next PDU that the target sent.
    pub(crate) fn receive(&mut self) -> Pdu {
        self.try_receive().expect("an answer")
    }

    pub(crate) fn try_receive(&mut self) -> Option<Pdu> {
        self.settle();
        Pdu::decode(&mut self.to_initiator, self.header_digest, self.data_digest)
    }

    pub(crate) fn receive_all(&mut self) -> Vec<Pdu> {
        std::iter::from_fn(|| self.try_receive()).collect()
    }

    pub(crate) fn expect_silence(&mut self) {
        assert_eq!(self.try_receive(), None);
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.connection.handle_timeout(self.now);
        self.settle();
    }

    /// Whether the session goes on: a ping is answered.
    pub(crate) fn expect_alive(&mut self) {
        let ping = Pdu::new(0x40, 0x80, 0x7777).with(20, NO_TAG).with(24, self.cmd_sn);
        self.send(&ping);
        let pong = self.receive();
        assert_eq!((pong.opcode(), pong.itt()), (0x20, 0x7777));
    }
}

pub(crate) fn read10(lba: u32, blocks: u16) -> Vec<u8> {
    [&[0x28, 0][..], &lba.to_be_bytes(), &[0], &blocks.to_be_bytes(), &[0]].concat()
}

pub(crate) fn write10(lba: u32, blocks: u16) -> Vec<u8> {
    [&[0x2a, 0][..], &lba.to_be_bytes(), &[0], &blocks.to_be_bytes(), &[0]].concat()
}

pub(crate) fn read16(lba: u64, blocks: u32) -> Vec<u8> {
    [&[0x88, 0][..], &lba.to_be_bytes(), &blocks.to_be_bytes(), &[0, 0]].concat()
}

/// Flags of a command that reads, or writes.
pub(crate) const READ: u8 = 0x40;
pub(crate) const WRITE: u8 = 0x20;
