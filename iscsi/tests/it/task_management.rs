//! Task management: what a function ends, in which sessions, and when it is answered.

use std::sync::Arc;

use iscsi::Target;

use crate::pair::{Pair, READ, WRITE, open_target, read10, write10};
use crate::wire::Pdu;

fn function(pair: &mut Pair, function: u8, referenced_itt: u32, ref_cmd_sn: u32) -> u32 {
    let itt = pair.itt();
    let request = Pdu::new(0x42, 0x80 | function, itt)
        .with(20, referenced_itt)
        .with(24, pair.cmd_sn)
        .with(32, ref_cmd_sn);
    pair.send(&request);
    itt
}

/// Code of the answer to a task management function.
fn answer(pair: &mut Pair, itt: u32) -> u8 {
    let response = pair.receive();
    assert_eq!((response.opcode(), response.itt(), response.flags()), (0x22, itt, 0x80));
    response.bhs[2]
}

#[test]
fn an_aborted_task_is_not_answered_and_does_nothing_more() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let command = pair.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    pair.send(&command);
    let itt = function(&mut pair, 1, command.itt(), command.word(24));
    pair.expect_silence();
    pair.finish_io();
    assert_eq!(answer(&mut pair, itt), 0, "only now");
    pair.expect_silence();
    // The tag is free, and so is the place in the window.
    pair.hold_io = false;
    pair.next_itt = command.itt() - 1;
    let response = pair.command(&read10(0, 1), READ, 512);
    assert_eq!(response.word(32), pair.cmd_sn + 127);
}

#[test]
fn a_task_that_waits_for_data_is_aborted_at_once() {
    let target = open_target();
    let mut pair = Pair::logged_in_with(&[&target], &["InitialR2T=Yes", "ImmediateData=No"]);
    let command = pair.scsi(&write10(0, 1), WRITE, 512);
    pair.send(&command);
    let r2t = pair.receive();
    let itt = function(&mut pair, 1, command.itt(), command.word(24));
    assert_eq!(answer(&mut pair, itt), 0);
    let data = Pdu::new(0x05, 0x80, command.itt()).with(20, r2t.word(20)).with_data(vec![1; 512]);
    pair.send(&data);
    pair.expect_silence();
    assert!(pair.disk.iter().all(|byte| *byte == 0));
}

#[test]
fn tasks_that_there_are_not() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let done = pair.scsi(&[0], 0, 0);
    pair.send(&done);
    pair.receive();
    let itt = function(&mut pair, 1, done.itt(), done.word(24));
    assert_eq!(answer(&mut pair, itt), 1, "it was answered");
    // Numbered but never sent: it counts as received.
    let ref_cmd_sn = pair.cmd_sn;
    pair.cmd_sn += 1;
    let itt = function(&mut pair, 1, 0x9999, ref_cmd_sn);
    assert_eq!(answer(&mut pair, itt), 0);
    assert_eq!(pair.command(&[0], 0, 0).bhs[3], 0, "the command behind it is the next");
    for (code, response) in [(3, 5), (8, 4), (9, 255), (0, 255)] {
        let itt = function(&mut pair, code, 0, 0);
        assert_eq!(answer(&mut pair, itt), response, "function {code}");
    }
    let itt = pair.itt();
    let other_lun = Pdu::new(0x42, 0x85, itt).with(8, 0x0001_0000).with(24, pair.cmd_sn);
    pair.send(&other_lun);
    assert_eq!(answer(&mut pair, itt), 2, "there is only LUN 0");
}

/// Two sessions, each with a read that the disk has, which does not answer until it is told to.
fn two_with_a_read(target: &Arc<Target>) -> (Pair, Pair) {
    let mut pair = Pair::logged_in(&[target]);
    let mut other = Pair::new(&[target]);
    other.isid[5] = 1;
    other.log_in(&[]);
    for it in [&mut pair, &mut other] {
        it.hold_io = true;
        let command = it.scsi(&read10(0, 1), READ, 512);
        it.send(&command);
    }
    (pair, other)
}

#[test]
fn a_reset_ends_the_tasks_of_all_sessions_before_it_is_answered() {
    let target = open_target();
    for (code, attention) in [(4, (6, 0x2f, 0)), (5, (6, 0x29, 3)), (6, (6, 0x29, 3))] {
        let (mut pair, mut other) = two_with_a_read(&target);
        let itt = function(&mut pair, code, 0, 0);
        assert!(pair.finish_io());
        pair.expect_silence();
        other.settle();
        pair.expect_silence();
        assert!(other.finish_io());
        other.expect_silence();
        assert_eq!(answer(&mut pair, itt), 0, "only when the disk is done with the other's too");
        pair.expect_silence();
        other.expect_silence();
        pair.hold_io = false;
        other.hold_io = false;
        assert_eq!(other.command(&[0], 0, 0).sense(), attention, "function {code}");
        let own = pair.command(&[0], 0, 0);
        assert_eq!(own.bhs[3], if code == 4 { 0 } else { 2 }, "who cleared knows of it");
        other.expect_alive();
    }
}

