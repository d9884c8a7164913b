//! The site of the DHCP targets, the requests to it, and what holds for every answer.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use netboot::{Interface, Packet, Settings};
use site::{Client, Image, MacAddr, Site};

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The address of the first client's entry.
pub(super) const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);

/// Answers fit one Ethernet frame: ROMs put no fragments together.
const LONGEST_ANSWER: usize = 1500 - 28;

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr::new([0x52, 0x54, 0, 0x77, 1, last])
}

pub(super) fn client(last: u8, address: Option<Ipv4Addr>) -> Client {
    Client {
        name: format!("lab0{last}").parse().unwrap(),
        mac: mac(last),
        address,
        image: Some("debian".parse().unwrap()),
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled: true,
    }
}

pub(super) fn site(clients: Vec<Client>) -> Site {
    let image = Image {
        name: "debian".parse().unwrap(),
        version: "v1".parse().unwrap(),
        path: "/images/debian".into(),
        size: 1 << 30,
    };
    Site::new(1, clients, vec![image])
}

pub(super) fn interface() -> Interface {
    Interface { name: "eth1".to_owned(), address: SERVER, prefix_len: 24 }
}

pub(super) fn settings() -> Settings {
    Settings {
        programs: ["undionly.kpxe", "snponly.efi", "ipxe.efi"].map(str::to_owned).into(),
        ..Settings::default()
    }
}

/// What holds for every answer. Returns the codes of its options.
pub(super) fn check_answer(packet: &Packet, bytes: &[u8]) -> Vec<u8> {
    assert!((300..=LONGEST_ANSWER).contains(&bytes.len()), "an answer of {} bytes", bytes.len());
    assert_eq!(bytes[0], 2, "no answer");
    assert_eq!(bytes[4..8], packet.xid.to_be_bytes());
    assert_eq!(bytes[28..34], packet.mac.octets());
    assert_eq!(bytes[236..240], [99, 130, 83, 99]);
    let codes = walk(&bytes[240..]);
    assert_eq!(codes.first(), Some(&53), "the kind of answer comes first");
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "an option twice: {codes:?}");
    codes
}

/// The codes of all options, up to the end mark that there must be.
fn walk(mut options: &[u8]) -> Vec<u8> {
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
    const TEXTS: [(u8, &[u8]); 13] = [
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (60, b"PXEClient:Arch:00007:UNDI:003016"),
        (60, b"HTTPClient:Arch:00016:UNDI:003001"),
        (77, b"iPXE"),
        (77, b"\x04iPXE"),
        (93, &[0, 0]),
        (93, &[0, 7, 0, 9]),
        (52, &[3]),
        (175, &[33, 1, 1, 176, 1, 1, 24, 1, 1]),
        (82, &[1, 1, 7, 5, 4, 10, 77, 0, 0]),
        (82, &[11, 4, 10, 77, 0, 250]),
        (82, &[5, 4, 10, 9, 0, 0, 11, 4, 10, 9, 0, 254]),
        (118, &[10, 77, 0, 0]),
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
