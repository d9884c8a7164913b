//! The full feature phase apart from commands' data: window, pings, text, logout, rejects, digests.

use std::time::Duration;

use iscsi::{EndReason, Event, Limits};

use crate::pair::{Pair, READ, TARGET, WRITE, open_target, read10, write10};
use crate::wire::{NO_TAG, Pdu};

#[test]
fn what_lies_outside_the_window_is_dropped_without_a_word() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let expected = pair.cmd_sn;
    for cmd_sn in [expected + 128, expected - 1, expected.wrapping_add(1 << 31)] {
        let itt = pair.itt();
        pair.send(&Pdu::new(0x01, 0x81, itt).with(24, cmd_sn));
        pair.expect_silence();
    }
    assert_eq!(pair.command(&[0], 0, 0).bhs[3], 0);
}

#[test]
fn commands_are_taken_in_their_order() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let first = pair.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    let mut second = pair.scsi(&write10(0, 2), WRITE, 1024).with_data(vec![2; 512]);
    second.bhs[1] &= 0x7f;
    let rest = Pdu::new(0x05, 0x80, second.itt()).with(20, NO_TAG).with(40, 512).with_data(vec![2; 512]);
    let third = Pdu::new(0x00, 0x80, 99).with(20, NO_TAG).with(24, pair.cmd_sn);
    for pdu in [&third, &second, &second, &rest] {
        pair.send(pdu);
        pair.expect_silence();
    }
    pair.send(&first);
    let answers: Vec<(u8, u32)> = pair.receive_all().iter().map(|pdu| (pdu.bhs[3], pdu.itt())).collect();
    // The ping overtakes what waits for the disk, but not before all were taken.
    assert_eq!(answers, [(0, 99), (0, first.itt()), (0, second.itt())]);
    assert!(pair.disk[..1024].iter().all(|byte| *byte == 2));
}

#[test]
fn not_everything_that_comes_early_is_kept() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.cmd_sn += 1;
    for _ in 0..64 {
        let command = pair.scsi(&[0], 0, 0);
        pair.send(&command);
    }
    pair.expect_alive();
    let command = pair.scsi(&[0], 0, 0);
    pair.send(&command);
    pair.expect_silence();
    assert!(pair.connection.is_closed());
    assert!(matches!(pair.events.last(), Some(Event::Ended { why: EndReason::ProtocolError(_) })));
}

#[test]
fn what_comes_early_is_bounded_in_bytes_too() {
    const ROOM: usize = 2 << 20;
    let target = open_target();
    for (count, ends) in [(ROOM / 65_536, false), (ROOM / 65_536 + 1, true)] {
        let mut pair = Pair::logged_in(&[&target]);
        let missing = pair.scsi(&[0], 0, 0);
        for n in 0..count {
            let command = pair.scsi(&write10(n as u32 * 128, 128), WRITE, 65_536);
            pair.send(&command.with_data(vec![5; 65_536]));
        }
        pair.expect_silence();
        assert_eq!(pair.connection.is_closed(), ends, "{count} first bursts");
        if !ends {
            pair.send(&missing);
            assert_eq!(pair.receive_all().len(), count + 1, "and all of them are done");
        }
    }
}

#[test]
fn what_comes_early_counts_as_in_flight() {
    let target = open_target();
    let limits = Limits { bytes_in_flight: 8192, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&["InitialR2T=No", "ImmediateData=Yes", "MaxRecvDataSegmentLength=262144"]);
    pair.hold_io = true;
    for _ in 0..2 {
        let mut read = pair.scsi(&read10(0, 4), READ, 2048).with_bytes(0, &[0x41]);
        pair.cmd_sn -= 1;
        read = read.with(24, pair.cmd_sn);
        pair.send(&read);
    }
    assert_eq!(pair.io.len(), 2);
    let missing = pair.scsi(&[0], 0, 0);
    let early = pair.scsi(&write10(0, 16), WRITE, 8192).with_data(vec![1; 8192]);
    pair.send(&early);
    let read = pair.scsi(&read10(0, 4), READ, 2048).with_bytes(0, &[0x41]);
    pair.cmd_sn -= 1;
    pair.send(&read);
    assert_eq!(pair.io.len(), 2, "no room");
    pair.send(&missing);
    pair.hold_io = false;
    assert_eq!(pair.receive_all().len(), 5);
}

