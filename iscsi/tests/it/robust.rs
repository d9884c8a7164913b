//! Input of any kind: no panic, no growth, and a session that is not broken goes on.

use bytes::{Buf, BytesMut};
use iscsi::{Limits, MAX_RECV_DATA_SEGMENT_LENGTH};
use proptest::prelude::*;

use crate::pair::{Pair, READ, WRITE, open_target, read10, write10};
use crate::wire::{NO_TAG, Pdu};

/// Feeds bytes as they would come from a socket, and takes whatever is sent.
fn feed(pair: &mut Pair, bytes: &[u8]) {
    let mut input = BytesMut::new();
    for part in bytes.chunks(997) {
        input.extend_from_slice(part);
        pair.connection.handle_input(&mut input, pair.now);
        pump(pair);
        let most = MAX_RECV_DATA_SEGMENT_LENGTH as usize + 2048;
        assert!(input.len() <= most.max(997), "{} bytes are kept", input.len());
    }
}

fn pump(pair: &mut Pair) {
    while let Some((id, _)) = pair.connection.poll_io() {
        pair.connection.handle_io(id, iscsi::IoOutcome::Done);
    }
    let output = pair.connection.poll_transmit(1 << 20);
    let n = output.remaining();
    assert!(n < 4 << 20, "{n} bytes wait");
    output.advance(n);
    while pair.connection.poll_event().is_some() {}
}

/// PDUs that make sense, of all kinds.
fn plausible() -> impl Strategy<Value = Pdu> {
    let opcode =
        prop::sample::select(vec![0x00u8, 0x40, 0x01, 0x41, 0x42, 0x43, 0x44, 0x05, 0x05, 0x06, 0x10]);
    let data = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..2048),
        1 => Just(b"SendTargets=All\0".to_vec()),
    ];
    let cdb = prop_oneof![
        Just(read10(0, 8)),
        Just(write10(0, 8)),
        Just(vec![0x12, 0, 0, 0, 255, 0]),
        prop::collection::vec(any::<u8>(), 16),
    ];
    let word = || prop_oneof![Just(0u32), Just(NO_TAG), 0u32..4, any::<u32>()];
    (opcode, any::<u8>(), 0u32..8, word(), 0u32..6, cdb, data).prop_map(
        |(opcode, flags, itt, word20, ahead, cdb, data)| {
            let pdu = Pdu::new(opcode, flags, itt).with(20, word20).with(24, 0x1001 + ahead);
            let pdu = if opcode & 0x3f == 1 {
                pdu.with_bytes(32, &cdb)
            } else {
                pdu.with(36, ahead).with(40, itt * 512)
            };
            pdu.with_data(data)
        },
    )
}

fn session() -> Pair {
    let target = open_target();
    let limits = Limits { command_window: 8, bytes_in_flight: 1 << 20, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=No", "MaxOutstandingR2T=4"]);
    pair
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_instead_of_a_login(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let target = open_target();
        feed(&mut Pair::new(&[&target]), &bytes);
    }

    #[test]
    fn random_bytes_in_a_session(bytes in prop::collection::vec(any::<u8>(), 0..8192)) {
        feed(&mut session(), &bytes);
    }

    #[test]
    fn random_text_in_a_login(flags in any::<u8>(), text in "(InitiatorName|TargetName|AuthMethod|CHAP_A|CHAP_R|[A-Z]{1,70})=[ -~]{0,300}\0{0,3}") {
        let target = open_target();
        let mut pair = Pair::new(&[&target]);
        let request = pair.login(flags).with_data(text.into_bytes());
        for _ in 0..3 {
            feed(&mut pair, &request.encode(false, false));
        }
    }

    #[test]
    fn random_requests(pdus in prop::collection::vec(plausible(), 1..60)) {
        let mut pair = session();
        for pdu in &pdus {
            feed(&mut pair, &pdu.encode(false, false));
        }
        pair.advance(std::time::Duration::from_secs(100));
    }

    #[test]
    fn requests_with_a_few_bytes_changed(
        pdus in prop::collection::vec(plausible(), 1..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes: Vec<u8> = pdus.iter().flat_map(|pdu| pdu.encode(false, false)).collect();
        for (at, value) in changes {
            *at.get_mut(&mut bytes) = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        let mut pair = session();
        feed(&mut pair, &bytes);
        pair.connection.handle_disconnect();
        pump(&mut pair);
        prop_assert!(pair.connection.is_closed());
    }

    #[test]
    fn whatever_is_written_is_read(writes in prop::collection::vec((0u32..200, 1u16..40, any::<u8>()), 1..20)) {
        let target = open_target();
        let mut pair = Pair::logged_in_with(&[&target], &["InitialR2T=No", "FirstBurstLength=2048", "MaxBurstLength=4096"]);
        let mut model = vec![0u8; 240 * 512];
        for (lba, blocks, byte) in writes {
            let len = usize::from(blocks) * 512;
            let at = lba as usize * 512;
            model[at..at + len].fill(byte);
            let immediate = len.min(1024);
            let command = pair.scsi(&write10(lba, blocks), WRITE, len as u32).with_data(vec![byte; immediate]);
            pair.send(&command);
            loop {
                let pdu = pair.receive();
                if pdu.opcode() == 0x21 {
                    prop_assert_eq!(pdu.bhs[3], 0);
                    break;
                }
                let (ttt, offset, length) = (pdu.word(20), pdu.word(40), pdu.word(44));
                let out = Pdu::new(0x05, 0x80, command.itt()).with(20, ttt).with(40, offset);
                pair.send(&out.with_data(vec![byte; length as usize]));
            }
            let command = pair.scsi(&read10(0, 240), READ, 240 * 512);
            pair.send(&command);
            let data: Vec<u8> = pair.receive_all().into_iter().flat_map(|pdu| pdu.data).collect();
            prop_assert!(data == model);
        }
    }
}

#[test]
fn pings_that_are_not_read_do_not_pile_up() {
    let mut pair = session();
    let ping = Pdu::new(0x40, 0x80, 5).with(20, NO_TAG).with_data(vec![0; 8192]).encode(false, false);
    let mut input = BytesMut::new();
    for _ in 0..1000 {
        input.extend_from_slice(&ping);
        pair.connection.handle_input(&mut input, pair.now);
    }
    assert!(!pair.connection.wants_input());
    assert!(pair.connection.poll_transmit(0).remaining() < (1 << 20) + 16384);
}
