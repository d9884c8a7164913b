//! The sockets of a link: where requests come in, and how an answer reaches its client.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use netboot::{Destination, Door, Mode, Reply};

use super::SERVICE;
use crate::serve::{NEEDS_CAPABILITIES, ServiceError, listen_error};
use crate::state::Link;
use crate::sys::{
    AnyPortSender, Datagram, Eavesdropper, PacketSender, PktinfoSocket, WatchedEavesdropper,
    WatchedPktinfoSocket,
};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Where firmware that has its address asks what to boot (PXE 2.1, §2.2.5: the boot server's port).
const BINL_PORT: u16 = 4011;

const EVERYONE: [u8; 6] = [0xff; 6];

/// A way in, open.
#[derive(Debug)]
pub(super) enum Entrance {
    /// Port 67, which is ours alone. Without a sender, answers to machines without an address are broadcast.
    Server(PktinfoSocket, Option<PacketSender>),
    /// Port 67, which another server has.
    Proxy(Eavesdropper, PacketSender, AnyPortSender),
    /// Port 4011.
    Binl(PktinfoSocket),
}

/// The same, watched by the runtime.
pub(super) enum Watched {
    Server(WatchedPktinfoSocket, Option<PacketSender>),
    Proxy(WatchedEavesdropper, PacketSender, AnyPortSender),
    Binl(WatchedPktinfoSocket),
}

/// Opens what the mode of `link` needs.
pub(super) fn open(link: &Link) -> Result<Vec<Entrance>, ServiceError> {
    let name = &link.interface.name;
    let at = |port| SocketAddrV4::new(link.interface.address, port);
    let remedy = "mode = \"proxy\" (beside another DHCP server) or mode = \"off\" in [dhcp]";
    match link.settings.mode {
        Mode::Off => Ok(Vec::new()),
        Mode::Server => {
            let socket = PktinfoSocket::bind(name, SERVER_PORT)
                .map_err(|e| listen_error(SERVICE, at(SERVER_PORT), remedy, e))?;
            let sender = PacketSender::open(link.index);
            if let Err(e) = &sender {
                tracing::warn!(
                    "dhcp: answers on {name} are broadcast to all machines: {e}; {NEEDS_CAPABILITIES}"
                );
            }
            let mut all = vec![Entrance::Server(socket, sender.ok())];
            // Firmware comes here of its own accord where it misses something in our offer: seldom, so it can do without.
            match PktinfoSocket::bind(name, BINL_PORT) {
                Ok(socket) => all.push(Entrance::Binl(socket)),
                Err(e) => tracing::warn!("dhcp: not listening on port {BINL_PORT} of {name}: {e}"),
            }
            Ok(all)
        }
        Mode::Proxy => {
            let denied = |e: io::Error| {
                let what = format!("can't listen beside the DHCP server on {name}");
                ServiceError::new(SERVICE, what, e)
                    .remedy(format!("{NEEDS_CAPABILITIES}, or set mode = \"off\" in [dhcp] of bootd.toml"))
            };
            let proxy = Entrance::Proxy(
                Eavesdropper::open(link.index, SERVER_PORT).map_err(denied)?,
                PacketSender::open(link.index).map_err(denied)?,
                AnyPortSender::open(name).map_err(denied)?,
            );
            let taken = "another program on this machine answers firmware there (`ss -lnp` shows which), as dnsmasq does \
                         with pxe-service lines: take these out of its configuration, or set mode = \"off\" in [dhcp] of \
                         bootd.toml";
            let binl = PktinfoSocket::bind(name, BINL_PORT).map_err(|e| {
                let in_use = e.kind() == io::ErrorKind::AddrInUse;
                let error = listen_error(SERVICE, at(BINL_PORT), "mode = \"off\" in [dhcp]", e);
                if in_use { error.remedy(taken) } else { error }
            })?;
            Ok(vec![proxy, Entrance::Binl(binl)])
        }
    }
}

impl Entrance {
    /// Call it inside the runtime.
    pub(super) fn watch(self) -> io::Result<Watched> {
        Ok(match self {
            Self::Server(socket, sender) => Watched::Server(socket.watch()?, sender),
            Self::Proxy(listener, sender, router) => Watched::Proxy(listener.watch()?, sender, router),
            Self::Binl(socket) => Watched::Binl(socket.watch()?),
        })
    }
}

impl Watched {
    pub(super) fn door(&self) -> Door {
        match self {
            Self::Server(..) | Self::Proxy(..) => Door::Dhcp,
            Self::Binl(_) => Door::Binl,
        }
    }

    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        match self {
            Self::Server(socket, _) | Self::Binl(socket) => socket.receive(buffer).await,
            Self::Proxy(listener, ..) => listener.receive(buffer).await,
        }
    }

    /// Sends an answer from our address on the link to whoever asked as `peer`.
    pub(super) fn send(&self, from: Ipv4Addr, peer: SocketAddrV4, reply: &Reply) -> io::Result<()> {
        let bytes = &reply.bytes;
        let server = SocketAddrV4::new(from, SERVER_PORT);
        match self {
            Self::Server(socket, sender) => {
                let udp = |to: Ipv4Addr, port| socket.send(from, SocketAddrV4::new(to, port), bytes);
                match (reply.to, sender) {
                    (Destination::Unicast { ip, mac }, Some(sender)) => {
                        sender.send(mac.octets(), server, SocketAddrV4::new(ip, CLIENT_PORT), bytes)
                    }
                    (Destination::Unicast { .. }, None) | (Destination::Broadcast, _) => {
                        udp(Ipv4Addr::BROADCAST, CLIENT_PORT)
                    }
                    (Destination::Relay(relay), _) => udp(relay, SERVER_PORT),
                    (Destination::Client(client), _) => udp(client, CLIENT_PORT),
                }
            }
            Self::Proxy(_, sender, router) => match reply.to {
                Destination::Broadcast | Destination::Unicast { .. } => {
                    let all = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
                    sender.send(EVERYONE, server, all, bytes)
                }
                Destination::Relay(relay) => {
                    router.send(server, SocketAddrV4::new(relay, SERVER_PORT), bytes)
                }
                Destination::Client(client) => {
                    router.send(server, SocketAddrV4::new(client, CLIENT_PORT), bytes)
                }
            },
            Self::Binl(socket) => {
                let to = match reply.to {
                    Destination::Client(client) if client == *peer.ip() => peer,
                    Destination::Client(client) | Destination::Relay(client) => {
                        SocketAddrV4::new(client, CLIENT_PORT)
                    }
                    Destination::Broadcast | Destination::Unicast { .. } => {
                        SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
                    }
                };
                socket.send(from, to, bytes)
            }
        }
    }
}
