//! Whether the ports are free, and if not, who has them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use netboot::Mode;

use super::Finding;
use crate::config::Config;

/// Looks at each port that `config` needs. `running` is the daemon that has them by right.
pub(super) fn all(config: &Config, running: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let look = |findings: &mut Vec<_>, what: &str, key: &str, protocol: Protocol, address: SocketAddrV4| {
        findings.push(one(what, key, protocol, address, running));
    };
    for link in &config.interfaces {
        let at = |port| SocketAddrV4::new(link.address, port);
        match link.dhcp.mode {
            Mode::Server => {
                let key =
                    "mode = \"off\" in [dhcp], or mode = \"proxy\" beside a server that gives the addresses";
                look(&mut findings, "DHCP", key, Protocol::Udp, at(67));
            }
            // Port 67 is the other server's, and heard beside it.
            Mode::Proxy => {
                look(&mut findings, "proxy DHCP", "mode = \"off\" in [dhcp]", Protocol::Udp, at(4011));
            }
            Mode::Off => {}
        }
        if config.tftp {
            look(&mut findings, "TFTP", "enabled = false in [tftp]", Protocol::Udp, at(69));
        }
        look(&mut findings, "HTTP", "port in [http]", Protocol::Tcp, at(config.http_port));
        // Where the kernel exports the disks and bootd runs, the port is the kernel's, which is no process that could be
        // named.
        if running.is_none() || !config.engine.is_exported_by_kernel() {
            let address = at(config.iscsi_port);
            match crate::engine::listener(address) {
                Some(target) => findings.push(of_lio(config, address, &target)),
                None => look(&mut findings, "iSCSI", "port in [iscsi]", Protocol::Tcp, address),
            }
        }
    }
    findings
}

/// The port of the disks, where Linux's own target listens at it: no process has it that could be named.
fn of_lio(config: &Config, address: SocketAddrV4, target: &str) -> Finding {
    let what = format!("iSCSI port, TCP {address}");
    let found = format!("held by the kernel, for LIO's target {target}");
    let ours = lvm::names::shared_target_iqn(&config.names) == target;
    match (ours, config.engine.is_exported_by_kernel()) {
        (true, true) => Finding::ok(what, format!("{found}, which is bootd's")),
        (true, false) => Finding::warn(
            what,
            format!("{found}, which is of bootd's kernel engine"),
            "bootd serve removes it as root, if nobody is logged in; else as root: bootd storage down",
        ),
        (false, true) => Finding::warn(
            what,
            found,
            "right if it was bootd's under an earlier name; else give bootd another port (port in [iscsi])",
        ),
        (false, false) => {
            Finding::fail(what, found, "remove it: targetcli /iscsi delete NAME, or set port in [iscsi]")
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Udp,
    Tcp,
}

fn one(what: &str, key: &str, protocol: Protocol, address: SocketAddrV4, running: Option<u32>) -> Finding {
    let name = match protocol {
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    };
    let what = format!("{what} port, {name} {address}");
    let tried = match protocol {
        // Not std's socket: it says nothing of an address that another holds with SO_REUSEADDR, as DHCP servers do.
        Protocol::Udp if holders(protocol, address).is_empty() => {
            std::net::UdpSocket::bind(address).map(drop)
        }
        Protocol::Udp => Err(io::ErrorKind::AddrInUse.into()),
        Protocol::Tcp => TcpListener::bind(address).map(drop),
    };
    match tried {
        Ok(()) => Finding::ok(what, "free"),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            let holders = holders(protocol, address);
            let by = |pid: u32| holders.iter().find(|holder| holder.pid == Some(pid));
            // Of those that share it, systemd only holds it open.
            if running.and_then(by).is_some() {
                return Finding::ok(what, "held by the running bootd");
            }
            if let Some(systemd) = by(1) {
                let found = format!("held open by {systemd}");
                return Finding::warn(what, found, "right if it is for bootd: systemctl list-sockets");
            }
            let by = holders.first().map_or_else(|| "another program".to_owned(), ToString::to_string);
            Finding::fail(what, format!("taken by {by}"), format!("stop it, or set {key}"))
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Finding::warn(what, "not tried: only root may", "run this check as root")
        }
        Err(e) => Finding::fail(what, e.to_string(), format!("set {key}")),
    }
}

/// A program that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    pid: Option<u32>,
    program: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (process {pid})", self.program),
            None => f.write_str(&self.program),
        }
    }
}

/// Who has that port, at that address or at all of them: one program, or those that share it.
fn holders(protocol: Protocol, address: SocketAddrV4) -> Vec<Holder> {
    let table = match protocol {
        Protocol::Udp => fs::read_to_string("/proc/net/udp"),
        Protocol::Tcp => fs::read_to_string("/proc/net/tcp"),
    };
    let Some(inode) = table.ok().and_then(|table| inode_in(&table, protocol, address)) else {
        return Vec::new();
    };
    let unknown = || vec![Holder { pid: None, program: "another program".into() }];
    owners().remove(&inode).unwrap_or_else(unknown)
}

/// The socket at that address in a table of `/proc/net`.
fn inode_in(table: &str, protocol: Protocol, address: SocketAddrV4) -> Option<u64> {
    /// `TCP_LISTEN` of the kernel.
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        // The address is printed as the machine holds the network's order: little endian where we run.
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        let listens = protocol == Protocol::Udp || *fields.get(3)? == LISTEN;
        let here = port == address.port() && (ip == *address.ip() || ip.is_unspecified());
        if listens && here { fields.get(9)?.parse().ok() } else { None }
    })
}

/// The programs that have sockets, by the socket's inode; those that we may look into.
fn owners() -> HashMap<u64, Vec<Holder>> {
    let mut owners: HashMap<_, Vec<_>> = HashMap::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned();
        for file in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
            if let Some(inode) = inode {
                let holder = Holder { pid: Some(pid), program: program.clone() };
                owners.entry(inode).or_default().push(holder);
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_has_a_port_is_named() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("not IPv4") };
        let pid = std::process::id();
        assert_eq!(holders(Protocol::Tcp, address)[0].pid, Some(pid));
        let finding = one("HTTP", "port in [http]", Protocol::Tcp, address, None);
        assert_eq!(finding.level, super::super::Level::Fail);
        assert!(finding.found.contains(&pid.to_string()), "{finding:?}");
        let finding = one("HTTP", "port in [http]", Protocol::Tcp, address, Some(pid));
        assert_eq!(finding.level, super::super::Level::Ok);
        drop(socket);
        assert_eq!(one("HTTP", "", Protocol::Tcp, address, None).found, "free");
    }

    #[test]
    fn a_udp_port_that_is_shared_counts_as_taken() {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(holders(Protocol::Udp, address)[0].pid, Some(std::process::id()));
    }
}
