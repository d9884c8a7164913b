//! Whole sessions on a virtual clock: initiators that mostly do as they should, a disk that answers in any order,
//! and a target that must keep its promises to all of them.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use iscsi::{Limits, LunOptions, Target};

use super::disk;
use super::peer::Peer;
use super::sent::Command;
use super::targets::Targets;
use super::wire::{NO_TAG, Pdu};

/// What initiators do in one run.
const MOST_STEPS: usize = 256;

/// Connections at a time.
const MOST_PEERS: usize = 3;

/// More than any of the target's deadlines.
const LONG: Duration = Duration::from_secs(100);

struct World {
    targets: Arc<Targets>,
    limits: Limits,
    now: Duration,
    peers: Vec<Peer>,
    /// Whether what the target sends is read at once.
    is_eager: bool,
    /// Whether there was task management: then a command may end without an answer.
    had_functions: bool,
}

/// The input is what is done, step by step. Whatever it was, every session can be brought to rest and leaves nothing
/// behind.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(mut world) = World::new(&mut input) else { return };
    for _ in 0..MOST_STEPS {
        if input.is_empty() || world.step(&mut input).is_err() {
            break;
        }
        world.settle();
    }
    world.come_to_rest();
    world.end();
}

/// Limits so small that runs meet them, or those of a daemon.
fn limits(input: &mut Unstructured<'_>) -> Result<Limits> {
    if input.ratio(1, 4)? {
        return Ok(Limits::default());
    }
    Ok(Limits {
        max_recv_data_segment_length: *input.choose(&[512, 1024, 4096])?,
        max_burst_length: *input.choose(&[1024, 4096, 8192])?,
        first_burst_length: *input.choose(&[512, 2048])?,
        max_outstanding_r2t: *input.choose(&[1, 2, 8])?,
        command_window: *input.choose(&[1, 2, 8])?,
        max_text: 1024,
        bytes_in_flight: *input.choose(&[1024, 16 << 10])?,
        output_backlog: *input.choose(&[512, 4096])?,
        ..Limits::default()
    })
}

