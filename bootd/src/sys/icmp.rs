//! ICMP echoes: packets of a wanted length to any machine, and what comes back for them.
//!
//! The IP header is made here, with "don't fragment" in it: the system would cut a packet up that it believes to be too long for
//! the way, or, told not to, refuse to send it, and what is to be found out is whether it gets there.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, SockaddrIn, recvmsg, sendto};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::packet::{ICMP_PROTOCOL, ip_header, sum};
use super::watched::Readable;

const IP_HEADER: usize = 20;
const ICMP_HEADER: usize = 8;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO: u8 = 8;

/// Of "unreachable": too long, and must not be cut (RFC 1191).
const TOO_LONG: u8 = 4;

/// What is read of a packet: the headers of an answer, or of an error those of what it is about as well.
const READ: usize = 128;

/// What came back for an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The echo's number.
    pub(crate) sequence: u16,
    /// Whom it was sent to.
    pub(crate) to: Ipv4Addr,
    /// What became of it.
    pub(crate) heard: Heard,
}

/// What became of an echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It came back.
    Reply,
    /// Somebody on the way, or this machine, says that it is too long; and mostly what is not, in bytes.
    TooLong(Option<u16>),
}

/// A socket for ICMP echoes.
#[derive(Debug)]
pub(crate) struct IcmpSocket {
    socket: Socket,
    /// What tells our echoes from those of other programs.
    id: u16,
}

impl IcmpSocket {
    /// A socket whose echoes bear that number. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(id: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.attach_filter(&only_answers_to(id))?;
        socket.set_header_included_v4(true)?;
        // Whatever the system believes of the way.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, id })
    }

    /// Sends an echo of `len` bytes, the IP header counted.
    ///
    /// # Errors
    /// The system's, `EMSGSIZE` where the interface sends no such packets.
    pub(crate) fn send(&self, to: Ipv4Addr, sequence: u16, len: u16) -> io::Result<()> {
        let packet = echo(self.id, to, sequence, len);
        let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
        sendto(self.socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// Where the answers are heard. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(crate) fn watch(&self) -> io::Result<Watched> {
        Ok(Watched { socket: Readable::new(self.socket.try_clone()?)?, id: self.id })
    }
}

/// The answers to an [`IcmpSocket`]'s echoes.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Readable,
    id: u16,
}

impl Watched {
    /// Waits for the next answer.
    ///
    /// # Errors
    /// The system's.
    pub(crate) async fn receive(&self) -> io::Result<Answer> {
        loop {
            let mut buffer = [0; READ];
            let read = |socket| {
                let mut pieces = [IoSliceMut::new(&mut buffer)];
                Ok(recvmsg::<SockaddrIn>(socket, &mut pieces, None, MsgFlags::empty())?.bytes)
            };
            let len = self.socket.read(read).await?;
            if let Some(answer) = answer(buffer.get(..len).unwrap_or_default(), self.id) {
                return Ok(answer);
            }
        }
    }
}

fn echo(id: u16, to: Ipv4Addr, sequence: u16, len: u16) -> Vec<u8> {
    let len = usize::from(len).max(IP_HEADER + ICMP_HEADER);
    // The system puts in its own address.
    let mut packet = ip_header(Ipv4Addr::UNSPECIFIED, to, ICMP_PROTOCOL, len as u16);
    let mut icmp = vec![ECHO, 0, 0, 0];
    icmp.extend(id.to_be_bytes());
    icmp.extend(sequence.to_be_bytes());
    icmp.resize(len - IP_HEADER, 0);
    let checksum = !sum(&icmp, 0);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(icmp);
    packet
}

/// Reads an IP packet that is an answer to an echo of ours.
fn answer(packet: &[u8], id: u16) -> Option<Answer> {
    let (from, _, icmp) = icmp(packet)?;
    match (*icmp.first()?, *icmp.get(1)?) {
        (ECHO_REPLY, 0) => {
            let sequence = numbers(icmp, id)?;
            Some(Answer { sequence, to: from, heard: Heard::Reply })
        }
        (UNREACHABLE, TOO_LONG) => {
            let mtu = half(icmp, 6).filter(|mtu| *mtu > 0);
            let (_, to, echo) = self::icmp(icmp.get(ICMP_HEADER..)?)?;
            let sequence = numbers(echo, id).filter(|_| echo.first() == Some(&ECHO))?;
            Some(Answer { sequence, to, heard: Heard::TooLong(mtu) })
        }
        _ => None,
    }
}

/// Who sent an ICMP packet to whom, and what is behind its IP header.
fn icmp(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let header = usize::from(*packet.first()? & 0x0f) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let icmp = packet.get(header.max(IP_HEADER)..)?;
    (*packet.get(9)? == ICMP_PROTOCOL).then_some((address(12)?, address(16)?, icmp))
}

