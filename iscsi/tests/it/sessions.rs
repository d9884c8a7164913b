//! What sessions have to do with each other.

use iscsi::{EndReason, Event, InitiatorPort};

use crate::pair::{INITIATOR, Pair, WRITE, open_target, write10};

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
