//! DHCP: receives requests, has them answered, keeps the leases on disk, and sends the answers.
//!
//! Each link has its own socket and task. Everything that decides is `netboot`'s; here are the order of things (the
//! journal is written before the answer leaves) and the ways in which an answer reaches its client.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use netboot::{BootPlan, Decision, Destination, DhcpEvent, Lease, Outcome, Packet, Reply, Stage, respond};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::events::Event;
use crate::serve::journal::Journal;
use crate::serve::limit::Allowance;
use crate::serve::{NEEDS_CAPABILITIES, ServiceError, listen_error, run_until};
use crate::state::{Link, State, unix_seconds};
use crate::sys::{PacketSender, PktinfoSocket, WatchedPktinfoSocket};

const SERVICE: &str = "dhcp";

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// The longest datagram that is read, in bytes; what is longer is cut off, and then too long to be a request.
const MAX_DATAGRAM: usize = 8192;

/// How many requests one machine may send at once, and then each second. Further ones are dropped and counted. Four
/// in a boot are usual.
const BURST: u32 = 100;
const PER_SECOND: u32 = 50;

/// How long to wait when the interface gives errors instead of datagrams, before trying again.
const PAUSE: Duration = Duration::from_secs(1);

/// The DHCP service, listening.
#[derive(Debug)]
pub(crate) struct Dhcp {
    sockets: Vec<(PktinfoSocket, Option<PacketSender>)>,
    journal: Journal,
}

impl Dhcp {
    /// Listens on each link. `journal` is where the leases of the [`State`] were read from.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn bind(links: &[Link], journal: Journal) -> Result<Self, ServiceError> {
        let mut sockets = Vec::new();
        for link in links {
            let name = &link.interface.name;
            let address = SocketAddrV4::new(link.interface.address, SERVER_PORT);
            let socket = PktinfoSocket::bind(name, SERVER_PORT)
                .map_err(|e| listen_error(SERVICE, address, "enabled = false in [dhcp]", e))?;
            let sender = PacketSender::open(link.index);
            if let Err(e) = &sender {
                tracing::warn!(
                    "dhcp: answers on {name} are broadcast to all machines: {e}; {NEEDS_CAPABILITIES}"
                );
            }
            sockets.push((socket, sender.ok()));
        }
        Ok(Self { sockets, journal })
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// When the runtime can't take the sockets.
    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        let shared = Arc::new(Shared {
            state,
            journal: Mutex::new(self.journal),
            allowance: Allowance::new(BURST, PER_SECOND),
        });
        let mut links = JoinSet::new();
        for (index, (socket, sender)) in self.sockets.into_iter().enumerate() {
            let socket = socket.watch().map_err(|e| ServiceError::new(SERVICE, "can't watch a socket", e))?;
            links.spawn(Server { shared: Arc::clone(&shared), link: index, socket, sender }.serve());
        }
        // Between two packets nothing is half done: handling one never waits.
        run_until(SERVICE, links, &stop).await
    }
}

/// What the links have in common.
struct Shared {
    state: Arc<State>,
    journal: Mutex<Journal>,
    allowance: Allowance,
}

/// The server of one link.
struct Server {
    shared: Arc<Shared>,
    link: usize,
    socket: WatchedPktinfoSocket,
    sender: Option<PacketSender>,
}

