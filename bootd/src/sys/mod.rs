//! The few calls to the system that no crate wraps in one piece.
//!
//! Nothing outside this folder may be `unsafe`, and in here one expression is ([`packet`]); the rest is put
//! together from `nix` and `socket2`.

mod packet;
mod pktinfo;
mod solicit;

pub(crate) use packet::PacketSender;
pub(crate) use pktinfo::{Datagram, PktinfoSocket};
pub(crate) use solicit::{RouterSocket, Solicitation};