#[test]
fn a_missing_command_that_is_aborted_is_missed_no_longer() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let missing = pair.scsi(&[0], 0, 0);
    let command = pair.scsi(&[0], 0, 0);
    pair.send(&command);
    pair.expect_silence();
    let abort =
        Pdu::new(0x42, 0x81, 50).with(20, missing.itt()).with(24, pair.cmd_sn).with(32, missing.word(24));
    pair.send(&abort);
    let answers: Vec<(u8, u32)> = pair.receive_all().iter().map(|pdu| (pdu.opcode(), pdu.itt())).collect();
    assert_eq!(answers, [(0x22, 50), (0x21, command.itt())]);
}

#[test]
fn the_window_shuts_and_opens_with_the_commands() {
    let target = open_target();
    let limits = Limits { command_window: 4, ..Limits::default() };
    let mut pair = Pair::with_limits(&[&target], limits);
    pair.log_in(&[]);
    pair.hold_io = true;
    for _ in 0..4 {
        let command = pair.scsi(&read10(0, 1), READ, 512);
        pair.send(&command);
    }
    let beyond = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&beyond);
    assert_eq!(pair.io.len(), 4, "the fifth was dropped");
    pair.cmd_sn -= 1;
    // Immediate commands are let in.
    let itt = pair.itt();
    pair.send(&Pdu::new(0x41, 0x81, itt).with(24, pair.cmd_sn));
    let response = pair.receive();
    assert_eq!(response.itt(), itt);
    assert_eq!((response.word(28), response.word(32)), (pair.cmd_sn, pair.cmd_sn - 1), "shut");
    pair.finish_io();
    assert_eq!(pair.receive().word(32), pair.cmd_sn, "one place");
    let command = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&command);
    assert_eq!(pair.io.len(), 4);
}

#[test]
fn immediate_commands_are_bounded_too() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let mut rejected = 0;
    for _ in 0..20 {
        let command = pair.scsi(&read10(0, 1), READ, 512).with_bytes(0, &[0x41]);
        pair.cmd_sn -= 1;
        pair.send(&command);
        for pdu in pair.receive_all() {
            assert_eq!((pdu.opcode(), pdu.bhs[2]), (0x3f, 0x06));
            rejected += 1;
        }
    }
    assert_eq!((rejected, pair.io.len()), (4, 16));
}

#[test]
fn a_tag_in_use_is_rejected() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let command = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&command);
    pair.next_itt -= 1;
    let again = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&again);
    let reject = pair.receive();
    assert_eq!((reject.opcode(), reject.bhs[2], reject.itt()), (0x3f, 0x07, NO_TAG));
    assert_eq!(reject.data[..4], again.bhs[..4], "with the header of what it rejects");
    assert_eq!(reject.data.len(), 48);
}

#[test]
fn pings_are_echoed() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let ping =
        Pdu::new(0x00, 0x80, 77).with(20, NO_TAG).with(24, pair.cmd_sn).with_data(b"are you there?".to_vec());
    pair.cmd_sn += 1;
    pair.send(&ping);
    let pong = pair.receive();
    assert_eq!((pong.opcode(), pong.itt(), pong.word(20)), (0x20, 77, NO_TAG));
    assert_eq!(pong.data, b"are you there?");
    assert_eq!(pong.word(28), pair.cmd_sn);
    // The answer to a ping of ours gets none.
    pair.send(&Pdu::new(0x40, 0x80, NO_TAG).with(20, 5).with(24, pair.cmd_sn));
    pair.expect_silence();
}

#[test]
fn pings_go_ahead_of_a_slow_disk() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let command = pair.scsi(&read10(0, 1), READ, 512);
    pair.send(&command);
    pair.expect_alive();
}

