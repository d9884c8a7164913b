//! The guard at the door: whatever arrives, there is a packet or an error, and one bad option hides no other.

use dhcproto::v4::OptionCode;
use netboot::{MessageType, Packet, PacketError};
use proptest::prelude::*;

use crate::lab::{Lab, ip, mac};
use crate::wire::{Message, discover, init_reboot, renewing, selecting};

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Result<Packet, PacketError> {
    let mut bytes = discover(mac(1)).encode();
    change(&mut bytes);
    Packet::parse(&bytes)
}

#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    assert!(with(|_| ()).is_ok());
    assert_eq!(with(|b| b.truncate(239)), Err(PacketError::TooShort(239)));
    assert_eq!(with(Vec::clear), Err(PacketError::TooShort(0)));
    assert_eq!(with(|b| b.resize(5000, 0)), Err(PacketError::TooLong(5000)));
    assert_eq!(with(|b| b[0] = 2), Err(PacketError::NotARequest(2)));
    assert_eq!(with(|b| b[236] = 0), Err(PacketError::NoCookie));
    assert_eq!(with(|b| b[1] = 32), Err(PacketError::Hardware { htype: 32, hlen: 6 }));
    for hlen in [0, 5, 7, 16, 17, 255] {
        assert_eq!(with(|b| b[2] = hlen), Err(PacketError::Hardware { htype: 1, hlen }));
    }
    assert_eq!(with(|b| b[28] = 0x53), Err(PacketError::NoMachine), "a group address");
    assert_eq!(with(|b| b[28..34].fill(0)), Err(PacketError::NoMachine));
}

#[test]
fn a_header_alone_is_bootp() {
    let packet = with(|b| b.truncate(240)).unwrap();
    assert_eq!(packet.options.message_type(), None);
    assert_eq!(packet.mac, mac(1));
}

#[test]
fn fields_come_out_as_they_went_in() {
    let sent = Message { secs: 7, flags: 0x8000, giaddr: ip(250), ..renewing(mac(1), ip(11)) };
    let packet = Packet::parse(&sent.encode()).unwrap();
    assert_eq!((packet.xid, packet.secs, packet.flags), (sent.xid, 7, 0x8000));
    assert_eq!((packet.ciaddr, packet.giaddr), (ip(11), ip(250)));
    assert!(packet.wants_broadcast());
}

fn options(area: &[u8]) -> netboot::Options {
    with(|b| {
        b.truncate(240);
        b.extend(area);
    })
    .unwrap()
    .options
}

#[test]
fn one_bad_option_hides_no_other() {
    // A host name in no encoding at all, a message size that is too short, an empty request list.
    let all =
        options(&[12, 2, 0xff, 0xfe, 57, 1, 5, 55, 0, 53, 1, 1, 50, 3, 10, 77, 0, 60, 3, b'a', b'b', 0, 255]);
    assert_eq!(all.message_type(), Some(MessageType::Discover));
    assert_eq!(all.host_name(), Some(&[0xff, 0xfe][..]));
    assert_eq!(all.max_message_size(), None);
    assert_eq!(all.parameter_request_list(), Some(&[][..]));
    assert_eq!(all.requested_address(), None);
    assert_eq!(all.vendor_class(), Some(&b"ab"[..]));
}

#[test]
fn pads_end_and_cut_options() {
    let all = options(&[0, 0, 53, 1, 3, 0, 255, 12, 1, b'x']);
    assert_eq!(all.message_type(), Some(MessageType::Request));
    assert_eq!(all.host_name(), None, "nothing counts behind the end mark");
    let all = options(&[53, 1, 3, 12, 200, b'x']);
    assert_eq!((all.message_type(), all.host_name()), (Some(MessageType::Request), None));
    assert_eq!(options(&[53, 1, 3, 12]).message_type(), Some(MessageType::Request), "no end mark");
}

