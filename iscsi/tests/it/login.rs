//! The login phase, apart from authentication.

use std::time::Duration;

use iscsi::{Credentials, EndReason, Event, LoginStatus};

use crate::pair::{INITIATOR, Pair, TARGET, open_target, target_named};
use crate::wire::Pdu;

fn refused(pair: &mut Pair, request: &Pdu) -> u16 {
    pair.send(request);
    let response = pair.receive();
    assert_eq!(response.flags() & 0x80, 0, "no transition");
    assert!(pair.connection.is_closed());
    assert!(pair.events.iter().any(|event| matches!(event, Event::LoginRefused { .. })));
    response.login_status()
}

fn names() -> [String; 2] {
    [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")]
}

#[test]
fn straight_to_the_operational_stage() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    let response = pair.request_login(&["MaxBurstLength=16776192"]);
    assert_eq!((response.login_status(), response.flags()), (0, 0x87));
    assert_eq!(
        response.text(),
        ["TargetPortalGroupTag=1", "MaxBurstLength=1048576", "MaxRecvDataSegmentLength=262144"]
    );
    assert_ne!(response.word(12) & 0xffff, 0, "a session handle");
    assert_eq!(response.word(28), 0x1000, "the login's CmdSN is the first command's");
    assert_eq!(response.word(32), 0x1000 + 127);
    let expected = Event::LoggedIn {
        initiator: INITIATOR.into(),
        target: Some(TARGET.into()),
        isid: pair.isid,
        authenticated: false,
    };
    assert_eq!(pair.events, [expected]);
}

#[test]
fn every_refusal_has_its_status() {
    let target = open_target();
    let mine = target_named(
        "iqn.2026-01.lab:mine",
        Credentials { initiator: Some("iqn.2026-01.lab:me".into()), ..Credentials::default() },
    );
    let [initiator, name] = names();
    let cases: [(&[&str], u16); 11] = [
        (&[&name], 0x0207),
        (&["InitiatorName=", &name], 0x0207),
        (&[&initiator], 0x0207),
        (&["InitiatorName=iqn.x\nroot logged in", &name], 0x0200),
        (&[&format!("InitiatorName=iqn.{}", "x".repeat(220)), &name], 0x0200),
        (&[&initiator, "TargetName=iqn.2026-01.lab:nothing"], 0x0203),
        (&[&initiator, "TargetName=iqn.\u{1b}[2J"], 0x0203),
        (&[&initiator, "TargetName=iqn.2026-01.lab:mine"], 0x0202),
        (&[&initiator, &name, "SessionType=Strange"], 0x0209),
        (&[&initiator, &name, "no pair at all"], 0x0200),
        (&[&initiator, &name, "MaxBurstLength=512", "MaxBurstLength=1024"], 0x0200),
    ];
    for (text, status) in cases {
        let mut pair = Pair::new(&[&target, &mine]);
        let request = pair.login(0x87).with_text(text);
        assert_eq!(refused(&mut pair, &request), status, "{text:?}");
    }
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let target = open_target();
    let [initiator, name] = names();
    let with = |flags: u8| {
        let pair = Pair::new(&[&target]);
        let request = pair.login(flags).with_text(&[&initiator, &name]);
        (pair, request)
    };
    // Stage 2 does not exist; the full feature phase is no stage to log in from; a stage can't end before it began,
    // nor in text that goes on.
    for flags in [0x88, 0x8c, 0x86, 0x84, 0x80, 0xc7] {
        let (mut pair, request) = with(flags);
        assert_eq!(refused(&mut pair, &request), 0x0200, "flags {flags:02x}");
    }
    let (mut pair, mut request) = with(0x87);
    request.bhs[3] = 1;
    assert_eq!(refused(&mut pair, &request), 0x0205, "a later version");
}

#[test]
fn a_connection_can_not_be_added_to_a_session() {
    let target = open_target();
    let mut first = Pair::logged_in(&[&target]);
    let tsih = target.sessions()[0].tsih;
    for (isid, tsih, status) in
        [(first.isid, tsih, 0x0206), (first.isid, tsih + 1, 0x020a), ([0x80; 6], tsih, 0x020a)]
    {
        let mut pair = Pair::new(&[&target]);
        pair.isid = isid;
        let [initiator, name] = names();
        let request = pair.login(0x87).with_bytes(14, &tsih.to_be_bytes()).with_text(&[&initiator, &name]);
        assert_eq!(refused(&mut pair, &request), status);
    }
    first.expect_alive();
}

#[test]
fn text_may_be_cut_anywhere() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    let [initiator, name] = names();
    let text = Pdu::new(0, 0, 0).with_text(&[&initiator, &name, "MaxBurstLength=4096"]).data;
    for part in text[..text.len() - 7].chunks(10) {
        let request = pair.login(0x44).with_data(part);
        pair.send(&request);
        let response = pair.receive();
        assert_eq!((response.login_status(), response.flags(), response.data.len()), (0, 0x04, 0));
        if pair.connection.is_closed() {
            panic!("closed");
        }
        // Only so many requests are allowed, so the parts must be few.
        if part.len() < 10 {
            break;
        }
    }
    let request = pair.login(0x87).with_data(&text[text.len() - 7..]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!(response.value("MaxBurstLength").as_deref(), Some("4096"));
    assert_eq!(response.flags(), 0x87);
}

