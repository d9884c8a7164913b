//! A TFTP client with options and windows (RFC 2347, 2348, 7440), since none of the stock ones has all of them.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Context, Result, ensure, fail};

/// How long it waits for a packet before it repeats its last word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a whole transfer may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A transfer that has begun: the server has sent its first packet.
#[derive(Debug)]
pub struct TftpTransfer {
    socket: UdpSocket,
    server: SocketAddr,
    first: Vec<u8>,
    blksize: usize,
    windowsize: u64,
}

impl TftpTransfer {
    /// Asks `server` for the file `name` from the address `from`, with these options if they are not RFC 1350's.
    ///
    /// # Errors
    /// When there is no answer, or it is an error.
    pub fn begin(from: &str, server: &str, name: &str, blksize: usize, windowsize: u64) -> Result<Self> {
        let socket = UdpSocket::bind((from, 0)).context(from)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("\0\x01{name}\0octet\0").into_bytes();
        if blksize != 512 {
            request.extend(format!("blksize\0{blksize}\0").into_bytes());
        }
        if windowsize != 1 {
            request.extend(format!("windowsize\0{windowsize}\0").into_bytes());
        }
        let begun = Instant::now();
        let mut buffer = vec![0; 65536];
        loop {
            ensure!(begun.elapsed() < LIMIT, "no answer to the request for {name}");
            socket.send_to(&request, (server, 69))?;
            let Ok((len, server)) = socket.recv_from(&mut buffer) else { continue };
            let first = buffer.get(..len).unwrap_or_default().to_vec();
            if let [0, 5, ..] = first.as_slice() {
                fail!("{name} is refused: {}", first.escape_ascii());
            }
            return Ok(Self { socket, server, first, blksize, windowsize });
        }
    }

    /// Takes the file to its end.
    ///
    /// # Errors
    /// When the server gives up, or it takes too long.
    pub fn finish(self) -> Result<Vec<u8>> {
        let Self { socket, server, first, blksize, windowsize } = self;
        let (mut content, mut last, mut in_window, mut told) = (Vec::new(), 0_u64, 0, false);
        let mut buffer = vec![0; blksize + 4];
        let mut packet = first;
        let begun = Instant::now();
        let ack = |block: u64| {
            let [.., high, low] = block.to_be_bytes();
            socket.send_to(&[0, 4, high, low], server).map(drop)
        };
        loop {
            ensure!(begun.elapsed() < LIMIT, "{} bytes after {LIMIT:?}", content.len());
            match packet.as_slice() {
                [0, 6, ..] if last == 0 => ack(0)?,
                [0, 3, high, low, data @ ..] => {
                    let [.., next_high, next_low] = (last + 1).to_be_bytes();
                    if (*high, *low) == (next_high, next_low) {
                        content.extend_from_slice(data);
                        last += 1;
                        in_window += 1;
                        told = false;
                        if data.len() < blksize {
                            ack(last)?;
                            return Ok(content);
                        }
                        if in_window == windowsize {
                            in_window = 0;
                            ack(last)?;
                        }
                    } else if windowsize > 1 && !told {
                        // Something is missing: say so once (RFC 7440, section 4).
                        told = true;
                        in_window = 0;
                        ack(last)?;
                    }
                }
                [0, 5, ..] => fail!("the server breaks off: {}", packet.escape_ascii()),
                _ => {}
            }
            packet.clear();
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) if from == server => {
                    packet.extend_from_slice(buffer.get(..len).unwrap_or_default());
                }
                Ok(_) => {}
                Err(_) => {
                    in_window = 0;
                    ack(last)?;
                }
            }
        }
    }
}