/// The sequence number of an echo or its answer, if it is one of ours.
fn numbers(icmp: &[u8], id: u16) -> Option<u16> {
    half(icmp, 4).filter(|its| *its == id)?;
    half(icmp, 6)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A program for the kernel: keep answers that bear our number, and "too long" of which is to be seen later what it is about. Each
/// line is an operation, how many lines to leave out if it is so and if it isn't, and its operand (`linux/filter.h`).
fn only_answers_to(id: u16) -> [SockFilter; 9] {
    const LOAD_BYTE_BEHIND_HEADER: u16 = 0x50;
    const LOAD_HALF_BEHIND_HEADER: u16 = 0x48;
    const HEADER_LENGTH: u16 = 0xb1;
    const IS: u16 = 0x15;
    const KEEP: u16 = 0x06;
    [
        SockFilter::new(HEADER_LENGTH, 0, 0, 0),
        SockFilter::new(LOAD_BYTE_BEHIND_HEADER, 0, 0, 0),
        SockFilter::new(IS, 2, 0, ECHO_REPLY.into()),
        SockFilter::new(LOAD_HALF_BEHIND_HEADER, 0, 0, 0),
        SockFilter::new(IS, 2, 3, u32::from(UNREACHABLE) << 8 | u32::from(TOO_LONG)),
        SockFilter::new(LOAD_HALF_BEHIND_HEADER, 0, 0, 4),
        SockFilter::new(IS, 0, 1, id.into()),
        SockFilter::new(KEEP, 0, 0, u32::MAX),
        SockFilter::new(KEEP, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u16 = 0x1234;
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    fn from(address: Ipv4Addr, icmp: &[u8]) -> Vec<u8> {
        let len = (IP_HEADER + icmp.len()) as u16;
        [&ip_header(address, [10, 0, 0, 1].into(), ICMP_PROTOCOL, len)[..], icmp].concat()
    }

    #[test]
    fn an_echo_has_the_wanted_length_and_right_checksums_and_may_not_be_cut() {
        for len in [68, 1499, 1500] {
            let packet = echo(ID, CLIENT, 7, len);
            assert_eq!(packet.len(), usize::from(len));
            assert_eq!((sum(&packet[..20], 0), sum(&packet[20..], 0)), (0xffff, 0xffff), "{len}");
            assert_eq!(packet[6] & 0x40, 0x40);
        }
    }

    #[test]
    fn answers_to_our_echoes_are_read_and_nothing_else() {
        let reply = |id: u16| [&[0, 0, 0, 0][..], &id.to_be_bytes(), &[0, 9], b"payload"].concat();
        let answered = Answer { sequence: 9, to: CLIENT, heard: Heard::Reply };
        assert_eq!(answer(&from(CLIENT, &reply(ID)), ID), Some(answered));
        assert_eq!(answer(&from(CLIENT, &reply(1)), ID), None, "another's");
        assert_eq!(answer(&echo(ID, CLIENT, 9, 68), ID), None, "our own");

        // RFC 792 wants 8 bytes of what it is about.
        let about = |id: u16| echo(id, CLIENT, 9, 1500)[..28].to_vec();
        let router = Ipv4Addr::new(10, 0, 0, 3);
        let too_long = |mtu: u16, about: &[u8]| {
            from(router, &[&[3, 4, 0, 0, 0, 0][..], &mtu.to_be_bytes(), about].concat())
        };
        let said = |mtu| Answer { sequence: 9, to: CLIENT, heard: Heard::TooLong(mtu) };
        assert_eq!(answer(&too_long(1468, &about(ID)), ID), Some(said(Some(1468))));
        assert_eq!(answer(&too_long(0, &about(ID)), ID), Some(said(None)), "a router before RFC 1191");
        assert_eq!(answer(&too_long(1468, &about(2)), ID), None, "another's");
        let whole = too_long(1468, &about(ID));
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len], ID), None, "cut at {len}");
        }
    }

    #[tokio::test]
    async fn this_machine_answers_where_the_system_lets_us_ask() {
        let socket = match IcmpSocket::open(ID) {
            Ok(socket) => socket,
            // Only root may; the tests in namespaces need it anyway.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return,
            Err(e) => panic!("{e}"),
        };
        let heard = socket.watch().unwrap();
        let here = Ipv4Addr::new(127, 0, 0, 9);
        socket.send(here, 77, 1500).unwrap();
        assert_eq!(heard.receive().await.unwrap(), Answer { sequence: 77, to: here, heard: Heard::Reply });
        let error = socket.send(here, 78, u16::MAX).map_err(|e| e.raw_os_error());
        assert!(matches!(error, Ok(()) | Err(Some(libc::EMSGSIZE))), "{error:?}");
    }
}
