//! Logins: any text in any stages. Nobody gets in without the secret.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::{Buf, BytesMut};
use iscsi::{Connection, Event, Limits, LunOptions, MAX_LOGIN_REQUESTS};
use md5::Digest;

use super::targets::{GUARDED, INITIATOR, OPEN, SECRET, Targets, USER};
use super::wire::{Digests, Pdu};

const NOW: Duration = Duration::from_secs(1000);

/// Pairs that take a login further, and some that don't.
const PAIRS: [&str; 20] = [
    "AuthMethod=CHAP",
    "AuthMethod=CHAP,None",
    "AuthMethod=None",
    "CHAP_A=5",
    "CHAP_A=9,7,5",
    "SessionType=Discovery",
    "SessionType=Normal",
    "HeaderDigest=CRC32C,None",
    "DataDigest=None",
    "InitialR2T=No",
    "MaxBurstLength=16776192",
    "FirstBurstLength=262144",
    "MaxRecvDataSegmentLength=262144",
    "MaxOutstandingR2T=0x10",
    "ErrorRecoveryLevel=2",
    "DefaultTime2Wait=0",
    "IFMarkInt=2048~8192",
    "X-org.example.a=0bAAAA",
    "CHAP_I=0x21",
    "CHAP_C=0b/////////w==",
];

/// A challenge that was heard.
#[derive(Debug, Default)]
struct Challenge {
    identifier: Option<u8>,
    bytes: Vec<u8>,
}

/// Each request of the input is its stage, flags and text.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let limits = Limits { max_text: 2048, ..Limits::default() };
    let targets = Arc::new(Targets::new(LunOptions::default()));
    let portal = ([10, 0, 0, 1], 3260).into();
    let mut connection = Connection::new(targets, portal, limits, [7; 32], Arc::new(|| ()), NOW);
    let guarded: bool = input.arbitrary()?;
    let mut challenge = Challenge::default();
    let mut knew = false;
    let mut is_first = true;
    let mut answers = 0;
    let mut to_target = BytesMut::new();
    let mut to_initiator = BytesMut::new();
    while !input.is_empty() && connection.wants_input() && !connection.is_logged_in() {
        let flags = match input.int_in_range(0..=7_u8)? {
            0 => input.arbitrary()?,
            1 | 2 => 0x87,
            3 | 4 => 0x81,
            5 => 0x00,
            6 => 0x40,
            _ => 0x04,
        };
        let (text, proves) = text(input, guarded, is_first, &challenge)?;
        knew |= proves;
        is_first = false;
        let mut pdu =
            Pdu::new(0x43, flags, 1).with_bytes(8, &[0x40, 0, 0, 0, 0, 1]).with(24, 1).with_data(text);
        if input.ratio(1, 32)? {
            // One byte of the header is another.
            let at = input.int_in_range(0..=47_usize)?;
            pdu.bhs[at] = input.arbitrary()?;
        }
        pdu.encode(Digests::default(), &mut to_target);
        connection.handle_input(&mut to_target, NOW);
        let output = connection.poll_transmit(4096);
        let len = output.remaining();
        to_initiator.extend_from_slice(&output.copy_to_bytes(len));
        while let Some(answer) = Pdu::decode(&mut to_initiator, Digests::default()) {
            answers += 1;
            hear(&answer, &mut challenge);
        }
        assert!(to_initiator.is_empty(), "output that ends within a PDU");
    }
    assert!(answers <= MAX_LOGIN_REQUESTS + 1, "a login of {answers} requests");
    let mut events = std::iter::from_fn(|| connection.poll_event());
    if let Some(Event::LoggedIn { target, authenticated, .. }) = events.next() {
        assert!(!authenticated || knew, "authenticated without the secret");
        assert!(target.as_deref() != Some(GUARDED) || knew, "logged in without the secret");
    }
    assert!(connection.poll_io().is_none(), "a login that touches the disk");
    Ok(())
}

fn text(
    input: &mut Unstructured<'_>,
    guarded: bool,
    is_first: bool,
    challenge: &Challenge,
) -> Result<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    let mut proves = false;
    if is_first && !input.ratio(1, 16)? {
        let target = if guarded { GUARDED } else { OPEN };
        text.extend(format!("InitiatorName={INITIATOR}\0TargetName={target}\0").bytes());
    }
    for _ in 0..input.int_in_range(0..=6)? {
        match input.int_in_range(0..=7_u8)? {
            0 => {
                let len = input.int_in_range(0..=40)?.min(input.len());
                text.extend(input.bytes(len)?);
            }
            1 if challenge.identifier.is_some() => {
                text.extend(format!("CHAP_N={USER}\0CHAP_R={}\0", response(challenge)).bytes());
                proves = true;
            }
            2 => {
                // A key of ours with another value, of any length.
                let key = input.choose(&PAIRS)?.split('=').next().unwrap_or_default();
                let value = "1".repeat(input.int_in_range(0..=300)?);
                text.extend(format!("{key}={value}\0").bytes());
            }
            _ => text.extend(format!("{}\0", input.choose(&PAIRS)?).bytes()),
        }
    }
    Ok((text, proves))
}

fn hear(answer: &Pdu, challenge: &mut Challenge) {
    assert_eq!(answer.opcode(), 0x23, "{answer:02x?}");
    let text = std::str::from_utf8(&answer.data).unwrap();
    for (key, value) in text.split('\0').filter_map(|pair| pair.split_once('=')) {
        match key {
            "CHAP_I" => challenge.identifier = value.parse().ok(),
            "CHAP_C" => challenge.bytes = unhex(value),
            _ => {}
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("0x").unwrap().as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// As CHAP has it with MD5; with another algorithm it is wrong.
fn response(challenge: &Challenge) -> String {
    let identifier = [challenge.identifier.unwrap_or_default()];
    let hash = md5::Md5::digest([&identifier[..], SECRET.as_bytes(), &challenge.bytes].concat());
    hash.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
