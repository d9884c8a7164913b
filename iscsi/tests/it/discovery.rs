//! Discovery: who is shown which targets.

use std::sync::Arc;

use iscsi::{Credentials, Event, Target};

use crate::chap::{hex, response, unhex};
use crate::pair::{INITIATOR, Pair, account, target_named};
use crate::session::text;
use crate::wire::{NO_TAG, Pdu};

fn discovery(targets: &[&Arc<Target>]) -> Pair {
    let mut pair = Pair::new(targets);
    let request =
        pair.login(0x87).with_text(&[&format!("InitiatorName={INITIATOR}"), "SessionType=Discovery"]);
    pair.send(&request);
    let response = pair.receive();
    assert_eq!((response.login_status(), response.flags()), (0, 0x87));
    assert_eq!(response.value("TargetPortalGroupTag"), None);
    pair
}

#[test]
fn discovery_shows_what_the_initiator_may_see() {
    let only = |initiator: &str| Credentials { initiator: Some(initiator.into()), ..Credentials::default() };
    let mine = target_named("iqn.2026-01.lab:mine", only(INITIATOR));
    let others = target_named("iqn.2026-01.lab:others", only("iqn.2026-01.lab:someone"));
    let mut pair = discovery(&[&mine, &others]);
    let all = ["TargetName=iqn.2026-01.lab:mine", "TargetAddress=10.0.0.1:3260,1"];
    for (value, expected) in [
        ("All", &all[..]),
        ("iqn.2026-01.lab:MINE", &all[..]),
        ("iqn.2026-01.lab:others", &[]),
        ("iqn.2026-01.lab:nothing", &[]),
        ("Alle", &["SendTargets=Reject"]),
        ("", &["SendTargets=Reject"]),
    ] {
        let request = text(&pair, 7, NO_TAG, &[&format!("SendTargets={value}")]);
        pair.send(&request);
        let response = pair.receive();
        assert_eq!((response.opcode(), response.flags(), response.word(20)), (0x24, 0x80, NO_TAG));
        assert_eq!(response.text(), expected, "{value}");
    }
    let command = pair.scsi(&[0], 0, 0);
    pair.send(&command);
    assert_eq!(pair.receive().bhs[2], 0x04, "no commands in a discovery session");
    let data = Pdu::new(0x05, 0x80, 1).with_data(vec![0; 4]);
    pair.send(&data);
    assert_eq!(pair.receive().bhs[2], 0x04);
}

#[test]
fn a_long_list_comes_in_parts() {
    let targets: Vec<_> =
        (0..300).map(|n| target_named(&format!("iqn.2026-01.lab:{n:03}"), Credentials::default())).collect();
    let mut pair = discovery(&targets.iter().collect::<Vec<_>>());
    let mut request = text(&pair, 7, NO_TAG, &["SendTargets=All"]);
    let mut list = Vec::new();
    loop {
        pair.send(&request);
        let response = pair.receive();
        assert!(response.data.len() <= 8192);
        list.extend(response.data.clone());
        if response.flags() == 0x80 {
            break;
        }
        assert_eq!(response.flags(), 0x40, "text that goes on");
        request = text(&pair, 7, response.word(20), &[]);
    }
    let list = Pdu::new(0, 0, 0).with_data(list);
    assert_eq!(list.text().len(), 600);
    let stale = text(&pair, 7, request.word(20), &[]);
    pair.send(&stale);
    assert_eq!(pair.receive().bhs[2], 0x09, "that exchange is over");
}

const SECRET: &str = "abcdefghijkl1234";

fn guarded(name: &str, initiator: &str, user: &str) -> Arc<Target> {
    let chap = Some(account(user, SECRET));
    target_named(name, Credentials { initiator: Some(initiator.into()), chap, mutual: None })
}

/// A discovery login up to where CHAP, or no proof, has been chosen.
fn security(targets: &[&Arc<Target>], initiator: &str, offer: &str) -> (Pair, Pdu) {
    let mut pair = Pair::new(targets);
    let names = [format!("InitiatorName={initiator}"), "SessionType=Discovery".into(), offer.to_owned()];
    let request = pair.login(0x81).with_text(&names.each_ref().map(String::as_str));
    pair.send(&request);
    let reply = pair.receive();
    (pair, reply)
}

