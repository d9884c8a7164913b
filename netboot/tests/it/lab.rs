//! The site that the tests play in, and a DHCP server with its memory.

use std::net::Ipv4Addr;

use netboot::{Decision, Interface, LeaseChange, Leases, Outcome, Packet, PoolRange, Settings, respond};
use site::{Client, Image, MacAddr, Site};

use crate::wire::{discover, request, selecting};

/// A moment in November 2026, in seconds.
pub(crate) const START: u64 = 1_795_000_000;

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub(crate) const fn mac(last: u8) -> MacAddr {
    MacAddr::new([0x52, 0x54, 0, 0x77, 1, last])
}

/// Client 8, by the maker of its card.
pub(crate) const RASPBERRY_PI: MacAddr = MacAddr::new([0xdc, 0xa6, 0x32, 0x77, 1, 8]);

pub(crate) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

pub(crate) fn client(name: &str, last: u8) -> Client {
    Client {
        name: name.parse().unwrap(),
        mac: mac(last),
        address: None,
        image: Some("debian".parse().unwrap()),
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    }
}

pub(crate) fn image(name: &str) -> Image {
    Image {
        name: name.parse().unwrap(),
        version: "v1".parse().unwrap(),
        path: "/images/debian".into(),
        size: 1 << 30,
    }
}

/// Clients 1 to 8: 1, 3, 4, 5 have addresses of their own (10.77.0.11 and so on), 6 is disabled, 7 has no image.
pub(crate) fn clients() -> Vec<Client> {
    let own = |name, last| Client { address: Some(ip(10 + last)), ..client(name, last) };
    vec![
        own("lab01", 1),
        client("lab02", 2),
        Client { mac: RASPBERRY_PI, ..client("lab08", 8) },
        own("lab03", 3),
        own("lab04", 4),
        own("lab05", 5),
        Client { enabled: false, ..client("lab06", 6) },
        Client { image: None, ..client("lab07", 7) },
    ]
}

pub(crate) fn interface() -> Interface {
    Interface { name: "eth1".into(), address: SERVER, prefix_len: 24 }
}

pub(crate) fn pool(first: u8, last: u8) -> PoolRange {
    PoolRange::new(ip(first), ip(last)).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        pool: Some(pool(100, 120)),
        router: Some(ip(254)),
        dns: vec![ip(253), [9, 9, 9, 9].into()],
        domain: Some("lab.internal".into()),
        lease_time: 7200,
        programs: ["undionly.kpxe", "snponly.efi", "ipxe.efi", "snponly-arm64.efi", "snponly-i386.efi"]
            .map(str::to_owned)
            .into_iter()
            .collect(),
        ..Settings::default()
    }
}

/// A DHCP server.
pub(crate) struct Lab {
    pub(crate) iface: Interface,
    pub(crate) site: Site,
    pub(crate) settings: Settings,
    pub(crate) leases: Leases,
    pub(crate) now: u64,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            iface: interface(),
            site: Site::new(1, clients(), vec![image("debian")]),
            settings: settings(),
            leases: Leases::new(),
            now: START,
        }
    }

    pub(crate) fn with_clients(clients: Vec<Client>) -> Self {
        Self { site: Site::new(1, clients, vec![image("debian")]), ..Self::new() }
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Outcome {
        self.send_packet(&Packet::parse(request).unwrap())
    }

    /// A request with what is known of it beside its bytes.
    pub(crate) fn send_packet(&mut self, packet: &Packet) -> Outcome {
        respond(packet, &self.iface, &self.site, &self.settings, &mut self.leases, self.now)
    }

    /// A DECLINE, upon which a stranger answers for the address.
    pub(crate) fn decline(&mut self, last: u8, address: Ipv4Addr) -> Option<LeaseChange> {
        let decline = request(mac(last), 4).option(50, &address.octets()).option(54, &SERVER.octets());
        let outcome = self.send(&decline.encode());
        assert_eq!((outcome.reply, outcome.changes), (None, vec![]));
        let tried = outcome.untried?;
        self.leases.on_conflict(mac(last), tried, Some(mac(250)), self.settings.pool, self.now)
    }

    /// A whole exchange in which a machine asks for an address of its choice.
    pub(crate) fn take(&mut self, machine: MacAddr, address: Ipv4Addr) {
        self.send(&discover(machine).option(50, &address.octets()).encode());
        let outcome = self.send(&selecting(machine, address, self.iface.address).encode());
        assert_eq!(outcome.event.decision, Decision::Leased(address));
    }
}