#[test]
fn text_and_requests_are_bounded() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x44).with_data(vec![b'x'; 8192]);
    for _ in 0..8 {
        pair.send(&request);
        assert_eq!(pair.receive().login_status(), 0);
    }
    assert_eq!(refused(&mut pair, &request), 0x0200, "more than 64 KiB of text");

    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x44).with_data(vec![b'x'; 8193]);
    pair.send(&request);
    pair.expect_silence();
    assert!(pair.connection.is_closed(), "longer than anything before an agreement");

    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x44);
    for _ in 0..32 {
        pair.send(&request);
        assert_eq!(pair.receive().login_status(), 0);
    }
    assert_eq!(refused(&mut pair, &request), 0x0200, "requests without an end");
}

#[test]
fn what_names_a_login_stays() {
    let target = open_target();
    let [initiator, name] = names();
    for (at, byte) in [(8, 0x80), (15, 1), (19, 9), (21, 1)] {
        let mut pair = Pair::new(&[&target]);
        let request = pair.login(0x04).with_text(&[&initiator, &name]);
        pair.send(&request);
        assert_eq!(pair.receive().login_status(), 0);
        let changed = pair.login(0x87).with_bytes(at, &[byte]);
        assert_eq!(refused(&mut pair, &changed), 0x0200, "byte {at}");
    }
}

#[test]
fn stages_follow_each_other() {
    let target = open_target();
    let [initiator, name] = names();
    let mut pair = Pair::new(&[&target]);
    let request =
        pair.login(0x81).with_text(&[&initiator, &name, "AuthMethod=None", "MaxBurstLength=512", "X-y=z"]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!(response.flags(), 0x81);
    assert_eq!(
        response.text(),
        ["TargetPortalGroupTag=1", "AuthMethod=None", "MaxBurstLength=Reject", "X-y=NotUnderstood"],
        "operational keys have their own stage"
    );
    let back = pair.login(0x81);
    assert_eq!(refused(&mut pair, &back), 0x0200, "there is no way back");

    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x83).with_text(&[&initiator, &name]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!(
        (response.flags(), response.login_status()),
        (0x83, 0),
        "from security to full feature at once"
    );
    pair.clear_attention();
}

#[test]
fn an_initiator_may_take_several_requests_for_a_stage() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    let [initiator, name] = names();
    let request = pair.login(0x04).with_text(&[&initiator, &name, "ImmediateData=No"]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!(response.flags(), 0x04);
    assert_eq!(response.value("MaxRecvDataSegmentLength").as_deref(), Some("262144"));
    let request = pair.login(0x87).with_text(&["InitialR2T=Yes"]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!((response.flags(), response.text()), (0x87, vec!["InitialR2T=Yes".to_owned()]));
}

#[test]
fn before_the_login_nothing_else_is_answered() {
    let target = open_target();
    for opcode in [0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x10, 0x3f] {
        let mut pair = Pair::new(&[&target]);
        pair.send(&Pdu::new(0x40 | opcode, 0x80, 1));
        pair.expect_silence();
        assert!(pair.connection.is_closed());
        assert!(matches!(pair.events[..], [Event::Ended { why: EndReason::ProtocolError(_) }]));
    }
}

#[test]
fn a_login_must_come_in_time() {
    let target = open_target();
    let mut pair = Pair::new(&[&target]);
    assert_eq!(pair.connection.poll_timeout(), Some(pair.now + Duration::from_secs(15)));
    pair.advance(Duration::from_secs(14));
    assert!(!pair.connection.is_closed());
    pair.advance(Duration::from_secs(1));
    assert!(pair.connection.is_closed());
    assert_eq!(pair.events, [Event::Ended { why: EndReason::LoginTimeout }]);
}

#[test]
fn a_target_can_be_removed_before_a_login_is_complete() {
    let target = open_target();
    target.remove();
    let mut pair = Pair::new(&[&target]);
    let response = pair.request_login(&[]);
    assert_eq!(response.login_status(), LoginStatus::TargetRemoved.code());
    assert!(pair.connection.is_closed());
}

#[test]
fn names_are_compared_in_lower_case() {
    let target =
        target_named(TARGET, Credentials { initiator: Some(INITIATOR.into()), ..Credentials::default() });
    let mut pair = Pair::new(&[&target]);
    let [initiator, name] = [
        format!("InitiatorName={}", INITIATOR.to_uppercase()),
        format!("TargetName={}", TARGET.to_uppercase()),
    ];
    let request = pair.login(0x87).with_text(&[&initiator, &name]);
    pair.send(&request);
    assert_eq!(pair.receive().login_status(), 0);
}
