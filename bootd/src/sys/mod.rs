//! The few calls to the system that no crate wraps in one piece.
//!
//! Nothing outside this folder may be `unsafe`, and in here one expression is ([`packet`]); the rest is put
//! together from `nix` and `socket2`.

mod packet;
mod pktinfo;
mod solicit;

pub(crate) use packet::PacketSender;
pub(crate) use pktinfo::{PktinfoSocket, Watched as WatchedPktinfoSocket};
pub(crate) use solicit::{HOP_LIMIT, RouterSocket, Solicitation, Watched as WatchedRouterSocket};
