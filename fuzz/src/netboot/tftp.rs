//! TFTP requests, and transfers whose client may say anything at any time.

use std::io;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use netboot::parse_tftp_path;
use netboot::tftp::{End, Limits, MAX_REQUEST_LEN, Request, Source, Transfer};

/// Things that happen in one transfer.
const MOST_STEPS: usize = 128;

/// Packets in a row without a word from the client: the largest window, and a packet or two.
const MOST_IN_A_ROW: usize = 70;

/// A file each of whose bytes follows from its place.
struct File {
    len: u64,
    /// From where on it can't be read, or has become shorter.
    broken_from: u64,
    is_cut: bool,
}

impl File {
    fn byte(at: u64) -> u8 {
        (at ^ at >> 8 ^ at >> 16) as u8
    }
}

impl Source for File {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let end = self.len.min(self.broken_from);
        if offset >= end && self.broken_from < self.len && !self.is_cut {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let len = end.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (at, byte) in (offset..).zip(&mut buf[..len]) {
            *byte = Self::byte(at);
        }
        Ok(len)
    }
}

/// The input is the request, whatever bytes or one that is nearly right, then what the client does.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _ = play(&mut input);
}

fn play(input: &mut Unstructured<'_>) -> Result<()> {
    let bytes = request(input)?;
    let request = match Request::parse(&bytes) {
        Ok(request) => request,
        Err(error) => {
            if let Some(packet) = error.packet() {
                assert_eq!(packet[..2], [0, 5], "an ERROR packet");
            }
            return Ok(());
        }
    };
    assert!(bytes.len() <= MAX_REQUEST_LEN);
    let _ = parse_tftp_path(&request.filename);
    let len = match input.int_in_range(0..=3_u8)? {
        0 => input.int_in_range(0..=10)?,
        1 => 512 * input.int_in_range(0..=4)?,
        2 => 0xffff * 8 + input.int_in_range(0..=20)?,
        _ => u64::from(input.arbitrary::<u16>()?),
    };
    let broken_from = if input.ratio(1, 8)? { input.int_in_range(0..=len)? } else { u64::MAX };
    let file = File { len, broken_from, is_cut: input.arbitrary()? };
    let limits = Limits { path_mtu: *input.choose(&[1500, 576, 0])? };
    let transfer = Transfer::new(&request, Box::new(file), &limits, Duration::ZERO);
    Client { transfer, now: Duration::ZERO, len, blksize: 512, last: 0 }.play(input)
}

struct Client {
    transfer: Transfer,
    now: Duration,
    len: u64,
    blksize: usize,
    /// The number of the block that came last.
    last: u16,
}

impl Client {
    fn play(mut self, input: &mut Unstructured<'_>) -> Result<()> {
        self.read();
        for _ in 0..MOST_STEPS {
            if input.is_empty() || self.transfer.summary().is_some() {
                break;
            }
            self.step(input)?;
            self.read();
        }
        // Left alone, it ends by itself.
        for _ in 0..100 {
            let Some(due) = self.transfer.poll_timeout() else { break };
            self.now = self.now.max(due);
            self.transfer.handle_timeout(self.now);
            self.read();
        }
        let summary = self.transfer.summary().expect("an end");
        assert!(summary.bytes <= self.len);
        assert!(summary.end != End::Complete || summary.bytes == self.len);
        Ok(())
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        self.now += Duration::from_millis(input.arbitrary::<u8>()?.into());
        let ack = |block: u16| [[0, 4], block.to_be_bytes()].concat();
        match input.int_in_range(0..=9_u8)? {
            0..=4 => self.transfer.handle(&ack(self.last), self.now),
            5 => self.transfer.handle(&ack(input.arbitrary()?), self.now),
            6 => {
                let len = input.int_in_range(0..=32)?.min(input.len());
                self.transfer.handle(input.bytes(len)?, self.now);
            }
            7 => self.transfer.handle(&[0, 5, 0, input.int_in_range(0..=9)?, b'x', 0], self.now),
            8 => {
                self.now += Duration::from_secs(1);
                self.transfer.handle_timeout(self.now);
            }
            _ => {
                if input.ratio(1, 8)? {
                    self.transfer.handle_unreachable(self.now);
                }
            }
        }
        Ok(())
    }

    /// Takes all that is sent now.
    fn read(&mut self) {
        let mut buf = vec![0; self.transfer.max_packet_len()];
        for _ in 0..MOST_IN_A_ROW {
            let Some(len) = self.transfer.poll_transmit(&mut buf, self.now) else { return };
            match &buf[..len] {
                [0, 3, high, low, data @ ..] => self.block(u16::from_be_bytes([*high, *low]), data),
                [0, 6, options @ ..] => self.agree(options),
                [0, 5, _, _, message @ ..] => assert_eq!(message.last(), Some(&0)),
                other => panic!("what is {other:?}?"),
            }
        }
        panic!("it sends without end");
    }

    fn agree(&mut self, options: &[u8]) {
        let texts: Vec<_> = options.split(|byte| *byte == 0).collect();
        for pair in texts.chunks_exact(2).filter(|pair| pair[0] == b"blksize") {
            self.blksize = std::str::from_utf8(pair[1]).unwrap().parse().unwrap();
        }
    }

    /// A block's number tells its place up to a multiple of 65536.
    fn block(&mut self, number: u16, data: &[u8]) {
        assert!(data.len() <= self.blksize, "a block of {} bytes", data.len());
        self.last = number;
        let blocks = self.len / self.blksize as u64 + 1;
        let holds = |block: u64| {
            let at = (block - 1) * self.blksize as u64;
            at + data.len() as u64 <= self.len
                && (data.len() == self.blksize || block == blocks)
                && data.iter().zip(at..).all(|(byte, at)| *byte == File::byte(at))
        };
        let places = (u64::from(number)..=blocks).step_by(1 << 16).filter(|block| *block > 0);
        assert!(places.into_iter().any(holds), "block {number} is not the file's");
    }
}

fn request(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if input.ratio(1, 8)? {
        let len = input.int_in_range(0..=MAX_REQUEST_LEN + 1)?.min(input.len());
        return Ok(input.bytes(len)?.to_vec());
    }
    const NAMES: [&[u8]; 5] =
        [b"ipxe.efi", b"/../../etc/passwd", b"52-54-00-77-01-01/script.ipxe", b"a//b\\c", b"\xff"];
    const OPTIONS: [(&str, &[&str]); 5] = [
        ("blksize", &["8", "512", "1432", "65464", "7"]),
        ("tsize", &["0"]),
        ("timeout", &["1", "255", "0"]),
        ("WindowSize", &["1", "4", "64", "65535", "0"]),
        ("x", &["99999999999999999999", ""]),
    ];
    let mut bytes = vec![0, input.int_in_range(1..=2)?];
    bytes.extend(*input.choose(&NAMES)?);
    bytes.extend(*input.choose(&[&b"\0octet\0"[..], b"\0NetASCII\0", b"\0mail\0"])?);
    for _ in 0..input.int_in_range(0..=5)? {
        let (name, values) = input.choose(&OPTIONS)?;
        bytes.extend(format!("{name}\0{}\0", input.choose(values)?).bytes());
    }
    Ok(bytes)
}
