//! What machines on the network may send.

pub mod dhcp;
pub mod proxy;
pub mod tftp;
