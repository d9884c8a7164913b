//! What load is put on a target, and what it gave.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::net::{TcpSocket, TcpStream};

use crate::initiator::Initiator;

/// Where the disks are: initiator `n` uses target `n` modulo their number.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) portal: SocketAddr,
    pub(crate) targets: Vec<String>,
    pub(crate) lun: u8,
}

/// A load: what each initiator asks for, how much of it at once, and how many initiators do.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Bytes of one command: whole blocks, at most 1 MiB.
    pub(crate) size: usize,
    /// Commands that each initiator keeps outstanding.
    pub(crate) depth: usize,
    pub(crate) initiators: usize,
    pub(crate) write: bool,
    pub(crate) random: bool,
    /// The part of the disk that is used, in bytes.
    pub(crate) span: u64,
    pub(crate) duration: Duration,
    /// Commands of each initiator, after which it stops though there is time left.
    pub(crate) most: u64,
}

/// Which blocks come next. Its own small generator: the same seed gives the same blocks to every target.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    state: u64,
    next: u64,
    slots: u64,
    blocks: u64,
    random: bool,
}

impl Pattern {
    pub(crate) fn new(spec: &Spec, number: usize) -> Self {
        let blocks = (spec.size / 512) as u64;
        let slots = (spec.span / spec.size as u64).max(1);
        let state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1) | 1;
        let next = number as u64 * slots / spec.initiators.max(1) as u64;
        Self { state, next, slots, blocks, random: spec.random }
    }

    pub(crate) fn next_lba(&mut self) -> u64 {
        let slot = if self.random {
            // xorshift64: no quality needed, only spread and repeatability
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.state % self.slots
        } else {
            self.next = (self.next + 1) % self.slots;
            self.next
        };
        slot * self.blocks
    }
}

/// Most latencies kept of one initiator; later ones are counted but not kept.
const MAX_SAMPLES: usize = 200_000;

/// What one initiator got.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ops: u64,
    bytes: u64,
    micros: Vec<u32>,
}

impl Tally {
    pub(crate) fn add(&mut self, len: usize, latency: Duration) {
        self.ops += 1;
        self.bytes += len as u64;
        if self.micros.len() < MAX_SAMPLES {
            self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }
}

/// What a load gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Outcome {
    /// Commands per second.
    pub(crate) ops: f64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
    /// Bytes per second.
    pub(crate) bytes: f64,
    /// Median latency in microseconds.
    pub(crate) p50: u32,
    /// 99th percentile of the latency in microseconds.
    pub(crate) p99: u32,
    /// The slowest initiator's share of what an even share would be: 1 is fair, 0 is starved.
    pub(crate) fairness: f64,
}

/// The most that one read takes from a socket.
const MOST_AT_ONCE: usize = 512 * 1024;

/// What may wait in a socket for the generator. The initiators of kernels and of firmware take what comes as it
/// comes; without this bound the system would let many megabytes pile up, and how many is chance.
const RECEIVE_QUEUE: u32 = 512 * 1024;

/// Room for what one read takes from a socket: what can be on its way, within bounds. Memory that is no larger
/// than it must be stays in the processor's cache.
pub(crate) fn receive_buffer(spec: &Spec) -> usize {
    let answer = if spec.write { 0 } else { spec.size };
    (spec.depth * (answer + 256)).next_power_of_two().clamp(8 * 1024, MOST_AT_ONCE)
}

/// A connection of the generator.
///
/// # Errors
/// When nobody takes it.
pub(crate) async fn connect(portal: SocketAddr) -> io::Result<TcpStream> {
    let socket = if portal.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_QUEUE)?;
    let stream = socket.connect(portal).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Puts the load on the disks at `place`.
///
/// # Errors
/// When a session fails in any way.
pub(crate) fn run(place: &Place, spec: &Spec) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let payload = Bytes::from((0..spec.size).map(|at| (at / 7) as u8).collect::<Vec<_>>());
        let mut sessions = Vec::new();
        for number in 0..spec.initiators {
            sessions.push(Initiator::login(place, number, payload.clone(), receive_buffer(spec)).await?);
        }
        let begun = Instant::now();
        let until = begun + spec.duration;
        let tasks: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(number, session)| {
                let (spec, pattern) = (spec.clone(), Pattern::new(spec, number));
                tokio::spawn(async move { session.run(&spec, pattern, until).await })
            })
            .collect();
        let mut tallies = Vec::new();
        for task in tasks {
            tallies.push(task.await.map_err(io::Error::other)??);
        }
        Ok(sum_up(tallies, begun.elapsed()))
    })
}

/// Logs in as many sessions as the place has targets, one each, and calls `then` while all of them are idle.
///
/// # Errors
/// When a session fails, or `then`.
pub(crate) fn while_logged_in<T>(place: &Place, then: impl FnOnce() -> T) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut sessions = Vec::new();
        for number in 0..place.targets.len() {
            sessions.push(Initiator::login(place, number, Bytes::new(), MOST_AT_ONCE).await?);
        }
        Ok(then())
    })
}

fn sum_up(tallies: Vec<Tally>, took: Duration) -> Outcome {
    let ops: u64 = tallies.iter().map(|tally| tally.ops).sum();
    let bytes: u64 = tallies.iter().map(|tally| tally.bytes).sum();
    let least = tallies.iter().map(|tally| tally.ops).min().unwrap_or(0);
    let even = ops as f64 / tallies.len().max(1) as f64;
    let mut micros: Vec<u32> = tallies.into_iter().flat_map(|tally| tally.micros).collect();
    micros.sort_unstable();
    let at = |share: usize| micros.get(micros.len() * share / 100).copied().unwrap_or(0);
    let seconds = took.as_secs_f64();
    Outcome {
        ops: ops as f64 / seconds,
        seconds,
        bytes: bytes as f64 / seconds,
        p50: at(50),
        p99: at(99),
        fairness: if even > 0.0 { least as f64 / even } else { 0.0 },
    }
}