impl World {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let limits = limits(input)?;
        let targets = Arc::new(Targets::new(LunOptions::default()));
        let is_eager = input.arbitrary()?;
        let mut world =
            Self { targets, limits, now: LONG, peers: Vec::new(), is_eager, had_functions: false };
        world.connect(input)?;
        world.settle();
        Ok(world)
    }

    fn target(&self) -> &Arc<Target> {
        &self.targets.0[0]
    }

    fn connect(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let mut keys = Vec::new();
        let answers = ["No", "Yes"];
        let digests = ["None", "CRC32C"];
        for (key, values) in [
            ("InitialR2T", answers),
            ("ImmediateData", answers),
            ("HeaderDigest", digests),
            ("DataDigest", digests),
        ] {
            keys.push(format!("{key}={}", input.choose(&values)?));
        }
        for (key, values) in [
            ("MaxRecvDataSegmentLength", [512, 4096, 65_536]),
            ("MaxBurstLength", [512, 4096, 1 << 20]),
            ("FirstBurstLength", [512, 4096, 65_536]),
            ("MaxOutstandingR2T", [1, 2, 16]),
        ] {
            keys.push(format!("{key}={}", input.choose(&values)?));
        }
        let isid = input.int_in_range(0..=1)?;
        let mut peer = Peer::new(&self.targets, &self.limits, self.now);
        let target = Arc::clone(self.target());
        peer.log_in(&target, isid, &keys, self.now);
        self.peers.push(peer);
        Ok(())
    }

    /// One thing that may happen.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let now = self.now;
        let what = input.int_in_range(0..=31_u8)?;
        if what == 0 && self.peers.len() < MOST_PEERS {
            return self.connect(input);
        }
        if what == 1 {
            self.pass_time(Duration::from_secs(input.int_in_range(0..=40)?));
            return Ok(());
        }
        let Some(last) = self.peers.len().checked_sub(1) else { return self.connect(input) };
        let at = input.int_in_range(0..=last)?;
        self.had_functions |= what == 22;
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        if !peer.logged_in && what < 26 {
            peer.read(usize::MAX);
            return Ok(());
        }
        match what {
            2..=11 => command(input, peer, now),
            12..=14 => data_out(input, peer, now),
            15..=19 => end_io(input, peer),
            20..=21 => {
                peer.read(input.int_in_range(0..=8192)?);
                Ok(())
            }
            22 => task_management(input, peer, now),
            23 => nop_out(input, peer, now),
            24 => text(input, peer, now),
            25 => {
                let reason = input.int_in_range(0..=3)?;
                request(input, peer, Pdu::new(0x06, 0x80 | reason, 0), now).map(drop)
            }
            26 => {
                peer.connection.handle_disconnect();
                assert!(
                    peer.io.is_empty() || !peer.connection.is_closed(),
                    "closed before the disk was done"
                );
                Ok(())
            }
            27 => anything(input, peer, now),
            28 => {
                late(peer, now);
                Ok(())
            }
            _ => {
                while peer.read(usize::MAX) {}
                Ok(())
            }
        }
    }

    fn pass_time(&mut self, by: Duration) {
        self.now += by;
        for peer in &mut self.peers {
            for _ in 0..2 {
                let Some(due) = peer.connection.poll_timeout().filter(|due| *due <= self.now) else { break };
                peer.connection.handle_timeout(self.now);
                let next = peer.connection.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "due at {due:?}, and again at {next:?}");
            }
        }
    }

    /// Lets all go on until they wait for something.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for peer in &mut self.peers {
                busy |= peer.settle(self.now);
                busy |= self.is_eager && peer.read(usize::MAX);
                busy |= peer.deliver(self.now);
            }
            self.peers.retain(|peer| !(peer.connection.is_closed() && peer.io.is_empty()));
            if !busy {
                return;
            }
        }
        panic!("the connections keep each other busy");
    }

    /// The disk does all that it was asked for, and all output is read.
    fn run_dry(&mut self) {
        self.is_eager = true;
        for _ in 0..10_000 {
            self.settle();
            let Some(peer) = self.peers.iter_mut().find(|peer| !peer.io.is_empty()) else { return };
            peer.end_io(0, disk::done);
        }
        panic!("requests to the disk without end");
    }

    /// Whatever the target asks for comes. Then every command is answered: none waits for what another keeps.
    fn answer_all(&mut self, at: usize) {
        for _ in 0..10_000 {
            self.run_dry();
            let now = self.now;
            let Some(peer) = self.peers.get_mut(at).filter(|peer| is_whole(peer)) else { return };
            if let Some(pdu) = peer.late.pop() {
                peer.send(&pdu, now);
            } else if let Some(ask) = peer.asked.pop_front() {
                peer.answer_r2t(ask, now);
            } else {
                let open = peer.ledger.unanswered().map(|(itt, _)| itt);
                assert!(self.had_functions || open.is_none(), "never answered: {open:?}");
                return;
            }
        }
        panic!("R2Ts without end");
    }

    /// Every session that goes on still does what it should: it aborts what is open, has its whole window again, and
    /// answers a ping.
    fn come_to_rest(&mut self) {
        self.run_dry();
        for at in 0..self.peers.len() {
            self.answer_all(at);
            let Some(peer) = self.peers.get_mut(at).filter(|peer| is_whole(peer)) else { continue };
            let abort = peer.tag();
            peer.ledger.note(abort, None);
            peer.ledger.note_abort(abort, None);
            let number = peer.cmd_sn;
            peer.send(&Pdu::new(0x42, 0x82, abort).with(20, NO_TAG).with(24, number), self.now);
            self.run_dry();
            let Some(peer) = self.peers.get_mut(at).filter(|peer| is_whole(peer)) else { continue };
            assert_eq!(peer.ledger.requested(), 0, "a command outlives its abortion");
            let open = peer.ledger.unanswered_request();
            assert_eq!(open, None, "a request that nobody answers");
            let ping = peer.tag();
            peer.ledger.note(ping, None);
            let before = peer.window;
            peer.send(&Pdu::new(0x40, 0x80, ping).with(20, NO_TAG), self.now);
            while peer.read(usize::MAX) {}
            assert_eq!(peer.window.0, before.0, "an immediate request takes no number");
            let size = peer.window.1.wrapping_sub(peer.window.0).wrapping_add(1);
            assert_eq!(size, peer.limits.command_window, "part of the window is lost");
        }
    }

    /// All connections are lost; no session stays.
    fn end(&mut self) {
        for peer in &mut self.peers {
            peer.connection.handle_disconnect();
        }
        self.run_dry();
        assert!(self.peers.is_empty(), "a connection outlives its peer");
        assert_eq!(self.target().sessions(), [], "sessions that nobody has");
    }
}

