//! netboot at the boundary that it promises: datagrams and time in, datagrams and facts out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

mod choosing;
mod dhcp;
mod diagnose;
mod golden;
mod guard;
mod lab;
mod leases;
mod offer;
mod paths;
mod plan;
mod proxy;
mod pxe;
mod registration;
mod session;
mod subnets;
mod text;
mod tftp;
mod wire;
