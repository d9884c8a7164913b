//! A subnet, and which one a request is from.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::packet::Packet;
use crate::settings::{Interface, Settings};

/// The addresses of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    network: Ipv4Addr,
    prefix_len: u8,
}

/// A text that names no subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// It is written otherwise.
    #[error("it is no subnet")]
    Form,
    /// It names an address within a subnet.
    #[error("the address is not the subnet's first, {0}")]
    NotFirst(Ipv4Addr),
}

impl Subnet {
    /// The subnet that `address` is in. A prefix of more than 32 bits is one of 32.
    #[must_use]
    pub fn around(address: Ipv4Addr, prefix_len: u8) -> Self {
        let prefix_len = prefix_len.min(32);
        Self { network: address & mask(prefix_len), prefix_len }
    }

    /// How many bits of an address name the subnet.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The mask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        mask(self.prefix_len)
    }

    /// The first address, which names it.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The last address.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        self.network | !self.mask()
    }

    /// Whether `address` is one of its addresses.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network
    }

    /// Whether a machine may have `address`: it is neither the subnet's name nor its broadcast.
    #[must_use]
    pub fn can_have(self, address: Ipv4Addr) -> bool {
        let edges = self.prefix_len < 31 && (address == self.network || address == self.broadcast());
        self.contains(address) && !edges
    }
}

fn mask(prefix_len: u8) -> Ipv4Addr {
    let host_bits = 32_u32.saturating_sub(prefix_len.into());
    Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

/// As `10.9.0.0/24`.
impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let (network, prefix_len) = text.split_once('/').ok_or(SubnetError::Form)?;
        let network: Ipv4Addr = network.parse().map_err(|_| SubnetError::Form)?;
        let prefix_len = prefix_len.parse().ok().filter(|len| *len <= 32).ok_or(SubnetError::Form)?;
        let subnet = Self::around(network, prefix_len);
        if subnet.network == network { Ok(subnet) } else { Err(SubnetError::NotFirst(subnet.network)) }
    }
}

/// By which settings a request is answered that came by `iface`: those of the subnet that its machine is on, among
/// `relayed`, or the interface's own, `local`. `Err`: it came through a relay on none of these.
///
/// # Errors
/// With the address that names the unserved subnet.
pub fn settings_for<'a>(
    packet: &Packet,
    iface: &Interface,
    local: &'a Settings,
    relayed: &'a [Settings],
) -> Result<&'a Settings, Ipv4Addr> {
    let Some(link) = packet.relayed_from() else {
        // A renewal is sent to the server itself, and so comes by routers rather than by a relay (RFC 2131 §4.4.5).
        return Ok(settings_at(packet.ciaddr, iface, local, relayed));
    };
    of(link, iface, local, relayed).ok_or(link)
}

/// By which settings a machine is served that has `address` and comes by `iface`: the same that its DHCP is answered by. A
/// machine on none of the subnets, or with no address yet, is taken to be on the interface's own.
#[must_use]
pub fn settings_at<'a>(
    address: Ipv4Addr,
    iface: &Interface,
    local: &'a Settings,
    relayed: &'a [Settings],
) -> &'a Settings {
    let known = Some(address).filter(|address| !address.is_unspecified());
    known.and_then(|address| of(address, iface, local, relayed)).unwrap_or(local)
}

fn of<'a>(
    address: Ipv4Addr,
    iface: &Interface,
    local: &'a Settings,
    relayed: &'a [Settings],
) -> Option<&'a Settings> {
    relayed.iter().chain([local]).find(|settings| settings.subnet_of(iface).contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_written_by_its_first_address() {
        let subnet: Subnet = "10.9.0.0/23".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.9.0.0/23");
        assert_eq!((subnet.mask(), subnet.broadcast()), ([255, 255, 254, 0].into(), [10, 9, 1, 255].into()));
        assert!(subnet.can_have([10, 9, 1, 0].into()) && !subnet.can_have([10, 9, 1, 255].into()));
        assert!(!subnet.contains([10, 9, 2, 0].into()));
        assert_eq!("10.9.0.1/24".parse::<Subnet>(), Err(SubnetError::NotFirst([10, 9, 0, 0].into())));
        for text in ["10.9.0.0", "10.9.0.0/33", "10.9.0/24", "x/24", "10.9.0.0/-1"] {
            assert_eq!(text.parse::<Subnet>(), Err(SubnetError::Form), "{text}");
        }
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().contains([9, 9, 9, 9].into()));
    }
}
