//! What an initiator may do to the target, well-meaning or not.

pub mod cdb;
mod disk;
pub mod login;
pub mod pdu;
mod peer;
mod sent;
pub mod session;
mod targets;
mod wire;
