//! Which transfers are under way, and whether there is room for one more.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How many transfers may be under way. Further requests are answered with an ERROR. Each holds a socket and up to
/// one block in memory.
const MAX_TRANSFERS: usize = 512;

/// How many of them one address may have; firmware has one at a time. Further ones are answered with an ERROR.
const MAX_PER_CLIENT: usize = 8;

/// The transfers that are under way, by the client's address and port, of which each can have one.
#[derive(Debug, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<SocketAddrV4, Entry>>>);

#[derive(Debug)]
struct Entry {
    request: Vec<u8>,
    heard: Arc<AtomicBool>,
    replaced: CancellationToken,
}

/// What is to become of a request.
#[derive(Debug)]
pub(super) enum Admission {
    /// It begins a transfer.
    Place(Place),
    /// It is the request of a transfer that is under way, sent again because our first packet was late or lost. That
    /// one is sent again anyway; a second transfer would confuse the client.
    Duplicate,
    /// There is no room; the client is told so.
    Full(&'static str),
}

/// A transfer's place among the running ones; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    running: Arc<Mutex<HashMap<SocketAddrV4, Entry>>>,
    peer: SocketAddrV4,
    heard: Arc<AtomicBool>,
    replaced: CancellationToken,
}

impl Running {
    /// Whether the request of `peer` may begin a transfer. A transfer that `peer` has already ends by that, unless the
    /// request is just its own again: a client that was reset begins anew, often from the same port.
    pub(super) fn admit(&self, peer: SocketAddrV4, request: &[u8]) -> Admission {
        let mut running = self.0.lock();
        if let Some(entry) = running.get(&peer) {
            if entry.request == request && !entry.heard.load(Ordering::Relaxed) {
                return Admission::Duplicate;
            }
            entry.replaced.cancel();
            running.remove(&peer);
        }
        if running.len() >= MAX_TRANSFERS {
            return Admission::Full("too many transfers are running, ask again later");
        }
        if running.keys().filter(|other| other.ip() == peer.ip()).count() >= MAX_PER_CLIENT {
            return Admission::Full("too many transfers to this address are running");
        }
        let heard = Arc::new(AtomicBool::new(false));
        let replaced = CancellationToken::new();
        let entry =
            Entry { request: request.to_vec(), heard: Arc::clone(&heard), replaced: replaced.clone() };
        running.insert(peer, entry);
        Admission::Place(Place { running: Arc::clone(&self.0), peer, heard, replaced })
    }
}

impl Place {
    /// Notes that the client has answered: the same request again will be a new one.
    pub(super) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Cancelled when the client has begun anew.
    pub(super) fn replaced(&self) -> &CancellationToken {
        &self.replaced
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        // Not its successor's place.
        if running.get(&self.peer).is_some_and(|entry| Arc::ptr_eq(&entry.heard, &self.heard)) {
            running.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(client: u16, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + u32::from(client)), port)
    }

    fn place(running: &Running, peer: SocketAddrV4, request: &[u8]) -> Place {
        match running.admit(peer, request) {
            Admission::Place(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_sent_again_begins_nothing_and_a_new_one_replaces() {
        let running = Running::default();
        let first = place(&running, peer(1, 2070), b"a");
        assert!(matches!(running.admit(peer(1, 2070), b"a"), Admission::Duplicate));
        assert!(!first.replaced().is_cancelled());

        let second = place(&running, peer(1, 2070), b"b");
        assert!(first.replaced().is_cancelled());
        drop(first);
        assert!(
            matches!(running.admit(peer(1, 2070), b"b"), Admission::Duplicate),
            "the successor's place is kept"
        );

        second.heard();
        let _third = place(&running, peer(1, 2070), b"b");
        assert!(second.replaced().is_cancelled(), "a client that was reset asks the same again");
    }

    #[test]
    fn transfers_are_bounded_for_each_client_and_in_all() {
        let running = Running::default();
        let mut places: Vec<Place> =
            (0..MAX_PER_CLIENT).map(|port| place(&running, peer(1, port as u16), b"a")).collect();
        assert!(matches!(running.admit(peer(1, 999), b"a"), Admission::Full(_)));
        places.pop();
        places.push(place(&running, peer(1, 999), b"a"));
        for client in 2.. {
            if places.len() == MAX_TRANSFERS {
                break;
            }
            places.push(place(&running, peer(client, 1), b"a"));
        }
        assert!(matches!(running.admit(peer(9999, 1), b"a"), Admission::Full(_)));
        drop(places);
        assert!(running.0.lock().is_empty());
    }
}
