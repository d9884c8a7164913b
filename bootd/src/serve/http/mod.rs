//! HTTP: boot scripts and boot files.
//!
//! `/boot/<mac>/script.ipxe` is rendered for the machine that asks, `/files/<path>` is a file, or what a template of that
//! name makes for the machine that asks. `/mirror/<name>/<path>` is a file of another server. `/client/files` lists the files that bootd keeps on that machine. There are no
//! redirects, which UEFI firmware does not follow, and connections stay open, since it fails where each answer
//! closes one. One task accepts on each served address, one serves each connection, on one of the threads that only do that.

mod connection;
mod head;
mod lanes;
mod range;
mod response;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netboot::{Fetch, FetchEnd, FilePath, StepKind, parse_http_path};
use parking_lot::Mutex;
use site::MacAddr;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::Service;
use self::head::{Head, HeadError, Method};
use self::lanes::Lanes;
use self::response::Response;
use super::files::FileError;
use super::script::{self, NoScript, RETRY_AFTER};
use super::visitor::{Denied, Granted, TurnedAway, admit, tell_missing, tell_refused, tell_unmade};
use super::{ServiceError, beside, listen, listen_on};
use crate::boot::ScriptError;
use crate::events::Event;
use crate::mirror::{Got, MirrorError, Upstream};
use crate::state::{Link, State, millis};
use crate::systemd::Given;
use crate::{logins, managed, registrations, texts};

const SERVICE: &str = "http";

/// How many connections may be open. Further ones are answered with 503 and closed.
const MAX_CONNECTIONS: usize = 1024;

/// How many of them one address may have; a client needs two or three. Further ones are answered with 503 and closed.
const MAX_CONNECTIONS_PER_PEER: usize = 32;

/// How long answers that are being sent may go on when bootd stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long to wait when the system has no room for another connection, before trying again.
const PAUSE: Duration = Duration::from_millis(100);

/// The HTTP service, listening.
#[derive(Debug)]
pub(crate) struct Http {
    /// Each with the number of its link.
    listeners: Vec<(usize, std::net::TcpListener)>,
}

impl Http {
    /// Listens on the addresses of each link, on the first by the sockets that were `given` where there are some.
    ///
    /// # Errors
    /// When an address can't be listened on.
    pub(crate) fn bind(links: &[Link], port: u16, given: &mut Given) -> Result<Self, ServiceError> {
        let first = listen_on(SERVICE, links, port, "port in [http]", given)?;
        let others = beside(SERVICE, links, port, listen);
        Ok(Self { listeners: first.into_iter().enumerate().chain(others).collect() })
    }

    /// Serves until `stop`, and lets answers that are being sent then go on for [`DRAIN`].
    ///
    /// # Errors
    /// When the runtime can't take the sockets.
    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        let open = Arc::new(Open::default());
        let connections = TaskTracker::new();
        let lanes = Lanes::start().map_err(|e| ServiceError::new(SERVICE, "can't start threads", e))?;
        let mut accepting = JoinSet::new();
        for (index, listener) in self.listeners {
            let listener = TcpListener::from_std(listener)
                .map_err(|e| ServiceError::new(SERVICE, "can't watch a socket", e))?;
            let door = Door {
                state: Arc::clone(&state),
                link: index,
                open: Arc::clone(&open),
                connections: connections.clone(),
                lanes: lanes.clone(),
                stop: stop.clone(),
            };
            accepting.spawn(door.accept(listener));
        }
        accepting.join_all().await;
        connections.close();
        let _ = timeout(DRAIN, connections.wait()).await;
        Ok(())
    }
}

/// How many connections each address has open.
#[derive(Debug, Default)]
struct Open(Mutex<HashMap<Ipv4Addr, usize>>);

impl Open {
    /// Counts one more connection of `peer`; `None` if that would be too many.
    fn admit(self: &Arc<Self>, peer: Ipv4Addr) -> Option<Place> {
        let mut open = self.0.lock();
        let its = open.get(&peer).copied().unwrap_or_default();
        if its >= MAX_CONNECTIONS_PER_PEER || open.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        open.insert(peer, its + 1);
        Some(Place { open: Arc::clone(self), peer })
    }
}

/// A connection's place among the open ones; free again when dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    peer: Ipv4Addr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock();
        if let Some(its) = open.get_mut(&self.peer) {
            *its -= 1;
            if *its == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// One served address.
struct Door {
    state: Arc<State>,
    link: usize,
    open: Arc<Open>,
    connections: TaskTracker,
    lanes: Lanes,
    stop: CancellationToken,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, SocketAddr::V4(peer))) => self.admit(stream, peer),
                Ok(_) => {}
                Err(e) => {
                    let what = format!("can't accept connections: {e}");
                    self.state.events.emit(Event::Trouble { service: SERVICE, what });
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddrV4) {
        let Some(place) = self.open.admit(*peer.ip()) else {
            self.state.counters.http_refused.inc();
            // Not by tokio, which has yet to find out that it may write. A new socket's buffer is empty.
            let _ = SockRef::from(&stream).send(Response::TOO_MANY);
            return;
        };
        // Heads and scripts are small and are waited for; there is nothing to be gathered.
        let _ = stream.set_nodelay(true);
        let making = Handle::current();
        let visit = Visit { state: Arc::clone(&self.state), link: self.link, peer, making };
        let stop = self.stop.clone();
        let (Ok(stream), Some(lane)) = (stream.into_std(), self.lanes.next()) else { return };
        let served = async move {
            let _place = place;
            // A broken connection is the client's affair: it was switched off, or has had enough.
            if let Ok(stream) = TcpStream::from_std(stream) {
                let _ = connection::serve(stream, &stop, &visit).await;
            }
        };
        self.connections.spawn_on(served, lane);
    }
}

