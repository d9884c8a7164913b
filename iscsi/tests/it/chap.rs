//! Authentication, one way and both.

use iscsi::{Credentials, Event, Limits};
use md5::Digest;

use crate::pair::{INITIATOR, Pair, TARGET, account, target_named};
use crate::wire::Pdu;

const SECRET: &str = "abcdefghijkl1234";
const OTHER_SECRET: &str = "zyxwvutsrqpo9876";

fn target() -> std::sync::Arc<iscsi::Target> {
    target_named(
        TARGET,
        Credentials {
            initiator: Some(INITIATOR.into()),
            chap: Some(account("joe", SECRET)),
            mutual: Some(account("disk", OTHER_SECRET)),
        },
    )
}

pub(crate) fn response(algorithm: u32, identifier: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    fn hash<D: Digest>(message: &[u8]) -> Vec<u8> {
        D::digest(message).to_vec()
    }
    let message = [&[identifier], secret.as_bytes(), challenge].concat();
    match algorithm {
        5 => hash::<md5::Md5>(&message),
        6 => hash::<sha1::Sha1>(&message),
        7 => hash::<sha2::Sha256>(&message),
        8 => hash::<sha3::Sha3_256>(&message),
        _ => panic!("no such algorithm"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02X}"))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes.chunks(3).fold("0b".to_owned(), |mut text, chunk| {
        let bits = chunk.iter().chain(&[0; 3]).take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { digit as char } else { '=' });
        }
        text
    })
}

/// A login up to the challenge.
struct Challenged {
    pair: Pair,
    identifier: u8,
    challenge: Vec<u8>,
}

fn challenged(offer: &str) -> Challenged {
    challenged_with(offer, [7; 32])
}

fn challenged_with(offer: &str, entropy: [u8; 32]) -> Challenged {
    let mut pair = Pair::with_entropy(&[&target()], Limits::default(), entropy);
    let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP,None"]);
    pair.send(&request);
    let reply = pair.receive();
    assert_eq!((reply.login_status(), reply.flags()), (0, 0x00), "T must wait");
    assert_eq!(reply.text(), ["TargetPortalGroupTag=1", "AuthMethod=CHAP"]);
    let request = pair.login(0x81).with_text(&[&format!("CHAP_A={offer}")]);
    pair.send(&request);
    let reply = pair.receive();
    assert_eq!((reply.login_status(), reply.flags()), (0, 0x00));
    let identifier = reply.value("CHAP_I").unwrap().parse().unwrap();
    let challenge = unhex(&reply.value("CHAP_C").unwrap());
    Challenged { pair, identifier, challenge }
}

fn answer(pair: &mut Pair, pairs: &[&str]) -> Pdu {
    let request = pair.login(0x81).with_text(pairs);
    pair.send(&request);
    pair.receive()
}

fn assert_refused(mut pair: Pair, pairs: &[&str]) {
    let reply = answer(&mut pair, pairs);
    assert_eq!(reply.login_status(), 0x0201, "{pairs:?}");
    assert_eq!(reply.data, b"", "a refusal proves nothing and says nothing");
    assert!(pair.connection.is_closed());
    assert!(matches!(pair.events[..], [Event::LoginRefused { .. }]));
    assert!(pair.connection.target().is_none());
}

#[test]
fn who_knows_the_secret_gets_in() {
    for (offer, algorithm, len) in [("5", 5, 16), ("6,5", 6, 20), ("9,7", 7, 32), ("8,5", 8, 32)] {
        let Challenged { mut pair, identifier, challenge } = challenged(offer);
        assert_eq!(challenge.len(), len);
        let response = response(algorithm, identifier, SECRET, &challenge);
        let reply = answer(&mut pair, &["CHAP_N=joe", &format!("CHAP_R={}", hex(&response))]);
        assert_eq!((reply.login_status(), reply.flags(), reply.data.len()), (0, 0x81, 0));
        let request = pair.login(0x87);
        pair.send(&request);
        assert_eq!(pair.receive().flags(), 0x87);
        assert!(matches!(pair.events[..], [Event::LoggedIn { authenticated: true, .. }]));
        pair.clear_attention();
    }
}

