//! Requests that must wait for storage, run on threads of their own.

use std::collections::VecDeque;
use std::sync::Arc;

use block::{BlockError, ErrorKind};
use iscsi::{Io, IoId, IoOutcome};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::disk;
use super::table::Export;

/// How many requests of all connections may wait for storage at a time, each on a thread. Further ones wait their
/// turn, in the order in which they came.
pub const JOBS: usize = 64;

/// How many requests of one connection may be among them. Further ones wait within the connection, so that a
/// greedy client can't fill the queue that it shares.
pub const JOBS_PER_CONNECTION: usize = 16;

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
            let (export, done) = (Arc::clone(export), self.done.clone());
            // Mostly there is room at once, and nothing but the thread itself need be woken.
            match Arc::clone(&self.permits).try_acquire_owned() {
                Ok(permit) => run(permit, export, id, io, done),
                Err(_) => {
                    let permits = Arc::clone(&self.permits);
                    tokio::spawn(async move {
                        // It is never closed.
                        if let Ok(permit) = permits.acquire_owned().await {
                            run(permit, export, id, io, done);
                        }
                    });
                }
            }
        }
    }
}

/// Runs `io` on a thread that may wait, and tells how it ended.
fn run(
    permit: OwnedSemaphorePermit,
    export: Arc<Export>,
    id: IoId,
    io: Io,
    done: mpsc::UnboundedSender<Ended>,
) {
    tokio::task::spawn_blocking(move || {
        // A panic must not leave the client waiting for ever.
        let mut answer = Answer { id, outcome: None, done };
        answer.outcome = Some(disk::run(&export, io));
        drop(permit);
    });
}

/// Tells how a request ended when it is dropped, whatever it is dropped by.
struct Answer {
    id: IoId,
    outcome: Option<Result<IoOutcome, BlockError>>,
    done: mpsc::UnboundedSender<Ended>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let broken = || Err(BlockError::new(ErrorKind::Gone, "the thread of a request"));
        // The receiver outlives all jobs, but for a connection or a runtime that is being shut down.
        let _ = self.done.send((self.id, self.outcome.take().unwrap_or_else(broken)));
    }
}