#[test]
fn only_who_answers_is_pinged() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    assert_eq!(pair.connection.poll_timeout(), None, "firmware is left in peace");
    pair.advance(Duration::from_secs(3600));
    pair.expect_silence();

    pair.expect_alive();
    pair.advance(Duration::from_secs(29));
    pair.expect_silence();
    pair.advance(Duration::from_secs(1));
    let ping = pair.receive();
    assert_eq!((ping.opcode(), ping.itt()), (0x20, NO_TAG));
    assert_ne!(ping.word(20), NO_TAG);
    pair.send(&Pdu::new(0x40, 0x80, NO_TAG).with(20, ping.word(20)).with(24, pair.cmd_sn));
    pair.advance(Duration::from_secs(29));
    assert!(!pair.connection.is_closed());
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.receive().opcode(), 0x20);
    pair.advance(Duration::from_secs(30));
    assert!(pair.connection.is_closed());
    assert_eq!(pair.events.last(), Some(&Event::Ended { why: EndReason::PingTimeout }));
}

#[test]
fn who_has_several_commands_open_is_no_firmware() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    for _ in 0..2 {
        let command = pair.scsi(&read10(0, 1), READ, 512);
        pair.send(&command);
    }
    assert!(pair.connection.poll_timeout().is_some());
}

#[test]
fn logout() {
    let target = open_target();
    for (reason, cid, response, ends) in
        [(0, 9, 0, true), (1, 0, 0, true), (1, 9, 1, false), (2, 0, 2, false)]
    {
        let mut pair = Pair::logged_in(&[&target]);
        let request =
            Pdu::new(0x46, 0x80 | reason, 55).with_bytes(20, &u16::to_be_bytes(cid)).with(24, pair.cmd_sn);
        pair.send(&request);
        let answer = pair.receive();
        assert_eq!((answer.opcode(), answer.itt(), answer.bhs[2]), (0x26, 55, response));
        assert_eq!(pair.connection.is_closed(), ends);
        assert_eq!(pair.events.contains(&Event::LoggedOut), ends);
        assert_eq!(target.sessions().len(), usize::from(!ends));
    }
}

#[test]
fn a_logout_waits_for_the_disk() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    pair.hold_io = true;
    let command = pair.scsi(&write10(0, 1), WRITE, 512).with_data(vec![1; 512]);
    pair.send(&command);
    let request = Pdu::new(0x46, 0x80, 55).with(24, pair.cmd_sn);
    pair.send(&request);
    pair.expect_silence();
    assert_eq!(target.sessions().len(), 1);
    pair.finish_io();
    assert_eq!(pair.receive().opcode(), 0x26);
    pair.expect_silence();
    assert_eq!(target.sessions().len(), 0);
}

#[test]
fn what_there_is_not_is_rejected() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let snack = Pdu::new(0x10, 0x80, 1);
    let unknown = Pdu::new(0x1c, 0x80, 2);
    let logout = Pdu::new(0x46, 0x83, 3).with(24, pair.cmd_sn);
    let text = Pdu::new(0x44, 0x80, 4).with(20, 99).with(24, pair.cmd_sn);
    let extended = pair.scsi(&[0x7f], 0, 0);
    let mut extended = extended.encode(false, false);
    extended[4] = 2;
    extended.extend([0, 5, 0x01, 0, 1, 2, 3, 4]);
    for (bytes, reason) in [
        (snack.encode(false, false), 0x03),
        (unknown.encode(false, false), 0x05),
        (logout.encode(false, false), 0x09),
        (text.encode(false, false), 0x09),
        (extended, 0x09),
    ] {
        pair.send_bytes(&bytes);
        let reject = pair.receive();
        assert_eq!((reject.opcode(), reject.bhs[2]), (0x3f, reason));
        assert_eq!(reject.data[..4], bytes[..4]);
    }
    pair.expect_alive();
    let login = pair.login(0x87);
    pair.send(&login);
    assert!(pair.connection.is_closed(), "a login where there is one");
}

#[test]
fn a_pdu_longer_than_agreed_ends_the_connection_at_once() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let mut header = Pdu::new(0x00, 0x80, 1).encode(false, false);
    header[5..8].copy_from_slice(&[0x04, 0x00, 0x01]);
    pair.send_bytes(&header);
    assert!(pair.connection.is_closed());
    assert_eq!(pair.untaken(), 0);
}

