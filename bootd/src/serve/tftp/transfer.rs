//! A transfer's own socket, and what is to be known of the way to its client before it begins.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use netboot::tftp::{Limits, Request, Wanted};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::time::timeout;

use super::running::Place;
use super::way::Way;

/// The longest answer of a client that is read: acknowledgements have 4 bytes, errors a short text.
pub(super) const MAX_ANSWER: usize = 512;

/// How often a client is asked to confirm its options, and how long its answer is waited for each time.
const HANDSHAKES: usize = 5;
const HANDSHAKE_WAIT: Duration = Duration::from_secs(1);

/// The largest IP packet that a client is sent. Larger frames than Ethernet's own are configured on servers and
/// switches, and seldom in firmware.
const MAX_MTU: u16 = 1500;

/// A socket from `address` to `peer` alone, which does not block.
pub(super) fn connect(address: Ipv4Addr, peer: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(address, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Why it is not known that a request came from where it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It offers nothing to be agreed on, so the client would answer only after it got the first block.
    NoOptions,
    /// The client did not answer, or broke off.
    Silent,
}

/// Has the client confirm its options before there is anything to send: the answer shows that it listens where the
/// request came from. Afterwards the transfer is to go by the request that is returned, without options.
///
/// # Errors
/// When there is no such answer.
pub(super) async fn handshake(
    socket: &UdpSocket,
    request: Request,
    place: &Place,
) -> Result<Request, Unproven> {
    const OACK: &[u8] = b"\0\x06blksize\x00512\0";
    const ACK_0: &[u8] = &[0, 4, 0, 0];
    if request.options.blksize.is_none_or(|size| size < 512) {
        return Err(Unproven::NoOptions);
    }
    let watched = socket.try_clone().and_then(tokio::net::UdpSocket::from_std);
    let socket = watched.map_err(|_| Unproven::Silent)?;
    let mut answer = [0; MAX_ANSWER];
    for _ in 0..HANDSHAKES {
        let _ = socket.send(OACK).await;
        match timeout(HANDSHAKE_WAIT, socket.recv(&mut answer)).await {
            Ok(Ok(len)) if answer.get(..len) == Some(ACK_0) => {
                place.heard();
                return Ok(Request { options: Wanted::default(), ..request });
            }
            Ok(_) => return Err(Unproven::Silent),
            Err(_) => {}
        }
    }
    Err(Unproven::Silent)
}

/// What the way to the client allows. `local` is the address that was asked.
pub(super) fn limits(way: &Way, local: Ipv4Addr) -> Limits {
    let known = match way {
        Way::Own(socket) => path_mtu(socket),
        // Only what is connected is told. Nothing is sent by it.
        Way::Asked(port) => connect(local, port.peer).ok().and_then(|socket| path_mtu(&socket)),
    };
    Limits { path_mtu: known.unwrap_or(MAX_MTU).min(MAX_MTU) }
}

fn path_mtu(socket: &UdpSocket) -> Option<u16> {
    getsockopt(socket, sockopt::IpMtu).ok().and_then(|mtu| u16::try_from(mtu).ok())
}
