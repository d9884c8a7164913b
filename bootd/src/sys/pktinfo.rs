//! A UDP socket of one interface that knows where a datagram was sent to, and chooses where its own come from.
//!
//! A DHCP server hears broadcasts, so its socket is bound to every address. Answers must nevertheless come from
//! the address that the client was told is the server's, however many others the interface has (`IP_PKTINFO`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// How much may wait to be received, in bytes. What comes beyond is lost, and its senders ask again.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A datagram as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// How many bytes of the buffer it filled.
    pub(crate) len: usize,
    /// Whether it was longer than the buffer, and cut off.
    pub(crate) truncated: bool,
    /// Who sent it.
    pub(crate) peer: SocketAddrV4,
    /// To which address; a broadcast's is the broadcast address.
    pub(crate) to: Ipv4Addr,
}

/// A UDP socket that is bound to one interface, in broadcast too.
#[derive(Debug)]
pub(crate) struct PktinfoSocket {
    socket: Socket,
}

impl PktinfoSocket {
    /// Listens on `port` of every address of `interface`, alone: two DHCP servers that share a link by mistake
    /// (`SO_REUSEADDR` would let them) refuse each other's clients. Sockets of other interfaces are no obstacle.
    ///
    /// # Errors
    /// The system's: the port is taken or needs a capability, the interface is not there.
    pub(crate) fn bind(interface: &str, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_broadcast(true)?;
        // A room that is switched on at once. The system grants less than that unless it is told to grant more.
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(Self { socket })
    }

    /// The same, ready to be waited for. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(crate) fn watch(self) -> io::Result<Watched> {
        Ok(Watched(UdpSocket::from_std(self.socket.into())?))
    }
}

/// A [`PktinfoSocket`] that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched(UdpSocket);

impl Watched {
    /// Waits for the next datagram.
    ///
    /// # Errors
    /// The system's, `NetworkDown` when the interface went down.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        self.0.async_io(Interest::READABLE, || receive(&self.0, buffer)).await
    }

    /// Sends one datagram from the address `from` of this machine. Never waits: what the interface's queue has no
    /// room for is lost, as on any network.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn send(&self, from: Ipv4Addr, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let to = SockaddrIn::from(to);
        sendmsg(self.0.as_raw_fd(), &[IoSlice::new(payload)], &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }
}

fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = cmsg_space!(libc::in_pktinfo);
    let mut pieces = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty())?;
    let peer = message.address.map_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), SocketAddrV4::from);
    let to = message.cmsgs()?.find_map(|c| match c {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))),
        _ => None,
    });
    Ok(Datagram {
        len: message.bytes,
        truncated: message.flags.contains(MsgFlags::MSG_TRUNC),
        peer,
        to: to.unwrap_or(Ipv4Addr::UNSPECIFIED),
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdSocket;

    use super::*;

    #[tokio::test]
    async fn it_says_where_a_datagram_was_sent_to_and_answers_from_there() {
        let socket = PktinfoSocket::bind("lo", 0).unwrap();
        let port = socket.socket.local_addr().unwrap().as_socket().unwrap().port();
        let socket = socket.watch().unwrap();
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        let other = Ipv4Addr::new(127, 0, 0, 9);
        client.send_to(b"question", (other, port)).unwrap();

        let mut buffer = [0; 4];
        let datagram = socket.receive(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ques");
        assert_eq!((datagram.to, datagram.len, datagram.truncated), (other, 4, true));

        socket.send(datagram.to, datagram.peer, b"answer").unwrap();
        let mut buffer = [0; 16];
        let (len, peer) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], peer), (&b"answer"[..], SocketAddrV4::new(other, port).into()));
    }
}