fn is_whole(peer: &Peer) -> bool {
    peer.logged_in && !peer.is_wild && !peer.is_amid() && peer.connection.wants_input()
}

/// A request that has a number, unless it is immediate; its tag, if the window let it be sent.
fn request(
    input: &mut Unstructured<'_>,
    peer: &mut Peer,
    mut pdu: Pdu,
    now: Duration,
) -> Result<Option<u32>> {
    let itt = peer.tag();
    let number = if input.arbitrary()? {
        pdu.bhs[0] |= 0x40;
        peer.cmd_sn
    } else if let Some(number) = number(peer) {
        number
    } else {
        return Ok(None);
    };
    peer.ledger.note(itt, None);
    peer.send(&pdu.with(16, itt).with(24, number), now);
    Ok(Some(itt))
}

/// The next CmdSN, where the window lets one in.
fn number(peer: &mut Peer) -> Option<u32> {
    let number = peer.cmd_sn;
    let is_inside = peer.window.1.wrapping_sub(number) < peer.limits.command_window;
    is_inside.then(|| {
        peer.cmd_sn = number.wrapping_add(1);
        number
    })
}

/// A CDB, what it moves, and from where a plain read reads.
struct Cdb {
    bytes: Vec<u8>,
    body: Bytes,
    reads: Option<(u64, u32)>,
}

fn cdb(input: &mut Unstructured<'_>) -> Result<Cdb> {
    let blocks = match input.int_in_range(0..=7_u8)? {
        0 => input.int_in_range(0..=disk::BLOCKS as u16)?,
        _ => input.int_in_range(0..=20_u16)?,
    };
    let lba = u32::from(input.int_in_range(0..=disk::BLOCKS as u16)?);
    let at = u64::from(lba) * 512;
    let len = usize::from(blocks) * 512;
    let cdb10 = |opcode: u8, flags: u8| {
        [&[opcode, flags][..], &lba.to_be_bytes(), &[0], &blocks.to_be_bytes(), &[0]].concat()
    };
    let cdb16 = |opcode: u8, flags: u8| {
        let (lba, blocks) = (u64::from(lba).to_be_bytes(), u32::from(blocks).to_be_bytes());
        [&[opcode, flags][..], &lba, &blocks, &[0, 0]].concat()
    };
    let body = |bytes| Cdb { bytes, body: disk::pattern(at, len), reads: None };
    let bare = |bytes| Cdb { bytes, body: Bytes::new(), reads: None };
    let read = |bytes| Cdb { bytes, body: Bytes::new(), reads: Some((at, len as u32)) };
    let flags = input.int_in_range(0..=3_u8)? << 3;
    Ok(match input.int_in_range(0..=19_u8)? {
        0..=3 => read(cdb10(0x28, flags)),
        4 => read(cdb16(0x88, flags)),
        5..=8 => body(cdb10(0x2a, flags)),
        9 => body(cdb16(0x8a, flags)),
        10 => body(cdb10(0x2e, 2)),
        11 => body(cdb10(0x2f, 2)),
        12 => body(cdb16(0x8b, flags)),
        13 => {
            let both = [disk::pattern(at, len), disk::pattern(at, len)].concat();
            let mut bytes = cdb16(0x89, flags);
            bytes[10..14].copy_from_slice(&[0, 0, 0, blocks as u8]);
            Cdb { bytes, body: both.into(), reads: None }
        }
        14 => bare(cdb10(0x35, 0)),
        15 => {
            let range = [&[0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0][..], &lba.to_be_bytes(), &[0, 0]].concat();
            let list = [&range[..], &blocks.to_be_bytes(), &[0; 4]].concat();
            Cdb { bytes: vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], body: list.into(), reads: None }
        }
        16 => Cdb { bytes: vec![0x12, 0, 0, 0, 96, 0], body: Bytes::new(), reads: Some((0, 96)) },
        17 => bare(vec![0; 6]),
        18 => Cdb { bytes: cdb16(0x9e, 0x12), body: Bytes::new(), reads: Some((0, 24)) },
        _ => bare(vec![if flags & 8 == 0 { 0x16 } else { 0x17 }, 0, 0, 0, 0, 0]),
    })
}

