//! What systemd and bootd tell and give each other: how far the daemon is, and the sockets that stay open while it is
//! being started again.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

mod given;

pub(crate) use given::Given;

/// Tells systemd how far the daemon is, if systemd started it and wants to know.
pub(crate) fn notify(message: &str) {
    // Whoever started us knows soon enough if that fails.
    let _ = send(message, None);
}

/// How long systemd may take to do what it was told. It takes milliseconds; if it hangs, so be it.
const SETTLED: Duration = Duration::from_secs(5);

/// Waits until systemd has done all that it was told before this, by the rule for `BARRIER=1` in `sd_notify(3)`: it closes
/// the descriptor that comes with the message.
fn settle() {
    let Ok((ours, theirs)) = io::pipe() else { return };
    if !matches!(send("BARRIER=1", Some(theirs.as_fd())), Ok(true)) {
        return;
    }
    drop(theirs);
    let mut closed = [PollFd::new(&ours, PollFlags::empty())];
    if let Ok(within) = Timespec::try_from(SETTLED) {
        let _ = poll(&mut closed, Some(&within));
    }
}

/// Sends a message, with a descriptor or without, to whoever started us. `false` if nobody wants to be told.
fn send(message: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(Path::new(&name))?,
    };
    let descriptors: Vec<_> = descriptor.iter().map(BorrowedFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[] } else { &rights[..] };
    let socket = UnixDatagram::unbound()?;
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(message.as_bytes())], control, flags, Some(&address))?;
    Ok(true)
}