#[test]
fn who_does_not_stays_out() {
    let right =
        |challenged: &Challenged| hex(&response(5, challenged.identifier, SECRET, &challenged.challenge));
    let it = challenged("5");
    let wrong = format!("CHAP_R={}", hex(&response(5, it.identifier, "abcdefghijkl1235", &it.challenge)));
    assert_refused(it.pair, &["CHAP_N=joe", &wrong]);
    let it = challenged("5");
    let response = format!("CHAP_R={}", right(&it));
    assert_refused(it.pair, &["CHAP_N=jim", &response]);
    let it = challenged("5");
    let response = format!("CHAP_R={}00", right(&it));
    assert_refused(it.pair, &["CHAP_N=joe", &response]);
    let it = challenged("5");
    let response = format!("CHAP_R={}", right(&it));
    assert_refused(it.pair, &[&response]);
    assert_refused(challenged("5").pair, &["CHAP_N=joe"]);
    assert_refused(challenged("5").pair, &["CHAP_N=joe", "CHAP_R="]);
    assert_refused(challenged("5").pair, &["CHAP_N=joe", "CHAP_R=0x"]);
    assert_refused(challenged("5").pair, &[]);
}

#[test]
fn the_stage_can_not_be_left_out() {
    let mut pair = Pair::new(&[&target()]);
    let reply = pair.request_login(&[]);
    assert_eq!(reply.login_status(), 0x0201);

    let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    for (flags, method) in
        [(0x81, "AuthMethod=None"), (0x83, "AuthMethod=None"), (0x81, "X-a=b"), (0x83, "X-a=b")]
    {
        let mut pair = Pair::new(&[&target()]);
        let request = pair.login(flags).with_text(&[&names[0], &names[1], method]);
        pair.send(&request);
        assert_eq!(pair.receive().login_status(), 0x0201, "{method}");
        assert!(pair.connection.is_closed());
    }
    // Chosen, and then not done.
    for flags in [0x81, 0x83] {
        let mut pair = Pair::new(&[&target()]);
        let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP"]);
        pair.send(&request);
        pair.receive();
        let request = pair.login(flags);
        pair.send(&request);
        assert_eq!(pair.receive().flags() & 0x80, 0, "stays where it is");
        assert!(!pair.connection.is_logged_in());
    }
    assert_eq!(answer(&mut challenged("5").pair, &["CHAP_A=5"]).login_status(), 0x0200, "asked twice");
}

#[test]
fn an_unknown_algorithm_ends_it() {
    let mut pair = Pair::new(&[&target()]);
    let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP"]);
    pair.send(&request);
    pair.receive();
    assert_refused(pair, &["CHAP_A=1,9,x"]);
}

#[test]
fn the_target_proves_itself_where_that_is_wanted() {
    for algorithm in 5..=8 {
        let Challenged { mut pair, identifier, challenge } = challenged(&algorithm.to_string());
        let ours = vec![0x5a; 24];
        let reply = answer(
            &mut pair,
            &[
                "CHAP_N=joe",
                &format!("CHAP_R={}", base64(&response(algorithm, identifier, SECRET, &challenge))),
                "CHAP_I=0x21",
                &format!("CHAP_C={}", base64(&ours)),
            ],
        );
        assert_eq!((reply.login_status(), reply.flags()), (0, 0x81));
        assert_eq!(reply.value("CHAP_N").as_deref(), Some("disk"));
        let proof = unhex(&reply.value("CHAP_R").unwrap());
        assert_eq!(proof, response(algorithm, 0x21, OTHER_SECRET, &ours), "algorithm {algorithm}");
    }
}

