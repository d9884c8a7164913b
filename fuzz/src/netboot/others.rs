//! What passes by of other DHCP servers: whoever is on the wire can send it, in anybody's name, and it is broadcast, so that all of
//! it is read.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netboot::{Others, Packet, other_answer};

/// Option codes.
const KIND: u8 = 53;
const SERVER: u8 = 54;

const OFFER: u8 = 2;
const ACK: u8 = 5;

/// Takes the input for a datagram to port 68.
pub fn run(data: &[u8]) {
    let answer = other_answer(data);
    assert_eq!(answer, other_answer(data), "read otherwise the second time");
    let Some(answer) = answer else { return };
    assert!(Packet::parse(data).is_err(), "it is taken for a request as well");
    assert_eq!(data[0], 2);
    assert_eq!(data[16..20], answer.address.octets());
    assert_eq!(data[28..34], answer.mac.octets());
    let options = options(&data[240..]);
    let kind = options[&KIND][0];
    assert!(kind == if answer.given { ACK } else { OFFER }, "a message of type {kind}");
    assert_eq!(options[&SERVER][..4], answer.server.octets());
    assert!(is_a_machines(answer.address) && is_a_machines(answer.server), "{answer:?}");
    let mut others = Others::new();
    assert!(others.heard("eth1", answer.server, 1000) && !others.heard("eth1", answer.server, 1001));
    assert_eq!(others.all(1001).len(), 1);
}

/// Whether a machine can have that address.
fn is_a_machines(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// The options, where those of one code are one (RFC 3396).
fn options(mut rest: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut all = BTreeMap::<_, Vec<u8>>::new();
    while let Some((code, behind)) = rest.split_first() {
        rest = match code {
            0 => behind,
            255 => break,
            code => {
                let Some((len, behind)) = behind.split_first() else { break };
                let Some((value, behind)) = behind.split_at_checked((*len).into()) else { break };
                all.entry(*code).or_default().extend(value);
                behind
            }
        };
    }
    all
}
