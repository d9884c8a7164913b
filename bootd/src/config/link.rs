//! An interface to serve, and the addresses that may be handed out on it.

use std::net::Ipv4Addr;

use netboot::{PoolRange, Subnet};

use super::dhcp::Dhcp;

/// The most addresses a default pool has. A larger subnet's pool is its last this many.
const LARGEST_DEFAULT_POOL: u32 = 65_536;

/// An interface that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedInterface {
    /// Its name.
    pub(crate) name: String,
    /// The system's number of it.
    pub(crate) index: u32,
    /// Our address on it.
    pub(crate) address: Ipv4Addr,
    /// Our other addresses on it.
    pub(crate) others: Vec<Ipv4Addr>,
    /// How many bits of it are the subnet's.
    pub(crate) prefix_len: u8,
    /// How its machines are given addresses.
    pub(crate) dhcp: Dhcp,
}

impl ServedInterface {
    /// Its subnet.
    pub(crate) fn subnet(&self) -> Subnet {
        Subnet::around(self.address, self.prefix_len)
    }

    /// The first and last address that a machine can have in this subnet; `None` when there is room for no other.
    pub(crate) fn hosts(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        hosts(self.subnet())
    }

    /// Whether a machine in this subnet can have that address.
    pub(crate) fn has_host(&self, address: Ipv4Addr) -> bool {
        has_host(self.subnet(), address)
    }

    /// The upper half of the subnet. Where our own address lies in it, the larger part on one side of it.
    pub(super) fn default_pool(&self) -> Option<PoolRange> {
        let (first, last) = self.hosts()?;
        let (first, last, own) = (first.to_bits(), last.to_bits(), self.address.to_bits());
        let mut from = first + (last - first).div_ceil(2);
        let mut to = last;
        if (from..=to).contains(&own) {
            if own - from >= to - own { to = own - 1 } else { from = own + 1 }
        }
        if from > to {
            return None;
        }
        from = from.max(to.saturating_sub(LARGEST_DEFAULT_POOL - 1));
        PoolRange::new(from.into(), to.into()).ok()
    }
}

/// The first and last address that a machine can have in a subnet; `None` when there is no room for two.
pub(super) fn hosts(subnet: Subnet) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (network, broadcast) = (subnet.network().to_bits(), subnet.broadcast().to_bits());
    (subnet.prefix_len() <= 30).then(|| ((network + 1).into(), (broadcast - 1).into()))
}

/// Whether a machine in a subnet can have that address.
pub(super) fn has_host(subnet: Subnet, address: Ipv4Addr) -> bool {
    hosts(subnet).is_some_and(|(first, last)| (first..=last).contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(address: [u8; 4], prefix_len: u8) -> ServedInterface {
        let (address, others) = (address.into(), Vec::new());
        ServedInterface { name: "eth1".into(), index: 2, address, others, prefix_len, dhcp: Dhcp::default() }
    }

    #[test]
    fn the_default_pool_is_the_upper_half_without_ourselves() {
        for (address, prefix, pool) in [
            ([10, 0, 0, 1], 24, Some(([10, 0, 0, 128], [10, 0, 0, 254]))),
            ([10, 0, 0, 254], 24, Some(([10, 0, 0, 128], [10, 0, 0, 253]))),
            ([10, 0, 0, 130], 24, Some(([10, 0, 0, 131], [10, 0, 0, 254]))),
            ([10, 0, 0, 1], 30, Some(([10, 0, 0, 2], [10, 0, 0, 2]))),
            ([10, 0, 0, 2], 30, None),
            ([10, 0, 0, 1], 31, None),
            ([10, 0, 0, 1], 32, None),
            ([10, 0, 0, 1], 8, Some(([10, 254, 255, 255], [10, 255, 255, 254]))),
        ] {
            let pool = pool.map(|(a, b): ([u8; 4], [u8; 4])| (a.into(), b.into()));
            let made = link(address, prefix).default_pool().map(|pool| (pool.first(), pool.last()));
            assert_eq!(made, pool, "{address:?}/{prefix}");
        }
    }

    #[test]
    fn network_and_broadcast_are_no_hosts() {
        let link = link([10, 0, 0, 1], 24);
        assert!(link.has_host([10, 0, 0, 254].into()));
        for none in [[10, 0, 0, 0], [10, 0, 0, 255], [10, 0, 1, 1]] {
            assert!(!link.has_host(none.into()), "{none:?}");
        }
    }
}
