//! Commands that read, and how they end.

use block::ErrorKind;
use iscsi::{Io, IoOutcome, Limits};

use crate::pair::{Pair, READ, open_target, read10, read16};
use crate::wire::{NO_TAG, Pdu};

fn fill(disk: &mut [u8]) {
    disk.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 512 * 7 + at % 251) as u8);
}

/// Puts the Data-In PDUs of one command together, checking their numbers.
fn gather(pdus: &[Pdu], itt: u32, max_segment: usize, max_burst: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for (data_sn, pdu) in pdus.iter().enumerate() {
        assert_eq!((pdu.opcode(), pdu.itt(), pdu.word(20)), (0x25, itt, NO_TAG));
        assert_eq!((pdu.word(36) as usize, pdu.word(40) as usize), (data_sn, data.len()));
        assert!(!pdu.data.is_empty() && pdu.data.len() <= max_segment);
        data.extend(&pdu.data);
        let is_last = data_sn + 1 == pdus.len();
        let ends_sequence = is_last || data.len().is_multiple_of(max_burst);
        assert_eq!(pdu.flags() & 0x80 != 0, ends_sequence, "F at {}", data.len());
        assert_eq!(pdu.flags() & 0x40, 0, "no acknowledgement is asked for");
    }
    data
}

#[test]
fn a_read_ends_in_its_last_data_in() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    fill(&mut pair.disk);
    let pdu = pair.command(&read10(3, 8), READ, 4096);
    assert_eq!((pdu.opcode(), pdu.flags(), pdu.bhs[3]), (0x25, 0x81, 0));
    assert_eq!(pdu.data, pair.disk[3 * 512..11 * 512]);
    pair.expect_silence();
}

#[test]
fn what_the_efi_loader_reads_at_once_is_cut_as_ipxe_wants_it() {
    let target = open_target();
    let mut pair =
        Pair::logged_in_with(&[&target], &["MaxRecvDataSegmentLength=8192", "MaxBurstLength=262144"]);
    fill(&mut pair.disk);
    let bytes = 6656 * 512;
    let command = pair.scsi(&read10(1, 6656), READ, bytes);
    pair.send(&command);
    let pdus = pair.receive_all();
    assert_eq!(pdus.len(), bytes as usize / 8192);
    assert!(gather(&pdus, command.itt(), 8192, 262_144) == pair.disk[512..][..bytes as usize]);
    let (last, others) = pdus.split_last().unwrap();
    assert_eq!(last.flags(), 0x81);
    assert!(others.iter().all(|pdu| pdu.flags() & 0x01 == 0));
}

#[test]
fn segments_that_do_not_divide_the_burst() {
    let target = open_target();
    let mut pair =
        Pair::logged_in_with(&[&target], &["MaxRecvDataSegmentLength=1500", "MaxBurstLength=4000"]);
    fill(&mut pair.disk);
    let command = pair.scsi(&read16(0, 32), READ, 32 * 512);
    pair.send(&command);
    let pdus = pair.receive_all();
    let lengths: Vec<usize> = pdus.iter().map(|pdu| pdu.data.len()).take(4).collect();
    assert_eq!(lengths, [1500, 1500, 1000, 1500]);
    assert!(gather(&pdus, command.itt(), 1500, 4000) == pair.disk[..32 * 512]);
}

#[test]
fn residuals_say_what_is_missing_and_what_is_too_much() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    fill(&mut pair.disk);
    // (blocks, expected length, flags of the response, residual count, Data-In bytes)
    for (blocks, expected, flags, count, sent) in
        [(2, 512, 0x84, 512, 512), (1, 1024, 0x82, 512, 512), (1, 0, 0x84, 512, 0), (0, 512, 0x82, 512, 0)]
    {
        let command = pair.scsi(&read10(0, blocks), READ, expected);
        pair.send(&command);
        let mut pdus = pair.receive_all();
        let response = pdus.pop().unwrap();
        assert_eq!((response.opcode(), response.bhs[2], response.bhs[3]), (0x21, 0, 0));
        assert_eq!((response.flags(), response.word(44)), (flags, count));
        assert_eq!(response.word(36) as usize, pdus.len(), "ExpDataSN");
        assert_eq!(gather(&pdus, command.itt(), 1 << 18, 1 << 20).len(), sent);
        assert!(pdus.iter().all(|pdu| pdu.flags() & 0x01 == 0), "the status comes by itself");
    }
    // A command that moves nothing at all.
    let response = pair.command(&[0], 0, 0);
    assert_eq!((response.opcode(), response.flags(), response.bhs[3], response.word(44)), (0x21, 0x80, 0, 0));
    // Both R and W clear, yet the CDB reads.
    let response = pair.command(&read10(0, 1), 0, 0);
    assert_eq!((response.flags(), response.word(44)), (0x84, 512));
}

#[test]
fn an_error_comes_with_sense_data_behind_its_length() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let response = pair.command(&read10(0xffff_fff0, 8), READ, 4096);
    assert_eq!(response.sense(), (5, 0x21, 0));
    assert_eq!((response.flags(), response.word(44)), (0x82, 4096));
    assert_eq!(response.word(36), 0);
}

