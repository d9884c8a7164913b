//! Requests that must wait for storage, run on threads of their own.

use std::collections::VecDeque;
use std::sync::Arc;

use block::{BlockError, ErrorKind};
use iscsi::{Io, IoId, IoOutcome};
use tokio::sync::{Semaphore, mpsc};

use super::disk;
use super::table::Export;

/// How many requests of all connections may wait for storage at a time, each on a thread. Further ones wait their
/// turn, in the order in which they came.
pub const JOBS: usize = 64;

/// How many requests of one connection may be among them. Further ones wait within the connection, so that a
/// greedy client can't fill the queue that it shares.
pub const JOBS_PER_CONNECTION: usize = 8;

/// How a request ended.
pub(super) type Ended = (IoId, Result<IoOutcome, BlockError>);

/// The requests of one connection that have to wait.
pub(super) struct Jobs {
    permits: Arc<Semaphore>,
    waiting: VecDeque<(IoId, Io)>,
    running: usize,
    done: mpsc::UnboundedSender<Ended>,
    ended: mpsc::UnboundedReceiver<Ended>,
}

impl Jobs {
    pub(super) fn new(permits: Arc<Semaphore>) -> Self {
        let (done, ended) = mpsc::unbounded_channel();
        Self { permits, waiting: VecDeque::new(), running: 0, done, ended }
    }

    /// Runs `io` when its turn comes.
    pub(super) fn push(&mut self, export: &Arc<Export>, id: IoId, io: Io) {
        self.waiting.push_back((id, io));
        self.start(export);
    }

    /// The next that has ended. Never returns while none is running.
    pub(super) async fn next(&mut self, export: Option<&Arc<Export>>) -> Ended {
        let Some(ended) = self.ended.recv().await else { std::future::pending().await };
        self.running -= 1;
        if let Some(export) = export {
            self.start(export);
        }
        ended
    }

    fn start(&mut self, export: &Arc<Export>) {
        while self.running < JOBS_PER_CONNECTION
            && let Some((id, io)) = self.waiting.pop_front()
        {
            self.running += 1;
            let (permits, export, done) = (Arc::clone(&self.permits), Arc::clone(export), self.done.clone());
            tokio::spawn(async move {
                let permit = permits.acquire_owned().await;
                let job = tokio::task::spawn_blocking(move || {
                    let _until_done = permit;
                    disk::run(&export, io)
                });
                let outcome = job.await.unwrap_or_else(|broken| {
                    Err(BlockError::new(ErrorKind::Gone, "the thread of a request").caused_by(broken))
                });
                // The receiver outlives all jobs, but for a runtime that is being shut down.
                let _ = done.send((id, outcome));
            });
        }
    }
}
