//! What holds for every command: the table, its decoder and what is reported are one; nothing that an initiator
//! sends makes the disk panic, wait for ever, or do I/O beyond its end.

use proptest::prelude::*;

use super::cdb::Cdb;
use super::table::{Field, Spec, TABLE};
use super::task::Failure;
use super::testing::{A, B, BLOCKS, Bench, sense};
use super::*;
use crate::io::Io;

/// A CDB of that command with no bit set that could be clear.
fn bare(spec: &Spec) -> Vec<u8> {
    let mut cdb = vec![0; 16];
    cdb[0] = spec.opcode();
    cdb[1] = spec.service_action().unwrap_or(0);
    cdb
}

fn is_known(cdb: &[u8]) -> bool {
    match Cdb::decode(cdb) {
        Ok(_) => true,
        Err(Failure::Check(sense)) => {
            assert_eq!(sense.condition(), Condition::INVALID_FIELD_IN_CDB);
            false
        }
        Err(Failure::Conflict) => panic!("decoding looks at no reservation"),
    }
}

#[test]
fn the_decoder_takes_exactly_the_bits_of_the_usage_map() {
    for spec in TABLE {
        let service_action = if spec.service_action().is_some() { 0x1f } else { 0 };
        for at in 1..spec.usage().len() {
            for bit in 0..8 {
                let mask = 1 << bit;
                if at == 1 && service_action & mask != 0 {
                    continue;
                }
                let mut cdb = bare(spec);
                cdb[at] |= mask;
                let used = spec.usage()[at] & mask != 0;
                assert_eq!(is_known(&cdb), used, "{:02x?} byte {at} bit {bit}", &cdb[..spec.usage().len()]);
            }
        }
        let mut padded = bare(spec);
        padded[spec.usage().len()..].fill(0xff);
        assert!(is_known(&padded), "what lies behind a CDB is not looked at");
        assert!(!is_known(&bare(spec)[..spec.usage().len() - 1]));
    }
}

#[test]
fn the_fault_in_a_cdb_is_pointed_at() {
    let mut bench = Bench::new();
    for (cdb, pointer) in [
        (&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0][..], [0xcd, 0, 1]),
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04], [0xca, 0, 9]),
        (&[0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0xcc, 0, 1]),
        (&[0x12, 0, 1, 0, 0, 0], [0xc0, 0, 2]),
    ] {
        let bytes = bench.run(cdb, &[]).sense.unwrap().to_bytes();
        assert_eq!(bytes[15..], pointer, "{cdb:02x?}");
    }
}

#[test]
fn opcodes_of_one_row_stand_together() {
    let mut seen = Vec::new();
    for pair in TABLE.windows(2) {
        if pair[0].opcode() != pair[1].opcode() {
            seen.push(pair[0].opcode());
            assert!(!seen.contains(&pair[1].opcode()), "{:02x}", pair[1].opcode());
        } else {
            assert_ne!(pair[0].service_action(), pair[1].service_action());
        }
    }
}

#[test]
fn an_unknown_command_is_refused_as_such() {
    let mut bench = Bench::new();
    for opcode in (0..=u8::MAX).filter(|it| TABLE.iter().all(|spec| spec.opcode() != *it)) {
        assert_eq!(bench.bad(&[opcode; 16], &[]), (5, 0x20, 0), "{opcode:02x}");
    }
}

#[test]
fn the_table_is_what_is_reported() {
    let mut bench = Bench::new();
    for (rctd, descriptor) in [(0x00, 8), (0x80, 20)] {
        let all = bench.good(&[0xa3, 0x0c, rctd, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], &[]);
        assert_eq!(all.len(), 4 + TABLE.len() * descriptor);
        for (spec, reported) in TABLE.iter().zip(all[4..].chunks(descriptor)) {
            let has_actions = spec.service_action().is_some();
            let timeouts = if rctd == 0 { 0 } else { 2 };
            assert_eq!(reported[0], spec.opcode());
            assert_eq!(reported[5], timeouts | u8::from(has_actions));
            let ask =
                |option| [0xa3, 0x0c, rctd | option, reported[0], reported[2], reported[3], 0, 0, 1, 0, 0, 0];
            let (right, wrong) = if has_actions { (2, 1) } else { (1, 2) };
            for option in [right, 3] {
                let one = bench.good(&ask(option), &[]);
                let length = usize::from(one[3]);
                assert_eq!((one[1], &one[4..4 + length]), (if rctd == 0 { 3 } else { 0x83 }, spec.usage()));
                assert_eq!(one.len(), 4 + length + descriptor - 8);
            }
            assert_eq!(bench.bad(&ask(wrong), &[]), (5, 0x24, 0));
        }
    }
    for (option, opcode, action) in
        [(1, 0xff, 0), (2, 0x9e, 0x1f), (3, 0x9e, 0x1f), (3, 0x28, 1), (3, 0xff, 0)]
    {
        let one = bench.good(&[0xa3, 0x0c, option, opcode, 0, action, 0, 0, 0, 0xff, 0, 0], &[]);
        assert_eq!(one, [0, 1, 0, 0], "{option} {opcode:02x} {action:02x}: not supported");
    }
    assert_eq!(bench.good(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], &[]), [0xda, 0, 0, 0]);
}

