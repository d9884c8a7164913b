//! DHCP: receives requests, has them answered, keeps the leases on disk, and sends the answers.
//!
//! Each link has its own sockets and tasks. Everything that decides is `netboot`'s; here is the order of things: the
//! journal is written before the answer leaves. Where requests come in, and the ways in which an answer reaches its
//! client, are in [`door`].

mod crowd;
mod door;
mod lookout;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netboot::{
    Asker, BootPlan, Decision, DhcpEvent, Door, Lease, LeaseChange, MessageType, Mode, NoAddress, Outcome,
    Packet, Reloads, Reply, Settings, Stage, respond, respond_as_proxy, settings_for,
};
use parking_lot::Mutex;
use site::MacAddr;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) use self::lookout::warnings;

use self::crowd::{Crowd, Rank, Verdict};
use self::door::{Entrance, Watched};
use self::lookout::Lookout;
use self::trial::{FarTrials, Found, Trials};
use crate::events::Event;
use crate::serve::journal::Journal;
use crate::serve::limit::Allowance;
use crate::serve::{NEEDS_CAPABILITIES, ServiceError, run_until};
use crate::state::{Link, State, unix_seconds};
use crate::sys::{ArpSocket, Datagram};

const SERVICE: &str = "dhcp";

/// The longest datagram that is read, in bytes; what is longer is cut off, and then too long to be a request.
const MAX_DATAGRAM: usize = 8192;

/// How many requests of one kind one machine may send at once, and then each second. Further ones are dropped and counted. Four
/// in a boot are usual.
const BURST: u32 = 100;
const PER_SECOND: u32 = 50;

/// How many addresses are tried for one offer. Then the last one is offered, tried or not: the machine may find out for
/// itself.
const MOST_TRIALS: usize = 3;

/// How long to wait when the interface gives errors instead of datagrams, before trying again.
const PAUSE: Duration = Duration::from_secs(1);

/// The DHCP service, listening.
#[derive(Debug)]
pub(crate) struct Dhcp {
    /// Each with the number of its link.
    entrances: Vec<(usize, Entrance)>,
    lookouts: Vec<(usize, Lookout)>,
    arps: HashMap<usize, ArpSocket>,
    journal: Journal,
}

impl Dhcp {
    /// Listens on each link where DHCP is not off. `journal` is where the leases of the [`State`] were read from.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn bind(links: &[Link], journal: Journal) -> Result<Self, ServiceError> {
        let (mut entrances, mut lookouts, mut arps) = (Vec::new(), Vec::new(), HashMap::new());
        for (index, link) in links.iter().enumerate() {
            entrances.extend(door::open(link)?.into_iter().map(|entrance| (index, entrance)));
            // Both are of use, and addresses are given without.
            let missed = |what: &str, e: io::Error| {
                tracing::warn!("dhcp: {what} on {}: {e}; {NEEDS_CAPABILITIES}", link.interface.name);
            };
            if link.settings.mode != Mode::Off {
                match Lookout::open(link) {
                    Ok(lookout) => lookouts.push((index, lookout)),
                    Err(e) => missed("other DHCP servers are not looked for", e),
                }
            }
            if link.settings.mode == Mode::Server {
                match ArpSocket::open(link.index) {
                    Ok(socket) => drop(arps.insert(index, socket)),
                    Err(e) => missed("addresses are not tried before they are given", e),
                }
            }
        }
        Ok(Self { entrances, lookouts, arps, journal })
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
            crowd: Crowd::new(),
            reloads: Mutex::default(),
            far_trials: FarTrials::default(),
        });
        if self.entrances.is_empty() {
            stop.cancelled().await;
            return Ok(());
        }
        let unwatched = |e| ServiceError::new(SERVICE, "can't watch a socket", e);
        let mut tasks = JoinSet::new();
        for (link, lookout) in self.lookouts {
            tasks.spawn(lookout.watch(Arc::clone(&shared.state), link));
        }
        let mut trials = HashMap::new();
        for (link, socket) in self.arps {
            let here = Arc::new(Trials::new(socket.watch().map_err(unwatched)?));
            trials.insert(link, Arc::clone(&here));
            let state = Arc::clone(&shared.state);
            tasks.spawn(async move { here.listen(&state).await });
        }
        for (link, entrance) in self.entrances {
            let socket = entrance.watch().map_err(unwatched)?;
            let trials = trials.get(&link).cloned();
            let server = Server { shared: Arc::clone(&shared), link, socket, trials };
            tasks.spawn(Arc::new(server).serve());
        }
        // Between two packets nothing is half done: handling one never waits.
        run_until(SERVICE, tasks, &stop).await
    }
}

