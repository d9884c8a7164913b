//! Frees the space of overlays that ended. A file system takes its time over gigabytes, and a client that boots
//! again should not wait for its last session to be swept away.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use block::Overlay;

/// Overlays that wait to be freed. When there are more, whoever ends one frees it himself.
const MAX_WAITING: usize = 1024;

/// A thread that frees overlays. It has done all when this is dropped.
pub(super) struct Sweeper {
    queue: Option<SyncSender<Arc<Overlay>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    pub(super) fn start() -> io::Result<Self> {
        let (queue, overlays) = sync_channel::<Arc<Overlay>>(MAX_WAITING);
        let sweep = move || overlays.iter().for_each(|overlay| overlay.release());
        let thread = std::thread::Builder::new().name("overlay-sweeper".to_owned()).spawn(sweep)?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Frees the overlay soon.
    pub(super) fn free(&self, overlay: Arc<Overlay>) {
        let refused = match &self.queue {
            Some(queue) => queue.try_send(overlay).err(),
            None => Some(TrySendError::Disconnected(overlay)),
        };
        if let Some(TrySendError::Full(overlay) | TrySendError::Disconnected(overlay)) = refused {
            overlay.release();
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
