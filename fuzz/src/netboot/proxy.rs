//! DHCP datagrams to both doors of a proxy: any bytes are answered or not, nobody is given an address, and what is
//! answered is what the door and the shape of the offer allow.

use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use netboot::{
    Decision, Destination, Door, Interface, MessageType, Mode, Packet, Settings, Shapes, Subnet,
    other_answer, respond_as_proxy, settings_for,
};
use site::{Client, Site};

use super::lab::{SERVER, check_answer, client, datagram, interface, mac, settings, site};

/// Datagrams in one run.
const MOST_DATAGRAMS: usize = 64;

struct Proxy {
    iface: Interface,
    site: Site,
    local: Settings,
    relayed: [Settings; 1],
    shapes: Shapes,
    now: u64,
}

/// The input is datagrams, each behind a byte that says for which door it is and what happens besides.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let mut proxy = Proxy::new();
    for _ in 0..MOST_DATAGRAMS {
        if input.is_empty() {
            break;
        }
        let door = *input.choose(&[Door::Dhcp, Door::Dhcp, Door::Binl])?;
        let bytes = if input.ratio(1, 8)? {
            let len = input.int_in_range(0..=600)?.min(input.len());
            input.bytes(len)?.to_vec()
        } else {
            datagram(input)?
        };
        // Answers of other servers come in as well, by another way.
        let _ = other_answer(&bytes);
        proxy.handle(door, &bytes);
        if input.ratio(1, 8)? {
            let name = *input.choose(&["undionly.kpxe", "snponly.efi", "other"])?;
            proxy.shapes.on_fetch(mac(input.int_in_range(0..=7)?), name, proxy.now);
        }
        proxy.now += u64::from(input.arbitrary::<u8>()?) * 10;
    }
    Ok(())
}

impl Proxy {
    fn new() -> Self {
        // The third has nothing to boot.
        let clients = vec![client(1, None), client(2, None), Client { image: None, ..client(3, None) }];
        let local = Settings { mode: Mode::Proxy, ..settings() };
        let subnet = Subnet::around(Ipv4Addr::new(10, 9, 0, 0), 24);
        Self {
            iface: interface(),
            site: site(clients),
            relayed: [Settings { subnet: Some(subnet), ..local.clone() }],
            local,
            shapes: Shapes::new(),
            now: 1_795_000_000,
        }
    }

    fn handle(&mut self, door: Door, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        let Self { iface, site, local, relayed, shapes, now } = self;
        let settings = settings_for(&packet, iface, local, relayed).unwrap_or(local);
        let outcome = respond_as_proxy(door, &packet, iface, site, settings, shapes, *now);
        // What goes to the log never panics.
        let _ = format!("{:?} {} {:?}", outcome.event, outcome.event.decision, packet);
        let _ = shapes.advice(packet.mac, SERVER);
        assert!(outcome.changes.is_empty() && outcome.untried.is_none(), "a proxy leases nothing");
        let Some(reply) = outcome.reply else { return };
        let bytes = &reply.bytes;
        assert_eq!(bytes[16..20], [0; 4], "an address is given");
        let options = check_answer(&packet, bytes);
        assert!([51, 58, 59, 1, 3, 6].iter().all(|code| !options.contains(code)), "{options:?}");
        assert!([mac(1), mac(2)].contains(&packet.mac), "{} has nothing to boot", packet.mac);
        match door {
            Door::Dhcp => {
                assert!(matches!(outcome.event.decision, Decision::ProxyOffered(_)));
                assert_eq!(outcome.event.answered, Some(MessageType::Offer));
                let relay = packet.giaddr;
                let to =
                    if relay.is_unspecified() { Destination::Broadcast } else { Destination::Relay(relay) };
                assert_eq!(reply.to, to);
            }
            Door::Binl => {
                assert_eq!(outcome.event.answered, Some(MessageType::Ack));
                assert_eq!(reply.to, Destination::Client(packet.ciaddr));
                assert!(!packet.ciaddr.is_unspecified());
            }
        }
    }
}
