//! Asking by ARP whether an address is in use, before it is given away (RFC 2131 §2.2, RFC 5227 §2.1.1).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, bind, sendto};
use socket2::{Domain, Socket, Type};

use super::packet::{link_address, own_mac};
use super::watched::Readable;

/// An ARP packet for Ethernet and IPv4, in bytes (RFC 826).
const ARP_LEN: usize = 28;

/// Ethernet, IPv4, the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

const EVERYONE: [u8; 6] = [0xff; 6];

/// A socket for ARP on one interface.
#[derive(Debug)]
pub(crate) struct ArpSocket {
    socket: Socket,
    interface: u32,
    mac: [u8; 6],
}

impl ArpSocket {
    /// A socket on the interface of that index. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The system's, `PermissionDenied` above all.
    pub(crate) fn open(interface: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        bind(socket.as_raw_fd(), &link_address(interface, libc::ETH_P_ARP, [0; 6])?)?;
        let mac = own_mac(interface)?;
        Ok(Self { socket, interface, mac })
    }

    /// The same, ready to be waited for. Call it inside the runtime.
    ///
    /// # Errors
    /// When the runtime can't watch another socket.
    pub(crate) fn watch(self) -> io::Result<Watched> {
        let Self { socket, interface, mac } = self;
        Ok(Watched { socket: Readable::new(socket)?, interface, mac })
    }
}

/// An [`ArpSocket`] that the runtime watches.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: Readable,
    interface: u32,
    mac: [u8; 6],
}

impl Watched {
    /// Waits for the next machine that says which address it has, and returns both.
    ///
    /// # Errors
    /// The system's, `NetworkDown` when the interface went down.
    pub(crate) async fn receive(&self) -> io::Result<(Ipv4Addr, [u8; 6])> {
        loop {
            let mut buffer = [0; 64];
            let len = self.socket.packet(self.interface, &mut buffer).await?;
            if let Some(said) = sender(buffer.get(..len).unwrap_or_default()) {
                return Ok(said);
            }
        }
    }

    /// Asks who has `address`, in nobody's name: no table is changed by it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn ask(&self, address: Ipv4Addr) -> io::Result<()> {
        let nobody = [0; 10];
        let packet =
            [&ETHERNET_IPV4[..], &[0, 1], &self.mac, &nobody[..4], &nobody[..6], &address.octets()].concat();
        let to = link_address(self.interface, libc::ETH_P_ARP, EVERYONE)?;
        sendto(self.socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
        Ok(())
    }
}

/// Who says that it has which address, in a question as in an answer.
fn sender(packet: &[u8]) -> Option<(Ipv4Addr, [u8; 6])> {
    let packet: &[u8; ARP_LEN] = packet.first_chunk()?;
    let mac = *packet.get(8..)?.first_chunk()?;
    let address = Ipv4Addr::from(*packet.get(14..)?.first_chunk::<4>()?);
    (packet.starts_with(&ETHERNET_IPV4) && !address.is_unspecified()).then_some((address, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_an_address_is_read_and_who_only_asks_is_not() {
        let mac = [2, 0, 0, 0, 0, 9];
        let packet = |ip: [u8; 4]| [&ETHERNET_IPV4[..], &[0, 2], &mac, &ip, &[0; 10]].concat();
        assert_eq!(sender(&packet([10, 0, 0, 7])), Some(([10, 0, 0, 7].into(), mac)));
        assert_eq!(sender(&packet([0; 4])), None);
        assert_eq!(sender(&packet([10, 0, 0, 7])[..ARP_LEN - 1]), None);
        let mut token_ring = packet([10, 0, 0, 7]);
        token_ring[1] = 6;
        assert_eq!(sender(&token_ring), None);
    }
}
