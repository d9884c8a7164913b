//! The descriptors that systemd hands to a service when it starts it (`sd_listen_fds(3)`).

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};

/// The number of the first one.
const FIRST: RawFd = 3;

/// How many are taken. More are an error: no configuration of ours has so many.
const MOST: RawFd = 1024;

/// The descriptors that were handed over, each with its name, if any were and it is us that they are for. Only the
/// first call gets them. Call it before anything else is opened.
///
/// # Errors
/// When there are too many, or one is not open.
pub(crate) fn handed_over() -> io::Result<Vec<(OwnedFd, String)>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<RawFd>().ok();
    let is_ours = number("LISTEN_PID").is_some_and(|pid| pid == rustix::process::getpid().as_raw_pid());
    let count = number("LISTEN_FDS").unwrap_or_default();
    if !is_ours || count <= 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    if count > MOST {
        return Err(io::Error::other(format!("{count} descriptors are too many")));
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    (FIRST..FIRST + count).zip(names).map(|(fd, name)| Ok((own(fd)?, name))).collect()
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: whoever set LISTEN_PID to this process has opened the descriptors for it and no one else, and they were
    // open before this process ran its first instruction, so nothing in here that opened a file was given one of these
    // numbers. `TAKEN` sees to it that each becomes owned once. If one is not open after all, it is forgotten before
    // anything could be given its number: this runs before the process has a second thread.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    match fcntl_setfd(&owned, FdFlags::CLOEXEC) {
        Ok(()) => Ok(owned),
        Err(e) => {
            std::mem::forget(owned);
            Err(io::Error::other(format!("LISTEN_FDS speaks of descriptor {fd}, and that is {e}")))
        }
    }
}
