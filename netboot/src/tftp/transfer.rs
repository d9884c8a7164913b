//! The transfer itself: which packet to send next, and when again.

use std::fmt;
use std::time::Duration;

use super::packet::{DATA, DATA_HEADER, ErrorCode, FromClient, error_packet, oack_packet};
use super::request::{Agreed, Limits, Request};
use super::rto::Rto;
use super::source::Source;

/// How often something is sent again, at least, before the client is given up.
const MIN_TRIES: u32 = 6;

/// How long a client may be silent, at least, before it is given up. A ROM that writes what it has loaded, or asks its
/// user something, stays away for seconds.
const PATIENCE: Duration = Duration::from_secs(15);

/// "User aborted", not in any RFC: what EDK2 sends after it was told a file's length (pin/tftp#125).
const USER_ABORTED: u16 = 8;

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The client has acknowledged the whole file.
    Complete,
    /// All was sent, but the last acknowledgement never came. Clients that start what they have loaded may be gone
    /// before it is sent again, so this is mostly as good as complete.
    Unconfirmed,
    /// The client only wanted to know the file's length, and will ask again. No failure: every UEFI firmware does it.
    Probe,
    /// The client sent an ERROR.
    Aborted {
        /// Its number.
        code: u16,
        /// Its text, escaped.
        message: String,
    },
    /// The client fell silent.
    TimedOut,
    /// Nobody listens at the client's port any more.
    Unreachable,
    /// The file could not be read to its end.
    SourceFailed(String),
}

/// A transfer that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How.
    pub end: End,
    /// How much of the file the client has, in bytes: what it has acknowledged, or all of it.
    pub bytes: u64,
    /// The size of a block.
    pub blksize: u16,
    /// The blocks in a window.
    pub windowsize: u16,
    /// How many packets were sent more than once.
    pub resent: u64,
    /// How long it took, until the client had what it has.
    pub took: Duration,
    /// How long nothing came of the client afterwards, where that was waited for.
    pub silence: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The options were granted; the client has to acknowledge them as block 0.
    Oack {
        due: bool,
    },
    Data,
}

/// When blocks were last sent again, and the last block that had been sent before.
#[derive(Debug, Clone, Copy)]
struct WentBack {
    at: Duration,
    highest: u64,
}

/// One file on its way to one client. Blocks are counted from 1 in 64 bits; on the wire they are cut to 16, so that
/// the count goes on with 0 after 65535.
pub struct Transfer {
    source: Box<dyn Source>,
    agreed: Agreed,
    tsize_asked: bool,
    started: Duration,
    state: State,
    error: Option<Vec<u8>>,
    ended: Option<Summary>,

    /// How many blocks the file has; the last is the first that isn't full.
    blocks: u64,
    /// The last block that is acknowledged with all before it.
    acked: u64,
    /// The block to send next.
    next: u64,
    /// The last block that was ever sent.
    highest: u64,

    rto: Rto,
    /// When to send again what is not acknowledged.
    deadline: Option<Duration>,
    /// The block whose answer is waited for to measure the round trip, and when it was sent.
    measuring: Option<(u64, Duration)>,
    tries: u32,
    last_heard: Duration,
    went_back: Option<WentBack>,
    resent: u64,
}

impl Transfer {
    /// Begins to send `source`, as was asked, at `now`.
    #[must_use]
    pub fn new(request: &Request, source: Box<dyn Source>, limits: &Limits, now: Duration) -> Self {
        let len = source.len();
        let agreed = Agreed::new(&request.options, len, limits);
        let state = if agreed.told.is_empty() { State::Data } else { State::Oack { due: true } };
        Self {
            blocks: len / u64::from(agreed.blksize) + 1,
            rto: Rto::new(agreed.timeout),
            tsize_asked: request.options.tsize,
            source,
            agreed,
            started: now,
            state,
            error: None,
            ended: None,
            acked: 0,
            next: 1,
            highest: 0,
            deadline: None,
            measuring: None,
            tries: 0,
            last_heard: now,
            went_back: None,
            resent: 0,
        }
    }

    /// The longest packet that [`Self::poll_transmit`] writes.
    #[must_use]
    pub fn max_packet_len(&self) -> usize {
        // An OACK or ERROR may be longer than a small block.
        (DATA_HEADER + usize::from(self.agreed.blksize)).max(256)
    }