#[test]
fn who_had_nothing_to_clear_is_told_nothing() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut other = Pair::new(&[&target]);
    other.isid[5] = 1;
    other.log_in(&[]);
    let itt = function(&mut pair, 4, 0, 0);
    pair.expect_silence();
    assert_eq!(other.command(&[0], 0, 0).bhs[3], 0);
    assert_eq!(answer(&mut pair, itt), 0);
}

#[test]
fn a_session_that_ends_is_waited_for_no_longer() {
    let target = open_target();
    let (mut pair, mut other) = two_with_a_read(&target);
    let itt = function(&mut pair, 5, 0, 0);
    assert!(pair.finish_io());
    other.connection.handle_disconnect();
    pair.expect_silence();
    drop(other);
    assert_eq!(answer(&mut pair, itt), 0);
}

#[test]
fn resets_of_two_sessions_do_not_wait_for_each_other() {
    let target = open_target();
    let (mut pair, mut other) = two_with_a_read(&target);
    let itts = [&mut pair, &mut other].map(|it| function(it, 5, 0, 0));
    for it in [&mut pair, &mut other] {
        assert!(it.finish_io());
        it.settle();
    }
    for (it, itt) in [&mut pair, &mut other].into_iter().zip(itts) {
        assert_eq!(answer(it, itt), 0);
    }
}

#[test]
fn what_comes_behind_a_reset_is_not_part_of_it() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut other = Pair::new(&[&target]);
    other.isid[5] = 1;
    other.log_in(&[]);
    let itt = function(&mut pair, 5, 0, 0);
    // The other session takes two commands before anything has woken it.
    let news = other.scsi(&[0], 0, 0);
    let read = other.scsi(&read10(0, 1), READ, 512);
    let both = [news.encode(false, false), read.encode(false, false)].concat();
    other.send_bytes(&both);
    assert_eq!(other.receive().sense(), (6, 0x29, 3));
    assert_eq!((other.receive().itt(), answer(&mut pair, itt)), (read.itt(), 0));
}

/// Numbers three commands and sends but the second and the third of them.
fn with_one_missing(pair: &mut Pair) -> [Pdu; 3] {
    let commands: [Pdu; 3] =
        [1, 2, 3].map(|n| pair.scsi(&write10(n, 1), WRITE, 512).with_data(vec![n as u8; 512]));
    commands[1..].iter().for_each(|command| pair.send(command));
    pair.expect_silence();
    commands
}

#[test]
fn commands_that_a_function_overtook_are_waited_for_and_not_done() {
    let target = open_target();
    for code in [2, 4, 5, 6] {
        let mut pair = Pair::logged_in(&[&target]);
        let [first, ..] = with_one_missing(&mut pair);
        let itt = function(&mut pair, code, 0, 0);
        let behind = pair.scsi(&write10(9, 1), WRITE, 512).with_data(vec![9; 512]);
        pair.send(&behind);
        pair.expect_silence();
        pair.send(&first);
        let mut answers: Vec<(u8, u32)> =
            pair.receive_all().iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
        answers.sort_unstable();
        assert_eq!(answers, [(0x21, behind.itt()), (0x22, itt)], "function {code}");
        assert!(pair.disk[..5 * 512].iter().all(|byte| *byte == 0), "function {code}");
        // A number that was taken and not used would be missing from the window.
        pair.command(&[0], 0, 0);
        assert_eq!(pair.command(&[0], 0, 0).word(32), pair.cmd_sn + 127);
    }
}

#[test]
fn commands_numbered_behind_a_function_go_on() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let before = pair.scsi(&read10(0, 1), READ, 512);
    let number = pair.cmd_sn;
    let behind = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&before);
    pair.send(&behind);
    pair.send(&Pdu::new(0x42, 0x82, 70).with(24, number));
    pair.hold_io = false;
    let answers: Vec<(u8, u32)> = pair.receive_all().iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
    assert_eq!(answers, [(0x22, 70), (0x25, behind.itt())]);
}

