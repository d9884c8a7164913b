//! One transfer on its socket: moves datagrams between the two and keeps the clock.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use netboot::tftp::{Limits, Request, Source, Summary, Transfer, Wanted};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use super::running::Place;

/// The longest answer of a client that is read: acknowledgements have 4 bytes, errors a short text.
const MAX_ANSWER: usize = 512;

/// How often a client is asked to confirm its options, and how long its answer is waited for each time.
const HANDSHAKES: usize = 5;
const HANDSHAKE_WAIT: Duration = Duration::from_secs(1);

/// The largest IP packet that a client is sent. Larger frames than Ethernet's own are configured on servers and
/// switches, and seldom in firmware.
const MAX_MTU: u16 = 1500;

/// How long the transfer may leave the clock unwatched. It always names a time of its own; this is only so that no
/// mistake there keeps a task for ever.
const IDLE: Duration = Duration::from_secs(60);

/// A socket from `address` to `peer` alone.
pub(super) async fn connect(address: Ipv4Addr, peer: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddrV4::new(address, 0)).await?;
    socket.connect(peer).await?;
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

/// Sends `source` as `request` wants it, and says how that ended.
pub(super) async fn run(
    socket: &UdpSocket,
    request: &Request,
    source: Box<dyn Source>,
    place: &Place,
) -> Summary {
    let start = Instant::now();
    let mut transfer = Transfer::new(request, source, &limits(socket), start.elapsed());
    let mut packet = vec![0; transfer.max_packet_len()];
    let mut answer = [0; MAX_ANSWER];
    loop {
        while let Some(len) = transfer.poll_transmit(&mut packet, start.elapsed()) {
            match socket.send(packet.get(..len).unwrap_or_default()).await {
                Err(e) if is_gone(&e) => transfer.handle_unreachable(start.elapsed()),
                // Lost before it left is lost like any other packet: it is sent again.
                _ => {}
            }
        }
        if let Some(summary) = transfer.summary() {
            return summary.clone();
        }
        let wait = transfer.poll_timeout().map_or(IDLE, |at| at.saturating_sub(start.elapsed()));
        match timeout(wait, socket.recv(&mut answer)).await {
            Ok(Ok(len)) => {
                place.heard();
                transfer.handle(answer.get(..len).unwrap_or_default(), start.elapsed());
            }
            Ok(Err(e)) if is_gone(&e) => transfer.handle_unreachable(start.elapsed()),
            Ok(Err(_)) => {}
            Err(_) => transfer.handle_timeout(start.elapsed()),
        }
    }
}

/// The network says that nobody listens at the client's port, or that there is no way to the client any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable)
}

fn limits(socket: &UdpSocket) -> Limits {
    let known = getsockopt(socket, sockopt::IpMtu).ok().and_then(|mtu| u16::try_from(mtu).ok());
    Limits { path_mtu: known.unwrap_or(MAX_MTU).min(MAX_MTU) }
}
