//! At which address each client was seen last, where another server leases the addresses.
//!
//! This is for people. Who may have what is decided in `serve/visitor.rs`, which believes nothing of it: what was only
//! heard in DHCP anybody may have said.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use netboot::Mode;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use site::{MacAddr, Site};

use crate::state::{State, unix_millis, unix_seconds};

/// Where a client was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// By what it is known.
    pub(crate) by: Sign,
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
}

/// By what it is known that a client has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sign {
    /// It came from there for a file or a script, and its network card answers for that address, or its entry names it.
    Visit,
    /// It logged in to its disk from there.
    Login,
    /// It said so on port 4011, or the other DHCP server when it gave it the address.
    Heard,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Visit => "it fetched something from there",
            Self::Login => "it logged in to its disk from there",
            Self::Heard => "so it was heard in DHCP",
        })
    }
}

/// Where a client's address comes from whose entry names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AddressSource {
    /// The pool.
    Pool,
    /// Another DHCP server.
    OtherServer,
}

impl AddressSource {
    /// By the mode of the links that it may be on.
    pub(crate) fn of(modes: impl IntoIterator<Item = Mode>) -> Self {
        if modes.into_iter().any(|mode| mode == Mode::Server) { Self::Pool } else { Self::OtherServer }
    }
}

impl fmt::Display for AddressSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "from the pool",
            Self::OtherServer => "from the other DHCP server",
        })
    }
}

/// The latest sighting of each client. Of clients only, so it can't outgrow the site.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts(Mutex<HashMap<MacAddr, Sighting>>);

impl Whereabouts {
    /// A machine was seen at `address`. One that the site doesn't know is not remembered.
    pub(crate) fn saw(&self, site: &Site, mac: MacAddr, address: Ipv4Addr, by: Sign) {
        if !address.is_unspecified() && site.client_by_mac(mac).is_some() {
            self.0.lock().insert(mac, Sighting { address, by, at: unix_millis() });
        }
    }

    /// Where it was seen last.
    pub(crate) fn of(&self, mac: MacAddr) -> Option<Sighting> {
        self.0.lock().get(&mac).copied()
    }

    /// Whether that is where some client was seen last.
    pub(crate) fn has(&self, address: Ipv4Addr) -> bool {
        self.0.lock().values().any(|seen| seen.address == address)
    }

    /// It is no client any more.
    pub(crate) fn forget(&self, mac: MacAddr) {
        self.0.lock().remove(&mac);
    }
}

impl State {
    /// The address that bootd has leased to a machine.
    pub(crate) fn leased(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.leases.lock().by_mac(mac, unix_seconds()).map(|lease| lease.address)
    }

    /// The address that a machine has, as far as is known: the one that is leased to it, or else where it was seen.
    pub(crate) fn address_of(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.leased(mac).or_else(|| Some(self.whereabouts.of(mac)?.address))
    }

    /// Where clients' addresses come from.
    pub(crate) fn address_source(&self) -> AddressSource {
        AddressSource::of(self.links.iter().map(|link| link.settings.mode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, MAC};

    #[test]
    fn clients_are_remembered_where_they_were_seen_last_and_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        let site = testing::site(place.path());
        let all = Whereabouts::default();
        let (first, second) = (Ipv4Addr::new(10, 0, 0, 41), Ipv4Addr::new(10, 0, 0, 42));
        all.saw(&site, MAC, first, Sign::Heard);
        assert_eq!(all.of(MAC).map(|seen| (seen.address, seen.by)), Some((first, Sign::Heard)));
        all.saw(&site, MAC, second, Sign::Visit);
        all.saw(&site, MAC, Ipv4Addr::UNSPECIFIED, Sign::Heard);
        assert_eq!(all.of(MAC).map(|seen| (seen.address, seen.by)), Some((second, Sign::Visit)));
        for last in 0..=255 {
            all.saw(&site, MacAddr::new([2, 0, 0, 0, 9, last]), first, Sign::Heard);
        }
        assert_eq!(all.0.lock().len(), 1);
        all.forget(MAC);
        assert_eq!(all.of(MAC), None);
    }
}
