//! Hearing UDP datagrams of one port beside whoever else has that port on this machine.
//!
//! A proxy DHCP server shares port 67 with the DHCP server, which may run on the same machine. Two UDP sockets can
//! share a port only if both want to, and a datagram to one machine goes to one of them only: it might keep a renewal
//! from the server that it is for. An `AF_PACKET` socket takes nothing away from anyone.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, SockaddrIn, bind, sendto};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::packet::{ip_packet, link_address, own_mac};
use super::pktinfo::Datagram;
use super::watched::Readable;

const UDP_PROTOCOL: u8 = 17;
const UDP_HEADER: usize = 8;

/// How much may wait to be received, in bytes. What comes beyond is lost, and its senders ask again.
const RECEIVE_BUFFER: usize = 4 << 20;

/// No protocol of IP's: packets with headers of our own (`IPPROTO_RAW`).
const RAW: i32 = 255;

/// A socket that hears all UDP datagrams to one port that come in by one interface.
#[derive(Debug)]
pub(crate) struct Eavesdropper {
    socket: Socket,
    interface: u32,
    mac: [u8; 6],
}

impl Eavesdropper {
    /// Hears `port` on the interface of that index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(interface: u32, port: u16) -> io::Result<Self> {
        // Protocol 0: it is handed nothing until it is bound, and by then the filter holds.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.attach_filter(&only_udp_to(port))?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.set_nonblocking(true)?;
        bind(socket.as_raw_fd(), &link_address(interface, libc::ETH_P_IP, [0; 6])?)?;
        let mac = own_mac(interface)?;
        Ok(Self { socket, interface, mac })
    }

    /// The interface's own Ethernet address.
    pub(crate) fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The same, ready to be waited for. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(crate) fn watch(self) -> io::Result<Watched> {
        Ok(Watched { socket: Readable::new(self.socket)?, interface: self.interface })
    }
}

/// An [`Eavesdropper`] that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Readable,
    interface: u32,
}

impl Watched {
    /// Waits for the next datagram; its payload is at the buffer's beginning.
    ///
    /// # Errors
    /// The system's, `NetworkDown` when the interface went down.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        loop {
            let len = self.socket.packet(self.interface, buffer).await?;
            if let Some(datagram) = unwrap(buffer, len) {
                return Ok(datagram);
            }
        }
    }
}

/// Takes the headers off an IP packet of `len` bytes and moves the payload to the front. Checksums are not looked at:
/// the card has checked them, or they are still to be made where the packet never saw a wire.
fn unwrap(buffer: &mut [u8], len: usize) -> Option<Datagram> {
    let packet = buffer.get(..len)?;
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
    let from = Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?);
    let to = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
    // What the packet ends with beyond its own length fills up the frame.
    let udp = packet.get(header..total.min(len))?;
    let port = u16::from_be_bytes(*udp.first_chunk()?);
    let udp_len = usize::from(u16::from_be_bytes(*udp.get(4..)?.first_chunk()?));
    let payload = udp_len.checked_sub(UDP_HEADER)?;
    let there = udp.len().checked_sub(UDP_HEADER)?.min(payload);
    buffer.copy_within(header + UDP_HEADER..header + UDP_HEADER + there, 0);
    Some(Datagram { len: there, truncated: there < payload, peer: SocketAddrV4::new(from, port), to })
}

/// A program for the kernel: keep a packet that is UDP, no later fragment, and to `port`. Each line is an operation,
/// how many lines to leave out if it is so and if it isn't, and its operand (`linux/filter.h`).
fn only_udp_to(port: u16) -> [SockFilter; 9] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const HEADER_LENGTH: u16 = 0xb1;
    const IS: u16 = 0x15;
    const HAS_BITS: u16 = 0x45;
    const KEEP: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(IS, 0, 6, UDP_PROTOCOL.into()),
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(HAS_BITS, 4, 0, 0x1fff),
        SockFilter::new(HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_HALF_BEHIND_HEADER, 0, 0, 2),
        SockFilter::new(IS, 0, 1, port.into()),
        SockFilter::new(KEEP, 0, 0, 0xffff),
        SockFilter::new(KEEP, 0, 0, 0),
    ]
}

/// A socket that sends UDP datagrams from any port, by the routes of this machine, out of one interface.
#[derive(Debug)]
pub(crate) struct AnyPortSender {
    socket: Socket,
}

impl AnyPortSender {
    /// A sender out of that interface. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        // It is handed nothing: no packet has this protocol.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends `payload` in one UDP datagram.
    ///
    /// # Errors
    /// `InvalidInput` when it is longer than a frame, otherwise the system's.
    pub(crate) fn send(&self, from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        let packet = ip_packet(from, to, payload)?;
        let host = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
        sendto(self.socket.as_raw_fd(), &packet, &host, MsgFlags::empty())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let from = SocketAddrV4::new([10, 0, 0, 7].into(), 68);
        ip_packet(from, SocketAddrV4::new([10, 0, 0, 1].into(), 67), payload).unwrap()
    }

    #[test]
    fn a_packet_is_unwrapped_with_its_frames_filling_left_out() {
        let mut buffer = packet(b"question");
        buffer.resize(60, 0);
        let len = buffer.len();
        let datagram = unwrap(&mut buffer, len).unwrap();
        assert_eq!(&buffer[..datagram.len], b"question");
        assert_eq!((datagram.to, datagram.peer), ([10, 0, 0, 1].into(), "10.0.0.7:68".parse().unwrap()));
        assert!(!datagram.truncated);
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_datagram() {
        let whole = packet(b"question");
        for len in 0..whole.len() {
            let mut cut = whole.clone();
            let datagram = unwrap(&mut cut, len);
            assert!(datagram.is_none_or(|it| it.truncated), "cut at {len}");
        }
        for (at, value) in [(0, 0x4f), (2, 0), (3, 0), (25, 3)] {
            let mut wrong = whole.clone();
            wrong[at] = value;
            let len = wrong.len();
            if let Some(datagram) = unwrap(&mut wrong, len) {
                assert!(datagram.len <= len, "byte {at}");
            }
        }
    }
}
