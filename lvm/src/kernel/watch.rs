//! The engine's own threads: one lets overlays grow and sees images that were cut off, the other removes disks that are
//! over, which may take long and must hold up no growth.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;

/// How often all overlays are looked at: a write that finds its overlay full waits that long at most. Disks that are over
/// and busy are tried again as often.
const PERIOD: Duration = Duration::from_millis(250);

/// The threads. They end with this value.
pub(super) struct Watch {
    /// Dropped, it ends the one that looks after overlays.
    tend: Option<Sender<()>>,
    bury: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// The threads of an engine on device-mapper.
    pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (tended, buried) = (Arc::clone(shared), Arc::clone(shared));
        let mut watch = Self::of_burials(move || buried.bury())?;
        let (tend, ended) = channel::<()>();
        watch.tend = Some(tend);
        watch.spawn("bootd-dm", move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PERIOD) {
                look_after(&tended);
            }
        })?;
        Ok(watch)
    }

    /// The thread that removes what is over, alone. `bury` says whether all of it is gone.
    pub(super) fn of_burials(bury: impl Fn() -> bool + Send + 'static) -> io::Result<Self> {
        let (told, woken) = channel::<()>();
        let mut watch = Self { tend: None, bury: Some(told), threads: Vec::new() };
        watch.spawn("bootd-bury", move || bury_as_told(bury, &woken))?;
        Ok(watch)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Has what is over removed now.
    pub(super) fn wake(&self) {
        if let Some(bury) = &self.bury {
            // It is there as long as this value is.
            let _ = bury.send(());
        }
    }
}

fn look_after(shared: &Shared) {
    for attachment in shared.places.all() {
        // An overlay that is broken, or can't grow now, is looked at again; its client sees what comes of it.
        let _ = attachment.overlay.tend(&shared.dm, &shared.space);
    }
    shared.images.guard(&shared.dm);
    shared.images.close_idle(&shared.dm);
}

fn bury_as_told(bury: impl Fn() -> bool, woken: &Receiver<()>) {
    let mut all = true;
    loop {
        let told = if all {
            woken.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            woken.recv_timeout(PERIOD)
        };
        match told {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) => while woken.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
        }
        all = bury();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        (self.tend, self.bury) = (None, None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