fn command(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    let Cdb { bytes, body, reads } = cdb(input)?;
    let right = reads.map_or(body.len() as u32, |(_, len)| len);
    let expected = match input.int_in_range(0..=15_u8)? {
        0 => input.int_in_range(0..=1 << 16)?,
        1 => right.saturating_sub(512),
        2 => right + 512,
        _ => right,
    };
    let (is_read, is_write) = (reads.is_some(), !body.is_empty());
    let is_plain = matches!(bytes[0], 0x28 | 0x88);
    let itt = peer.tag();
    let terms = peer.terms;
    // As much as may come with it, and whether more comes behind it unasked.
    let unasked = terms.first_burst.min(expected);
    let mut with_it = 0;
    if is_write && terms.immediate_data {
        with_it = input.int_in_range(0..=unasked.min(terms.max_send))?;
    }
    let goes_on = is_write && !terms.initial_r2t && with_it < unasked && input.arbitrary()?;
    // Untagged, simple, ordered, head of queue.
    let attribute = *input.choose(&[1, 1, 1, 0, 2, 3])?;
    let flags = attribute
        | if goes_on { 0 } else { 0x80 }
        | if is_read { 0x40 } else { 0 }
        | if is_write { 0x20 } else { 0 };
    let mut command =
        Command::new(expected, (is_read, is_write), body, reads.filter(|_| is_plain).map(|it| it.0));
    let immediate = command.slice(0, with_it);
    let rest = command.slice(with_it, if goes_on { unasked - with_it } else { 0 });
    let (bit, cmd_sn) = match input.ratio(1, 8)? {
        true => (0x40, peer.cmd_sn),
        false => match number(peer) {
            Some(number) => {
                command.number = Some(number);
                (0, number)
            }
            // Beyond the window, also if that has moved meanwhile: it must be as if it never came.
            None => {
                command.is_lost = true;
                (0, peer.window.1.wrapping_add(1).wrapping_add(peer.limits.command_window))
            }
        },
    };
    let pdu = Pdu::new(0x01 | bit, flags, itt).with(20, expected).with(24, cmd_sn).with_bytes(32, &bytes);
    peer.ledger.note(itt, Some(command));
    peer.send(&pdu.with_data(immediate), now);
    let mut at = 0;
    let mut sn = 0;
    while at < rest.len() {
        let len = rest.len().min(at + terms.max_send as usize) - at;
        let is_last = at + len == rest.len();
        let offset = with_it + at as u32;
        peer.send_data(itt, NO_TAG, sn, offset, rest.slice(at..at + len), is_last, now);
        at += len;
        sn += 1;
    }
    Ok(())
}

