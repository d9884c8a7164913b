//! What sessions have to do with each other, and task management.

use iscsi::{EndReason, Event, InitiatorPort};

use crate::pair::{INITIATOR, Pair, READ, WRITE, open_target, read10, write10};
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
fn two_sessions_of_one_initiator_live_side_by_side() {
    let target = open_target();
    let mut firmware = Pair::logged_in(&[&target]);
    let mut system = Pair::new(&[&target]);
    system.isid = [0, 2, 0x3d, 0, 0, 1];
    system.log_in(&[]);
    assert_eq!(target.sessions().len(), 2);
    firmware.expect_alive();
    system.expect_alive();
    assert_eq!(firmware.command(&[0], 0, 0).bhs[3], 0, "the second login is no reset");
    drop(firmware);
    let port = InitiatorPort { iqn: INITIATOR.into(), isid: system.isid };
    assert_eq!(target.sessions().iter().map(|it| it.port.clone()).collect::<Vec<_>>(), [port]);
}

#[test]
fn the_same_port_again_ends_the_old_session_first() {
    let target = open_target();
    let mut old = Pair::logged_in(&[&target]);
    old.hold_io = true;
    let command = old.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    old.send(&command);

    let mut new = Pair::new(&[&target]);
    new.send_login(&[]);
    new.expect_silence();
    old.settle();
    assert_eq!(old.events.last(), Some(&Event::Ended { why: EndReason::Reinstated }));
    assert!(!old.connection.is_closed(), "the disk is not done with it");
    new.expect_silence();
    old.finish_io();
    old.expect_silence();
    assert!(old.connection.is_closed());
    assert_eq!(new.receive().login_status(), 0, "now its turn has come");
    new.clear_attention();
    assert_eq!(target.sessions().len(), 1);
}

#[test]
fn a_predecessor_that_vanishes_is_waited_for_no_longer() {
    let target = open_target();
    let old = Pair::logged_in(&[&target]);
    let mut new = Pair::new(&[&target]);
    new.send_login(&[]);
    new.expect_silence();
    drop(old);
    assert_eq!(new.receive().login_status(), 0);
}

#[test]
fn a_disk_that_hangs_does_not_keep_a_login_for_ever() {
    let target = open_target();
    let mut old = Pair::logged_in(&[&target]);
    old.hold_io = true;
    let command = old.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    old.send(&command);
    let mut new = Pair::new(&[&target]);
    new.send_login(&[]);
    new.advance(std::time::Duration::from_secs(15));
    assert!(new.connection.is_closed());
    assert_eq!(target.sessions().len(), 1, "the old one is still dying");
}

#[test]
fn sessions_of_a_target_are_bounded() {
    let target = open_target();
    let mut all: Vec<Pair> = Vec::new();
    for n in 0..iscsi::SESSIONS_PER_TARGET {
        let mut pair = Pair::new(&[&target]);
        pair.isid[5] = u8::try_from(n).unwrap();
        pair.log_in(&[]);
        all.push(pair);
    }
    let mut pair = Pair::new(&[&target]);
    pair.isid[5] = 99;
    assert_eq!(pair.request_login(&[]).login_status(), 0x0302);
    all.pop();
    let mut pair = Pair::new(&[&target]);
    pair.isid[5] = 99;
    assert_eq!(pair.request_login(&[]).login_status(), 0);
}

#[test]
fn a_removed_target_ends_its_sessions() {
    let target = open_target();
    let mut firmware = Pair::logged_in(&[&target]);
    let mut system = Pair::new(&[&target]);
    system.isid[5] = 1;
    system.log_in(&[]);
    system.expect_alive();
    target.remove();
    firmware.expect_silence();
    let message = system.receive();
    assert_eq!((message.opcode(), message.bhs[36]), (0x32, 3), "who understands it is told");
    for pair in [&mut firmware, &mut system] {
        assert!(pair.connection.is_closed());
        assert_eq!(pair.events.last(), Some(&Event::Ended { why: EndReason::TargetRemoved }));
    }
    assert_eq!(target.sessions(), []);
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

#[test]
fn a_reset_ends_the_tasks_of_all_sessions() {
    let target = open_target();
    for code in [4, 5, 6] {
        let mut pair = Pair::logged_in(&[&target]);
        let mut other = Pair::new(&[&target]);
        other.isid[5] = 1;
        other.log_in(&[]);
        for it in [&mut pair, &mut other] {
            it.hold_io = true;
            let command = it.scsi(&read10(0, 1), READ, 512);
            it.send(&command);
        }
        let itt = function(&mut pair, code, 0, 0);
        other.settle();
        for it in [&mut pair, &mut other] {
            assert!(it.finish_io());
            it.hold_io = false;
        }
        assert_eq!(answer(&mut pair, itt), 0);
        pair.expect_silence();
        other.expect_silence();
        if code != 4 {
            assert_eq!(other.command(&[0], 0, 0).sense(), (6, 0x29, 3), "and they are told");
        }
        other.expect_alive();
    }
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
    assert_eq!(answer(&mut pair, itt), 0);
    assert!(pair.connection.is_closed());
    other.settle();
    assert!(other.connection.is_closed());
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
