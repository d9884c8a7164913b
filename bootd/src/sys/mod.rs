//! The few calls to the system that no crate wraps in one piece.
//!
//! Nothing outside this folder may be `unsafe`, and in here two expressions are ([`packet`], [`handed`]); the rest is
//! put together from `nix`, `rustix` and `socket2`.

mod arp;
mod handed;
mod icmp;
mod neighbour;
mod overhear;
mod packet;
mod pktinfo;
mod solicit;
mod tap;
mod watched;

pub(crate) use arp::{ArpSocket, Watched as WatchedArp};
pub(crate) use handed::handed_over;
pub(crate) use icmp::{Heard, IcmpSocket};
pub(crate) use neighbour::neighbour;
pub(crate) use overhear::{AnyPortSender, Eavesdropper, Watched as WatchedEavesdropper};
pub(crate) use packet::PacketSender;
pub(crate) use pktinfo::{Datagram, PktinfoSocket, Watched as WatchedPktinfoSocket};
pub(crate) use solicit::{HOP_LIMIT, RouterSocket, Solicitation, Watched as WatchedRouterSocket};
pub(crate) use tap::Tap;
