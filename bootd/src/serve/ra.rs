//! Tells clients at once that there is no IPv6 router here.
//!
//! iPXE configures IPv6 beside IPv4 and waits for both: where no router answers its solicitations, 16 s are lost
//! at every boot. A router advertisement with lifetime 0 and no options says "not me, and I know of no prefix"
//! (RFC 4861, section 6.2.3), and the wait is over. A real router on the link is not disturbed: what it advertises
//! stays as it is, since lifetimes are each router's own.

use std::fs;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{NEEDS_CAPABILITIES, ServiceError, run_until};
use crate::events::Event;
use crate::state::{Link, State};
use crate::sys::{HOP_LIMIT, RouterSocket, Solicitation, WatchedRouterSocket};

const SERVICE: &str = "ra";

/// The least time between two advertisements on a link. One answers all solicitations that came meanwhile.
/// RFC 4861 asks for 3 s of routers; a client that came just after another would wait that long.
const SPACING: Duration = Duration::from_millis(50);

const ROUTER_SOLICITATION: u8 = 133;

/// The advertisement: type 134, checksum (the system's to fill in), hop limit 64, no flags, router lifetime 0,
/// no opinion on reachable and retransmission times.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The service, listening on each link that has IPv6.
#[derive(Debug)]
pub(crate) struct RouterAdvertiser {
    sockets: Vec<RouterSocket>,
}

impl RouterAdvertiser {
    /// Listens on each link. One without IPv6 is left out, with a line in the log: its clients' IPv6 is nobody's
    /// business here.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn bind(links: &[Link]) -> Result<Self, ServiceError> {
        let mut sockets = Vec::new();
        for link in links {
            let name = &link.interface.name;
            match open(name, link.index) {
                Ok(socket) => sockets.push(socket),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    let what = format!("can't listen for router solicitations on {name}");
                    return Err(ServiceError::new(SERVICE, what, e)
                        .remedy(format!("{NEEDS_CAPABILITIES}, or set `router_advertisement = false`")));
                }
                Err(e) => {
                    tracing::info!(
                        "ra: {name} has no IPv6 ({e}): its clients may wait for a router that does not come"
                    );
                }
            }
        }
        Ok(Self { sockets })
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// When the runtime can't take the sockets.
    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        let mut links = JoinSet::new();
        for socket in self.sockets {
            let socket = socket.watch().map_err(|e| ServiceError::new(SERVICE, "can't watch a socket", e))?;
            links.spawn(advertise(socket, Arc::clone(&state)));
        }
        run_until(SERVICE, links, &stop).await
    }
}

fn open(name: &str, index: u32) -> io::Result<RouterSocket> {
    // The system opens such a socket even so; nothing would ever come in.
    let off = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"));
    if off.is_ok_and(|off| off.trim() == "1") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "IPv6 is turned off there"));
    }
    RouterSocket::open(name, index)
}

async fn advertise(socket: WatchedRouterSocket, state: Arc<State>) {
    let mut buffer = [0; 256];
    // The first one is for those who wait already.
    let mut due = Some(Instant::now());
    let mut allowed = Instant::now();
    loop {
        let wait = async {
            match due {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = wait => {
                due = None;
                allowed = Instant::now() + SPACING;
                // It fails while the interface is down or has no address yet. The client asks again.
                if let Err(e) = socket.send_to_all(&ADVERTISEMENT) {
                    tracing::debug!("ra: can't send: {e}");
                }
            }
            received = socket.receive(&mut buffer) => match received {
                Ok(message) if is_solicitation(&message, &buffer) => due = due.or(Some(allowed)),
                Ok(_) => {}
                Err(e) => {
                    state.events.emit(Event::Trouble { service: SERVICE, what: format!("can't receive: {e}") });
                    sleep_until(Instant::now() + Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// Whether it is a solicitation of a machine on this link (RFC 4861, section 6.1.1; the system has checked the
/// checksum). Its options are not looked at: the answer is the same whatever they say.
fn is_solicitation(message: &Solicitation, buffer: &[u8]) -> bool {
    let message_bytes = buffer.get(..message.len).unwrap_or_default();
    message.hop_limit == Some(HOP_LIMIT)
        && message_bytes.len() >= 8
        && message_bytes.starts_with(&[ROUTER_SOLICITATION, 0])
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn only_a_neighbours_solicitation_is_answered() {
        let solicitation = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        let message = Solicitation { len: 8, peer: Ipv6Addr::UNSPECIFIED, hop_limit: Some(255) };
        assert!(is_solicitation(&message, &solicitation));
        assert!(!is_solicitation(&Solicitation { hop_limit: Some(254), ..message }, &solicitation), "routed");
        assert!(!is_solicitation(&Solicitation { hop_limit: None, ..message }, &solicitation));
        assert!(!is_solicitation(&Solicitation { len: 7, ..message }, &solicitation), "cut short");
        assert!(!is_solicitation(&Solicitation { len: 9, ..message }, &solicitation), "longer than received");
        for other in [[134, 0, 0, 0, 0, 0, 0, 0], [ROUTER_SOLICITATION, 1, 0, 0, 0, 0, 0, 0]] {
            assert!(!is_solicitation(&message, &other));
        }
    }

    #[test]
    fn the_advertisement_offers_nothing() {
        assert_eq!(ADVERTISEMENT[0], 134);
        assert_eq!(ADVERTISEMENT[6..8], [0, 0], "router lifetime");
    }
}
