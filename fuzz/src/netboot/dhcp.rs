//! DHCP datagrams against a small site: any bytes are answered or not, and the table of leases stays sound.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use netboot::{Interface, LeaseChange, LeaseState, Leases, Packet, PoolRange, Settings, Unknown, respond};
use site::Site;

use super::lab::{OWN, SERVER, check_answer, client, datagram, interface, mac, settings, site};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 103));

/// Datagrams in one run.
const MOST_DATAGRAMS: usize = 64;

struct Server {
    iface: Interface,
    site: Site,
    settings: Settings,
    leases: Leases,
    journal: Vec<LeaseChange>,
    now: u64,
}

/// The input begins with a few settings; each datagram then is whatever bytes, or one that is nearly right.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let mut server = Server::new(input)?;
    for _ in 0..MOST_DATAGRAMS {
        if input.is_empty() {
            break;
        }
        let datagram = if input.ratio(1, 8)? {
            let len = input.int_in_range(0..=600)?.min(input.len());
            input.bytes(len)?.to_vec()
        } else {
            datagram(input)?
        };
        server.handle(&datagram);
        server.now += u64::from(input.arbitrary::<u8>()?) * 10;
    }
    server.check_restart();
    Ok(())
}

impl Server {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let settings = Settings {
            pool: if input.ratio(7, 8)? { Some(PoolRange::new(POOL.0, POOL.1).unwrap()) } else { None },
            router: Some(ROUTER),
            dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
            domain: Some("lab.internal".to_owned()),
            lease_time: *input.choose(&[7200, 60, u32::MAX])?,
            unknown: if input.ratio(1, 8)? { Unknown::Ignore } else { Unknown::Lease },
            authoritative: input.ratio(7, 8)?,
            ..settings()
        };
        Ok(Self {
            iface: interface(),
            site: site(vec![client(1, Some(OWN)), client(2, None)]),
            settings,
            leases: Leases::new(),
            journal: Vec::new(),
            now: 1_795_000_000,
        })
    }

    fn handle(&mut self, datagram: &[u8]) {
        let Ok(packet) = Packet::parse(datagram) else { return };
        let Self { iface, site, settings, leases, now, .. } = self;
        let outcome = respond(&packet, iface, site, settings, leases, *now);
        // What goes to the log never panics.
        let _ = format!("{:?} {:?}", outcome.event, packet);
        if let Some(reply) = &outcome.reply {
            self.check_reply(&packet, &reply.bytes);
        }
        self.journal.extend(outcome.changes);
        self.check_leases();
    }

    fn check_reply(&self, packet: &Packet, bytes: &[u8]) {
        check_answer(packet, bytes);
        let given: Ipv4Addr = [bytes[16], bytes[17], bytes[18], bytes[19]].into();
        let all = [SERVER, ROUTER, self.iface.network(), self.iface.broadcast()];
        assert!(!all.contains(&given), "{given} is not to be given away");
        assert!(given != OWN || packet.mac == mac(1), "{given} is another's own");
    }

    /// One machine has one address, and one address one machine.
    fn check_leases(&self) {
        // The pool, the client's own, and what a pool has at the edge of a change of mind.
        assert!(self.leases.len() <= 5, "{} entries", self.leases.len());
        let bound = |it: &&netboot::Lease| it.state == LeaseState::Bound && it.expires > self.now;
        let entries = self.leases.entries();
        let machines: Vec<_> = entries.iter().filter(bound).map(|it| it.mac).collect();
        assert_eq!(machines.iter().collect::<BTreeSet<_>>().len(), machines.len(), "{entries:?}");
    }

    /// The journal makes the same table again.
    fn check_restart(&self) {
        let again = Leases::restore(self.journal.iter().copied());
        let bound = |leases: &Leases| -> Vec<_> {
            leases.entries().into_iter().filter(|it| it.state == LeaseState::Bound).collect()
        };
        let running = |all: Vec<netboot::Lease>| -> Vec<_> {
            all.into_iter().filter(|it| it.expires > self.now).collect()
        };
        assert_eq!(running(bound(&again)), running(bound(&self.leases)));
    }
}
