//! Which transfers are under way, and whether there is room for one more.
//!
//! A request is one datagram, whose sender may be forged. So a transfer whose client has not answered yet holds its place only
//! as long as nobody else needs it; and some places are for clients alone, so that others who do answer can't take all.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::way::Mailbox;

/// What some transfers have in common may be under way at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many transfers. Beyond, the oldest whose client has not answered yet makes room; if there is none, a request is
    /// answered with an ERROR. Each holds a socket, an open file and some 2 KiB of memory, whatever its blocks and windows
    /// are.
    transfers: usize,
    /// How many of them only the addresses of clients may have.
    for_clients: usize,
    /// How many of them one address may have. Beyond, as for all of them together.
    per_address: usize,
    /// Whether they share the port that was asked, where their answers come in.
    share_port: bool,
}

/// The bounds of transfers with sockets of their own. Firmware has one at a time.
pub(super) const OWN: Bounds =
    Bounds { transfers: 4096, for_clients: 1024, per_address: 8, share_port: false };

/// The bounds of those that share one port, which are counted apart: an answer can be forged there by whoever forges a request,
/// and that must not take places from others. Behind a router that translates addresses a room has one.
pub(super) const SHARED: Bounds =
    Bounds { transfers: 1024, for_clients: 256, per_address: 128, share_port: true };

/// The transfers that are under way.
#[derive(Debug)]
pub(super) struct Running(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    bounds: Bounds,
    /// By the client's address and port, of which each can have one.
    entries: HashMap<SocketAddrV4, Entry>,
    /// Which each address has; none has an empty list.
    of_client: HashMap<Ipv4Addr, Vec<SocketAddrV4>>,
    /// Those of strangers, the oldest first. Some of them are over.
    strangers: VecDeque<Unheard>,
    /// Those that were begun in the places for clients, the oldest first. Some of them are over.
    clients: VecDeque<Unheard>,
}

#[derive(Debug)]
struct Entry {
    request: Vec<u8>,
    heard: Arc<AtomicBool>,
    replaced: CancellationToken,
    mailbox: Option<Arc<Mailbox>>,
}

/// A transfer whose client had not answered when it began.
#[derive(Debug)]
struct Unheard {
    peer: SocketAddrV4,
    heard: Arc<AtomicBool>,
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
    mailbox: Option<Arc<Mailbox>>,
}

impl Running {
    /// None, within these bounds.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Table {
            bounds,
            entries: HashMap::new(),
            of_client: HashMap::new(),
            strangers: VecDeque::new(),
            clients: VecDeque::new(),
        })))
    }

    /// Hands on what came from `peer` to the port that these transfers share. What is for none of them is dropped: the last word
    /// of one that is over, mostly.
    pub(super) fn deliver(&self, peer: SocketAddrV4, answer: &[u8]) {
        let mailbox = self.0.lock().entries.get(&peer).and_then(|entry| entry.mailbox.clone());
        // With no lock held: it wakes a thread.
        if let Some(mailbox) = mailbox {
            mailbox.put(answer);
        }
    }

    /// Whether the request of `peer` may begin a transfer. A transfer that `peer` has already ends by that, unless the
    /// request is just its own again: a client that was reset begins anew, often from the same port. `is_client` says whether
    /// its address is a client's; it is asked only where that matters.
    pub(super) fn admit(
        &self,
        peer: SocketAddrV4,
        request: &[u8],
        is_client: impl FnOnce() -> bool,
    ) -> Admission {
        let mut running = self.0.lock();
        let Bounds { transfers, for_clients, per_address, share_port } = running.bounds;
        if let Some(entry) = running.entries.get(&peer) {
            if entry.request == request && !entry.heard.load(Ordering::Relaxed) {
                return Admission::Duplicate;
            }
            running.end(peer);
        }
        if running.of_client.get(peer.ip()).is_some_and(|its| its.len() >= per_address)
            && !running.make_room_of(*peer.ip())
        {
            return Admission::Full("too many transfers to this address are running");
        }
        let is_client = running.entries.len() >= transfers - for_clients && is_client();
        let room = if is_client { transfers } else { transfers - for_clients };
        if running.entries.len() >= room && !running.make_room(is_client) {
            return Admission::Full("too many transfers are running, ask again later");
        }
        let heard = Arc::new(AtomicBool::new(false));
        let replaced = CancellationToken::new();
        let mailbox = share_port.then(Arc::<Mailbox>::default);
        let entry = Entry {
            request: request.to_vec(),
            heard: Arc::clone(&heard),
            replaced: replaced.clone(),
            mailbox: mailbox.clone(),
        };
        running.entries.insert(peer, entry);
        running.of_client.entry(*peer.ip()).or_default().push(peer);
        running.queue(Unheard { peer, heard: Arc::clone(&heard) }, is_client);
        Admission::Place(Place { running: Arc::clone(&self.0), peer, heard, replaced, mailbox })
    }
}