/// Answers the challenge with that account; the login's status.
fn prove(pair: &mut Pair, user: &str, secret: &str) -> u16 {
    let request = pair.login(0x81).with_text(&["CHAP_A=7,5"]);
    pair.send(&request);
    let reply = pair.receive();
    let identifier = reply.value("CHAP_I").unwrap().parse().unwrap();
    let proof = response(7, identifier, secret, &unhex(&reply.value("CHAP_C").unwrap()));
    let request =
        pair.login(0x81).with_text(&[&format!("CHAP_N={user}"), &format!("CHAP_R={}", hex(&proof))]);
    pair.send(&request);
    let status = pair.receive().login_status();
    if status == 0 {
        let request = pair.login(0x87);
        pair.send(&request);
        assert_eq!(pair.receive().flags(), 0x87);
    }
    status
}

fn all(pair: &mut Pair) -> Vec<String> {
    let request = text(pair, 7, NO_TAG, &["SendTargets=All"]);
    pair.send(&request);
    pair.receive()
        .text()
        .into_iter()
        .filter_map(|it| Some(it.strip_prefix("TargetName=")?.to_owned()))
        .collect()
}

#[test]
fn a_target_with_chap_is_shown_to_whoever_has_proved_to_be_its_initiator() {
    let mine = guarded("iqn.2026-01.lab:mine", INITIATOR, "joe");
    let old = guarded("iqn.2026-01.lab:of-another-account", INITIATOR, "jim");
    let others = guarded("iqn.2026-01.lab:others", "iqn.2026-01.lab:someone", "joe");
    let open = target_named("iqn.2026-01.lab:open", Credentials::default());
    for offer in ["AuthMethod=CHAP", "AuthMethod=CHAP,None", "AuthMethod=None,CHAP"] {
        let (mut pair, reply) = security(&[&mine, &old, &others, &open], INITIATOR, offer);
        assert_eq!(reply.value("AuthMethod").as_deref(), Some("CHAP"), "{offer}");
        assert_eq!(prove(&mut pair, "joe", SECRET), 0);
        assert_eq!(all(&mut pair), ["iqn.2026-01.lab:mine", "iqn.2026-01.lab:open"]);
        assert!(matches!(pair.events[..], [Event::LoggedIn { authenticated: true, target: None, .. }]));
    }
    for (user, secret) in [("joe", "abcdefghijkl1235"), ("jim", SECRET)] {
        let (mut pair, _) = security(&[&mine, &old, &others, &open], INITIATOR, "AuthMethod=CHAP");
        assert_eq!(prove(&mut pair, user, secret), 0x0201);
        assert!(pair.connection.is_closed());
    }
}

#[test]
fn a_name_alone_shows_only_what_is_open() {
    let mine = guarded("iqn.2026-01.lab:mine", INITIATOR, "joe");
    let open = target_named("iqn.2026-01.lab:open", Credentials::default());
    let (mut pair, reply) = security(&[&mine, &open], INITIATOR, "AuthMethod=None");
    assert_eq!(reply.value("AuthMethod").as_deref(), Some("None"));
    let request = pair.login(0x87);
    pair.send(&request);
    assert_eq!(pair.receive().flags(), 0x87);
    assert_eq!(all(&mut pair), ["iqn.2026-01.lab:open"]);
    let mut pair = discovery(&[&mine, &open]);
    assert_eq!(all(&mut pair), ["iqn.2026-01.lab:open"], "nor without the stage");
    let request = text(&pair, 7, NO_TAG, &["SendTargets=iqn.2026-01.lab:mine"]);
    pair.send(&request);
    assert_eq!(pair.receive().data, b"");
}

#[test]
fn a_stranger_that_insists_on_proof_can_give_none() {
    let mine = guarded("iqn.2026-01.lab:mine", INITIATOR, "joe");
    let stranger = "iqn.2026-01.lab:stranger";
    let (pair, reply) = security(&[&mine], stranger, "AuthMethod=CHAP");
    assert_eq!(reply.login_status(), 0x0201);
    assert!(pair.connection.is_closed());
    let (_, reply) = security(&[&mine], stranger, "AuthMethod=CHAP,None");
    assert_eq!(reply.value("AuthMethod").as_deref(), Some("None"), "and is shown nothing");
}
