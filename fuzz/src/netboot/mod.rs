//! What machines on the network may send.

pub mod dhcp;
mod lab;
pub mod others;
pub mod paths;
pub mod proxy;
pub mod tftp;
