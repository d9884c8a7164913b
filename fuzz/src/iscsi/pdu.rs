//! A stream of bytes behind a login: how it is cut into reads must make no difference.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::{Buf, BytesMut};
use iscsi::{Connection, Io, Limits, LunOptions};

use super::disk;
use super::targets::{INITIATOR, OPEN, Targets};
use super::wire::{BHS_LEN, Digests, Pdu};

const NOW: Duration = Duration::from_secs(1000);

/// The longest data segment that the target takes here. Lengths of more are refused, lengths that the stream does not
/// have are waited for.
const MAX_SEGMENT: u32 = 1024;

/// The input begins with what is agreed on and where the stream is cut; the stream is the rest.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let digests = Digests { header: input.arbitrary()?, data: input.arbitrary()? };
    let cuts: [u8; 4] = input.arbitrary()?;
    let stream = encode(input, digests)?;
    let whole = answer(&[&stream], digests);
    let mut pieces = Vec::new();
    let mut rest = &stream[..];
    for cut in cuts {
        let (piece, others) = rest.split_at(usize::from(cut).min(rest.len()));
        pieces.push(piece);
        rest = others;
    }
    pieces.push(rest);
    let cut = answer(&pieces, digests);
    assert_eq!(whole, cut, "cut otherwise, answered otherwise");
    Ok(())
}

/// The input's own bytes; with digests they are taken for PDUs and given the right ones, or nearly, for no fuzzer
/// guesses them.
fn encode(input: &mut Unstructured<'_>, digests: Digests) -> Result<Vec<u8>> {
    if !digests.header && !digests.data {
        let mut stream = input.bytes(input.len())?.to_vec();
        let mut at = 0;
        while let Some(bhs) = stream.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            make_simple(bhs);
            let data = usize::from(bhs[6]) << 8 | usize::from(bhs[7]);
            at += BHS_LEN + usize::from(bhs[4]) * 4 + data.next_multiple_of(4);
        }
        return Ok(stream);
    }
    let mut stream = BytesMut::new();
    while input.len() >= BHS_LEN {
        let mut bhs: [u8; BHS_LEN] = input.arbitrary()?;
        make_simple(&mut bhs);
        let len = usize::from(bhs[7]).min(input.len());
        let begin = stream.len();
        let pdu = Pdu { bhs, data: input.bytes(len)?.to_vec().into() };
        Pdu {
            bhs: [&[bhs[0], bhs[1], bhs[2], bhs[3], 0][..], &bhs[5..]].concat().try_into().unwrap(),
            ..pdu
        }
        .encode(digests, &mut stream);
        if bhs[4] == 0xff
            && let Some(byte) = stream[begin..].last_mut()
        {
            *byte ^= 1;
        }
    }
    Ok(stream.to_vec())
}

/// A command with another task attribute may begin between two reads, and so before or behind what comes next.
fn make_simple(bhs: &mut [u8; BHS_LEN]) {
    const SIMPLE: u8 = 1;
    if bhs[0] & 0x3f == 0x01 {
        bhs[1] = bhs[1] & !0x07 | SIMPLE;
    }
}

/// What the target answers to the stream, what it asks of the disk, and how it ends.
#[derive(Debug, PartialEq)]
struct Answer {
    sent: Vec<u8>,
    io: Vec<Io>,
    is_closed: bool,
}

fn answer(pieces: &[&[u8]], digests: Digests) -> Answer {
    // Without limits on what waits, nothing depends on when that is fetched.
    let limits = Limits {
        max_recv_data_segment_length: MAX_SEGMENT,
        output_backlog: usize::MAX,
        bytes_in_flight: u64::MAX,
        ..Limits::default()
    };
    let targets = Arc::new(Targets::new(LunOptions::default()));
    let portal = ([10, 0, 0, 1], 3260).into();
    let mut connection = Connection::new(targets, portal, limits, [7; 32], Arc::new(|| ()), NOW);
    let digest = |on| if on { "CRC32C" } else { "None" };
    let text = format!(
        "InitiatorName={INITIATOR}\0TargetName={OPEN}\0InitialR2T=No\0HeaderDigest={}\0DataDigest={}\0",
        digest(digests.header),
        digest(digests.data)
    );
    let mut input = BytesMut::new();
    Pdu::new(0x43, 0x87, 1).with(24, 1).with_data(text).encode(Digests::default(), &mut input);
    connection.handle_input(&mut input, NOW);
    let output = connection.poll_transmit(usize::MAX);
    output.advance(output.remaining());
    assert!(connection.is_logged_in());

    for piece in pieces {
        input.extend_from_slice(piece);
        connection.handle_input(&mut input, NOW);
        assert!(input.len() < connection.input_needed() || !connection.wants_input(), "a PDU is left lying");
    }
    let mut found = Answer { sent: Vec::new(), io: Vec::new(), is_closed: false };
    loop {
        let output = connection.poll_transmit(usize::MAX);
        let len = output.remaining();
        found.sent.extend_from_slice(&output.copy_to_bytes(len));
        let Some((id, io)) = connection.poll_io() else { break };
        disk::check(&io);
        connection.handle_io(id, disk::done(&io));
        found.io.push(io);
    }
    found.is_closed = connection.is_closed();
    let mut sent = BytesMut::from(&found.sent[..]);
    while Pdu::decode(&mut sent, digests).is_some() {}
    assert!(sent.is_empty(), "output that ends within a PDU");
    found
}