/// One client's connection to one of our addresses.
struct Visit {
    state: Arc<State>,
    link: usize,
    peer: SocketAddrV4,
    /// What makes disks, which outlives the threads of the connections.
    making: Handle,
}

/// A file that is being sent, and to whom, for the timeline.
#[derive(Debug)]
struct Sending {
    visitor: MacAddr,
    path: String,
    size: Option<u64>,
    since: Instant,
}

impl Sending {
    fn new(visitor: MacAddr, path: &str, size: Option<u64>) -> Self {
        Self { visitor, path: path.to_owned(), size, since: Instant::now() }
    }
}

impl Service for Visit {
    type Note = Option<Sending>;

    async fn answer(&self, head: &Head) -> (Response, Option<Sending>) {
        let state = &self.state;
        state.counters.http_requests.inc();
        let Some(link) = state.links.get(self.link) else {
            return (Response::refusal(500, "no such link"), None);
        };
        let peer = *self.peer.ip();
        // What is made is made in boxes: answers that need nothing made, of which there are thousands to each of the others, would
        // carry the room for it about.
        match admit(state, link, peer, parse_http_path(&head.path)) {
            Ok(Granted::File { path, visitor }) => self.file(head, &path, visitor),
            // To have it made makes a disk, which only asking for it may do.
            Ok(Granted::Script(..)) if head.method == Method::Head => (Response::unmade_text(), None),
            Ok(Granted::Script(mac, which)) => {
                // It makes a disk, to the end even if this connection is closed.
                let its = (Arc::clone(state), self.link);
                let made = self
                    .making
                    .spawn(async move { script::make_soon(&its.0, its.1, peer, mac, which).await });
                let response = match made.await {
                    Ok(Ok(text)) => Response::text(200, text).with("Cache-Control", "no-store"),
                    Ok(Err(e @ (NoScript::Busy | NoScript::Slow))) => Response::refusal(503, &e.to_string())
                        .with("Retry-After", RETRY_AFTER.as_secs().to_string()),
                    Ok(Err(e)) => Response::refusal(500, &e.to_string()),
                    Err(e) => Response::refusal(500, &format!("internal error: {e}")),
                };
                (response, None)
            }
            Ok(Granted::Register { .. }) if head.method == Method::Head => (Response::unmade_text(), None),
            Ok(Granted::Register { mac, query }) => {
                let response = match registrations::submit(state, link, mac, peer, &query).await {
                    Ok(text) => Response::text(200, text).with("Cache-Control", "no-store"),
                    Err(e @ registrations::NotTaken::TooOften) => {
                        Response::refusal(503, &e.to_string()).with("Retry-After", "5")
                    }
                    Err(e) => Response::refusal(500, &e.to_string()),
                };
                (response, None)
            }
            Ok(Granted::Text { path, mac }) => {
                let made = Box::pin(texts::text(state, link, mac, peer, path.as_str())).await;
                self.made(head, mac, path.as_str(), made.map(|made| Response::text(200, made.text)))
            }
            Ok(Granted::Managed { name: None, mac }) => {
                let made = Box::pin(managed::list(state, link, mac, peer)).await;
                self.made(head, mac, "client/files", made.map(|list| Response::text(200, list)))
            }
            Ok(Granted::Managed { name: Some(name), mac }) => {
                let made = Box::pin(managed::content(state, link, mac, peer, &name)).await;
                self.made(head, mac, &format!("client/files/{name}"), made.map(Response::bytes))
            }
            Ok(Granted::ManagedProgram) => (Response::text(200, managed::PROGRAM), None),
            Ok(Granted::Wallpaper { screen, visitor }) => {
                match logins::wallpaper(state, visitor, screen).await {
                    Some(path) => self.file(head, &path, visitor),
                    None => {
                        let why =
                            "there is no picture; put some into the folder wallpaper among the boot files";
                        (Response::refusal(404, why), None)
                    }
                }
            }
            Ok(Granted::UserHome { user, mac }) => match logins::home(&state.site.load(), mac, &user) {
                Some(home) => (Response::text(200, home).with("Cache-Control", "no-store"), None),
                None => {
                    (Response::refusal(404, &format!("the site does not know where {user} has files")), None)
                }
            },
            Ok(Granted::Mirrored { mirror, path, mac }) => self.mirrored(head, mac, &mirror, &path).await,
            Err(TurnedAway { why: e @ Denied::NotFound, .. }) => {
                (Response::refusal(404, &e.to_string()), None)
            }
            Err(TurnedAway { why: e, visitor }) => {
                let why = e.to_string();
                if matches!(e, Denied::Script(_)) {
                    state.counters.scripts_refused.inc();
                }
                let response = Response::refusal(403, &why);
                tell_refused(state, SERVICE, self.peer.into(), visitor, why);
                (response, None)
            }
        }
    }

