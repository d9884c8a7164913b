//! A daemon's state without its sockets, for tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use lvm::{Engine, Sim};
use netboot::{Lease, LeaseChange, LeaseState, Leases};
use site::{Client, Image, MacAddr, Site, Store};

use crate::app;
use crate::config::{Config, Flags};
use crate::data;
use crate::events::{Event, Events};
use crate::machine::{Machine, NetworkInterface};
use crate::state::{Counters, State};
use tokio::sync::mpsc::Receiver;

/// The client that tests boot.
pub(crate) const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 1]);

/// A machine with `eth1` at 10.0.0.1/24.
pub(crate) fn machine() -> Machine {
    let eth1 = NetworkInterface { index: 3, addresses: vec![([10, 0, 0, 1].into(), 24)], up: true };
    Machine { host_name: "srv".into(), memory: 8 << 30, interfaces: BTreeMap::from([("eth1".into(), eth1)]) }
}

/// The configuration of a daemon on that machine, with simulated disks and all its files in `directory`.
pub(crate) fn config(directory: &Path) -> Config {
    let file = directory.join("bootd.toml");
    std::fs::write(&file, "").unwrap();
    let flags = Flags {
        file: Some(file),
        interfaces: vec!["eth1".into()],
        data: Some(directory.join("data")),
        sim: true,
        ..Flags::default()
    };
    Config::load(&flags, &machine()).unwrap()
}

/// Its state, with an empty site in a real database, and the end of its events.
pub(crate) fn state(directory: &Path) -> (Arc<State>, Arc<Store>, Receiver<Event>) {
    state_with(directory, Arc::new(Sim::new()))
}

/// The same, with its disks made by `engine`.
pub(crate) fn state_with(
    directory: &Path,
    engine: Arc<dyn Engine>,
) -> (Arc<State>, Arc<Store>, Receiver<Event>) {
    let config = config(directory);
    for folder in [&config.data, &config.files(), &config.menus(), &config.images()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let store = Arc::new(Store::open(&app::location(&config)).unwrap());
    let menus = menus::Menus::new(data::templates(&config.menus()).unwrap()).unwrap();
    let counters = Arc::new(Counters::default());
    let (events, told) = Events::new(Arc::clone(&counters));
    let files = app::files(&config);
    let site = store.snapshot().unwrap();
    let leases = Default::default();
    let pings = crate::pings::Pings::none();
    let parts = app::Parts { config, store: Arc::clone(&store), site, menus, files, leases, pings };
    (Arc::new(app::state(parts, engine, events, counters)), store, told)
}

/// Leases `address` to the client that tests boot.
pub(crate) fn lease(state: &State, address: Ipv4Addr) {
    let lease = Lease { address, mac: MAC, state: LeaseState::Bound, expires: u64::MAX };
    *state.leases.lock() = Leases::restore([LeaseChange::Set(lease)]);
}

/// The site of one client that boots one image, whose file is in `directory`.
pub(crate) fn site(directory: &Path) -> Site {
    let path = directory.join("debian.raw");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let image =
        Image { name: "debian".parse().unwrap(), version: "v1".parse().unwrap(), path, size: 1 << 20 };
    Site::new(1, vec![client()], vec![image])
}

/// The client that boots it.
pub(crate) fn client() -> Client {
    Client {
        name: "pc1".parse().unwrap(),
        mac: MAC,
        address: Some([10, 0, 0, 7].into()),
        image: Some("debian".parse().unwrap()),
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    }
}
