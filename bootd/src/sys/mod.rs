//! The few calls to the system that no crate wraps in one piece.
//!
//! Nothing outside this folder may be `unsafe`, and in here two expressions are ([`packet`], [`handed`]); the rest is
//! put together from `nix`, `rustix` and `socket2`.

mod handed;
mod packet;
mod pktinfo;
mod solicit;

pub(crate) use handed::handed_over;
pub(crate) use packet::PacketSender;
pub(crate) use pktinfo::{PktinfoSocket, Watched as WatchedPktinfoSocket};
pub(crate) use solicit::{HOP_LIMIT, RouterSocket, Solicitation, Watched as WatchedRouterSocket};