/// Numbers a command and keeps it, or sends the one that was kept: what is sent in between comes before its turn.
fn late(peer: &mut Peer, now: Duration) {
    if let Some(pdu) = peer.late.pop() {
        peer.send(&pdu, now);
        return;
    }
    let Some(number) = number(peer) else { return };
    let itt = peer.tag();
    let mut command = Command::new(512, (true, false), Bytes::new(), Some(0));
    command.number = Some(number);
    peer.ledger.note(itt, Some(command));
    let pdu = Pdu::new(0x01, 0xc1, itt).with(20, 512).with(24, number);
    peer.late.push(pdu.with_bytes(32, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
}

/// Data for an R2T, right or with a mistake in its numbers.
fn data_out(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    let Some(ask) = peer.asked.pop_front() else { return Ok(()) };
    if !input.ratio(1, 16)? {
        peer.answer_r2t(ask, now);
        return Ok(());
    }
    let Some(command) = peer.ledger.command(ask.itt) else { return Ok(()) };
    let data = command.slice(ask.offset, ask.len.min(peer.terms.max_send));
    let other = |input: &mut Unstructured<'_>, right: u32| {
        Ok(if input.arbitrary()? { right } else { right.wrapping_add(input.int_in_range(1..=512)?) })
    };
    let (ttt, sn, offset) = (other(input, ask.ttt)?, other(input, 0)?, other(input, ask.offset)?);
    let is_right = (ttt, sn, offset) == (ask.ttt, 0, ask.offset);
    let is_last = if is_right { (data.len() as u32) < ask.len } else { input.arbitrary()? };
    peer.send_data(ask.itt, ttt, sn, offset, data, is_last, now);
    peer.asked.push_front(ask);
    Ok(())
}

fn end_io(input: &mut Unstructured<'_>, peer: &mut Peer) -> Result<()> {
    let Some(last) = peer.io.len().checked_sub(1) else { return Ok(()) };
    let at = input.int_in_range(0..=last)?;
    let outcome = disk::outcome(input, &peer.io[at].1)?;
    peer.end_io(at, |_| outcome);
    Ok(())
}

fn task_management(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    let function = input.int_in_range(0..=9_u8)?;
    let open: Vec<u32> = peer.ledger.open().map(|(itt, _)| itt).collect();
    let only = if open.is_empty() { NO_TAG } else { *input.choose(&open)? };
    let number = peer.ledger.command(only).and_then(|command| command.number);
    let ref_cmd_sn = number.unwrap_or(peer.cmd_sn.wrapping_sub(1));
    let pdu = Pdu::new(0x02, 0x80 | function, 0).with(20, only).with(32, ref_cmd_sn);
    let Some(itt) = request(input, peer, pdu, now)? else { return Ok(()) };
    match function {
        1 => peer.ledger.note_abort(itt, Some(only)),
        2 | 4..=7 => peer.ledger.note_abort(itt, None),
        _ => {}
    }
    Ok(())
}

fn nop_out(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    if let Some(ttt) = peer.pings.pop() {
        peer.send(&Pdu::new(0x40, 0x80, NO_TAG).with(20, ttt).with(24, peer.cmd_sn), now);
        return Ok(());
    }
    let len = input.int_in_range(0..=peer.terms.max_send.min(1024))?;
    let data = disk::pattern(0, len as usize);
    request(input, peer, Pdu::new(0x00, 0x80, 0).with(20, NO_TAG).with_data(data), now).map(drop)
}

fn text(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    const TEXTS: [&str; 5] =
        ["SendTargets=All\0", "SendTargets=\0", "MaxRecvDataSegmentLength=512\0X-a=b\0", "=", ""];
    let flags = *input.choose(&[0x80, 0x00, 0x40])?;
    let text = *input.choose(&TEXTS)?;
    request(input, peer, Pdu::new(0x04, flags, 0).with(20, NO_TAG).with_data(text), now).map(drop)
}

/// Any header with any data, or bytes that are no PDU at all.
fn anything(input: &mut Unstructured<'_>, peer: &mut Peer, now: Duration) -> Result<()> {
    peer.is_wild = true;
    peer.ledger.is_blurred = true;
    if input.ratio(1, 4)? {
        let len = input.len().min(64);
        let bytes = input.bytes(len)?;
        peer.send_bytes(bytes, now);
        return Ok(());
    }
    let mut pdu = Pdu::new(input.arbitrary()?, input.arbitrary()?, input.int_in_range(0..=peer.next_itt)?);
    for word in [20, 24, 28, 32, 36, 40, 44] {
        pdu = pdu.with(word, input.arbitrary()?);
    }
    if input.arbitrary()? {
        pdu = pdu.with(24, peer.cmd_sn);
        peer.cmd_sn = peer.cmd_sn.wrapping_add(1);
    }
    let len = input.int_in_range(0..=64)?;
    peer.send(&pdu.with_data(disk::pattern(0, len)), now);
    Ok(())
}
