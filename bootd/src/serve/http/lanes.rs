//! The threads that connections are served on: one for each processor, each with an event loop of its own. A connection
//! stays on the thread that it was given, so that an answer wakes nobody else: with two connections and two processors that
//! is three times as many answers in a second as from a pool whose threads take each other's work. What takes longer than an
//! answer should, making disks, is done elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many threads there are at most: by then the wire is full.
const MAX_LANES: usize = 8;

/// The threads; they end when the last copy is dropped.
#[derive(Debug, Clone)]
pub(super) struct Lanes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lanes: Vec<Handle>,
    turn: AtomicUsize,
    _stop: DropGuard,
}

impl Lanes {
    /// Starts a thread for each processor.
    ///
    /// # Errors
    /// When the system has none to give.
    pub(super) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let number = thread::available_parallelism().map_or(1, usize::from).min(MAX_LANES);
        let lane = |_| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), stop.clone());
            thread::Builder::new().name("http".into()).spawn(move || runtime.block_on(stop.cancelled()))?;
            Ok(handle)
        };
        let lanes = (0..number).map(lane).collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Inner { lanes, turn: AtomicUsize::new(0), _stop: stop.drop_guard() })))
    }

    /// The thread for the next connection: each in turn.
    pub(super) fn next(&self) -> Option<&Handle> {
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        self.0.lanes.get(turn.checked_rem(self.0.lanes.len())?)
    }
}
