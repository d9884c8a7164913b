//! A client as RFC 1350 and RFC 7440 have it, behind a network that loses, doubles and reorders, on a virtual clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use netboot::tftp::Transfer;

/// How long the client waits for a block before it repeats its last word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it does so before it gives up: later than the server does, which is what is tested.
const TRIES: u32 = 120;

#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    /// How many packets of one are lost.
    pub(super) loss: f64,
    /// How many come twice.
    pub(super) duplicates: f64,
    /// How many of one are late, and by how much at most.
    pub(super) late: f64,
    pub(super) jitter: Duration,
    /// Whether the client repeats its last word at every block that it can't use, as some do.
    pub(super) eager: bool,
}

/// A packet on its way: when it arrives, in which order it was sent, whether to the server, and what it is.
type Flight = Reverse<(Duration, u64, bool, Vec<u8>)>;

struct Wire<'a> {
    network: &'a Network,
    flights: BinaryHeap<Flight>,
    count: u64,
    random: u64,
}

impl Wire<'_> {
    /// xorshift64*: the same seed, the same network.
    fn random(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let fraction = bits as f64 / (1_u64 << 53) as f64;
        fraction
    }

    fn send(&mut self, to_server: bool, packet: &[u8], now: Duration) {
        let copies = if self.random() < self.network.duplicates { 2 } else { 1 };
        for _ in 0..copies {
            if self.random() < self.network.loss {
                continue;
            }
            let mut arrives = now + Duration::from_micros(200);
            if self.random() < self.network.late {
                arrives += self.network.jitter.mul_f64(self.random());
            }
            self.count += 1;
            self.flights.push(Reverse((arrives, self.count, to_server, packet.to_vec())));
        }
    }
}

/// The reading end.
struct Client {
    blksize: usize,
    windowsize: u64,
    eager: bool,
    content: Vec<u8>,
    /// The last block that came in order.
    last: u64,
    in_window: u64,
    told_of_gap: bool,
    done: bool,
    negotiating: bool,
    tries: u32,
}

impl Client {
    fn ack(&self) -> Vec<u8> {
        let [.., high, low] = self.last.to_be_bytes();
        vec![0, 4, high, low]
    }

    /// Takes a packet; the answer, if there is one.
    fn take(&mut self, packet: &[u8]) -> Result<Option<Vec<u8>>, String> {
        match packet {
            [0, 6, options @ ..] => {
                if self.last > 0 {
                    return Ok(None);
                }
                self.agree(options);
                Ok(Some(self.ack()))
            }
            [0, 3, ..] if self.negotiating => Err("data before the options were agreed".into()),
            [0, 3, high, low, data @ ..] => Ok(self.block(u16::from_be_bytes([*high, *low]), data)),
            [0, 5, ..] => Err(format!("an error: {}", packet.escape_ascii())),
            _ => Err(format!("what is {packet:?}?")),
        }
    }

    fn agree(&mut self, options: &[u8]) {
        let texts: Vec<_> = options.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        for pair in texts.chunks_exact(2) {
            match &*pair[0] {
                "blksize" => self.blksize = pair[1].parse().unwrap(),
                "windowsize" => self.windowsize = pair[1].parse().unwrap(),
                _ => {}
            }
        }
        self.negotiating = false;
    }

    fn block(&mut self, number: u16, data: &[u8]) -> Option<Vec<u8>> {
        let [.., high, low] = (self.last + 1).to_be_bytes();
        let ahead = number.wrapping_sub(u16::from_be_bytes([high, low]));
        if ahead == 0 && !self.done {
            self.content.extend(data);
            self.last += 1;
            self.in_window += 1;
            self.told_of_gap = false;
            self.tries = 0;
            self.done = data.len() < self.blksize;
            if self.done || self.in_window == self.windowsize {
                self.in_window = 0;
                return Some(self.ack());
            }
            return None;
        }
        self.in_window = 0;
        // The last block once more: its last word was lost (RFC 1350 §6). Otherwise it missed something and says so
        // once (RFC 7440 §4). A client of single blocks answers every one, which is what the sorcerer's apprentice
        // lives on.
        let again = self.eager || self.windowsize == 1 || ahead == u16::MAX || !self.told_of_gap;
        self.told_of_gap = true;
        again.then(|| self.ack())
    }
}

/// Fetches the whole of a transfer.
pub(super) fn fetch(
    transfer: &mut Transfer,
    options: &[(&str, &str)],
    network: &Network,
    seed: u64,
) -> Result<Vec<u8>, String> {
    let mut wire = Wire { network, flights: BinaryHeap::new(), count: 0, random: seed | 1 };
    let mut client = Client {
        blksize: 512,
        windowsize: 1,
        eager: network.eager,
        content: Vec::new(),
        last: 0,
        in_window: 0,
        told_of_gap: false,
        done: false,
        negotiating: !options.is_empty(),
        tries: 0,
    };
    let mut buf = vec![0; transfer.max_packet_len()];
    let mut now = Duration::ZERO;
    let mut impatient = PATIENCE;
    while transfer.summary().is_none() {
        while let Some(len) = transfer.poll_transmit(&mut buf, now) {
            wire.send(false, &buf[..len], now);
        }
        let late = transfer.poll_timeout().ok_or("the transfer waits for nothing")?;
        let arrival = wire.flights.peek().map_or(Duration::MAX, |Reverse((at, ..))| *at);
        now = late.min(arrival).min(impatient);
        if arrival <= now {
            let Some(Reverse((_, _, to_server, packet))) = wire.flights.pop() else { continue };
            if to_server {
                transfer.handle(&packet, now);
            } else {
                impatient = now + PATIENCE;
                if let Some(answer) = client.take(&packet)? {
                    wire.send(true, &answer, now);
                }
            }
        } else if late <= now {
            transfer.handle_timeout(now);
        } else {
            impatient = now + PATIENCE;
            client.tries += 1;
            if client.tries > TRIES {
                return Err("the client gave up".into());
            }
            if !client.negotiating {
                client.in_window = 0;
                wire.send(true, &client.ack(), now);
            }
        }
    }
    if client.done { Ok(client.content) } else { Err(format!("{:?}", transfer.summary())) }
}
