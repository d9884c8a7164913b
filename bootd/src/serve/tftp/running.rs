//! Which transfers are under way, and whether there is room for one more.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How many transfers may be under way. Further requests are answered with an ERROR. Each holds a socket, an open file
/// and some 2 KiB of memory, whatever its blocks and windows are.
const MAX_TRANSFERS: usize = 4096;

/// How many of them one address may have; firmware has one at a time. Further ones are answered with an ERROR.
const MAX_PER_CLIENT: usize = 8;

/// The transfers that are under way.
#[derive(Debug, Default)]
pub(super) struct Running(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// By the client's address and port, of which each can have one.
    entries: HashMap<SocketAddrV4, Entry>,
    /// How many each address has; none has 0.
    of_client: HashMap<Ipv4Addr, usize>,
}

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
    running: Arc<Mutex<Table>>,
    peer: SocketAddrV4,
    heard: Arc<AtomicBool>,
    replaced: CancellationToken,
}

impl Running {
    /// Whether the request of `peer` may begin a transfer. A transfer that `peer` has already ends by that, unless the
    /// request is just its own again: a client that was reset begins anew, often from the same port.
    pub(super) fn admit(&self, peer: SocketAddrV4, request: &[u8]) -> Admission {
        let mut running = self.0.lock();
        if let Some(entry) = running.entries.get(&peer) {
            if entry.request == request && !entry.heard.load(Ordering::Relaxed) {
                return Admission::Duplicate;
            }
            entry.replaced.cancel();
            running.remove(peer);
        }
        if running.entries.len() >= MAX_TRANSFERS {
            return Admission::Full("too many transfers are running, ask again later");
        }
        if running.of_client.get(peer.ip()).is_some_and(|its| *its >= MAX_PER_CLIENT) {
            return Admission::Full("too many transfers to this address are running");
        }
        let heard = Arc::new(AtomicBool::new(false));
        let replaced = CancellationToken::new();
        let entry =
            Entry { request: request.to_vec(), heard: Arc::clone(&heard), replaced: replaced.clone() };
        running.entries.insert(peer, entry);
        *running.of_client.entry(*peer.ip()).or_default() += 1;
        Admission::Place(Place { running: Arc::clone(&self.0), peer, heard, replaced })
    }
}

impl Table {
    fn remove(&mut self, peer: SocketAddrV4) {
        if self.entries.remove(&peer).is_none() {
            return;
        }
        if let Some(its) = self.of_client.get_mut(peer.ip()) {
            *its -= 1;
            if *its == 0 {
                self.of_client.remove(peer.ip());
            }
        }
    }
}

impl Place {
    /// What [`Self::heard`] sets.
    pub(super) fn heard_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

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
        if running.entries.get(&self.peer).is_some_and(|entry| Arc::ptr_eq(&entry.heard, &self.heard)) {
            running.remove(self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let left = running.0.lock();
        assert!(left.entries.is_empty() && left.of_client.is_empty());
    }
}