impl Table {
    /// Ends the oldest transfer whose client has not answered; `of_clients_too`: also one in the places for clients. Says whether
    /// there was one.
    fn make_room(&mut self, of_clients_too: bool) -> bool {
        while let Some(oldest) = self.strangers.pop_front() {
            if self.end_unheard(&oldest) {
                return true;
            }
        }
        while of_clients_too && let Some(oldest) = self.clients.pop_front() {
            if self.end_unheard(&oldest) {
                return true;
            }
        }
        false
    }

    /// Ends the oldest transfer to that address whose client has not answered, and says whether there was one.
    fn make_room_of(&mut self, client: Ipv4Addr) -> bool {
        let its = self.of_client.get(&client).into_iter().flatten();
        let unheard = |peer: &&SocketAddrV4| {
            self.entries.get(*peer).is_some_and(|entry| !entry.heard.load(Ordering::Relaxed))
        };
        let oldest = its.copied().find(|peer| unheard(&peer));
        oldest.is_some_and(|peer| {
            self.end(peer);
            true
        })
    }

    fn end_unheard(&mut self, of: &Unheard) -> bool {
        let ends = self.goes_on(of);
        if ends {
            self.end(of.peer);
        }
        ends
    }

    /// Whether that transfer is under way, and its client still to answer.
    fn goes_on(&self, Unheard { peer, heard }: &Unheard) -> bool {
        !heard.load(Ordering::Relaxed)
            && self.entries.get(peer).is_some_and(|entry| Arc::ptr_eq(&entry.heard, heard))
    }

    fn queue(&mut self, unheard: Unheard, is_client: bool) {
        let count = |table: &Self| table.strangers.len() + table.clients.len();
        if count(self) >= 2 * self.bounds.transfers {
            // At most half of them are under way, so this is done once in so many.
            let mut both = [std::mem::take(&mut self.strangers), std::mem::take(&mut self.clients)];
            both.iter_mut().for_each(|queue| queue.retain(|unheard| self.goes_on(unheard)));
            [self.strangers, self.clients] = both;
        }
        if is_client { &mut self.clients } else { &mut self.strangers }.push_back(unheard);
    }

    fn end(&mut self, peer: SocketAddrV4) {
        if let Some(entry) = self.entries.get(&peer) {
            entry.replaced.cancel();
            if let Some(mailbox) = &entry.mailbox {
                mailbox.close();
            }
        }
        self.remove(peer);
    }

