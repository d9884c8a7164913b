//! Taking connections, as many as there is room for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use iscsi::Limits;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Setting};
use super::jobs::JOBS;
use super::places::Places;
use super::report::{Fact, Report};
use super::table::Table;

/// How long a peer may be silent before the system asks whether it is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);

/// How long between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long what was sent, or asked, may stay unacknowledged. Then the peer is gone: what iPXE leaves behind when
/// the operating system takes over, or a machine that was switched off, is cleaned up after that time.
const PEER_TIMEOUT: Duration = Duration::from_secs(60);

/// What may wait in the system for a peer to take it, in bytes. The system keeps twice that for its own accounting, and
/// holds as much payload as a 10 Gbit/s network moves in 0.3 ms. Left to itself it would let megabytes pile up for each
/// client: memory for nothing, and data that has left the processor's cache by the time it is sent.
const SEND_BUFFER: usize = 208 << 10;

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
        let place = match self.places.take(peer.ip()) {
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
            connection::serve(stream, portal, peer, &setting, entropy, place).await;
        });
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL),
    )?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))
}
