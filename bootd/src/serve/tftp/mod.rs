//! TFTP: boot programs for firmware, and boot files and scripts for an iPXE without HTTP.
//!
//! One task receives requests on each served address, and a task for each finds out what the client gets. Each transfer has
//! a socket of its own, bound to the address that was asked (clients check where blocks come from) and connected to
//! the client, so that others can't put in blocks or errors, and so that the network's "nobody listens there" ends it. Those to
//! the machines that `single_port` names go from the port that was asked ([`way`]).
//! The transfer itself is [`netboot::tftp::Transfer`], and runs on the threads of [`engine`].

mod engine;
mod running;
#[cfg(test)]
mod tests;
mod transfer;
mod way;

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netboot::tftp::{
    End, ErrorCode, MAX_REQUEST_LEN, Request, Source, Summary, Transfer, error_packet, is_request,
};
use netboot::{Fetch, FetchEnd, FilePath, StepKind, parse_tftp_path};
use site::MacAddr;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::engine::{Engine, Job};
use self::running::{Admission, OWN, Place, Running, SHARED};
use self::transfer::Unproven;
use self::way::{AskedPort, Way};
use super::files::{FileError, OpenFile};
use super::limit::Allowance;
use super::script::Which;
use super::visitor::{Denied, Granted, TurnedAway, admit, tell_missing, tell_refused, tell_unmade};
use super::{ServiceError, beside, listen_error, run_until, script};
use crate::events::Event;
use crate::mirror::{MirrorError, Upstream};
use crate::state::{Counters, Link, State, millis, unix_seconds};
use crate::texts;

const SERVICE: &str = "tftp";

const PORT: u16 = 69;

/// How many requests one address may send at once, and then each second. Further ones are dropped and counted, and
/// a client asks again. PXELINUX tries a dozen names in a row.
const BURST: u32 = 100;
const PER_SECOND: u32 = 50;

/// How many bytes of requests may wait to be received, as far as the system grants it: a room that is switched on at once.
/// What comes beyond is lost, and clients ask again.
const RECEIVE_BUFFER: usize = 1 << 20;

/// How many bytes may wait to be sent from port 69, as far as the system grants it, which transfers share that go from there. What
/// comes beyond is lost, and sent again.
const SEND_BUFFER: usize = 1 << 20;

/// How long transfers that are under way may go on when bootd stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a client is kept waiting for what a mirror has to fetch. Most give up a little later, and when they ask again it is
/// there.
const MIRROR_PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait when the socket gives errors instead of datagrams, before trying again.
const PAUSE: Duration = Duration::from_millis(100);

/// The TFTP service, listening.
#[derive(Debug)]
pub(crate) struct Tftp {
    /// Each with the number of its link.
    sockets: Vec<(usize, StdSocket)>,
}

impl Tftp {
    /// Listens on the addresses of each link.
    ///
    /// # Errors
    /// When the first address of one can't be listened on.
    pub(crate) fn bind(links: &[Link]) -> Result<Self, ServiceError> {
        let open = |address: SocketAddrV4| {
            let socket = StdSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
            SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER)?;
            Ok(socket)
        };
        let first = |(index, link): (usize, &Link)| {
            let address = SocketAddrV4::new(link.interface.address, PORT);
            let opened = open(address);
            let opened = opened.map_err(|e| listen_error(SERVICE, address, "enabled = false in [tftp]", e));
            opened.map(|socket| (index, socket))
        };
        let mut sockets = links.iter().enumerate().map(first).collect::<Result<Vec<_>, _>>()?;
        sockets.extend(beside(SERVICE, links, PORT, open));
        Ok(Self { sockets })
    }

    /// Serves until `stop`, and lets transfers that are under way then go on for [`DRAIN`].
    ///
    /// # Errors
    /// When the runtime can't take the sockets, or the system has no threads to give.
    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        let engine = Engine::start().map_err(|e| ServiceError::new(SERVICE, "can't start its threads", e))?;
        let shared = Arc::new(Shared {
            state,
            running: Running::new(OWN),
            allowance: Allowance::new(BURST, PER_SECOND),
            transfers: TaskTracker::new(),
            engine,
        });
        let (mut links, mut listeners) = (JoinSet::new(), Vec::new());
        for (link, socket) in self.sockets {
            let unwatched = |e| ServiceError::new(SERVICE, "can't watch a socket", e);
            let listener = Listener::new(link, &socket).map_err(unwatched)?;
            let socket = UdpSocket::from_std(socket).map_err(unwatched)?;
            links.spawn(serve(Arc::clone(&shared), Arc::clone(&listener), socket));
            listeners.push(listener);
        }
        let ran = run_until(SERVICE, links, &stop).await;
        shared.transfers.close();
        let mut rest = JoinSet::new();
        for listener in listeners {
            rest.spawn(listener.hear_out());
        }
        let _ = timeout(DRAIN, shared.transfers.wait()).await;
        ran
    }
}

