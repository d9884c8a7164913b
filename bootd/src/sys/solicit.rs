//! The raw ICMPv6 socket on which router solicitations come in and advertisements go out.

use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendto, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::watched::Readable;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The hop limit of all neighbour discovery, which proves that no router passed it on (RFC 4861, section 6.1.1).
pub(crate) const HOP_LIMIT: u8 = 255;

/// An ICMPv6 message to this interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Solicitation {
    /// How many bytes of the buffer it filled.
    pub(crate) len: usize,
    /// Who sent it; unspecified by a machine that has no address yet.
    pub(crate) peer: Ipv6Addr,
    /// The hop limit it came with.
    pub(crate) hop_limit: Option<u8>,
}

/// The socket, bound to one interface and a member of its "all routers" group.
#[derive(Debug)]
pub(crate) struct RouterSocket {
    socket: Socket,
    interface: u32,
}

impl RouterSocket {
    /// Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's; `AddrNotAvailable` and the like where the interface has no IPv6.
    pub(crate) fn open(name: &str, index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.set_multicast_hops_v6(u32::from(HOP_LIMIT))?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, interface: index })
    }

    /// The same, ready to be waited for. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(crate) fn watch(self) -> io::Result<Watched> {
        Ok(Watched { socket: Readable::new(self.socket)?, interface: self.interface })
    }
}

/// A [`RouterSocket`] that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Readable,
    interface: u32,
}

impl Watched {
    /// Waits for the next ICMPv6 message, of whatever type.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Solicitation> {
        self.socket.read(|socket| receive(socket, buffer)).await
    }

    /// Sends an ICMPv6 message to every machine on the link. The system puts the checksum in (RFC 3542, 3.1).
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn send_to_all(&self, message: &[u8]) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, self.interface));
        sendto(self.socket.as_raw_fd(), message, &to, MsgFlags::empty())?;
        Ok(())
    }
}

fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<Solicitation> {
    let mut control = cmsg_space!(libc::c_int);
    let mut pieces = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(socket, &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let hop_limit = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
        _ => None,
    });
    let peer = message.address.map_or(Ipv6Addr::UNSPECIFIED, |a| a.ip());
    Ok(Solicitation { len: message.bytes, peer, hop_limit })
}
