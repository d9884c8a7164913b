//! What the whole-system tests and the demonstration share: labs in network namespaces, virtual clients, a bootable
//! disk, the daemon under test. It knows bootd by its command line and its wire only.

mod archive;
mod console;
mod crowd;
mod daemon;
mod dnsmasq;
mod failure;
mod fio_system;
mod initiator;
mod initramfs;
mod interrupt;
mod lab;
mod leftovers;
mod manager;
mod namespace;
mod net_client;
mod places;
mod postgres;
mod pxe_firmware;
mod run;
mod slots;
mod test_disk;
mod virtual_client;
mod wait;

pub use console::Console;
pub use crowd::{Crowd, Member};
pub use daemon::{Daemon, DaemonOptions, Step, refused_start, refused_start_with};
pub use dnsmasq::Dnsmasq;
pub use failure::{Context, Failure, Result};
pub use fio_system::FioSystem;
pub use initiator::{Ended, Initiator, SECTOR, connect_from};
pub use interrupt::{interrupted, tidy_up_on_signals};
pub use lab::{CLIENT_INTERFACE, Lab, SERVER, SERVER_INTERFACE};
pub use leftovers::{mine, sweep};
pub use manager::Manager;
pub use namespace::Namespace;
pub use net_client::{Asks, Lease, NetClient, OfferedDisk};
pub use places::{bootd_binary, cache_dir, workspace};
pub use postgres::Postgres;
pub use pxe_firmware::{Answer, Found, PxeFirmware};
pub use run::{Ran, check_machine, find_program, run, sh};
pub use slots::VmSlots;
pub use test_disk::{TestDisk, sha256};
pub use virtual_client::{BOOT, Firmware, VirtualClient};
pub use wait::{AGES, SOON, wait_for};
