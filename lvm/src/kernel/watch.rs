//! The engine's own thread: removes disks that are over, lets overlays grow, and sees images that were cut off.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;

/// How often all overlays are looked at: a write that finds its overlay full waits that long at most.
const PERIOD: Duration = Duration::from_millis(250);

/// The thread. It ends with this value.
pub(super) struct Watch {
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (wake, woken) = channel::<()>();
        let thread = std::thread::Builder::new().name("bootd-dm".into()).spawn(move || {
            loop {
                match woken.recv_timeout(PERIOD) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) => while woken.try_recv().is_ok() {},
                    Err(RecvTimeoutError::Timeout) => {}
                }
                look(&shared);
            }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    /// Has it look now.
    pub(super) fn wake(&self) {
        if let Some(wake) = &self.wake {
            // It is there as long as this value is.
            let _ = wake.send(());
        }
    }
}

fn look(shared: &Shared) {
    for attachment in shared.places.all() {
        let _turn = shared.turn.lock();
        // An overlay that is broken, or can't grow now, is looked at again; its client sees what comes of it.
        let _ = attachment.overlay.tend(&shared.dm, &shared.space);
    }
    for image in shared.images.all() {
        let _turn = shared.turn.lock();
        image.guard(&shared.dm);
    }
    {
        let _turn = shared.turn.lock();
        shared.images.close_idle(&shared.dm);
    }
    if !shared.doomed.lock().is_empty() {
        shared.bury();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
