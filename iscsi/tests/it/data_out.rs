//! Commands that write: immediate, unsolicited and solicited data.

use std::collections::VecDeque;

use iscsi::{Event, Limits};

use crate::pair::{Pair, READ, WRITE, open_target, read10, write10};
use crate::wire::{NO_TAG, Pdu};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 512 * 31 + at % 241) as u8).collect()
}

fn data_out(itt: u32, ttt: u32, data_sn: u32, offset: usize, is_final: bool, data: &[u8]) -> Pdu {
    Pdu::new(0x05, if is_final { 0x80 } else { 0 }, itt)
        .with(20, ttt)
        .with(36, data_sn)
        .with(40, u32::try_from(offset).unwrap())
        .with_data(data)
}

fn is_good(pdu: &Pdu) {
    assert_eq!((pdu.opcode(), pdu.flags(), pdu.bhs[3]), (0x21, 0x80, 0), "{pdu:02x?}");
}

/// (TTT, offset, length) of an R2T.
fn r2t(pdu: &Pdu) -> (u32, usize, usize) {
    assert_eq!((pdu.opcode(), pdu.flags()), (0x31, 0x80));
    assert_ne!(pdu.word(20), NO_TAG);
    (pdu.word(20), pdu.word(40) as usize, pdu.word(44) as usize)
}

#[test]
fn immediate_data_alone() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let data = pattern(4096);
    let command = pair.scsi(&write10(5, 8), WRITE, 4096).with_data(&*data);
    pair.send(&command);
    is_good(&pair.receive());
    assert!(pair.disk[5 * 512..][..4096] == data);
    assert_eq!(pair.events.iter().filter(|event| **event == Event::FirstWrite).count(), 1);
    let command = pair.scsi(&write10(0, 8), WRITE, 4096).with_data(&*data);
    pair.send(&command);
    is_good(&pair.receive());
    assert_eq!(pair.events.iter().filter(|event| **event == Event::FirstWrite).count(), 1, "told once");
}

#[test]
fn unsolicited_data_behind_the_command() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let data = pattern(65536);
    let mut command = pair.scsi(&write10(0, 128), WRITE, 65536).with_data(&data[..8192]);
    command.bhs[1] &= 0x7f;
    pair.send(&command);
    pair.expect_silence();
    for (data_sn, part) in data[8192..].chunks(20_000).enumerate() {
        let offset = 8192 + data_sn * 20_000;
        let is_final = offset + part.len() == data.len();
        pair.send(&data_out(command.itt(), NO_TAG, data_sn as u32, offset, is_final, part));
    }
    is_good(&pair.receive());
    assert!(pair.disk[..65536] == data);
}

#[test]
fn the_rest_is_asked_for() {
    let target = open_target();
    let keys = ["InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=4096", "MaxOutstandingR2T=1"];
    let mut pair = Pair::logged_in_with(&[&target], &keys);
    let data = pattern(10_240);
    let command = pair.scsi(&write10(0, 20), WRITE, 10_240);
    pair.send(&command);
    let mut written = 0;
    for (r2t_sn, expected) in [4096, 4096, 2048].into_iter().enumerate() {
        let asked = pair.receive();
        let (ttt, offset, length) = r2t(&asked);
        assert_eq!((asked.word(36) as usize, offset, length), (r2t_sn, written, expected));
        pair.expect_silence();
        // As iPXE does it: 512 bytes at a time.
        for (data_sn, part) in data[offset..offset + length].chunks(512).enumerate() {
            written += part.len();
            let is_final = written == offset + length;
            let at = offset + data_sn * 512;
            pair.send(&data_out(command.itt(), ttt, data_sn as u32, at, is_final, part));
        }
    }
    let response = pair.receive();
    is_good(&response);
    assert_eq!(response.word(36), 3, "three R2Ts");
    assert!(pair.disk[..10_240] == data);
}

#[test]
fn several_r2ts_at_a_time() {
    let target = open_target();
    let keys = ["InitialR2T=Yes", "ImmediateData=Yes", "MaxBurstLength=1024", "MaxOutstandingR2T=3"];
    let mut pair = Pair::logged_in_with(&[&target], &keys);
    let data = pattern(5120);
    let command = pair.scsi(&write10(0, 10), WRITE, 5120).with_data(&data[..512]);
    pair.send(&command);
    let mut asked = VecDeque::from(pair.receive_all());
    assert_eq!(asked.len(), 3);
    let mut count = 0;
    while let Some(pdu) = asked.pop_front() {
        if pdu.opcode() == 0x21 {
            is_good(&pdu);
            break;
        }
        count += 1;
        let (ttt, offset, length) = r2t(&pdu);
        pair.send(&data_out(command.itt(), ttt, 0, offset, true, &data[offset..offset + length]));
        asked.extend(pair.receive_all());
    }
    assert_eq!(count, 5);
    assert!(pair.disk[..5120] == data);
}