#[test]
fn split_options_are_joined() {
    // RFC 3396, next to each other and not.
    let all = options(&[12, 2, b'a', b'b', 53, 1, 1, 12, 1, b'c', 12, 1, b'd', 255]);
    assert_eq!(all.host_name(), Some(&b"abcd"[..]));
    assert_eq!(all.iter().count(), 2);
}

#[test]
fn options_in_file_and_sname_are_found() {
    let overloaded = |how: u8| {
        let mut bytes = discover(mac(1)).option(52, &[how]).option(12, b"a").encode();
        bytes[108..112].copy_from_slice(&[12, 1, b'b', 255]);
        bytes[44..48].copy_from_slice(&[12, 1, b'c', 255]);
        Packet::parse(&bytes).unwrap().options.host_name().unwrap().to_vec()
    };
    assert_eq!(overloaded(1), b"ab");
    assert_eq!(overloaded(2), b"ac");
    assert_eq!(overloaded(3), b"abc", "RFC 3396 §5: options, file, sname");
    assert_eq!(overloaded(4), b"a", "no such value");
}

#[test]
fn classes_architectures_and_uuids() {
    let all = options(&[77, 4, b'i', b'P', b'X', b'E', 93, 5, 0, 7, 0, 0, 9, 97, 0]);
    assert_eq!(all.user_classes(), [b"iPXE"]);
    assert_eq!(all.architectures(), [7, 0], "an odd byte is left over");
    assert_eq!(all.uuid(), None, "some ROMs send it empty");
    let all = options(&[
        77, 8, 4, b'i', b'P', b'X', b'E', 2, b'a', b'b', 97, 17, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
        13, 14, 15, 16,
    ]);
    assert_eq!(all.user_classes(), [&b"iPXE"[..], b"ab"]);
    assert_eq!(all.uuid(), Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
    let all = options(&[175, 7, 176, 1, 1, 19, 1, 1, 39]);
    assert_eq!(all.ipxe_sub_options(), Some(vec![(176, &[1][..]), (19, &[1][..])]));
    assert_eq!(all.get(OptionCode::UserClass), None);
}

/// Requests of all kinds, from which mutants are made.
fn seeds() -> Vec<Vec<u8>> {
    let rich = discover(mac(1))
        .option(57, &[5, 0xc0])
        .option(93, &[0, 7])
        .option(60, b"PXEClient:Arch:00007:UNDI:003016")
        .option(77, b"iPXE")
        .option(175, &[19, 1, 1, 39, 1, 1])
        .option(97, &[0; 17])
        .option(52, &[3])
        .option(82, &[1, 4, 1, 2, 3, 4]);
    let through_relay = Message { giaddr: ip(250), ..rich.clone() };
    [
        rich,
        through_relay,
        selecting(mac(2), ip(100), ip(1)),
        init_reboot(mac(3), ip(13)),
        renewing(mac(1), ip(11)),
    ]
    .iter()
    .map(Message::encode)
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = Packet::parse(&bytes);
    }

    #[test]
    fn random_options_never_panic(area in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = discover(mac(1)).encode();
        bytes.truncate(240);
        bytes.extend(area);
        answer(&bytes);
    }

    #[test]
    fn mutants_never_panic(
        seed in 0..5_usize,
        cut in 0..700_usize,
        edits in prop::collection::vec((0..450_usize, any::<u8>()), 0..12),
    ) {
        let mut bytes = seeds()[seed].clone();
        for (at, value) in edits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        answer(&bytes);
    }
}

/// What passes the guard is answered, and every answer is well-formed and fits a frame.
fn answer(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else { return };
    assert!(packet.options.iter().map(|(_, value)| value.len()).sum::<usize>() <= bytes.len());
    let outcome = Lab::new().send(bytes);
    assert!(!outcome.event.decision.to_string().is_empty());
    if let Some(reply) = outcome.reply {
        assert!((300..=1472).contains(&reply.bytes.len()));
        let message = Message::decode(&reply.bytes);
        assert_eq!(message.xid, packet.xid);
        assert_eq!(message.options[0].0, 53);
    }
}