/// What the links have in common.
struct Shared {
    state: Arc<State>,
    journal: Mutex<Journal>,
    allowance: Allowance,
    crowd: Crowd,
    reloads: Mutex<Reloads>,
    far_trials: FarTrials,
}

/// The server of one socket of a link.
struct Server {
    shared: Arc<Shared>,
    link: usize,
    socket: Watched,
    trials: Option<Arc<Trials>>,
}

impl Server {
    async fn serve(self: Arc<Self>) {
        let state = &self.shared.state;
        let Some(link) = state.links.get(self.link) else { return };
        let mut buffer = vec![0; MAX_DATAGRAM];
        // What waits to be offered is at most what is tried at once, and is forgotten when the service ends.
        let mut offers = JoinSet::new();
        loop {
            while offers.try_join_next().is_some() {}
            match self.socket.receive(&mut buffer).await {
                Ok(datagram) => {
                    state.counters.dhcp_received.inc();
                    let bytes = buffer.get(..datagram.len).unwrap_or_default();
                    let Some(answer) = self.shared.handle(link, self.socket.door(), bytes, datagram.peer)
                    else {
                        continue;
                    };
                    match answer.untried {
                        Some(address) => {
                            let this = Arc::clone(&self);
                            let bytes = bytes.to_vec();
                            offers.spawn(async move {
                                if answer.reply.is_none() {
                                    this.look_into(answer.mac, address).await;
                                } else {
                                    this.offer(&bytes, answer, address, datagram).await;
                                }
                            });
                        }
                        None => self.send(link, datagram, answer.reply.as_ref()),
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

    /// Sends an offer once it is known that nobody uses its address; of another, if somebody does.
    async fn offer(&self, bytes: &[u8], mut answer: Answer, mut address: Ipv4Addr, asked: Datagram) {
        let Some(link) = self.shared.state.links.get(self.link) else { return };
        let mut left = MOST_TRIALS;
        loop {
            let found = match left {
                0 => Found::Unknown,
                _ => self.user_before_offer(link, address, answer.mac).await,
            };
            left = left.saturating_sub(1);
            let user = match found {
                Found::User(user) => User::Known(user),
                Found::Unknown | Found::Somebody if answer.displaces => {
                    return self.shared.withdraw(link, answer.mac, address);
                }
                Found::Somebody => User::Answers,
                Found::Nobody | Found::Unknown => break,
                Found::Pending => return,
            };
            let Some(next) = self.shared.another(link, bytes, answer.mac, address, user, asked.peer) else {
                return;
            };
            answer = next;
            match answer.untried {
                Some(untried) => address = untried,
                None => break,
            }
        }
        self.send(link, asked, answer.reply.as_ref());
    }

    /// A machine says that another uses the address that it has. Anyone may say that in its name, so whoever uses it is
    /// asked: if nobody answers but the machine itself, it keeps the address.
    async fn look_into(&self, mac: MacAddr, address: Ipv4Addr) {
        let Some(link) = self.shared.state.links.get(self.link) else { return };
        match self.user_of(link, address, mac).await {
            Found::User(user) => self.shared.conflict(link, mac, address, User::Known(user)),
            Found::Unknown if self.trials.is_none() && !self.shared.state.is_busy(mac) => {
                self.shared.conflict(link, mac, address, User::Claimed);
            }
            _ => tracing::debug!("dhcp: {mac}: It says that another uses {address}, and none was found."),
        }
    }

    async fn user_of(&self, link: &Link, address: Ipv4Addr, for_machine: MacAddr) -> Found {
        match &self.trials {
            Some(trials) if link.interface.contains(address) => trials.user_of(address, for_machine).await,
            _ => Found::Unknown,
        }
    }

    /// The same before an offer: behind a relay, where ARP asks nobody, by ICMP. The machine itself has no address yet, and so is
    /// not who answers.
    async fn user_before_offer(&self, link: &Link, address: Ipv4Addr, for_machine: MacAddr) -> Found {
        let Shared { state, far_trials, .. } = &*self.shared;
        match link.interface.contains(address) {
            true => self.user_of(link, address, for_machine).await,
            false => far_trials.user_of(address, &state.pings).await,
        }
    }

    fn send(&self, link: &Link, asked: Datagram, reply: Option<&Reply>) {
        let Some(reply) = reply else { return };
        let state = &self.shared.state;
        let from = match self.socket.door() {
            // Firmware takes what comes from where it asked, and nothing else.
            Door::Binl if link.others.contains(&asked.to) => asked.to,
            Door::Binl | Door::Dhcp => link.interface.address,
        };
        match self.socket.send(from, asked.peer, reply) {
            Ok(()) => state.counters.dhcp_sent.inc(),
            Err(e) => {
                let what = format!("can't send on {}: {e}", link.interface.name);
                state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        }
    }
}

/// Who uses an address that a machine has or is to be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    /// That machine.
    Known(MacAddr),
    /// One that answers a ping.
    Answers,
    /// Another one, the machine says.
    Claimed,
}

/// What is to be sent, and found out before.
struct Answer {
    reply: Option<Reply>,
    /// Who is answered.
    mac: MacAddr,
    /// The address that it is offered for the first time, or without a reply says that another uses.
    untried: Option<Ipv4Addr>,
    /// Whether a stranger has it.
    displaces: bool,
}

impl Shared {
    /// Handles one datagram, and says what is to be sent.
    fn handle(&self, link: &Link, door: Door, bytes: &[u8], peer: SocketAddrV4) -> Option<Answer> {
        let state = &self.state;
        let mut packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(e) => {
                state.counters.dhcp_malformed.inc();
                let why = e.to_string();
                state.events.emit(Event::Malformed { service: SERVICE, peer: peer.into(), why });
                return None;
            }
        };
        // Each kind of message has its own: who sends without end in a machine's name, that it gives its address back for
        // instance, does not keep it from being offered one.
        let kind = packet.options.message_type().map(u8::from);
        if !self.allowance.take((packet.mac, kind)) {
            state.counters.dhcp_dropped.inc();
            return None;
        }
        if let Verdict::Dropped { news } = self.crowd.admit(|| self.rank(packet.mac)) {
            state.counters.dhcp_flooded.inc();
            if news {
                let what = "more requests come than there is time to answer, so those of machines that are no clients are \
                            dropped (dhcp_flooded in bootd status --json counts them): bootd capture shows the packets \
                            of one of them, and the switch at which port it is";
                state.events.emit(Event::Trouble { service: SERVICE, what: what.to_owned() });
            }
            return None;
        }
        let begun = Instant::now();
        self.mark(&mut packet, peer);
        let answer = self.answer(link, door, &packet, peer);
        self.crowd.took(begun.elapsed());
        answer
    }

    fn rank(&self, mac: MacAddr) -> Rank {
        let state = &self.state;
        if state.site.load().client_by_mac(mac).is_some() {
            Rank::Client
        } else if state.leased(mac).is_some() {
            Rank::Lessee
        } else {
            Rank::Stranger
        }
    }

    /// Answers anew after somebody was found to use the address that was offered.
    fn another(
        &self,
        link: &Link,
        bytes: &[u8],
        mac: MacAddr,
        address: Ipv4Addr,
        user: User,
        peer: SocketAddrV4,
    ) -> Option<Answer> {
        self.conflict(link, mac, address, user);
        let mut packet = Packet::parse(bytes).ok()?;
        self.mark(&mut packet, peer);
        self.answer(link, Door::Dhcp, &packet, peer)
    }

    /// The address that a machine has or is offered is used by another.
    fn conflict(&self, link: &Link, mac: MacAddr, address: Ipv4Addr, user: User) {
        let state = &self.state;
        let pool = state.settings_at(link, address).pool;
        let known = match user {
            User::Known(user) => Some(user),
            User::Answers | User::Claimed => None,
        };
        let mut journal = self.journal.lock();
        let change = state.leases.lock().on_conflict(mac, address, known, pool, unix_seconds());
        self.keep(&mut journal, change.as_slice());
        drop(journal);
        // Otherwise it was leased to its user, which keeps it.
        if change.is_some() {
            let user = match user {
                User::Known(user) => user.to_string(),
                User::Answers => "a machine that answers a ping".to_owned(),
                User::Claimed => format!("another machine, as {mac} found out"),
            };
            let what = format!(
                "{address} is used by {user}, which has it from elsewhere; nobody is given it for ten minutes. Take it out \
                 of the pool, or let that machine ask for its address"
            );
            state.events.emit(Event::Trouble { service: SERVICE, what });
        }
    }

    /// What was to be offered is left to the stranger that has it.
    fn withdraw(&self, link: &Link, mac: MacAddr, address: Ipv4Addr) {
        self.state.leases.lock().withdraw(mac, address);
        if let Some(pool) = self.state.settings_at(link, address).pool {
            let why = format!("{mac}: {}", NoAddress::Exhausted(pool));
            let peer = SocketAddrV4::new(address, 68).into();
            self.state.events.emit(Event::Refused { service: SERVICE, peer, why });
        }
    }

    /// Notes on a packet what is known of it beside its bytes: where it is from, whether the machine is busy, and whether it
    /// is from an iPXE that we have given it.
    fn mark(&self, packet: &mut Packet, peer: SocketAddrV4) {
        packet.source = Some(*peer.ip());
        let gives_up =
            matches!(packet.options.message_type(), Some(MessageType::Release | MessageType::Decline));
        packet.busy = gives_up && self.state.is_busy(packet.mac);
        if Asker::of(packet).ipxe.is_some_and(|features| !features.lacks().is_empty()) {
            packet.reloaded = self.reloads.lock().is_ours(packet.mac, packet.xid, unix_seconds());
        }
    }

    fn answer(&self, link: &Link, door: Door, packet: &Packet, peer: SocketAddrV4) -> Option<Answer> {
        let state = &self.state;
        // A relay on an unserved subnet is told of by the settings of the link, to which its machine doesn't belong.
        let settings = settings_for(packet, &link.interface, &link.settings, &state.relayed);
        let settings = settings.unwrap_or(&link.settings);
        let Outcome { reply, untried, displaces, left_out, event, .. } = match (link.settings.mode, door) {
            (Mode::Server, Door::Dhcp) => self.respond(link, settings, packet),
            _ => self.respond_as_proxy(link, settings, door, packet),
        };
        self.tell(link, &event, peer);
        if !left_out.is_empty() {
            let codes = left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let why = format!(
                "{}: its answer has no room for DHCP option {codes}: give it fewer or shorter ones (bootd explain {0})",
                packet.mac
            );
            let peer = SocketAddrV4::new(event.address.unwrap_or(*peer.ip()), peer.port()).into();
            state.events.emit(Event::Refused { service: SERVICE, peer, why });
        }
        state.on_dhcp(link, &event);
        let answer = Answer { reply, mac: packet.mac, untried, displaces };
        (answer.reply.is_some() || untried.is_some()).then_some(answer)
    }

    /// Tells whoever runs the site what is theirs to mend.
    fn tell(&self, link: &Link, event: &DhcpEvent, peer: SocketAddrV4) {
        let DhcpEvent { asker, plan, decision, .. } = event;
        let refused = |why: String| {
            // Machines without an address all ask from the same one; the one they are offered tells them apart.
            let address = event.address.unwrap_or(*peer.ip());
            Event::Refused { service: SERVICE, peer: (address, peer.port()).into(), why }
        };
        let event = match decision {
            Decision::NoAddress(_) | Decision::NotFromIt(_) | Decision::Kept(_) => {
                refused(format!("{}: {decision}", asker.mac))
            }
            Decision::Quarantined(_) => {
                Event::Trouble { service: SERVICE, what: format!("{}: {decision}", asker.mac) }
            }
            Decision::ChoseOtherServer(_) | Decision::LeftToServer => {
                // Only who has chosen a server names it.
                if let Some(server) = event.server {
                    lookout::heard(&self.state, link, server);
                }
                return;
            }
            Decision::RelayNotServed(_) => refused(decision.to_string()),
            Decision::ProxyOffered(_) => {
                let shapes = self.state.shapes.lock();
                let advice = shapes.has_refused_all(asker.mac).then(|| {
                    let advice = shapes.advice(asker.mac, link.interface.address).unwrap_or_default();
                    Event::Trouble { service: SERVICE, what: format!("{}: {advice}", asker.mac) }
                });
                let Some(event) = advice else { return };
                event
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
    fn respond(&self, link: &Link, settings: &Settings, packet: &Packet) -> Outcome {
        let state = &self.state;
        let site = state.site.load();
        let mut journal = self.journal.lock();
        let outcome = {
            let mut leases = state.leases.lock();
            respond(packet, &link.interface, &site, settings, &mut leases, unix_seconds())
        };
        self.keep(&mut journal, &outcome.changes);
        outcome
    }

    fn keep(&self, journal: &mut Journal, changes: &[LeaseChange]) {
        let state = &self.state;
        if !changes.is_empty() {
            let table = || -> Vec<Lease> { state.leases.lock().entries() };
            if let Err(e) = journal.append(changes, table) {
                // Answered all the same: a site without addresses is worse than one that forgets them at a restart.
                let what = format!("can't write the journal of leases: {e}; make room on its disk");
                state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        }
    }
}

impl Shared {
    /// Decides what to boot, where the address is another server's affair.
    fn respond_as_proxy(&self, link: &Link, settings: &Settings, door: Door, packet: &Packet) -> Outcome {
        let site = self.state.site.load();
        let mut shapes = self.state.shapes.lock();
        let now = unix_seconds();
        respond_as_proxy(door, packet, &link.interface, &site, settings, &mut shapes, now)
    }
}

fn gets_nothing_to_boot(plan: &BootPlan) -> bool {
    plan.boot_program.is_none() && plan.script_url.is_none()
}