#[test]
fn wrong_numbers_fail_the_command_and_nothing_else() {
    let target = open_target();
    let keys = ["InitialR2T=Yes", "ImmediateData=No"];
    // What is wrong with the second of two Data-Outs: TTT, DataSN, offset, whether it is final, its length.
    type Wrong = fn(u32) -> (u32, u32, usize, bool, usize);
    let wrongs: [(&str, Wrong); 9] = [
        ("DataSN again", |ttt| (ttt, 0, 512, true, 512)),
        ("DataSN beyond", |ttt| (ttt, 27, 512, true, 512)),
        ("DataSN -1", |ttt| (ttt, u32::MAX, 512, true, 512)),
        ("offset before", |ttt| (ttt, 1, 0, true, 512)),
        ("offset beyond", |ttt| (ttt, 1, 1024, true, 512)),
        ("too early an end", |ttt| (ttt, 1, 512, true, 256)),
        ("no end", |ttt| (ttt, 1, 512, false, 512)),
        ("too much", |ttt| (ttt, 1, 512, true, 1024)),
        ("wrong TTT", |ttt| (ttt + 1, 1, 512, true, 512)),
    ];
    for (what, wrong) in wrongs {
        let mut pair = Pair::logged_in_with(&[&target], &keys);
        let command = pair.scsi(&write10(0, 2), WRITE, 1024);
        pair.send(&command);
        let (ttt, ..) = r2t(&pair.receive());
        pair.send(&data_out(command.itt(), ttt, 0, 0, false, &[1; 512]));
        pair.expect_silence();
        let (ttt, data_sn, offset, is_final, len) = wrong(ttt);
        pair.send(&data_out(command.itt(), ttt, data_sn, offset, is_final, &vec![1; len]));
        assert_eq!(pair.receive().sense(), (0x0b, 0x0c, 0x0d), "{what}");
        pair.send(&data_out(command.itt(), ttt, 2, 1024, true, &[1; 512]));
        pair.expect_silence();
        assert!(pair.disk.iter().all(|byte| *byte == 0), "{what}: nothing was written");
        pair.expect_alive();
    }
}

#[test]
fn data_that_nobody_may_send_fails_the_command() {
    let target = open_target();
    let unexpected = (0x0b, 0x0c, 0x0c);
    let mut pair = Pair::logged_in_with(&[&target], &["InitialR2T=Yes", "ImmediateData=No"]);
    let command = pair.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    pair.send(&command);
    assert_eq!(pair.receive().sense(), unexpected, "immediate data was not agreed on");
    let mut command = pair.scsi(&write10(0, 1), WRITE, 512);
    command.bhs[1] &= 0x7f;
    pair.send(&command);
    assert_eq!(pair.receive().sense(), unexpected, "unsolicited data was not agreed on");
    let command = pair.scsi(&write10(0, 1), WRITE, 512);
    pair.send(&command);
    r2t(&pair.receive());
    pair.send(&data_out(command.itt(), NO_TAG, 0, 0, true, &[1; 512]));
    assert_eq!(pair.receive().sense(), unexpected, "unsolicited where it was asked for");

    drop(pair);

    let mut pair = Pair::logged_in_with(&[&target], &["InitialR2T=No", "FirstBurstLength=1024"]);
    let command = pair.scsi(&write10(0, 4), WRITE, 2048).with_data(vec![1; 1536]);
    pair.send(&command);
    assert_eq!(pair.receive().sense(), unexpected, "more than the first burst");
    let command = pair.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 1024]);
    pair.send(&command);
    assert_eq!(pair.receive().sense(), unexpected, "more than was announced");
    let command = pair.scsi(&[0], 0, 0).with_data(vec![1; 512]);
    pair.send(&command);
    assert_eq!(pair.receive().sense(), unexpected, "data with a command that takes none");
    assert!(pair.disk.iter().all(|byte| *byte == 0));
    pair.expect_alive();
}

