//! Taking connections, as many as there is room for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use iscsi::Limits;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Setting};
use super::jobs::JOBS;
use super::report::{Fact, Report};
use super::table::Table;

/// How many connections may be open. A further one is closed at once.
pub const MAX_CONNECTIONS: usize = 2048;

/// How many connections of one address may be open without being logged in. A further one is closed at once. A
/// machine needs one at a time; many may share an address behind a router.
pub const HALF_OPEN_PER_ADDRESS: usize = 32;

/// How long a peer may be silent before the system asks whether it is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);

/// How long between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long what was sent, or asked, may stay unacknowledged. Then the peer is gone: what iPXE leaves behind when
/// the operating system takes over, or a machine that was switched off, is cleaned up after that time.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long no connection is taken when the system has no room for one.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves a table of disks on any number of addresses.
pub struct Portal {
    setting: Arc<Setting>,
    places: Arc<Places>,
    connections: TaskTracker,
}

impl Portal {
    /// A portal that serves until `stop` is cancelled.
    #[must_use]
    pub fn new(table: Arc<Table>, report: Arc<dyn Report>, limits: Limits, stop: CancellationToken) -> Self {
        let permits = Arc::new(Semaphore::new(JOBS));
        Self {
            setting: Arc::new(Setting { table, report, permits, limits, stop }),
            places: Arc::default(),
            connections: TaskTracker::new(),
        }
    }

    /// Takes connections from `listener` until the portal is stopped. Several may run at a time.
    pub async fn serve(&self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.setting.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.take(stream, peer),
                // The system is out of something; a connection that broke meanwhile is no reason to wait.
                Err(error) if error.kind() != io::ErrorKind::ConnectionAborted => {
                    self.setting.report.trouble(&error);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Waits for all connections to end, which they do by themselves when the portal is stopped.
    pub async fn drain(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let place = match Place::take(&self.places, peer.ip()) {
            Ok(place) => place,
            Err(why) => return self.setting.report.tell(peer, Fact::Refused { why }),
        };
        let mut entropy = [0; 32];
        if let Err(error) = prepare(&stream).and_then(|()| Ok(getrandom::fill(&mut entropy)?)) {
            self.setting.report.trouble(&error);
            return;
        }
        let Ok(portal) = stream.local_addr() else { return };
        let setting = Arc::clone(&self.setting);
        setting.report.tell(peer, Fact::Connected);
        self.connections.spawn(async move {
            connection::serve(stream, portal, peer, &setting, entropy, &place).await;
        });
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL),
    )?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))
}

/// How many connections there are.
#[derive(Debug, Default)]
struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    half_open: HashMap<IpAddr, usize>,
}

impl Taken {
    fn end_half_open(&mut self, address: IpAddr) {
        if let Some(count) = self.half_open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.half_open.remove(&address);
            }
        }
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    is_half_open: Mutex<bool>,
}

impl Place {
    fn take(places: &Arc<Places>, address: IpAddr) -> Result<Self, &'static str> {
        let address = address.to_canonical();
        let mut taken = places.0.lock();
        if taken.all >= MAX_CONNECTIONS {
            return Err("too many connections are open");
        }
        let half_open = taken.half_open.entry(address).or_default();
        if *half_open >= HALF_OPEN_PER_ADDRESS {
            return Err("too many connections of this address are not logged in");
        }
        *half_open += 1;
        taken.all += 1;
        Ok(Self { places: Arc::clone(places), address, is_half_open: Mutex::new(true) })
    }

    /// The connection is logged in.
    pub(super) fn logged_in(&self) {
        if std::mem::take(&mut *self.is_half_open.lock()) {
            self.places.0.lock().end_half_open(self.address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.logged_in();
        self.places.0.lock().all -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_of_one_address_are_bounded() {
        let places = Arc::new(Places::default());
        let here = IpAddr::from([10, 0, 0, 1]);
        let mut taken: Vec<Place> =
            (0..HALF_OPEN_PER_ADDRESS).map(|_| Place::take(&places, here).unwrap()).collect();
        assert!(Place::take(&places, here).is_err());
        assert!(Place::take(&places, IpAddr::from([10, 0, 0, 2])).is_ok(), "another address has its own");
        taken[0].logged_in();
        taken[0].logged_in();
        taken.push(Place::take(&places, here).unwrap());
        assert!(Place::take(&places, here).is_err());
        drop(taken);
        assert_eq!((places.0.lock().all, places.0.lock().half_open.len()), (0, 0), "all given back");
    }
}