/// What the links have in common.
struct Shared {
    state: Arc<State>,
    running: Running,
    allowance: Allowance,
    transfers: TaskTracker,
    engine: Engine,
}

/// A port that requests come to.
struct Listener {
    link: usize,
    /// Our address.
    local: Ipv4Addr,
    /// What goes from here to those who are answered from the port that they asked.
    socket: Arc<StdSocket>,
    /// Their transfers.
    running: Running,
}

impl Listener {
    fn new(link: usize, socket: &StdSocket) -> io::Result<Arc<Self>> {
        let local = match socket.local_addr()? {
            SocketAddr::V4(local) => *local.ip(),
            SocketAddr::V6(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        let socket = Arc::new(socket.try_clone()?);
        Ok(Arc::new(Self { link, local, socket, running: Running::new(SHARED) }))
    }

    /// Takes no more requests, and goes on with what answers to those before.
    async fn hear_out(self: Arc<Self>) {
        let Ok(socket) = self.socket.try_clone().and_then(UdpSocket::from_std) else { return };
        let mut buffer = [0; MAX_REQUEST_LEN];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, SocketAddr::V4(peer))) => {
                    let bytes = buffer.get(..len).unwrap_or_default();
                    if !is_request(bytes) {
                        self.running.deliver(peer, bytes);
                    }
                }
                Ok(_) => {}
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: Arc<Listener>, socket: UdpSocket) {
    // One byte more than the longest request, so that a longer one is seen to be one.
    let mut buffer = [0; MAX_REQUEST_LEN + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, SocketAddr::V4(peer))) => {
                let bytes = buffer.get(..len).unwrap_or_default();
                if let Some(refusal) = shared.receive(&listener, bytes, peer) {
                    // What can't be sent is lost; the client asks again.
                    let _ = socket.send_to(&refusal, peer).await;
                }
            }
            Ok(_) => {}
            Err(e) => {
                let what = format!("can't receive: {e}");
                shared.state.events.emit(Event::Trouble { service: SERVICE, what });
                sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Begins a transfer, if `bytes` are a request for one; otherwise says what to answer, if anything.
    fn receive(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        bytes: &[u8],
        peer: SocketAddrV4,
    ) -> Option<Vec<u8>> {
        let shares_port = self.state.config.single_port.iter().any(|subnet| subnet.contains(*peer.ip()));
        let running = if shares_port { &listener.running } else { &self.running };
        if shares_port && !is_request(bytes) {
            running.deliver(peer, bytes);
            return None;
        }
        let counters = &self.state.counters;
        if !self.allowance.take(peer.ip()) {
            counters.tftp_dropped.inc();
            return None;
        }
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(e) => {
                counters.tftp_malformed.inc();
                let why = e.to_string();
                self.state.events.emit(Event::Malformed { service: SERVICE, peer: peer.into(), why });
                return e.packet();
            }
        };
        counters.tftp_requests.inc();
        let place = match running.admit(peer, bytes, || self.is_client(*peer.ip())) {
            Admission::Place(place) => place,
            Admission::Duplicate => return None,
            Admission::Full(why) => {
                counters.tftp_refused.inc();
                let event = Event::Refused { service: SERVICE, peer: peer.into(), why: why.to_owned() };
                self.state.events.emit(event);
                return Some(error_packet(ErrorCode::NotDefined, why));
            }
        };
        let replaced = place.replaced().clone();
        let visit = Visit { shared: Arc::clone(self), listener: Arc::clone(listener), peer, place };
        self.transfers.spawn(async move {
            // The client has begun anew from the same port: what it gets now must not be mixed with the rest. Or it has never
            // answered, and others need the place.
            tokio::select! {
                () = replaced.cancelled() => {}
                () = visit.serve(request) => {}
            }
        });
        None
    }
}