#[test]
fn a_function_numbered_out_of_all_reason_stands_where_it_came() {
    let target = open_target();
    for far in [1000, u32::MAX - 1000] {
        let mut pair = Pair::logged_in(&[&target]);
        pair.hold_io = true;
        let command = pair.scsi(&read10(0, 1), READ, 512);
        pair.send(&command);
        pair.send(&Pdu::new(0x42, 0x82, 70).with(24, pair.cmd_sn.wrapping_add(far)));
        pair.finish_io();
        assert_eq!(answer(&mut pair, 70), 0);
        pair.expect_silence();
    }
}

#[test]
fn a_command_that_waits_for_its_turn_can_be_aborted() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let [first, second, third] = with_one_missing(&mut pair);
    let itt = function(&mut pair, 1, second.itt(), second.word(24));
    assert_eq!(answer(&mut pair, itt), 0);
    pair.send(&first);
    let answered: Vec<u32> = pair.receive_all().iter().map(Pdu::itt).collect();
    assert_eq!(answered, [first.itt(), third.itt()]);
    assert!(pair.disk[2 * 512..3 * 512].iter().all(|byte| *byte == 0));
    pair.expect_alive();
}

#[test]
fn an_abort_by_the_number_of_another_request_leaves_that_alone() {
    let target = open_target();
    for opcode in [0x01, 0x02] {
        let mut pair = Pair::logged_in(&[&target]);
        let first = pair.scsi(&[0], 0, 0);
        let mut second = pair.scsi(&[0], 0, 0);
        if opcode == 0x02 {
            second = Pdu::new(0x02, 0x82, second.itt()).with(24, second.word(24));
        }
        pair.send(&second);
        let itt = function(&mut pair, 1, 0x9999, second.word(24));
        assert_eq!(answer(&mut pair, itt), 1, "no such task has come, and none has that number");
        // Its tag names a command, whatever is said of its number; a function is none.
        let wrong = pair.cmd_sn;
        let itt = function(&mut pair, 1, second.itt(), wrong);
        let is_aborted = opcode == 0x01;
        assert_eq!(answer(&mut pair, itt), u8::from(!is_aborted));
        pair.send(&first);
        let answered: Vec<u32> = pair.receive_all().iter().map(Pdu::itt).collect();
        let both = [first.itt(), second.itt()];
        assert_eq!(answered, both[..if is_aborted { 1 } else { 2 }]);
        pair.expect_alive();
    }
}

#[test]
fn a_cold_reset_waits_for_no_command_that_will_not_be_taken() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    with_one_missing(&mut pair);
    let itt = function(&mut pair, 7, 0, 0);
    assert_eq!(answer(&mut pair, itt), 0);
    assert!(pair.connection.is_closed());
}

#[test]
fn abort_task_set_ends_only_ones_own() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut other = Pair::new(&[&target]);
    other.isid[5] = 1;
    other.log_in(&[]);
    for it in [&mut pair, &mut other] {
        it.hold_io = true;
        let command = it.scsi(&read10(0, 1), READ, 512);
        it.send(&command);
    }
    let itt = function(&mut pair, 2, 0, 0);
    other.settle();
    pair.finish_io();
    other.finish_io();
    assert_eq!(answer(&mut pair, itt), 0);
    pair.expect_silence();
    assert_eq!(other.receive().opcode(), 0x25);
}

#[test]
fn a_cold_reset_ends_all_sessions() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut other = Pair::new(&[&target]);
    other.isid[5] = 1;
    other.log_in(&[]);
    let itt = function(&mut pair, 7, 0, 0);
    pair.expect_silence();
    other.settle();
    assert!(other.connection.is_closed());
    drop(other);
    assert_eq!(answer(&mut pair, itt), 0, "when the other has ended");
    assert!(pair.connection.is_closed());
    assert_eq!(target.sessions(), []);
}

#[test]
fn data_of_an_aborted_read_stops() {
    let target = open_target();
    let mut pair = Pair::logged_in_with(&[&target], &["MaxRecvDataSegmentLength=512"]);
    let mut input = bytes::BytesMut::new();
    let command = pair.scsi(&read10(0, 1024), READ, 512 * 1024);
    input.extend_from_slice(&command.encode(false, false));
    pair.connection.handle_input(&mut input, pair.now);
    let request = pair.connection.poll_io().unwrap();
    pair.io.push_back(request);
    pair.finish_io();
    assert_eq!(pair.connection.bytes_to_send(), 512 * 1024);
    bytes::Buf::advance(pair.connection.poll_transmit(1), 48 + 512);
    assert_eq!(pair.connection.bytes_to_send(), 511 * 1024 + 512);
    let itt = function(&mut pair, 1, command.itt(), command.word(24));
    assert_eq!(answer(&mut pair, itt), 0);
    pair.expect_silence();
    assert_eq!(pair.connection.bytes_to_send(), 0);
}