    fn sent(&self, sending: Option<Sending>, outcome: &io::Result<u64>) {
        let Some(Sending { visitor, path, size, since }) = sending else { return };
        let (bytes, end, detail) = match outcome {
            Ok(bytes) => (*bytes, FetchEnd::Complete, String::new()),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => (0, FetchEnd::Silent, e.to_string()),
            // Ours: it became shorter, or its mirror could not get the rest of it.
            Err(e) if matches!(e.kind(), io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) => {
                (0, FetchEnd::Unreadable, e.to_string())
            }
            Err(e) => (0, FetchEnd::Gone, e.to_string()),
        };
        let took_ms = millis(since.elapsed());
        let fetch = Fetch { path, bytes, size, took_ms, resent: 0, blksize: None, end };
        self.state.step(visitor, StepKind::HttpFile(fetch), &detail);
    }

    fn refused(&self, error: HeadError) {
        self.state.counters.http_malformed.inc();
        let why = error.to_string();
        self.state.events.emit(Event::Malformed { service: SERVICE, peer: self.peer.into(), why });
    }
}

impl Visit {
    /// The answer that is, or can't be, made for the client `mac`, which asked for `path`.
    fn made(
        &self,
        head: &Head,
        mac: MacAddr,
        path: &str,
        made: Result<Response, ScriptError>,
    ) -> (Response, Option<Sending>) {
        match made {
            Ok(response) => {
                let whole = head.method == Method::Get;
                let sending = whole.then(|| Sending::new(mac, path, None));
                (response.with("Cache-Control", "no-store"), sending)
            }
            Err(e @ ScriptError::NoSuchFile(_)) => {
                tell_missing(&self.state, SERVICE, self.peer.into(), Some(mac), path);
                (Response::refusal(404, &e.to_string()), None)
            }
            Err(e) => {
                tell_unmade(&self.state, SERVICE, mac, path, &e);
                (Response::refusal(500, &e.to_string()), None)
            }
        }
    }

    /// A file of a mirror, or as much as there is of it while the rest is coming.
    async fn mirrored(
        &self,
        head: &Head,
        mac: MacAddr,
        mirror: &str,
        path: &FilePath,
    ) -> (Response, Option<Sending>) {
        let state = &self.state;
        let name = format!("mirror/{mirror}/{path}");
        let got = match Upstream::named(&state.site.load_full(), mirror) {
            Ok(upstream) => {
                // It begins what goes on without this connection, and writes to the disk.
                let (state, path) = (Arc::clone(state), path.clone());
                let got = self.making.spawn(async move { state.mirrors.get(&upstream, &path).await });
                match got.await {
                    Ok(got) => got,
                    Err(e) => return (Response::refusal(500, &format!("internal error: {e}")), None),
                }
            }
            Err(e) => Err(e),
        };
        let whole = head.method == Method::Get && head.range.is_none();
        let sending = |size| whole.then(|| Sending::new(mac, &name, Some(size)));
        match got {
            Ok(Got::Stored(file)) => {
                let size = file.len;
                (Response::file(file, path.as_str(), head), sending(size))
            }
            Ok(Got::Arriving { file, len, flight }) => {
                (Response::arriving(file, len, flight, path.as_str(), head), sending(len))
            }
            Err(e) => {
                let response = Response::refusal(e.status(), &e.to_string());
                state.step(mac, StepKind::Failed, &format!("{name}: {e}"));
                match e {
                    MirrorError::Busy => {
                        (response.with("Retry-After", RETRY_AFTER.as_secs().to_string()), None)
                    }
                    _ => (response, None),
                }
            }
        }
    }

    fn file(&self, head: &Head, path: &FilePath, visitor: Option<MacAddr>) -> (Response, Option<Sending>) {
        match self.state.files.fetch(path) {
            Ok(file) => {
                let size = file.len();
                let response = Response::fetched(file, path.as_str(), head);
                // Clients that read a file in pieces read it in thousands, which says nothing in a timeline.
                let whole = head.method == Method::Get && head.range.is_none();
                let sending =
                    visitor.filter(|_| whole).map(|mac| Sending::new(mac, path.as_str(), Some(size)));
                (response, sending)
            }
            Err(e @ FileError::NotFound) => {
                tell_missing(&self.state, SERVICE, self.peer.into(), visitor, path.as_str());
                (Response::refusal(404, &e.to_string()), None)
            }
            Err(e @ FileError::Unreadable { .. }) => {
                self.state.events.emit(Event::Trouble { service: SERVICE, what: e.to_string() });
                (Response::refusal(500, "the file can't be read"), None)
            }
        }
    }
}
