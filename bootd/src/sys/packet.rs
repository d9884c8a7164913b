//! Sending a UDP datagram to a machine that has no address yet.
//!
//! DHCP's first replies go to an address that the client does not answer ARP for (RFC 2131, section 4.1). So the
//! IP and UDP headers are made here, and the frame goes to the Ethernet address by an `AF_PACKET` socket. The
//! other ways are worse: an entry forced into the ARP table needs `CAP_NET_ADMIN` and stays behind, and a
//! broadcast wakes every machine on the link.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrLike, sendto};
use socket2::{Domain, Socket, Type};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP_PROTOCOL: u8 = 17;
pub(super) const ICMP_PROTOCOL: u8 = 1;

/// The longest payload: one Ethernet frame's. Frames are never fragmented here, and a longer datagram is an error.
pub(crate) const MAX_PAYLOAD: usize = 1500 - IP_HEADER - UDP_HEADER;

/// A socket that sends UDP datagrams straight to Ethernet addresses, out of one interface.
#[derive(Debug)]
pub(crate) struct PacketSender {
    socket: Socket,
    interface: u32,
}

impl PacketSender {
    /// A sender out of the interface of that index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        // Protocol 0: the socket is never handed a frame, so no queue fills up behind it.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, interface })
    }

    /// Sends `payload` in one UDP datagram to the machine at `ethernet`, whatever ARP says.
    ///
    /// # Errors
    /// `InvalidInput` when it is longer than [`MAX_PAYLOAD`], otherwise the system's.
    pub(crate) fn send(
        &self,
        ethernet: [u8; 6],
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> io::Result<()> {
        let packet = ip_packet(from, to, payload)?;
        let destination = link_address(self.interface, libc::ETH_P_IP, ethernet)?;
        sendto(self.socket.as_raw_fd(), &packet, &destination, MsgFlags::empty())?;
        Ok(())
    }
}

/// The Ethernet address of the interface with that index.
pub(super) fn own_mac(interface: u32) -> io::Result<[u8; 6]> {
    let links = getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr().copied());
    let own = links.into_iter().find(|link| link.ifindex() == interface as usize);
    own.and_then(|link| link.addr()).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The address of a machine on the link, as `AF_PACKET` wants it.
#[allow(unsafe_code)]
pub(super) fn link_address(interface: u32, protocol: i32, ethernet: [u8; 6]) -> io::Result<LinkAddr> {
    let mut sll_addr = [0; 8];
    sll_addr[..6].copy_from_slice(&ethernet);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr,
    };
    // SAFETY: `from_raw` reads `sa_family` through the pointer and then, as the length given is that of a
    // `sockaddr_ll`, one `sockaddr_ll`. The pointer is to a live, initialised `sockaddr_ll`, whose first field is
    // the family, and what is read is copied before this function returns.
    let copied = unsafe {
        LinkAddr::from_raw(
            (&raw const address).cast::<libc::sockaddr>(),
            Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t),
        )
    };
    copied.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// `payload` behind an IPv4 header (RFC 791) and a UDP header (RFC 768).
pub(super) fn ip_packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> io::Result<Vec<u8>> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a reply longer than one Ethernet frame"));
    }
    // Both fit 16 bits: the payload is no longer than a frame.
    let udp_len = (UDP_HEADER + payload.len()) as u16;
    let total_len = IP_HEADER as u16 + udp_len;

    let mut ip = ip_header(*from.ip(), *to.ip(), UDP_PROTOCOL, total_len);

    let mut udp = Vec::with_capacity(usize::from(udp_len));
    udp.extend_from_slice(&from.port().to_be_bytes());
    udp.extend_from_slice(&to.port().to_be_bytes());
    udp.extend_from_slice(&udp_len.to_be_bytes());
    udp.extend_from_slice(&[0, 0]);
    udp.extend_from_slice(payload);
    let pseudo_header = sum(&ip[12..20], u32::from(UDP_PROTOCOL) + u32::from(udp_len));
    // A sum that comes out as 0 is sent as all ones: 0 means "no checksum".
    let checksum = match !sum(&udp, u32::from(pseudo_header)) {
        0 => 0xffff,
        other => other,
    };
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    ip.extend_from_slice(&udp);
    Ok(ip)
}

/// The IPv4 header (RFC 791) of a packet of `len` bytes, itself counted, which nobody may cut up.
pub(super) fn ip_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, len: u16) -> Vec<u8> {
    let mut ip = Vec::with_capacity(usize::from(len));
    ip.extend_from_slice(&[0x45, 0]); // version 4, five words of header; no type of service
    ip.extend_from_slice(&len.to_be_bytes());
    ip.extend_from_slice(&[0, 0, 0x40, 0]); // no identification; don't fragment
    ip.extend_from_slice(&[64, protocol, 0, 0]); // time to live; the checksum is put in below
    ip.extend_from_slice(&from.octets());
    ip.extend_from_slice(&to.octets());
    let checksum = !sum(&ip, 0);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip
}

/// The ones' complement sum of the bytes as big-endian words (RFC 1071), on top of `start`. The bytes are at most
/// a frame's, so 32 bits hold every carry.
pub(super) fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> (SocketAddrV4, SocketAddrV4) {
        let server = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 1), 67);
        let client = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 199), 68);
        (server, client)
    }

    #[test]
    fn the_header_checksum_is_the_known_one() {
        // The example everyone checks against: 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
        let (from, to) = addresses();
        let packet = ip_packet(from, to, &[0; 0x73 - 28]).unwrap();
        assert_eq!(
            packet[..20],
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7]
        );
    }

    #[test]
    fn a_receiver_finds_both_checksums_right() {
        let (from, to) = addresses();
        for payload in [&b""[..], b"a", b"ab", b"an odd number of bytes", &[0xff; MAX_PAYLOAD]] {
            let packet = ip_packet(from, to, payload).unwrap();
            assert_eq!(sum(&packet[..20], 0), 0xffff, "header");
            let udp = &packet[20..];
            let pseudo = sum(&packet[12..20], 17 + udp.len() as u32);
            assert_eq!(sum(udp, u32::from(pseudo)), 0xffff, "datagram of {}", payload.len());
            assert_eq!(&udp[8..], payload);
            assert_eq!(usize::from(u16::from_be_bytes([udp[4], udp[5]])), udp.len());
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let (from, to) = addresses();
        // Choose the two payload bytes so that everything else is cancelled out.
        let packet = ip_packet(from, to, &[0, 0]).unwrap();
        let payload = [packet[26], packet[27]];
        let packet = ip_packet(from, to, &payload).unwrap();
        assert_eq!(packet[26..28], [0xff, 0xff]);
    }

    #[test]
    fn what_does_not_fit_a_frame_is_an_error() {
        let (from, to) = addresses();
        assert!(ip_packet(from, to, &[0; MAX_PAYLOAD + 1]).is_err());
    }

    #[test]
    fn a_link_address_says_what_it_was_made_of() {
        let address = link_address(7, libc::ETH_P_IP, [2, 0, 0, 0, 0, 9]).unwrap();
        assert_eq!((address.ifindex(), address.halen()), (7, 6));
        assert_eq!(address.addr(), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(address.protocol(), 0x0800u16.to_be());
        assert!(link_address(u32::MAX, libc::ETH_P_IP, [0; 6]).is_err());
    }
}