#[test]
fn digests_both_ways() {
    let target = open_target();
    let keys = ["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=No"];
    let mut pair = Pair::logged_in_with(&[&target], &keys);
    assert!(pair.header_digest && pair.data_digest);
    let command = pair.scsi(&write10(0, 3), WRITE, 1536).with_data(vec![3; 1536]);
    pair.send(&command);
    assert_eq!(pair.receive().bhs[3], 0);
    let data = pair.command(&read10(0, 3), READ, 1536);
    assert_eq!(data.data, [3; 1536]);
    let ping = Pdu::new(0x40, 0x80, 5).with(20, NO_TAG).with(24, pair.cmd_sn).with_data(b"odd".to_vec());
    pair.send(&ping);
    assert_eq!(pair.receive().data, b"odd");
}

#[test]
fn a_digest_that_is_wrong() {
    let target = open_target();
    let keys = ["HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=Yes", "ImmediateData=No"];
    let mut pair = Pair::logged_in_with(&[&target], &keys);
    let command = pair.scsi(&write10(0, 1), WRITE, 512);
    pair.send(&command);
    let ttt = pair.receive().word(20);
    let data = Pdu::new(0x05, 0x80, command.itt()).with(20, ttt).with_data(vec![1; 512]);
    let mut bytes = data.encode(true, true);
    bytes[100] ^= 1;
    pair.send_bytes(&bytes);
    let reject = pair.receive();
    assert_eq!((reject.opcode(), reject.bhs[2]), (0x3f, 0x02));
    assert_eq!(pair.receive().sense(), (0x0b, 0x47, 0x05), "and the command fails");
    pair.expect_alive();

    let mut header = Pdu::new(0x40, 0x80, 5).with(20, NO_TAG).encode(true, true);
    header[20] ^= 1;
    pair.send_bytes(&header);
    pair.expect_silence();
    assert!(pair.connection.is_closed(), "a header can't be believed at all");
}

pub(crate) fn text(pair: &Pair, itt: u32, ttt: u32, pairs: &[&str]) -> Pdu {
    Pdu::new(0x44, 0x80, itt).with(20, ttt).with(24, pair.cmd_sn).with_text(pairs)
}

#[test]
fn text_in_a_normal_session() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let request = text(&pair, 7, NO_TAG, &["SendTargets=", "X-a=b", "MaxBurstLength=512"]);
    pair.send(&request);
    assert_eq!(
        pair.receive().text(),
        [
            &format!("TargetName={TARGET}"),
            "TargetAddress=10.0.0.1:3260,1",
            "X-a=NotUnderstood",
            "MaxBurstLength=Reject"
        ]
    );
    // Cut in two, in the middle of a key.
    let mut first = text(&pair, 8, NO_TAG, &[]).with_data(b"SendTar".to_vec());
    first.bhs[1] = 0x40;
    pair.send(&first);
    let response = pair.receive();
    assert_eq!((response.flags(), response.data.len()), (0, 0));
    let second = text(&pair, 8, response.word(20), &["gets="]);
    pair.send(&second);
    assert_eq!(pair.receive().text().len(), 2);
    for (value, expected) in [("All", &["SendTargets=Reject"][..]), ("iqn.2026-01.lab:other", &[])] {
        let request = text(&pair, 8, NO_TAG, &[&format!("SendTargets={value}")]);
        pair.send(&request);
        assert_eq!(pair.receive().text(), expected, "one's own target, and no other");
    }
    let request = text(&pair, 9, NO_TAG, &["no pair"]);
    pair.send(&request);
    assert_eq!((pair.receive().opcode()), 0x3f);
    pair.expect_alive();
}

#[test]
fn early_data_waits_once() {
    let target = open_target();
    let mut pair = Pair::logged_in(&[&target]);
    let missing = pair.scsi(&[0], 0, 0);
    for _ in 0..3 {
        // The same tag again and again, and data for it.
        pair.next_itt = 40;
        let command = pair.scsi(&write10(0xffff_0000, 1), WRITE, 512);
        pair.send(&command);
        pair.send(&Pdu::new(0x05, 0x80, command.itt()).with(20, NO_TAG).with_data(vec![1; 512]));
    }
    pair.send(&missing);
    assert!(pair.receive_all().len() >= 4, "each command is answered");
    pair.expect_alive();
}