#[test]
fn an_answer_holds_for_one_challenge_one_identifier_and_one_connection() {
    for algorithm in 5..=8 {
        let offer = algorithm.to_string();
        let heard = challenged(&offer);
        let right = response(algorithm, heard.identifier, SECRET, &heard.challenge);
        let replayed = format!("CHAP_R={}", hex(&right));
        let again = challenged_with(&offer, [8; 32]);
        assert_ne!((again.identifier, &again.challenge), (heard.identifier, &heard.challenge));
        assert_refused(again.pair, &["CHAP_N=joe", &replayed]);

        let it = challenged(&offer);
        let other = response(algorithm, it.identifier.wrapping_add(1), SECRET, &it.challenge);
        assert_refused(it.pair, &["CHAP_N=joe", &format!("CHAP_R={}", hex(&other))]);
        // The answer that the target would give, which whoever does not know the initiator's secret may have got.
        let it = challenged(&offer);
        let reflected = response(algorithm, it.identifier, OTHER_SECRET, &it.challenge);
        assert_refused(it.pair, &["CHAP_N=disk", &format!("CHAP_R={}", hex(&reflected))]);
    }
}

#[test]
fn nothing_is_proved_to_whoever_has_not_proved_itself() {
    for algorithm in 5..=8 {
        let it = challenged(&algorithm.to_string());
        let wrong = response(algorithm, it.identifier, "abcdefghijkl1235", &it.challenge);
        let wrong = format!("CHAP_R={}", hex(&wrong));
        assert_refused(it.pair, &["CHAP_N=joe", &wrong, "CHAP_I=1", "CHAP_C=0x01020304"]);
    }
}

#[test]
fn proof_is_not_given_to_whoever_asks() {
    let mutual = |it: &Challenged, identifier: &str, challenge: &str| {
        [
            "CHAP_N=joe".to_owned(),
            format!("CHAP_R={}", hex(&response(5, it.identifier, SECRET, &it.challenge))),
            format!("CHAP_I={identifier}"),
            format!("CHAP_C={challenge}"),
        ]
    };
    let try_with = |identifier: &str, challenge: &dyn Fn(&Challenged) -> String| {
        let it = challenged("5");
        let pairs = mutual(&it, identifier, &challenge(&it));
        assert_refused(it.pair, &pairs.each_ref().map(String::as_str));
    };
    try_with("1", &|it| hex(&it.challenge));
    try_with("1", &|it| base64(&it.challenge));
    try_with("1", &|_| "0x".into());
    try_with("1", &|_| hex(&[1; 1025]));
    try_with("256", &|_| hex(&[1; 16]));
    try_with("x", &|_| hex(&[1; 16]));

    let it = challenged("5");
    let pairs = mutual(&it, "1", "0x01");
    assert_refused(it.pair, &pairs.each_ref().map(String::as_str)[..3]);
}

#[test]
fn both_directions_need_different_secrets_and_an_account() {
    for mutual in [None, Some(account("disk", SECRET))] {
        let target =
            target_named(TARGET, Credentials { initiator: None, chap: Some(account("joe", SECRET)), mutual });
        let mut pair = Pair::new(&[&target]);
        let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
        let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP"]);
        pair.send(&request);
        pair.receive();
        let reply = answer(&mut pair, &["CHAP_A=5"]);
        let challenge = unhex(&reply.value("CHAP_C").unwrap());
        let response = response(5, reply.value("CHAP_I").unwrap().parse().unwrap(), SECRET, &challenge);
        let response = format!("CHAP_R={}", hex(&response));
        assert_refused(pair, &["CHAP_N=joe", &response, "CHAP_I=1", "CHAP_C=0x0102"]);
    }
}

#[test]
fn an_initiator_that_insists_is_refused_where_there_is_no_account() {
    let target = target_named(TARGET, Credentials::default());
    let names = [format!("InitiatorName={INITIATOR}"), format!("TargetName={TARGET}")];
    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP"]);
    pair.send(&request);
    assert_eq!(pair.receive().login_status(), 0x0201);
    let mut pair = Pair::new(&[&target]);
    let request = pair.login(0x81).with_text(&[&names[0], &names[1], "AuthMethod=CHAP,None"]);
    pair.send(&request);
    let reply = pair.receive();
    assert_eq!((reply.flags(), reply.value("AuthMethod").as_deref()), (0x81, Some("None")));
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", target().credentials());
    assert!(text.contains("joe") && !text.contains(SECRET) && !text.contains(OTHER_SECRET), "{text}");
}
