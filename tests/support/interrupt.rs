//! Ctrl-C while a lab is up: whoever waits gives up, and everything that was made is dropped on the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::{Result, ensure};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on, Ctrl-C and its like end no more than what is being waited for.
///
/// # Errors
/// When the signals can't be had.
pub fn tidy_up_on_signals() -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = runtime.block_on(async {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        kinds.into_iter().map(signal).collect::<std::io::Result<Vec<_>>>()
    })?;
    thread::spawn(move || {
        let any = std::future::poll_fn(|context| {
            let one = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if one { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        runtime.block_on(any);
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Whether somebody asked for the end.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails once somebody asked for the end.
///
/// # Errors
/// When somebody did.
pub(crate) fn check() -> Result {
    ensure!(!interrupted(), "interrupted");
    Ok(())
}