#[test]
fn a_first_burst_that_ends_early_is_made_up_for() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let data = pattern(4096);
    let mut command = pair.scsi(&write10(0, 8), WRITE, 4096).with_data(&data[..512]);
    command.bhs[1] &= 0x7f;
    pair.send(&command);
    pair.send(&data_out(command.itt(), NO_TAG, 0, 512, true, &data[512..1024]));
    let (ttt, offset, length) = r2t(&pair.receive());
    assert_eq!((offset, length), (1024, 3072));
    pair.send(&data_out(command.itt(), ttt, 0, 1024, true, &data[1024..]));
    is_good(&pair.receive());
    assert!(pair.disk[..4096] == data);
}

#[test]
fn residuals_of_writes() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    // More announced than the CDB takes: the rest is received and dropped.
    let command = pair.scsi(&write10(0, 1), WRITE, 1024).with_data(vec![1; 1024]);
    pair.send(&command);
    let response = pair.receive();
    assert_eq!((response.bhs[3], response.flags(), response.word(44)), (0, 0x82, 512));
    assert!(pair.disk[..512].iter().all(|byte| *byte == 1) && pair.disk[512] == 0);
    // Less announced than the CDB takes.
    let command = pair.scsi(&write10(4, 2), WRITE, 512).with_data(vec![2; 512]);
    pair.send(&command);
    let response = pair.receive();
    assert_eq!((response.flags(), response.word(44)), (0x84, 512));
    assert!(pair.disk[5 * 512..6 * 512].iter().all(|byte| *byte == 0));
}

#[test]
fn what_comes_behind_an_early_answer_is_dropped() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut command = pair.scsi(&write10(0xffff_fff0, 8), WRITE, 4096);
    command.bhs[1] &= 0x7f;
    pair.send(&command);
    assert_eq!(pair.receive().sense(), (5, 0x21, 0));
    pair.send(&data_out(command.itt(), NO_TAG, 0, 0, true, &[1; 4096]));
    pair.expect_silence();

    // The CDB takes less than is sent: the command may go on before all has come.
    pair.hold_io = true;
    let mut command = pair.scsi(&write10(0, 1), WRITE, 4096).with_data(vec![1; 1024]);
    command.bhs[1] &= 0x7f;
    pair.send(&command);
    pair.send(&data_out(command.itt(), NO_TAG, 0, 1024, true, &[1; 3072]));
    pair.hold_io = false;
    let response = pair.receive();
    assert_eq!((response.bhs[3], response.flags(), response.word(44)), (0, 0x82, 3584));
    assert!(pair.disk[..512].iter().all(|byte| *byte == 1) && pair.disk[512] == 0);
    pair.expect_alive();
}

#[test]
fn r2ts_wait_when_too_much_is_asked_for() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 8192, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=Yes", "ImmediateData=No"]);
    let commands: Vec<Pdu> = (0..4).map(|n| pair.scsi(&write10(n * 8, 8), WRITE, 4096)).collect();
    commands.iter().for_each(|command| pair.send(command));
    let mut asked = pair.receive_all();
    assert_eq!(asked.len(), 2, "8 KiB in flight");
    let mut done = 0;
    while let Some(pdu) = asked.pop() {
        if pdu.opcode() == 0x21 {
            is_good(&pdu);
            done += 1;
            continue;
        }
        let (ttt, offset, length) = r2t(&pdu);
        pair.send(&data_out(pdu.itt(), ttt, 0, offset, true, &pattern(length)));
        asked.extend(pair.receive_all());
    }
    assert_eq!(done, 4);
}

#[test]
fn writes_larger_than_the_limit_do_not_wait_for_each_other() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 4096, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=2048", "MaxOutstandingR2T=1"]);
    let commands: Vec<Pdu> = (0..3).map(|n| pair.scsi(&write10(n * 16, 16), WRITE, 8192)).collect();
    commands.iter().for_each(|command| pair.send(command));
    let mut asked = VecDeque::from(pair.receive_all());
    assert_eq!(asked.len(), 1, "the others wait until the first has all of its data");
    let mut done = Vec::new();
    while let Some(pdu) = asked.pop_front() {
        if pdu.opcode() == 0x21 {
            is_good(&pdu);
            done.push(pdu.itt());
            continue;
        }
        let (ttt, offset, length) = r2t(&pdu);
        pair.send(&data_out(pdu.itt(), ttt, 0, offset, true, &pattern(length)));
        asked.extend(pair.receive_all());
    }
    assert_eq!(done, commands.iter().map(Pdu::itt).collect::<Vec<_>>());
}

