//! One fill for many waiters: who reads a chunk, and who waits for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::chunk::Chunk;

#[derive(Debug, Clone)]
enum State {
    Running,
    /// `None`: it failed, or was given up.
    Ended(Option<Arc<Chunk>>),
}

/// A fill that others may wait for.
#[derive(Debug)]
pub(crate) struct Fill {
    state: Mutex<State>,
    ended: Condvar,
}

impl Fill {
    /// Blocks until the fill has ended. `None` when it brought nothing: the waiter tries by itself.
    pub(crate) fn wait(&self) -> Option<Arc<Chunk>> {
        let mut state = self.state.lock();
        loop {
            match &*state {
                State::Running => self.ended.wait(&mut state),
                State::Ended(chunk) => return chunk.clone(),
            }
        }
    }

    fn end(&self, chunk: Option<Arc<Chunk>>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Running) {
            *state = State::Ended(chunk);
            self.ended.notify_all();
        }
    }
}

/// The fills of one image that are running.
#[derive(Debug, Default)]
pub(crate) struct Fills {
    running: Mutex<HashMap<u64, Arc<Fill>>>,
}

/// Whether the caller is to read the chunk.
pub(crate) enum Turn<'a> {
    /// It is.
    Lead(Lead<'a>),
    /// Somebody does already.
    Wait(Arc<Fill>),
}

impl Fills {
    pub(crate) fn begin(&self, index: u64) -> Turn<'_> {
        match self.running.lock().entry(index) {
            Entry::Occupied(running) => Turn::Wait(Arc::clone(running.get())),
            Entry::Vacant(place) => {
                let fill = Arc::new(Fill { state: Mutex::new(State::Running), ended: Condvar::new() });
                place.insert(Arc::clone(&fill));
                Turn::Lead(Lead { fills: self, index, fill })
            }
        }
    }
}

/// The right and the duty to read one chunk. Dropped without [`done`](Lead::done), even by a panic, it wakes the
/// waiters with nothing.
pub(crate) struct Lead<'a> {
    fills: &'a Fills,
    index: u64,
    fill: Arc<Fill>,
}

impl Lead<'_> {
    /// Hands the chunk, which can be found already, to those who wait.
    pub(crate) fn done(self, chunk: &Arc<Chunk>) {
        self.fill.end(Some(Arc::clone(chunk)));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.fills.running.lock().remove(&self.index);
        self.fill.end(None);
    }
}