#[test]
fn a_session_hears_each_attention_once_and_some_commands_pass_by_it() {
    let mut bench = Bench::new();
    bench.lun.join(B, testing::port(B));
    for cdb in [&[0x12, 0, 0, 0, 36, 0][..], &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]] {
        assert_eq!(bench.run_as(B, cdb, &[]).status, Status::Good);
    }
    assert_eq!(sense(&bench.run_as(B, &[0xff; 16], &[])), (6, 0x29, 0), "it comes before all else");
    assert_eq!(bench.run_as(B, &[0; 6], &[]).status, Status::Good);
    bench.lun.reset();
    bench.lun.reset();
    assert_eq!(sense(&bench.run_as(B, &[0; 6], &[])), (6, 0x29, 3));
    assert_eq!(bench.run_as(B, &[0; 6], &[]).status, Status::Good);
    let sense_data = bench.run_as(A, &[0x03, 0, 0, 0, 18, 0], &[]).data_in.to_bytes();
    assert_eq!((sense_data[2], sense_data[12], sense_data[13]), (6, 0x29, 3), "REQUEST SENSE tells it too");
    assert_eq!(bench.run_as(A, &[0; 6], &[]).status, Status::Good);
    let nothing = bench.run_as(A, &[0x03, 1, 0, 0, 18, 0], &[]).data_in.to_bytes();
    assert_eq!(nothing[..4], [0x72, 0, 0, 0]);
}

#[test]
fn a_lun_that_is_not_there_says_so() {
    let mut bench = Bench::new();
    let mut on = |lun: u64, cdb: &[u8]| {
        let command = Command { lun, cdb, nexus: A, expected_len: 255, direction: Direction::Read };
        bench.execute(&command, &[])
    };
    for lun in [0x0001_0000_0000_0000, 0x4001_0000_0000_0000, 0xc101_0000_0000_0000, 1] {
        let inquiry = on(lun, &[0x12, 0, 0, 0, 96, 0]).data_in.to_bytes();
        assert_eq!((inquiry[0], inquiry.len()), (0x7f, 96));
        let luns = on(lun, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]).data_in.to_bytes();
        assert_eq!(luns[..], [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let request = on(lun, &[0x03, 0, 0, 0, 18, 0]).data_in.to_bytes();
        assert_eq!((request[2], request[12]), (5, 0x25));
        for cdb in [&[0; 6][..], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0xff; 16]] {
            assert_eq!(sense(&on(lun, cdb)), (5, 0x25, 0));
        }
    }
    assert_eq!(on(0x4000_0000_0000_0000, &[0; 6]).status, Status::Good, "LUN 0 by flat addressing");
    for (select, count) in [(0, 1), (1, 0), (2, 1)] {
        let luns = on(0, &[0xa0, 0, select, 0, 0, 0, 0, 0, 0, 16, 0, 0]).data_in.to_bytes();
        assert_eq!(luns.len(), 8 + 8 * count);
    }
    assert_eq!(sense(&on(0, &[0xa0, 0, 3, 0, 0, 0, 0, 0, 0, 16, 0, 0])), (5, 0x24, 0));
    assert_eq!(sense(&on(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0])), (5, 0x24, 0));
}

#[test]
fn an_answer_to_what_was_not_asked_is_our_fault_and_ends_the_command() {
    let bench = Bench::new();
    let cdb = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let command = Command { lun: 0, cdb: &cdb, nexus: A, expected_len: 512, direction: Direction::Read };
    let (mut task, action) = Task::start(&bench.lun, &command);
    assert!(matches!(action, Action::Io(Io::Read { .. })));
    for _ in 0..2 {
        match task.handle_data(&bench.lun, Vec::new()) {
            Action::Finish(completion) => assert_eq!(sense(&completion), (4, 0x44, 0)),
            other => panic!("{other:?}"),
        }
    }
}