#[test]
fn a_disk_that_fails_is_told_of() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let command = pair.scsi(&read10(0, 8), READ, 4096);
    pair.send(&command);
    let (id, _) = pair.io.pop_front().unwrap();
    pair.connection.handle_io(id, IoOutcome::Failed(ErrorKind::ReadFailed));
    assert_eq!(pair.receive().sense(), (3, 0x11, 0));
    // An answer that comes twice is not taken for that of another command.
    pair.connection.handle_io(id, IoOutcome::Failed(ErrorKind::ReadFailed));
    pair.expect_silence();
    pair.hold_io = false;
    assert_eq!(pair.command(&read10(0, 8), READ, 4096).flags(), 0x81);
}

#[test]
fn every_pdu_carries_the_numbers() {
    let target = open_target();
    let mut pair = Pair::logged_in_with(&[&target], &["MaxRecvDataSegmentLength=512"]);
    let first = pair.command(&[0], 0, 0);
    let mut stat_sn = first.word(24);
    for _ in 0..5 {
        let command = pair.scsi(&read10(0, 4), READ, 2048);
        pair.send(&command);
        for pdu in pair.receive_all() {
            if pdu.flags() & 0x01 != 0 {
                stat_sn += 1;
                assert_eq!(pdu.word(24), stat_sn);
            }
            assert_eq!(pdu.word(28), pair.cmd_sn, "ExpCmdSN");
            let open = u32::from(pdu.flags() & 0x01 == 0);
            assert_eq!(pdu.word(32), pair.cmd_sn + 127 - open, "MaxCmdSN");
        }
    }
}

#[test]
fn large_reads_take_turns() {
    let target = open_target();
    let mut pair =
        Pair::logged_in_with(&[&target], &["MaxRecvDataSegmentLength=65536", "MaxBurstLength=65536"]);
    pair.hold_io = true;
    let commands: Vec<Pdu> = (0..2).map(|_| pair.scsi(&read10(0, 512), READ, 512 * 512)).collect();
    commands.iter().for_each(|command| pair.send(command));
    pair.finish_io();
    pair.finish_io();
    let order: Vec<u32> = pair.receive_all().iter().map(Pdu::itt).collect();
    let (first, second) = (commands[0].itt(), commands[1].itt());
    assert_eq!(order, [first, second, first, second, first, second, first, second]);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_for() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 1 << 20, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["MaxRecvDataSegmentLength=262144"]);
    // Nothing is transmitted: the socket is full.
    let mut input = bytes::BytesMut::new();
    for _ in 0..64 {
        input.extend_from_slice(&pair.scsi(&read10(0, 1024), READ, 512 * 1024).encode(false, false));
    }
    pair.connection.handle_input(&mut input, pair.now);
    let mut requests = 0;
    while let Some(io) = pair.connection.poll_io() {
        pair.io.push_back(io);
        requests += 1;
        assert!(pair.finish_io());
    }
    assert_eq!(requests, 2, "1 MiB is in flight, and no more is read");
    assert_eq!(pair.receive_all().len(), 64 * 2, "when the peer reads again, all goes on");
}

#[test]
fn a_request_larger_than_the_limit_goes_alone() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 4096, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["MaxRecvDataSegmentLength=262144"]);
    for _ in 0..3 {
        let command = pair.scsi(&read10(0, 128), READ, 65536);
        pair.send(&command);
    }
    assert_eq!(pair.receive_all().len(), 3);
}

/// Task attributes, in the flags of a command.
const SIMPLE: u8 = 0x01;
const ORDERED: u8 = 0x02;
const HEAD_OF_QUEUE: u8 = 0x03;

#[test]
fn ordered_commands_wait_and_are_waited_for() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let send = |pair: &mut Pair, attribute: u8, lba: u32| {
        let mut command = pair.scsi(&read10(lba, 1), READ, 512);
        command.bhs[1] = 0x80 | READ | attribute;
        pair.send(&command);
    };
    let waiting = |pair: &Pair| -> Vec<u64> {
        let lba = |io: &Io| match io {
            Io::Read { range } => range.start().get(),
            other => panic!("{other:?}"),
        };
        pair.io.iter().map(|(_, io)| lba(io)).collect()
    };
    for (attribute, lba) in
        [(SIMPLE, 0), (SIMPLE, 1), (ORDERED, 2), (SIMPLE, 3), (ORDERED, 4), (HEAD_OF_QUEUE, 5)]
    {
        send(&mut pair, attribute, lba);
    }
    assert_eq!(waiting(&pair), [0, 1, 5]);
    for _ in 0..2 {
        pair.finish_io();
        pair.settle();
    }
    assert_eq!(waiting(&pair), [5], "the ordered one waits for all before it");
    let mut order = Vec::new();
    while let [next, ..] = waiting(&pair)[..] {
        assert_eq!(waiting(&pair).len(), 1);
        order.push(next);
        pair.finish_io();
        pair.settle();
    }
    assert_eq!(order, [5, 2, 3, 4]);
    assert_eq!(pair.receive_all().len(), 6);
}

#[test]
fn an_aborted_command_keeps_nobody_waiting() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    for attribute in [SIMPLE, ORDERED, ORDERED, SIMPLE] {
        let mut command = pair.scsi(&read10(0, 1), READ, 512);
        command.bhs[1] = 0x80 | READ | attribute;
        pair.send(&command);
    }
    let abort = |itt: u32| Pdu::new(0x42, 0x81, 100 + itt).with(20, itt);
    let last = pair.next_itt;
    for itt in [last - 1, last - 2] {
        pair.send(&abort(itt).with(24, pair.cmd_sn));
        assert_eq!(pair.receive().opcode(), 0x22);
    }
    assert_eq!(pair.io.len(), 2, "both simple ones go on");
}