    fn remove(&mut self, peer: SocketAddrV4) {
        if self.entries.remove(&peer).is_none() {
            return;
        }
        if let Some(its) = self.of_client.get_mut(peer.ip()) {
            its.retain(|other| *other != peer);
            if its.is_empty() {
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

    /// Where its client's answers come in, if it shares the port that was asked.
    pub(super) fn mailbox(&self) -> Option<Arc<Mailbox>> {
        self.mailbox.clone()
    }

    /// Cancelled when the client has begun anew, or others need the place and it has not answered.
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
        match running.admit(peer, request, || false) {
            Admission::Place(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_sent_again_begins_nothing_and_a_new_one_replaces() {
        let running = Running::new(OWN);
        let first = place(&running, peer(1, 2070), b"a");
        assert!(matches!(running.admit(peer(1, 2070), b"a", || false), Admission::Duplicate));
        assert!(!first.replaced().is_cancelled());

        let second = place(&running, peer(1, 2070), b"b");
        assert!(first.replaced().is_cancelled());
        drop(first);
        assert!(
            matches!(running.admit(peer(1, 2070), b"b", || false), Admission::Duplicate),
            "the successor's place is kept"
        );

        second.heard();
        let _third = place(&running, peer(1, 2070), b"b");
        assert!(second.replaced().is_cancelled(), "a client that was reset asks the same again");
    }

    /// Begins transfers of ever new addresses until there are so many.
    fn fill(running: &Running, places: &mut Vec<Place>, count: usize) {
        for client in 2.. {
            if places.len() >= count {
                break;
            }
            places.push(place(running, peer(client, 1), b"a"));
        }
    }

    #[test]
    fn transfers_that_are_answered_are_bounded_for_each_client_and_in_all() {
        let running = Running::new(OWN);
        let full = |peer, is_client| matches!(running.admit(peer, b"a", || is_client), Admission::Full(_));
        let mut places: Vec<Place> =
            (0..OWN.per_address).map(|port| place(&running, peer(1, port as u16), b"a")).collect();
        places.iter().for_each(Place::heard);
        assert!(full(peer(1, 999), true));
        places.pop();
        places.push(place(&running, peer(1, 999), b"a"));
        fill(&running, &mut places, OWN.transfers - OWN.for_clients);
        places.iter().for_each(Place::heard);
        assert!(full(peer(9999, 1), false));
        for client in 10_000.. {
            if places.len() == OWN.transfers {
                break;
            }
            let Admission::Place(its) = running.admit(peer(client, 1), b"a", || true) else {
                panic!("a client is kept out by {} others", places.len())
            };
            its.heard();
            places.push(its);
        }
        assert!(full(peer(9999, 1), true));
        drop(places);
        let left = running.0.lock();
        assert!(left.entries.is_empty() && left.of_client.is_empty());
    }

    #[test]
    fn who_never_answers_keeps_nobody_out() {
        let running = Running::new(OWN);
        let client = place(&running, peer(1, 1), b"a");
        client.heard();
        let mut forged = Vec::new();
        fill(&running, &mut forged, 3 * OWN.transfers);
        // All but the latest of them have ended, and who answers goes on.
        assert_eq!(running.0.lock().entries.len(), OWN.transfers - OWN.for_clients);
        assert!(!client.replaced().is_cancelled());
        let ended = forged.iter().filter(|place| place.replaced().is_cancelled()).count();
        assert_eq!(forged.len() - ended, OWN.transfers - OWN.for_clients - 1);
        assert!(forged[0].replaced().is_cancelled() && !forged[forged.len() - 1].replaced().is_cancelled());
        let newcomer = place(&running, peer(20_000, 1), b"a");
        assert!(!newcomer.replaced().is_cancelled());
        let Admission::Place(known) = running.admit(peer(20_001, 1), b"a", || true) else {
            panic!("a client is kept out")
        };
        // Not even before it has answered.
        let mut more = Vec::new();
        fill(&running, &mut more, 2 * OWN.transfers);
        assert!(!known.replaced().is_cancelled() && newcomer.replaced().is_cancelled());
        let table = running.0.lock();
        assert!(
            table.strangers.len() + table.clients.len() <= 2 * OWN.transfers,
            "what is over is forgotten"
        );
    }

    #[test]
    fn a_clients_own_address_forged_does_not_keep_it_out() {
        let running = Running::new(OWN);
        let forged: Vec<Place> =
            (0..3 * OWN.per_address as u16).map(|port| place(&running, peer(1, port), b"a")).collect();
        let ended = forged.iter().filter(|place| place.replaced().is_cancelled()).count();
        assert_eq!(forged.len() - ended, OWN.per_address);
        let own = place(&running, peer(1, 2070), b"a");
        own.heard();
        let _more: Vec<Place> = (0..99).map(|port| place(&running, peer(1, 500 + port), b"a")).collect();
        assert!(!own.replaced().is_cancelled());
    }

    #[test]
    fn answers_to_a_shared_port_go_to_the_transfer_of_their_sender_and_to_no_earlier_one() {
        let running = Running::new(SHARED);
        let (one, other) = (place(&running, peer(1, 2070), b"a"), place(&running, peer(1, 2071), b"a"));
        let its = |place: &Place| place.mailbox().unwrap();
        running.deliver(peer(1, 2070), b"first");
        running.deliver(peer(1, 9), b"nobody's");
        running.deliver(peer(2, 2070), b"nobody's");
        assert_eq!(its(&one).take(), [b"first"]);
        assert!(its(&other).take().is_empty());

        let anew = place(&running, peer(1, 2070), b"b");
        assert!(one.replaced().is_cancelled());
        running.deliver(peer(1, 2070), b"second");
        assert!(its(&one).take().is_empty());
        drop(one);
        running.deliver(peer(1, 2070), b"third");
        assert_eq!(its(&anew).take(), [&b"second"[..], b"third"]);
        drop(anew);
        running.deliver(peer(1, 2070), b"late");
        assert!(place(&Running::new(OWN), peer(1, 1), b"a").mailbox().is_none());
    }

    #[test]
    fn a_room_behind_one_address_finds_places_and_who_never_answers_keeps_it_out_of_none() {
        let running = Running::new(SHARED);
        let mut forged = Vec::new();
        fill(&running, &mut forged, 3 * SHARED.transfers);
        assert_eq!(running.0.lock().entries.len(), SHARED.transfers - SHARED.for_clients);
        let room: Vec<Place> = (0..60).map(|port| place(&running, peer(1, 2000 + port), b"a")).collect();
        assert!(room.iter().all(|place| !place.replaced().is_cancelled()));
    }
}
