//! Reading ahead of sequential readers, on threads of its own: what they will want is in RAM when they come.
//!
//! A reader that goes on where the chunk before was read a moment ago gets a first window read ahead. The first chunk of
//! each window is marked; whoever touches it has the next window read, twice as long up to a bound, so that a long
//! reader never catches up with the disk's delay, and a short one costs little that nobody wants.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::{Condvar, Mutex};

/// The first window, in chunks: half a mebibyte.
pub(crate) const FIRST_WINDOW: u8 = 8;

/// The longest window, in chunks: 4 MiB.
pub(crate) const LONGEST_WINDOW: u8 = 64;

/// Windows that wait to be read. Further ones are not read ahead: the disk has more to do than it can.
const MAX_WINDOWS: usize = 64;

/// Threads that read. Few: each asks for a whole window at once.
const THREADS: usize = 4;

/// The window behind one of that length.
pub(crate) fn longer(window: u8) -> u8 {
    window.saturating_mul(2).clamp(FIRST_WINDOW, LONGEST_WINDOW)
}

/// What can read a window of itself.
pub(crate) trait Windowed: Send + Sync {
    /// Brings these chunks in, as far as they are not there.
    fn fill(&self, first: u64, count: u8);
}

struct Window {
    image: Weak<dyn Windowed>,
    first: u64,
    count: u8,
}

#[derive(Default)]
struct Queue {
    windows: VecDeque<Window>,
    threads: usize,
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    come: Condvar,
}

/// The threads, which are started when they are first needed and end when this is dropped.
#[derive(Default)]
pub(crate) struct Ahead(Arc<Shared>);

impl Ahead {
    /// Has a window read soon, or never.
    pub(crate) fn wish(&self, image: Weak<dyn Windowed>, first: u64, count: u8) {
        let mut queue = self.0.queue.lock();
        if queue.windows.len() >= MAX_WINDOWS {
            return;
        }
        queue.windows.push_back(Window { image, first, count });
        if queue.idle < queue.windows.len() && queue.threads < THREADS {
            let shared = Arc::clone(&self.0);
            let started = thread::Builder::new().name("cache-ahead".into()).spawn(move || run(&shared));
            // Without threads there is no reading ahead, which is slower and no more than that.
            queue.threads += usize::from(started.is_ok());
        }
        drop(queue);
        self.0.come.notify_one();
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.come.notify_all();
    }
}

fn run(shared: &Shared) {
    let mut queue = shared.queue.lock();
    loop {
        if queue.closed {
            return;
        }
        let Some(window) = queue.windows.pop_front() else {
            queue.idle += 1;
            shared.come.wait(&mut queue);
            queue.idle -= 1;
            continue;
        };
        drop(queue);
        // An image that nobody uses any more is gone.
        if let Some(image) = window.image.upgrade() {
            image.fill(window.first, window.count);
        }
        queue = shared.queue.lock();
    }
}
