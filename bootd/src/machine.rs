//! What bootd needs to know of the machine that it runs on: its name, memory and network interfaces.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its host name; empty if it has none.
    pub(crate) host_name: String,
    /// The RAM that this process may use, in bytes.
    pub(crate) memory: u64,
    /// Its network interfaces, by name.
    pub(crate) interfaces: BTreeMap<String, NetworkInterface>,
}

/// A network interface of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NetworkInterface {
    /// The system's number of it.
    pub(crate) index: u32,
    /// Its IPv4 addresses with their prefix lengths, the primary one first.
    pub(crate) addresses: Vec<(Ipv4Addr, u8)>,
    /// Whether it is up.
    pub(crate) up: bool,
}

impl Machine {
    /// Looks at the machine. What can't be found out is left empty.
    pub(crate) fn look() -> Self {
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Self { host_name, memory: memory(), interfaces: interfaces() }
    }

    /// The interfaces that could be served, for messages: `eth0 (10.0.0.1/24), eth1 (no IPv4 address)`.
    pub(crate) fn choices(&self) -> String {
        let all: Vec<String> = self
            .interfaces
            .iter()
            .filter(|(name, _)| *name != "lo")
            .map(|(name, i)| match i.addresses.first() {
                Some((address, prefix)) => format!("{name} ({address}/{prefix})"),
                None => format!("{name} (no IPv4 address)"),
            })
            .collect();
        if all.is_empty() { "none but the loopback".into() } else { all.join(", ") }
    }
}

fn interfaces() -> BTreeMap<String, NetworkInterface> {
    let mut all: BTreeMap<String, NetworkInterface> = BTreeMap::new();
    for entry in getifaddrs().into_iter().flatten() {
        let interface = all.entry(entry.interface_name.clone()).or_default();
        interface.up = entry.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            interface.index = u32::try_from(link.ifindex()).unwrap_or_default();
        } else if let Some(ip) = address.as_sockaddr_in() {
            let mask =
                entry.netmask.as_ref().and_then(|m| m.as_sockaddr_in()).map_or(0, |m| m.ip().to_bits());
            let prefix = u8::try_from(mask.leading_ones()).unwrap_or(32);
            interface.addresses.push((ip.ip(), prefix));
        }
    }
    all
}

/// The machine's RAM, or less where a control group says so.
fn memory() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let allowed =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match (total, allowed) {
        (Some(total), Some(allowed)) => total.min(allowed),
        (total, allowed) => total.or(allowed).unwrap_or_default(),
    }
}
