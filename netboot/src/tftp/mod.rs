//! One file to one client by TFTP (RFC 1350, 2347, 2348, 2349, 7440), as a state machine. Read requests only.
//!
//! The order of calls: [`Request::parse`] on what comes to port 69; find the file; [`Transfer::new`]; then, on a socket
//! of the transfer's own, bound to the address that was asked and connected to the client (or on the one that was asked, with
//! what [`is_request`] says is none handed to the transfer of its sender), [`Transfer::poll_transmit`] until it has nothing more to send, and wait for whichever is first: a datagram
//! ([`Transfer::handle`]), [`Transfer::poll_timeout`] ([`Transfer::handle_timeout`]), or the network's word that nobody
//! listens there ([`Transfer::handle_unreachable`]); until there is a [`Transfer::summary`].
//!
//! Times are since any fixed moment of the caller's.

mod packet;
mod request;
mod rto;
mod source;
mod transfer;

pub use packet::{ErrorCode, error_packet};
pub use request::{Limits, MAX_REQUEST_LEN, Mode, Request, RequestError, Wanted, is_request};
pub use source::Source;
pub use transfer::{End, Summary, Transfer};