#[test]
fn data_that_comes_unasked_counts_as_in_flight() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 8192, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=No", "ImmediateData=Yes", "MaxRecvDataSegmentLength=262144"]);
    pair.hold_io = true;
    let mut write = pair.scsi(&write10(0, 16), WRITE, 8192).with_data(vec![1; 2048]);
    write.bhs[1] &= 0x7f;
    pair.send(&write);
    pair.send(&data_out(write.itt(), NO_TAG, 0, 2048, false, &[1; 2048]));
    for lba in [0, 8] {
        let read = pair.scsi(&read10(lba, 8), READ, 4096);
        pair.send(&read);
    }
    assert_eq!(pair.io.len(), 1, "half of the room is taken by what came unasked");
    // What is not there yet comes, whatever is in flight: else nothing would ever end.
    pair.send(&data_out(write.itt(), NO_TAG, 1, 4096, true, &[1; 4096]));
    assert_eq!(pair.io.len(), 2, "the write goes on");
    pair.hold_io = false;
    assert_eq!(pair.receive_all().len(), 3);
    pair.expect_alive();
}

#[test]
fn writes_that_fill_the_limit_unasked_still_get_their_r2ts() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 4096, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=No", "ImmediateData=Yes"]);
    let commands: Vec<Pdu> =
        (0..8).map(|n| pair.scsi(&write10(n * 4, 4), WRITE, 2048).with_data(vec![7; 1024])).collect();
    commands.iter().for_each(|command| pair.send(command));
    let mut asked = pair.receive_all();
    let mut done = 0;
    while let Some(pdu) = asked.pop() {
        if pdu.opcode() == 0x21 {
            is_good(&pdu);
            done += 1;
            continue;
        }
        let (ttt, offset, length) = r2t(&pdu);
        assert_eq!((offset, length), (1024, 1024));
        pair.send(&data_out(pdu.itt(), ttt, 0, offset, true, &[7; 1024]));
        asked.extend(pair.receive_all());
    }
    assert_eq!(done, 8);
    assert!(pair.disk[..8 * 2048].iter().all(|byte| *byte == 7));
}

#[test]
fn a_write_that_has_room_does_not_wait_behind_a_read_that_has_none() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 8192, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=Yes", "ImmediateData=No", "MaxRecvDataSegmentLength=262144"]);
    let write = pair.scsi(&write10(0, 16), WRITE, 8192);
    pair.send(&write);
    let (ttt, ..) = r2t(&pair.receive());
    let read = pair.scsi(&read10(0, 8), READ, 4096);
    pair.send(&read);
    pair.expect_silence();
    pair.send(&data_out(write.itt(), ttt, 0, 0, true, &[1; 8192]));
    let order: Vec<u32> = pair.receive_all().iter().map(Pdu::itt).collect();
    assert_eq!(order, [write.itt(), read.itt()]);
}

#[test]
fn a_verify_that_has_room_for_its_data_may_read_what_it_compares() {
    let target = open_target();
    for blocks in [16_u16, 8192] {
        let limits = Limits { bytes_in_flight: 4096, ..Limits::default() };
        let mut pair = Pair::with_limits(&[&target], limits);
        pair.log_in(&["InitialR2T=Yes", "ImmediateData=No"]);
        let length = u32::from(blocks) * 512;
        let [high, low] = blocks.to_be_bytes();
        let verify = pair.scsi(&[0x2f, 0x02, 0, 0, 0, 0, 0, high, low, 0], WRITE, length);
        pair.send(&verify);
        let mut pdu = pair.receive();
        while pdu.opcode() == 0x31 {
            let (ttt, offset, length) = r2t(&pdu);
            for (sn, at) in (0..length).step_by(65_536).enumerate() {
                let part = (length - at).min(65_536);
                let is_last = at + part == length;
                pair.send(&data_out(verify.itt(), ttt, sn as u32, offset + at, is_last, &vec![0; part]));
            }
            pdu = pair.receive();
        }
        is_good(&pdu);
    }
}

#[test]
fn an_r2t_that_waits_for_room_comes_when_that_was_sent() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 4096, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=Yes", "ImmediateData=No"]);
    pair.hold_io = true;
    let read = pair.scsi(&read10(0, 8), READ, 4096);
    let write = pair.scsi(&write10(0, 8), WRITE, 4096);
    pair.send(&read);
    pair.send(&write);
    pair.expect_silence();
    pair.finish_io();
    let order: Vec<(u8, u32)> = pair.receive_all().iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
    assert_eq!(order, [(0x25, read.itt()), (0x31, write.itt())]);
}
