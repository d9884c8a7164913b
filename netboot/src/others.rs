//! Other DHCP servers on the links that we serve: where we give the addresses there should be none, and where we are a
//! proxy there should be one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;
use serde::{Deserialize, Serialize};
use site::MacAddr;

use crate::options::OptionsBuilder;
use crate::packet::{COOKIE, MAX_LEN};

/// How many servers are remembered. Further ones are not: a link that has more has another trouble.
const MAX_SERVERS: usize = 64;

/// After this long without a sign, in seconds, a server is taken to be gone.
const GONE_AFTER: u64 = 3600;

/// A DHCP server that is not us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherServer {
    /// The interface that it was heard on.
    pub interface: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// When it was last heard, in seconds since 1970.
    pub seen: u64,
}

/// The other servers that were heard lately. Times are seconds since 1970.
#[derive(Debug, Default)]
pub struct Others {
    seen: BTreeMap<(String, Ipv4Addr), u64>,
    /// How often it was asked for servers on an interface of ours.
    asked: BTreeMap<String, u32>,
}

impl Others {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A server was heard. Returns whether it is news.
    pub fn heard(&mut self, interface: &str, address: Ipv4Addr, now: u64) -> bool {
        self.seen.retain(|_, seen| now.saturating_sub(*seen) <= GONE_AFTER);
        let key = (interface.to_owned(), address);
        if let Some(seen) = self.seen.get_mut(&key) {
            *seen = now;
            return false;
        }
        if self.seen.len() >= MAX_SERVERS {
            return false;
        }
        self.seen.insert(key, now);
        true
    }

    /// It was asked for servers on an interface. Returns the so-manieth time it is.
    pub fn asked(&mut self, interface: &str) -> u32 {
        let times = self.asked.entry(interface.to_owned()).or_default();
        *times = times.saturating_add(1);
        *times
    }

    /// Whether it was asked for servers there that often and none is there.
    #[must_use]
    pub fn is_missing(&self, interface: &str, enough: u32, now: u64) -> bool {
        self.asked.get(interface).is_some_and(|times| *times >= enough)
            && self.all(now).iter().all(|server| server.interface != interface)
    }

    /// Those that are there, as far as is known.
    #[must_use]
    pub fn all(&self, now: u64) -> Vec<OtherServer> {
        let there = self.seen.iter().filter(|(_, seen)| now.saturating_sub(**seen) <= GONE_AFTER);
        let server = |((interface, address), seen): (&(String, Ipv4Addr), &u64)| OtherServer {
            interface: interface.clone(),
            address: *address,
            seen: *seen,
        };
        there.map(server).collect()
    }
}

/// What another server told a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherAnswer {
    /// Which server.
    pub server: Ipv4Addr,
    /// The machine.
    pub mac: MacAddr,
    /// The address.
    pub address: Ipv4Addr,
    /// Whether it has the address now, or is only offered it.
    pub given: bool,
}

/// Reads an answer that gives or offers an address; `None`: it does not, or is no DHCP answer.
#[must_use]
pub fn other_answer(bytes: &[u8]) -> Option<OtherAnswer> {
    if bytes.len() > MAX_LEN || bytes.first() != Some(&2) || bytes.get(236..240)? != COOKIE {
        return None;
    }
    let mut options = OptionsBuilder::new();
    options.area(bytes.get(240..)?);
    let options = options.finish();
    let given = match options.message_type()? {
        MessageType::Offer => false,
        MessageType::Ack => true,
        _ => return None,
    };
    let address = Ipv4Addr::from(*bytes.get(16..)?.first_chunk::<4>()?);
    let mac = MacAddr::new(*bytes.get(28..)?.first_chunk()?);
    let server = options.server_identifier()?;
    // A proxy's offer has no address; it is no rival for ours. What else no machine can have was made up.
    (is_a_machines(address) && is_a_machines(server)).then_some(OtherAnswer { server, mac, address, given })
}

fn is_a_machines(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// A DISCOVER in our own name, by which the servers of a link are made to show themselves. Nothing is taken that they
/// offer.
#[must_use]
pub fn discover(mac: MacAddr, xid: u32) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0];
    bytes.extend(xid.to_be_bytes());
    // Offers are to be broadcast: the address is nobody's.
    bytes.extend([0, 0, 0x80, 0]);
    bytes.resize(28, 0);
    bytes.extend(mac.octets());
    bytes.resize(236, 0);
    bytes.extend(COOKIE);
    bytes.extend([53, 1, MessageType::Discover.into(), 55, 3, 1, 3, 54, 255]);
    bytes.resize(300, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn offer(kind: u8, yiaddr: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&yiaddr);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes[236..].copy_from_slice(&COOKIE);
        bytes.extend([53, 1, kind, 54, 4, 10, 0, 0, 2, 255]);
        bytes
    }

    #[test]
    fn who_gives_addresses_is_heard_and_nobody_else() {
        let answer = |given| OtherAnswer {
            server: SERVER,
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            address: [10, 0, 0, 9].into(),
            given,
        };
        assert_eq!(other_answer(&offer(2, [10, 0, 0, 9])), Some(answer(false)));
        assert_eq!(other_answer(&offer(5, [10, 0, 0, 9])), Some(answer(true)));
        assert_eq!(other_answer(&offer(2, [0; 4])), None, "a proxy's offer");
        assert_eq!(other_answer(&offer(6, [10, 0, 0, 9])), None, "a NAK");
        for nobodys in [[255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
            assert_eq!(other_answer(&offer(5, nobodys)), None, "{nobodys:?}");
        }
        let whole = offer(2, [10, 0, 0, 9]);
        for len in 0..whole.len() - 1 {
            assert_eq!(other_answer(&whole[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn what_we_ask_with_is_a_discover_that_any_server_takes() {
        let mac = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let packet = Packet::parse(&discover(mac, 7)).unwrap();
        assert_eq!((packet.mac, packet.xid, packet.wants_broadcast()), (mac, 7, true));
        assert_eq!(packet.options.message_type(), Some(MessageType::Discover));
    }

    #[test]
    fn a_server_is_news_once_and_forgotten_when_it_is_silent() {
        let mut others = Others::new();
        assert!(others.heard("eth1", SERVER, 1000));
        assert!(!others.heard("eth1", SERVER, 2000));
        assert!(others.heard("eth2", SERVER, 2000));
        assert_eq!((others.asked("eth3"), others.asked("eth3"), others.asked("eth1")), (1, 2, 1));
        assert!(others.is_missing("eth3", 2, 2000) && !others.is_missing("eth3", 3, 2000));
        assert!(!others.is_missing("eth1", 1, 2000));
        assert_eq!(others.all(2000).len(), 2);
        assert_eq!(others.all(2000 + GONE_AFTER + 1), []);
        assert!(others.heard("eth1", SERVER, 2001 + GONE_AFTER), "it is back");
        for n in 0..1000u32 {
            others.heard("eth1", Ipv4Addr::from_bits(n), 9000);
        }
        assert!(others.all(9000).len() <= MAX_SERVERS);
    }
}
