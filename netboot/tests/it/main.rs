//! netboot at the boundary that it promises: datagrams and time in, datagrams and facts out.

mod dhcp;
mod golden;
mod guard;
mod lab;
mod leases;
mod paths;
mod plan;
mod pxe;
mod session;
mod text;
mod tftp;
mod wire;