    /// Takes what the client sent. Whatever is no answer of a reader's is ignored.
    pub fn handle(&mut self, datagram: &[u8], now: Duration) {
        if self.is_ending() {
            return;
        }
        match FromClient::parse(datagram) {
            Some(FromClient::Ack(block)) => self.handle_ack(block, now),
            Some(FromClient::Error { code, message }) => {
                let probe = self.tsize_asked && self.acked == 0 && matches!(code, 0 | USER_ABORTED);
                self.end(if probe { End::Probe } else { End::Aborted { code, message } }, now);
            }
            None => {}
        }
    }

    /// Writes the next packet to send into `buf`, which must hold [`Self::max_packet_len`] bytes, and says how long it
    /// is. `None`: nothing is to be sent now.
    pub fn poll_transmit(&mut self, buf: &mut [u8], now: Duration) -> Option<usize> {
        if let Some(error) = self.error.take() {
            return write(buf, &error);
        }
        if self.ended.is_some() {
            return None;
        }
        match self.state {
            State::Oack { due: false } => None,
            State::Oack { due: true } => {
                self.state = State::Oack { due: false };
                self.measuring = (self.tries == 0).then_some((0, now));
                self.deadline = Some(now + self.rto.wait());
                write(buf, &oack_packet(&self.agreed.told))
            }
            State::Data if self.next <= self.window_end() => self.write_block(buf, now),
            State::Data => None,
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadline.filter(|_| !self.is_ending())
    }

    /// Notices that an answer is late, and sends again or gives up.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.is_ending() || self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.tries >= MIN_TRIES && now.saturating_sub(self.last_heard) >= PATIENCE {
            let all_sent = self.state == State::Data && self.acked + 1 == self.blocks;
            self.end(if all_sent { End::Unconfirmed } else { End::TimedOut }, now);
            return;
        }
        self.tries += 1;
        self.rto.back_off();
        match &mut self.state {
            State::Oack { due } => {
                *due = true;
                self.resent += 1;
            }
            State::Data => self.send_again(now),
        }
        // Until the caller has sent; it does so at once.
        self.deadline = Some(now + self.rto.wait());
    }

    /// Nobody listens at the client's port: it has what it wanted, or is gone.
    pub fn handle_unreachable(&mut self, now: Duration) {
        if !self.is_ending() {
            let all_sent = self.state == State::Data && self.highest == self.blocks;
            self.end(if all_sent { End::Unconfirmed } else { End::Unreachable }, now);
        }
    }

    /// How it ended; `None`: it goes on, or has its last packet still to send.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.ended.as_ref().filter(|_| self.error.is_none())
    }

    fn is_ending(&self) -> bool {
        self.ended.is_some()
    }

    fn window_end(&self) -> u64 {
        self.blocks.min(self.acked + u64::from(self.agreed.windowsize))
    }

    fn handle_ack(&mut self, block: u16, now: Duration) {
        if let State::Oack { .. } = self.state {
            if block == 0 {
                self.state = State::Data;
                self.progress(0, now);
            }
            return;
        }
        // How far it is ahead of the last one. Windows are at most 64 blocks, so 16 bits tell.
        let ahead = u64::from(block.wrapping_sub(on_wire(self.acked)));
        let acked = self.acked + ahead;
        if acked > self.highest {
            return;
        }
        if ahead == 0 {
            // With a window of one block this is a duplicate, and answering it would double every packet to the end
            // of the file (the sorcerer's apprentice, RFC 1123 §4.2.3.1). In a window it says that the first block
            // of it was lost (RFC 7440 §4).
            if self.agreed.windowsize > 1 && self.next > self.window_end() {
                self.go_back(now);
            }
            return;
        }
        self.progress(acked, now);
        if acked == self.blocks {
            self.end(End::Complete, now);
        } else if self.next <= acked {
            self.next = acked + 1;
        } else if self.next > acked + 1 {
            // Part of a window: what follows was lost.
            self.go_back(now);
        }
    }

    /// The client has everything up to `acked`.
    fn progress(&mut self, acked: u64, now: Duration) {
        if let Some((block, sent)) = self.measuring
            && block <= acked
        {
            self.rto.measure(now.saturating_sub(sent));
            self.measuring = None;
        }
        self.acked = acked;
        self.tries = 0;
        self.last_heard = now;
        self.rto.progress();
        self.deadline = Some(now + self.rto.wait());
    }

    /// Sends again from the first block that is missing, if the client's word means that one is.
    ///
    /// A client counts a window's blocks from its last word, and says something when it has them all, when it misses
    /// one, and when it gets one that it has already. The last is a consequence of our sending again, and means that
    /// the rest is on its way: sending that again too would go on for ever, so that each block is sent twice.
    fn go_back(&mut self, now: Duration) {
        let needless = self.went_back.is_some_and(|last| {
            now.saturating_sub(last.at) < self.rto.round_trip() || self.acked == last.highest
        });
        if !needless {
            self.send_again(now);
        }
    }

    fn send_again(&mut self, now: Duration) {
        self.went_back = Some(WentBack { at: now, highest: self.highest });
        self.next = self.acked + 1;
    }

    fn write_block(&mut self, buf: &mut [u8], now: Duration) -> Option<usize> {
        let block = self.next;
        let offset = (block - 1) * u64::from(self.agreed.blksize);
        let len = usize::try_from(self.source.len().saturating_sub(offset))
            .unwrap_or(usize::MAX)
            .min(self.agreed.blksize.into());
        let data = buf.get_mut(..DATA_HEADER + len)?;
        let (header, body) = data.split_at_mut(DATA_HEADER);
        if let Err(why) = read_exact(self.source.as_ref(), offset, body) {
            self.error = Some(error_packet(ErrorCode::NotDefined, "the file can't be read"));
            self.end(End::SourceFailed(why), now);
            return self.poll_transmit(buf, now);
        }
        let (op, number) = header.split_at_mut(2);
        op.copy_from_slice(&DATA.to_be_bytes());
        number.copy_from_slice(&on_wire(block).to_be_bytes());
        if block > self.highest {
            self.highest = block;
            self.measuring.get_or_insert((block, now));
        } else {
            self.resent += 1;
            // An answer to a block that was sent twice tells nothing of the round trip (Karn).
            self.measuring = self.measuring.filter(|(measured, _)| *measured != block);
        }
        self.next += 1;
        self.deadline = Some(now + self.rto.wait());
        Some(DATA_HEADER + len)
    }

    fn end(&mut self, end: End, now: Duration) {
        self.deadline = None;
        // Who says nothing more has gone on with what it got when it was heard for the last time.
        let unconfirmed = end == End::Unconfirmed;
        let until = if unconfirmed { self.last_heard } else { now };
        let acked = self.acked * u64::from(self.agreed.blksize);
        self.ended = Some(Summary {
            end,
            bytes: if unconfirmed { self.source.len() } else { self.source.len().min(acked) },
            blksize: self.agreed.blksize,
            windowsize: self.agreed.windowsize,
            resent: self.resent,
            took: until.saturating_sub(self.started),
            silence: now.saturating_sub(until),
        });
    }
}

/// A block's number in 16 bits.
fn on_wire(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn write(buf: &mut [u8], packet: &[u8]) -> Option<usize> {
    buf.get_mut(..packet.len())?.copy_from_slice(packet);
    Some(packet.len())
}

/// Fills `buf`. A source that ends before its length says was changed under our hands.
fn read_exact(source: &dyn Source, mut offset: u64, mut buf: &mut [u8]) -> Result<(), String> {
    while !buf.is_empty() {
        match source.read_at(offset, buf) {
            Ok(0) => return Err("it is shorter than it was at the start".to_owned()),
            Ok(read) => {
                offset += read as u64;
                buf = buf.get_mut(read..).unwrap_or_default();
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Unconfirmed => f.write_str("complete, the last acknowledgement is missing"),
            Self::Probe => f.write_str("the client asked for the length only"),
            Self::Aborted { code, message } => write!(f, "the client aborted: {message} (error {code})"),
            Self::TimedOut => f.write_str("the client fell silent"),
            Self::Unreachable => f.write_str("the client's port was closed"),
            Self::SourceFailed(why) => write!(f, "the file can't be read: {why}"),
        }
    }
}