impl Server {
    async fn serve(self) {
        let state = &self.shared.state;
        let Some(link) = state.links.get(self.link) else { return };
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match self.socket.receive(&mut buffer).await {
                Ok(datagram) => {
                    state.counters.dhcp_received.inc();
                    let bytes = buffer.get(..datagram.len).unwrap_or_default();
                    if let Some(reply) = self.shared.handle(link, bytes, datagram.peer) {
                        self.send(link, &reply);
                    }
                }
                Err(e) => {
                    let what = format!("can't receive on {}: {e}", link.interface.name);
                    state.events.emit(Event::Trouble { service: SERVICE, what });
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn send(&self, link: &Link, reply: &Reply) {
        let state = &self.shared.state;
        match self.try_send(link.interface.address, reply) {
            Ok(()) => state.counters.dhcp_sent.inc(),
            Err(e) => {
                let what = format!("can't send on {}: {e}", link.interface.name);
                state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        }
    }

    fn try_send(&self, from: Ipv4Addr, reply: &Reply) -> io::Result<()> {
        let bytes = &reply.bytes;
        let udp = |to: Ipv4Addr, port| self.socket.send(from, SocketAddrV4::new(to, port), bytes);
        match (reply.to, &self.sender) {
            (Destination::Unicast { ip, mac }, Some(sender)) => {
                let from = SocketAddrV4::new(from, SERVER_PORT);
                sender.send(mac.octets(), from, SocketAddrV4::new(ip, CLIENT_PORT), bytes)
            }
            (Destination::Unicast { .. }, None) | (Destination::Broadcast, _) => {
                udp(Ipv4Addr::BROADCAST, CLIENT_PORT)
            }
            (Destination::Relay(relay), _) => udp(relay, SERVER_PORT),
            (Destination::Client(client), _) => udp(client, CLIENT_PORT),
        }
    }
}

impl Shared {
    /// Handles one datagram, and says what is to be sent.
    fn handle(&self, link: &Link, bytes: &[u8], peer: SocketAddrV4) -> Option<Reply> {
        let state = &self.state;
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(e) => {
                state.counters.dhcp_malformed.inc();
                let why = e.to_string();
                state.events.emit(Event::Malformed { service: SERVICE, peer: peer.into(), why });
                return None;
            }
        };
        if !self.allowance.take(packet.mac) {
            state.counters.dhcp_dropped.inc();
            return None;
        }
        let Outcome { reply, event, .. } = self.respond(link, &packet);
        self.tell(&event, peer);
        state.on_dhcp(link, &event);
        reply
    }

    /// Tells whoever runs the site what is theirs to mend.
    fn tell(&self, event: &DhcpEvent, peer: SocketAddrV4) {
        let DhcpEvent { asker, plan, decision, .. } = event;
        let refused = |why: String| {
            // Machines without an address all ask from the same one; the one they are offered tells them apart.
            let address = event.address.unwrap_or(*peer.ip());
            Event::Refused { service: SERVICE, peer: (address, peer.port()).into(), why }
        };
        let event = match decision {
            Decision::NoAddress(_) => refused(format!("{}: {decision}", asker.mac)),
            Decision::Quarantined(_) => {
                Event::Trouble { service: SERVICE, what: format!("{}: {decision}", asker.mac) }
            }
            _ if plan.client.is_some() && asker.stage != Stage::Other && gets_nothing_to_boot(plan) => {
                refused(plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            }
            _ => return tracing::debug!("dhcp: {} ({:?}): {decision}", asker.mac, event.asked),
        };
        self.state.events.emit(event);
    }

    /// Decides, and puts what changed on disk. One packet at a time over all links: the journal's order of lines is
    /// then the table's order of changes.
    fn respond(&self, link: &Link, packet: &Packet) -> Outcome {
        let state = &self.state;
        let site = state.site.load();
        let mut journal = self.journal.lock();
        let outcome = {
            let mut leases = state.leases.lock();
            respond(packet, &link.interface, &site, &link.settings, &mut leases, unix_seconds())
        };
        if !outcome.changes.is_empty() {
            let table = || -> Vec<Lease> { state.leases.lock().entries() };
            if let Err(e) = journal.append(&outcome.changes, table) {
                // Answered all the same: a site without addresses is worse than one that forgets them at a restart.
                let what = format!("can't write the journal of leases: {e}; make room on its disk");
                state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        }
        outcome
    }
}

fn gets_nothing_to_boot(plan: &BootPlan) -> bool {
    plan.boot_program.is_none() && plan.script_url.is_none()
}
