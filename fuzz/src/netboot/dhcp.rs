//! DHCP datagrams against a small site: any bytes are answered or not, and the table of leases stays sound.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use netboot::{Interface, LeaseChange, LeaseState, Leases, Packet, PoolRange, Settings, Unknown, respond};
use site::{Client, Image, MacAddr, Site};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 103));

/// Datagrams in one run.
const MOST_DATAGRAMS: usize = 64;

/// Answers fit one Ethernet frame: ROMs put no fragments together.
pub(super) const LONGEST_ANSWER: usize = 1500 - 28;

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
        let client = |name: &str, last, address| Client {
            name: name.parse().unwrap(),
            mac: mac(last),
            address,
            image: Some("debian".parse().unwrap()),
            menu: None,
            boot_program: None,
            overlay_limit: None,
            enabled: true,
        };
        let image = Image {
            name: "debian".parse().unwrap(),
            version: "v1".parse().unwrap(),
            path: "/images/debian".into(),
            size: 1 << 30,
        };
        let clients = vec![client("lab01", 1, Some(OWN)), client("lab02", 2, None)];
        let settings = Settings {
            pool: if input.ratio(7, 8)? { Some(PoolRange::new(POOL.0, POOL.1).unwrap()) } else { None },
            router: Some(ROUTER),
            dns: vec![Ipv4Addr::new(9, 9, 9, 9)],
            domain: Some("lab.internal".to_owned()),
            lease_time: *input.choose(&[7200, 60, u32::MAX])?,
            unknown: if input.ratio(1, 8)? { Unknown::Ignore } else { Unknown::Lease },
            authoritative: input.ratio(7, 8)?,
            programs: ["undionly.kpxe", "snponly.efi", "ipxe.efi"].map(str::to_owned).into_iter().collect(),
            ..Settings::default()
        };
        Ok(Self {
            iface: Interface { name: "eth1".to_owned(), address: SERVER, prefix_len: 24 },
            site: Site::new(1, clients, vec![image]),
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
        assert!((300..=LONGEST_ANSWER).contains(&bytes.len()), "an answer of {} bytes", bytes.len());
        assert_eq!(bytes[0], 2, "no answer");
        assert_eq!(bytes[4..8], packet.xid.to_be_bytes());
        assert_eq!(bytes[28..34], packet.mac.octets());
        assert_eq!(bytes[236..240], [99, 130, 83, 99]);
        let types = walk(&bytes[240..]);
        assert_eq!(types.first(), Some(&53), "the kind of answer comes first");
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "an option twice: {types:?}");
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

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr::new([0x52, 0x54, 0, 0x77, 1, last])
}

/// The codes of all options, up to the end mark that there must be.
pub(super) fn walk(mut options: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    loop {
        match options {
            [255, rest @ ..] => {
                assert!(rest.iter().all(|byte| *byte == 0), "something behind the end");
                return codes;
            }
            [code, len, rest @ ..] => {
                options = rest.get(usize::from(*len)..).expect("an option cut off");
                // A long one goes on in the next (RFC 3396).
                if codes.last() != Some(code) {
                    codes.push(*code);
                }
            }
            _ => panic!("no end mark"),
        }
    }
}

/// A request that is right but for what the input makes wrong.
pub(super) fn datagram(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 240];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&input.arbitrary::<[u8; 4]>()?);
    bytes[10] = *input.choose(&[0, 0x80])?;
    bytes[28..34].copy_from_slice(&mac(input.int_in_range(0..=7)?).octets());
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    if input.ratio(1, 3)? {
        bytes[12..16].copy_from_slice(&address(input)?.octets());
    }
    if input.ratio(1, 16)? {
        bytes[24..28].copy_from_slice(&address(input)?.octets());
    }
    if input.ratio(1, 16)? {
        let at = input.int_in_range(0..=235_usize)?;
        bytes[at] = input.arbitrary()?;
    }
    bytes.extend([53, 1, input.int_in_range(0..=9)?]);
    for _ in 0..input.int_in_range(0..=6)? {
        option(input, &mut bytes)?;
    }
    if input.ratio(15, 16)? {
        bytes.push(255);
    }
    Ok(bytes)
}

fn option(input: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    const TEXTS: [(u8, &[u8]); 9] = [
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (60, b"PXEClient:Arch:00007:UNDI:003016"),
        (60, b"HTTPClient:Arch:00016:UNDI:003001"),
        (77, b"iPXE"),
        (77, b"\x04iPXE"),
        (93, &[0, 0]),
        (93, &[0, 7, 0, 9]),
        (52, &[3]),
        (175, &[33, 1, 1, 176, 1, 1, 24, 1, 1]),
    ];
    match input.int_in_range(0..=4_u8)? {
        0 => {
            bytes.extend([50, 4]);
            bytes.extend(address(input)?.octets());
        }
        1 => {
            let server = if input.ratio(3, 4)? { SERVER } else { address(input)? };
            bytes.extend([54, 4]);
            bytes.extend(server.octets());
        }
        2 | 3 => {
            let (code, value) = input.choose(&TEXTS)?;
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(*value);
        }
        _ => {
            // Any code, any bytes, any length: also one that there is not enough for.
            let (code, len) = (input.arbitrary()?, input.int_in_range(0..=64_u8)?);
            let there = usize::from(len).min(input.len());
            bytes.extend([code, len]);
            bytes.extend(input.bytes(there)?);
        }
    }
    Ok(())
}

/// Around the pool, the client's own address, the server's, or anywhere.
fn address(input: &mut Unstructured<'_>) -> Result<Ipv4Addr> {
    Ok(match input.int_in_range(0..=7_u8)? {
        0 => Ipv4Addr::from(input.arbitrary::<[u8; 4]>()?),
        1 => SERVER,
        2 => OWN,
        3 => Ipv4Addr::new(10, 77, 0, input.arbitrary()?),
        _ => Ipv4Addr::new(10, 77, 0, input.int_in_range(99..=104)?),
    })
}