impl Shared {
    /// Whether that is where a client is, as far as is known without asking the network.
    fn is_client(&self, address: Ipv4Addr) -> bool {
        let state = &self.state;
        let site = state.site.load();
        let lessee = state.leases.lock().by_address(address, unix_seconds()).map(|lease| lease.mac);
        lessee.is_some_and(|mac| site.client_by_mac(mac).is_some())
            || site.client_by_address(address).is_some()
            || state.whereabouts.has(address)
    }
}

/// One client's request to one of our addresses.
struct Visit {
    shared: Arc<Shared>,
    listener: Arc<Listener>,
    peer: SocketAddrV4,
    place: Place,
}

/// What a client is to be sent, and how.
struct Found {
    request: Request,
    source: Box<dyn Source>,
    /// Who it is, where that is known.
    visitor: Option<MacAddr>,
}

impl Visit {
    async fn serve(self, request: Request) {
        let Shared { state, engine, .. } = &*self.shared;
        let Listener { link, local, socket, .. } = &*self.listener;
        let Some(link) = state.links.get(*link) else { return };
        let way = match self.place.mailbox() {
            Some(mailbox) => {
                Ok(Way::Asked(AskedPort { socket: Arc::clone(socket), peer: self.peer, mailbox }))
            }
            None => transfer::connect(*local, self.peer).map(Way::Own),
        };
        let mut way = match way {
            Ok(way) => way,
            Err(e) => {
                let what = format!("can't answer {}: {e}", self.peer);
                return state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        };
        // In a box, so that what it took to find the file is not kept while it is sent.
        match Box::pin(self.find(link, &mut way, request)).await {
            Ok(Found { request, source, visitor }) => {
                let size = source.len();
                let unfinished = Unfinished::begin(state, visitor, &request.filename, size);
                let epoch = Instant::now();
                let limits = transfer::limits(&way, *local);
                let transfer = Transfer::new(&request, source, &limits, Duration::ZERO);
                let job = Job { way, transfer, epoch, heard: self.place.heard_flag() };
                let ran = engine.run(job).await;
                unfinished.finish();
                if let Ok(summary) = ran {
                    self.note(&request.filename, visitor, size, &summary);
                }
            }
            Err(Some((code, why))) => {
                // What can't be sent is lost; the client asks again.
                let _ = way.send(&error_packet(code, &why), None);
            }
            Err(None) => {}
        }
    }

    /// What the client is to be sent. The error is what to tell it instead, if anything.
    async fn find(
        &self,
        link: &Link,
        way: &mut Way,
        request: Request,
    ) -> Result<Found, Option<(ErrorCode, String)>> {
        let state = &self.shared.state;
        let peer = *self.peer.ip();
        match admit(state, link, peer, parse_tftp_path(&request.filename)) {
            Ok(Granted::File { path, visitor }) => match state.files.open(&path) {
                Ok(file) => Ok(Found { request, source: Box::new(FileSource(file)), visitor }),
                Err(e @ FileError::NotFound) => {
                    tell_missing(state, SERVICE, self.peer.into(), visitor, path.as_str());
                    Err(Some((ErrorCode::FileNotFound, e.to_string())))
                }
                Err(e @ FileError::Unreadable { .. }) => {
                    state.events.emit(Event::Trouble { service: SERVICE, what: e.to_string() });
                    Err(Some((ErrorCode::NotDefined, "the file can't be read".to_owned())))
                }
            },
            Ok(Granted::Script(mac, which)) => {
                let request = match which {
                    Which::Autoexec | Which::Menu => request,
                    Which::Boot | Which::Choice(_) => self.prove(way, mac, request).await?,
                };
                match script::make(state, self.listener.link, peer, mac, which).await {
                    Ok(text) => {
                        Ok(Found { request, source: Box::new(bytes::Bytes::from(text)), visitor: Some(mac) })
                    }
                    Err(e) => Err(Some((ErrorCode::NotDefined, e.to_string()))),
                }
            }
            Ok(Granted::Text { path, mac }) => {
                // Whole before the first packet, which may have to tell its length (RFC 2349).
                match texts::text(state, link, mac, peer, path.as_str()).await {
                    Ok(made) => {
                        let source = Box::new(bytes::Bytes::from(made.text));
                        Ok(Found { request, source, visitor: Some(mac) })
                    }
                    Err(e) => {
                        tell_unmade(state, SERVICE, mac, path.as_str(), &e);
                        Err(Some((ErrorCode::NotDefined, e.to_string())))
                    }
                }
            }
            Ok(Granted::Mirrored { mirror, path, mac }) => {
                // What is not here yet is fetched for whoever asks from where it says, or a forged sender could have
                // much fetched.
                let request = match state.mirrors.known(&mirror, path.as_str()) {
                    Some(_) => request,
                    None => self.prove(way, mac, request).await?,
                };
                match self.mirrored(&mirror, &path).await {
                    Ok(file) => Ok(Found { request, source: Box::new(FileSource(file)), visitor: Some(mac) }),
                    Err(e) => {
                        let code = match e.status() {
                            404 => ErrorCode::FileNotFound,
                            _ => ErrorCode::NotDefined,
                        };
                        state.step(mac, StepKind::Failed, &format!("mirror/{mirror}/{path}: {e}"));
                        Err(Some((code, e.to_string())))
                    }
                }
            }
            // No name of TFTP's stands for these.
            Ok(
                Granted::Managed { .. }
                | Granted::ManagedProgram
                | Granted::Wallpaper { .. }
                | Granted::Register { .. }
                | Granted::UserHome { .. },
            ) => Err(Some((ErrorCode::FileNotFound, Denied::NotFound.to_string()))),
            Err(TurnedAway { why: e @ Denied::NotFound, .. }) => {
                Err(Some((ErrorCode::FileNotFound, e.to_string())))
            }
            Err(TurnedAway { why: e, visitor }) => {
                if matches!(e, Denied::Script(_)) {
                    state.counters.scripts_refused.inc();
                }
                Err(Some((ErrorCode::AccessViolation, self.refuse(visitor, e.to_string()))))
            }
        }
    }

    /// A file of a mirror. It is sent when all of it is there and right: TFTP can neither wait in the midst of a file nor take
    /// back what it has sent.
    async fn mirrored(&self, mirror: &str, path: &FilePath) -> Result<OpenFile, MirrorError> {
        let state = &self.shared.state;
        let upstream = Upstream::named(&state.site.load_full(), mirror)?;
        state.mirrors.whole(&upstream, path, MIRROR_PATIENCE).await
    }

    /// Sees to it that the request comes from where it says. To have a boot script made ends the disk of the client's
    /// earlier boot, and one datagram with a forged sender must not do that to a machine that runs; HTTP has TCP's
    /// handshake for it.
    ///
    /// The proof is that the client's answer comes to a port that only the client was told of. So this goes by a socket of the
    /// transfer's own where all else goes from the port that was asked, to which anyone can answer.
    async fn prove(
        &self,
        way: &mut Way,
        mac: MacAddr,
        request: Request,
    ) -> Result<Request, Option<(ErrorCode, String)>> {
        if let Way::Asked(_) = way {
            let socket = transfer::connect(self.listener.local, self.peer).map_err(|_| None)?;
            *way = Way::Own(socket);
        }
        let Way::Own(socket) = &*way else { return Err(None) };
        match transfer::handshake(socket, request, &self.place).await {
            Ok(request) => Ok(request),
            Err(Unproven::Silent) => Err(None),
            Err(Unproven::NoOptions) => {
                let why = "what is made or fetched for one client goes by TFTP only to clients that negotiate blksize, as \
                           iPXE does";
                Err(Some((ErrorCode::AccessViolation, self.refuse(Some(mac), why.to_owned()))))
            }
        }
    }

    /// Tells whoever runs the site why a client got nothing, and hands the reason on.
    fn refuse(&self, visitor: Option<MacAddr>, why: String) -> String {
        tell_refused(&self.shared.state, SERVICE, self.peer.into(), visitor, why.clone());
        why
    }

    /// Counts a transfer that ended, and puts it into its client's timeline.
    fn note(&self, name: &str, visitor: Option<MacAddr>, size: u64, summary: &Summary) {
        let state = &self.shared.state;
        let Summary { end, bytes, blksize, windowsize, resent, took, silence } = summary;
        tracing::debug!(
            "tftp: {} {name:?}: {end}, {bytes} bytes in {took:?}, blocks of {blksize}, windows of {windowsize}, \
             {resent} resent",
            self.peer
        );
        let (ended, detail) = match end {
            // It only asked for the length and will be back.
            End::Probe => return,
            End::Complete | End::Unconfirmed => (FetchEnd::Complete, String::new()),
            End::Aborted { .. } => (FetchEnd::Aborted, end.to_string()),
            End::TimedOut => (FetchEnd::Silent, String::new()),
            End::Unreachable => (FetchEnd::Gone, String::new()),
            End::SourceFailed(why) => (FetchEnd::Unreadable, why.clone()),
        };
        let Counters { tftp_completed, tftp_failed, .. } = state.counters.as_ref();
        let ended_well = ended == FetchEnd::Complete;
        if ended_well { tftp_completed } else { tftp_failed }.inc();
        let path = name.escape_debug().to_string();
        if let Some(mac) = visitor {
            let fetch = Fetch {
                path,
                bytes: *bytes,
                size: Some(size),
                took_ms: millis(*took),
                resent: *resent,
                blksize: Some(*blksize),
                end: ended,
            };
            state.step_past(mac, StepKind::TftpFile(fetch), &detail, *silence);
        } else if !ended_well {
            let why = format!("TFTP of {path}: {end}");
            state.events.emit(Event::Refused { service: SERVICE, peer: self.peer.into(), why });
        }
    }
}

/// A transfer to a known machine that is under way. When it is dropped before its end, its client has asked for the same
/// from the same port again, which is noted.
struct Unfinished(Option<(Arc<State>, MacAddr, Fetch, Instant)>);

impl Unfinished {
    fn begin(state: &Arc<State>, visitor: Option<MacAddr>, name: &str, size: u64) -> Self {
        Self(visitor.map(|mac| {
            let fetch = Fetch {
                path: name.escape_debug().to_string(),
                bytes: 0,
                size: Some(size),
                took_ms: 0,
                resent: 0,
                blksize: None,
                end: FetchEnd::BegunAnew,
            };
            (Arc::clone(state), mac, fetch, Instant::now())
        }))
    }

    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((state, mac, fetch, since)) = self.0.take() {
            let fetch = Fetch { took_ms: millis(since.elapsed()), ..fetch };
            state.step(mac, StepKind::TftpFile(fetch), "");
        }
    }
}

/// A file as the transfer reads it. Reads are one block's, at most 64 KiB, of a file that the kernel reads ahead, so
/// they are done where the transfer runs: to hand them to another thread would cost more than they do.
struct FileSource(OpenFile);

impl Source for FileSource {
    fn len(&self) -> u64 {
        self.0.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        File::read_at(&self.0.file, buffer, offset)
    }
}
