//! What the operator has settled: a subnet's settings and the interface that it is served by.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::pool::PoolRange;
use crate::programs::Programs;
use crate::subnet::Subnet;

/// What an address is leased for when nobody says otherwise, in seconds: half a day, so that a machine that runs
/// by day renews once and a night's power cut frees nothing that is wanted in the morning.
const DEFAULT_LEASE_TIME: u32 = 12 * 60 * 60;

/// How bootd serves one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What this server is called.
    pub server_name: String,
    /// The port of the boot scripts' URLs.
    pub http_port: u16,
    /// The subnet, where it is one behind a relay; `None`: the interface's own.
    pub subnet: Option<Subnet>,
    /// Addresses for machines that have none of their own; `None`: only reserved addresses are given.
    pub pool: Option<PoolRange>,
    /// The subnet's way out.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The DNS domain of the clients.
    pub domain: Option<String>,
    /// The MTU told to operating systems that ask. iPXE is never told: large frames were seen not to reach
    /// it (ipxe/ipxe#690).
    pub mtu: Option<u16>,
    /// How long an address is leased for, in seconds; `u32::MAX` is for ever. Machines that the site doesn't know get
    /// it for an hour at most.
    pub lease_time: u32,
    /// What machines get that the site doesn't know.
    pub unknown: Unknown,
    /// Whether bootd gives addresses.
    pub mode: Mode,
    /// Whether bootd is the subnet's only DHCP server, and so may refuse addresses that it did not give.
    pub authoritative: bool,
    /// The boot programs that are there to be fetched: names relative to the root of the files.
    pub programs: Programs,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: "bootd".to_owned(),
            http_port: 80,
            subnet: None,
            pool: None,
            router: None,
            dns: Vec::new(),
            domain: None,
            mtu: None,
            lease_time: DEFAULT_LEASE_TIME,
            unknown: Unknown::default(),
            mode: Mode::default(),
            authoritative: true,
            programs: Programs::default(),
        }
    }
}

impl Settings {
    /// Where our HTTP server is. An address, not a name: firmware without a name server still finds it.
    pub(crate) fn http_origin(&self, iface: &Interface) -> String {
        match self.http_port {
            80 => format!("http://{}", iface.address),
            port => format!("http://{}:{port}", iface.address),
        }
    }

    /// The subnet that is served through that interface by these settings.
    #[must_use]
    pub fn subnet_of(&self, iface: &Interface) -> Subnet {
        self.subnet.unwrap_or_else(|| iface.subnet())
    }

    /// Whether a machine of the subnet can have `address`.
    pub(crate) fn can_have(&self, address: Ipv4Addr, iface: &Interface) -> bool {
        self.subnet_of(iface).can_have(address) && address != iface.address
    }

    /// Whether a client of the subnet may have `address`: a machine can, and none of those that clients are told of
    /// does.
    pub(crate) fn can_give(&self, address: Ipv4Addr, iface: &Interface) -> bool {
        self.can_have(address, iface) && self.router != Some(address) && !self.dns.contains(&address)
    }
}

/// What bootd is on a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The DHCP server.
    #[default]
    Server,
    /// A proxy beside another DHCP server, which gives the addresses.
    Proxy,
    /// Nothing: another DHCP server gives the addresses, and tells machines what to boot.
    Off,
}

/// What a machine gets that the site doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// An address from the pool.
    #[default]
    Lease,
    /// No answer.
    Ignore,
    /// An address, and a menu by which somebody may ask for it to become a client; else what guests boot.
    Register,
    /// An address, and what guests boot.
    Guest,
}

/// One of our network interfaces, with the address that clients know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, for people.
    pub name: String,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// How many bits of the address name the subnet.
    pub prefix_len: u8,
}

impl Interface {
    /// Its subnet.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        Subnet::around(self.address, self.prefix_len)
    }

    /// The subnet mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        self.subnet().mask()
    }

    /// The subnet's first address, which names it.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        self.subnet().network()
    }

    /// The subnet's last address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        self.subnet().broadcast()
    }

    /// Whether `address` is on this link.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet().contains(address)
    }

    /// Whether a machine on this link may have `address`: it is neither ours nor the subnet's name or broadcast.
    #[must_use]
    pub fn can_have(&self, address: Ipv4Addr) -> bool {
        self.subnet().can_have(address) && address != self.address
    }
}