/// A CDB that has a chance to be taken: a known opcode, few flags, an address and a length that may fit the disk.
fn any_cdb() -> impl Strategy<Value = Vec<u8>> {
    let lba = prop_oneof![0..16_u64, BLOCKS - 4..BLOCKS + 4, any::<u64>()];
    let length = prop_oneof![0..8_u64, 500..520_u64, 4000..5000_u64, any::<u64>()];
    let flags = any::<[u8; 16]>();
    let likely = (0..TABLE.len(), flags, flags, lba, length, 0..9_u8).prop_map(
        |(row, random, thinning, lba, length, stray)| {
            let spec = &TABLE[row];
            let mut cdb = bare(spec);
            for at in 1..spec.usage().len() {
                cdb[at] |= random[at] & thinning[at] & spec.usage()[at];
            }
            for (field, value) in [(spec.lba, lba), (spec.length, length)] {
                if let Some(Field { at, bytes }) = field {
                    cdb[at..at + bytes].copy_from_slice(&value.to_be_bytes()[8 - bytes..]);
                }
            }
            if stray == 0 {
                cdb[usize::from(random[0]) % 16] ^= 1 << (thinning[0] % 8);
            }
            cdb
        },
    );
    prop_oneof![6 => likely, 1 => proptest::collection::vec(any::<u8>(), 0..20)]
}

fn is_on_disk(io: &Io) -> bool {
    let inside = |range: &block::BlockRange| range.end().get() <= BLOCKS;
    let fits = |start: &block::Lba, data: &[bytes::Bytes]| {
        let bytes: usize = data.iter().map(bytes::Bytes::len).sum();
        bytes > 0 && bytes.is_multiple_of(512) && start.get() + bytes as u64 / 512 <= BLOCKS
    };
    match io {
        Io::Read { range } | Io::Provisioning(range) => !range.is_empty() && inside(range),
        Io::Prefetch(range) => inside(range),
        Io::Discard(ranges) => ranges.iter().all(inside),
        Io::Write { start, data, .. } | Io::OrWrite { start, data, .. } => fits(start, data),
        Io::CompareAndWrite { start, expect, data, .. } => {
            fits(start, data)
                && expect.iter().map(bytes::Bytes::len).sum::<usize>() as u64 * 2 == io.byte_len()
        }
        Io::Flush => true,
    }
}

/// Data of the lengths that commands want, or any.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![Just(0_usize), Just(24), Just(512), Just(1024), 0..2100_usize];
    let byte = prop_oneof![Just(0_u8), any::<u8>()];
    (length, byte, any::<bool>(), any::<[u8; 24]>()).prop_map(|(length, byte, header, random)| {
        let mut data = vec![byte; length];
        if header {
            data.iter_mut().zip(random).for_each(|(to, from)| *to = from);
        }
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Any commands with any data end, in answers that the transport can send.
    #[test]
    fn every_command_ends_in_a_valid_completion(
        commands in proptest::collection::vec((any_cdb(), any_data(), 1_u64..3, 0..20_u8, any::<bool>()), 1..12),
    ) {
        let mut bench = Bench::new();
        bench.join(B);
        for (cdb, data, nexus, odd_lun, both) in commands {
            let lun = if odd_lun == 0 { 1 << 48 } else { 0 };
            let direction = match (data.is_empty(), both) {
                (true, false) => Direction::None,
                (true, true) => Direction::Read,
                (false, false) => Direction::Write,
                (false, true) => Direction::Both,
            };
            let expected_len = data.len() as u32;
            let command = Command { lun, cdb: &cdb, nexus: NexusId::new(nexus), expected_len, direction };
            let completion = bench.execute(&command, &data);
            prop_assert_eq!(completion.status == Status::CheckCondition, completion.sense.is_some());
            if let Some(sense) = completion.sense {
                prop_assert!(sense.to_bytes().len() <= 252);
                prop_assert_ne!(sense.condition().key, SenseKey::NoSense);
                prop_assert_ne!(sense.condition(), Condition::INTERNAL_TARGET_FAILURE, "{:02x?}", cdb);
            }
            if !completion.data_in.is_empty() {
                prop_assert_eq!(completion.status, Status::Good);
                prop_assert_eq!(completion.data_in.len(), completion.data_length as usize);
            }
        }
        prop_assert!(bench.disk.requests.iter().all(is_on_disk));
    }
}
