//! Which machine on the link has an address, as the kernel knows by ARP (`rtnetlink(7)`).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

const HEADER: usize = 16;
const NEIGHBOUR: usize = 12;
const ATTRIBUTE: usize = 4;

/// Message types: a neighbour, the question for one, and an error.
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;

/// Attributes: the address on the network, and on the link.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// States in which the kernel has no answer, or no longer believes in the one it had.
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;

/// The answer is there before the question has returned; this long is waited for one that isn't.
const PATIENCE_MS: i64 = 100;

/// The Ethernet address of the machine that has `address` on the interface of that index; `None`: the kernel has not
/// lately spoken with one.
///
/// # Errors
/// The system's, also where its kernel is older than 5.0 and can't be asked for one address.
pub(crate) fn neighbour(interface: u32, address: Ipv4Addr) -> io::Result<Option<[u8; 6]>> {
    let route = SockProtocol::NetlinkRoute;
    let socket: OwnedFd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
    send(socket.as_raw_fd(), &question(interface, address), MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    let len = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    answer(buffer.get(..len).unwrap_or_default())
}

fn question(interface: u32, address: Ipv4Addr) -> Vec<u8> {
    let attribute = ATTRIBUTE + 4;
    // All lengths are small and known.
    let len = (HEADER + NEIGHBOUR + attribute) as u32;
    let mut message = Vec::with_capacity(len as usize);
    message.extend(len.to_ne_bytes());
    message.extend(RTM_GETNEIGH.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence number and sender: the kernel's answer is the only message here
    message.extend([libc::AF_INET as u8, 0, 0, 0]);
    message.extend(interface.to_ne_bytes());
    message.extend([0; 4]); // state, flags, type
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(NDA_DST.to_ne_bytes());
    message.extend(address.octets());
    message
}

fn answer(message: &[u8]) -> io::Result<Option<[u8; 6]>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let half =
        |at: usize| message.get(at..).and_then(|rest| rest.first_chunk()).map(|b| u16::from_ne_bytes(*b));
    match half(4).ok_or_else(short)? {
        RTM_NEWNEIGH => {}
        NLMSG_ERROR => {
            let code = message.get(HEADER..).and_then(|rest| rest.first_chunk()).ok_or_else(short)?;
            let error = io::Error::from_raw_os_error(i32::from_ne_bytes(*code).saturating_neg());
            return if error.raw_os_error() == Some(libc::ENOENT) { Ok(None) } else { Err(error) };
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let state = half(HEADER + 8).ok_or_else(short)?;
    if state == 0 || state & (NUD_INCOMPLETE | NUD_FAILED | NUD_NOARP) != 0 {
        return Ok(None);
    }
    let mut rest = message.get(HEADER + NEIGHBOUR..).ok_or_else(short)?;
    while let [a, b, c, d, ..] = *rest {
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        let Some(value) = rest.get(ATTRIBUTE..len) else { break };
        if kind == NDA_LLADDR {
            return Ok(<[u8; 6]>::try_from(value).ok());
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message =
            [&[0; 4][..], &RTM_NEWNEIGH.to_ne_bytes(), &[0; 10], &[2, 0, 0, 0, 3, 0, 0, 0]].concat();
        message.extend(state.to_ne_bytes());
        message.extend([0, 1]);
        for (kind, value) in attributes {
            message.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(*value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message
    }

    #[test]
    fn the_kernel_is_asked_and_knows_no_neighbour_that_there_is_not() {
        // 192.0.2.0/24 is for documentation (RFC 5737).
        assert_eq!(neighbour(1, Ipv4Addr::new(192, 0, 2, 77)).unwrap(), None);
    }

    #[test]
    fn an_answer_is_read_and_one_that_is_cut_is_none() {
        let mac = [2, 0, 0, 0, 0, 9];
        let whole = told(0x02, &[(NDA_DST, &[10, 0, 0, 7]), (NDA_LLADDR, &mac)]);
        assert_eq!(answer(&whole).unwrap(), Some(mac));
        for len in 0..whole.len() - 2 {
            assert!(!matches!(answer(&whole[..len]), Ok(Some(_))), "cut at {len}");
        }
        for state in [0, NUD_INCOMPLETE, NUD_FAILED, NUD_NOARP] {
            assert_eq!(answer(&told(state, &[(NDA_LLADDR, &mac)])).unwrap(), None, "state {state}");
        }
        let mut unknown = [&[0; 4][..], &NLMSG_ERROR.to_ne_bytes(), &[0; 10]].concat();
        unknown.extend((-libc::ENOENT).to_ne_bytes());
        assert_eq!(answer(&unknown).unwrap(), None);
        unknown.truncate(HEADER);
        unknown.extend((-libc::EOPNOTSUPP).to_ne_bytes());
        assert!(answer(&unknown).is_err());
    }
}
