//! How many connections there are, of whom, and how much each may have in flight.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// How many connections may be open. A further one is closed at once.
pub const MAX_CONNECTIONS: usize = 2048;

/// How many connections of one address may be open without being logged in. A further one is closed at once. A
/// machine needs one at a time; many may share an address behind a router.
pub const HALF_OPEN_PER_ADDRESS: usize = 32;

/// Bytes that all connections together should have in flight: each may have its share of it, but never less than
/// [`LEAST_SHARE`] nor more than its own limit.
pub const BYTES_IN_FLIGHT_IN_ALL: u64 = 512 << 20;

/// What a connection may have in flight however many there are.
pub const LEAST_SHARE: u64 = 256 << 10;

/// The places that connections take.
#[derive(Debug)]
pub(super) struct Places {
    taken: Mutex<Taken>,
    /// Written when connections come and go, and read on every turn of each: no lock is worth that.
    share: AtomicU64,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    half_open: HashMap<IpAddr, usize>,
}

impl Taken {
    fn share(&self) -> u64 {
        (BYTES_IN_FLIGHT_IN_ALL / self.all.max(1) as u64).max(LEAST_SHARE)
    }

    fn end_half_open(&mut self, address: IpAddr) {
        if let Some(count) = self.half_open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.half_open.remove(&address);
            }
        }
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { taken: Mutex::default(), share: AtomicU64::new(BYTES_IN_FLIGHT_IN_ALL) }
    }
}

impl Places {
    /// A place for a connection of `address`; `Err` says of what there are too many.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, &'static str> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock();
        if taken.all >= MAX_CONNECTIONS {
            return Err("too many connections are open");
        }
        let half_open = taken.half_open.entry(address).or_default();
        if *half_open >= HALF_OPEN_PER_ADDRESS {
            return Err("too many connections of this address are not logged in");
        }
        *half_open += 1;
        taken.all += 1;
        self.share.store(taken.share(), Ordering::Relaxed);
        Ok(Place { places: Arc::clone(self), address, is_half_open: true })
    }
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    is_half_open: bool,
}

impl Place {
    /// How many bytes the connection may have in flight.
    pub(super) fn share(&self) -> u64 {
        self.places.share.load(Ordering::Relaxed)
    }

    /// The connection is logged in.
    pub(super) fn on_login(&mut self) {
        if std::mem::take(&mut self.is_half_open) {
            self.places.taken.lock().end_half_open(self.address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.on_login();
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        self.places.share.store(taken.share(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_connections_of_one_address_are_bounded() {
        let places = Arc::new(Places::default());
        let here = IpAddr::from([10, 0, 0, 1]);
        let mut taken: Vec<Place> = (0..HALF_OPEN_PER_ADDRESS).map(|_| places.take(here).unwrap()).collect();
        assert!(places.take(here).is_err());
        assert!(places.take("::ffff:10.0.0.1".parse().unwrap()).is_err(), "the same address in other words");
        assert!(places.take(IpAddr::from([10, 0, 0, 2])).is_ok(), "another address has its own");
        taken[0].on_login();
        taken[0].on_login();
        taken.push(places.take(here).unwrap());
        assert!(places.take(here).is_err());
        drop(taken);
        let left = places.taken.lock();
        assert_eq!((left.all, left.half_open.len()), (0, 0), "all given back");
    }

    #[test]
    fn all_connections_are_bounded_and_share_what_there_is() {
        let places = Arc::new(Places::default());
        let take = |n: usize| places.take(IpAddr::from(u32::try_from(n / 8).unwrap().to_be_bytes()));
        let taken: Vec<Place> = (0..MAX_CONNECTIONS).map(|n| take(n).unwrap()).collect();
        assert!(take(usize::MAX >> 40).is_err());
        assert_eq!(taken[0].share(), BYTES_IN_FLIGHT_IN_ALL / MAX_CONNECTIONS as u64);
        let [first, ..] = <[Place; MAX_CONNECTIONS]>::try_from(taken).unwrap();
        assert_eq!(first.share(), BYTES_IN_FLIGHT_IN_ALL);
    }
}
