//! TFTP: one large file for one client, and a boot program for 200 at once.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::lab::{CLIENTS, Lab, SERVER, client};
use super::servers::{self, Server};
use super::{Row, median};
use crate::peers::make_image;
use crate::rows::Effort;

/// Blocks as iPXE asks for them.
const BLKSIZE: usize = 1432;

const LARGE: u64 = 64 << 20;
const PROGRAM: u64 = 1 << 20;

const MIB: f64 = 1_048_576.0;

/// How long a client waits for a packet before it repeats its last word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it does, without a block in between, before it gives up.
const TRIES: u32 = 20;

/// Fetches a file, and says how many bytes there were.
fn fetch(from: &str, name: &str, windowsize: u64) -> io::Result<u64> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("\0\x01{name}\0octet\0blksize\0{BLKSIZE}\0").into_bytes();
    if windowsize > 1 {
        request.extend(format!("windowsize\0{windowsize}\0").into_bytes());
    }
    let mut server: Option<SocketAddr> = None;
    let (mut last, mut in_window, mut window, mut bytes, mut tries) = (0_u64, 0_u64, 1_u64, 0_u64, 0);
    let mut buffer = [0; BLKSIZE + 4];
    socket.send_to(&request, (SERVER, 69))?;
    let ack = |block: u64| {
        let [.., high, low] = block.to_be_bytes();
        socket.send(&[0, 4, high, low]).map(drop)
    };
    loop {
        let len = match socket.recv_from(&mut buffer) {
            Ok((len, peer)) => {
                if server.is_none() {
                    server = Some(peer);
                    socket.connect(peer)?;
                }
                len
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                tries += 1;
                if tries > TRIES {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{name}: silence after {bytes} bytes"),
                    ));
                }
                in_window = 0;
                match server {
                    Some(_) => ack(last)?,
                    None => drop(socket.send_to(&request, (SERVER, 69))?),
                }
                continue;
            }
            Err(e) => return Err(e),
        };
        match buffer.get(..len).unwrap_or_default() {
            [0, 6, options @ ..] if last == 0 => {
                let texts: Vec<_> = options.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
                let granted = texts.windows(2).find(|pair| pair[0].eq_ignore_ascii_case("windowsize"));
                window = granted.and_then(|pair| pair[1].parse().ok()).unwrap_or(1);
                ack(0)?;
            }
            [0, 3, high, low, data @ ..] => {
                let [.., next_high, next_low] = (last + 1).to_be_bytes();
                if (*high, *low) != (next_high, next_low) {
                    if window > 1 {
                        in_window = 0;
                        ack(last)?;
                    }
                    continue;
                }
                last += 1;
                in_window += 1;
                bytes += data.len() as u64;
                tries = 0;
                let done = data.len() < BLKSIZE;
                if done || in_window >= window {
                    in_window = 0;
                    ack(last)?;
                }
                if done {
                    return Ok(bytes);
                }
            }
            [0, 5, ..] => {
                return Err(io::Error::other(format!("{name} is refused: {}", buffer.escape_ascii())));
            }
            _ => {}
        }
    }
}

/// MiB in a second for one client.
fn one(lab: &Lab, windowsize: u64) -> io::Result<f64> {
    let begun = Instant::now();
    let bytes = lab.enter(|| fetch(&client(1), "large", windowsize))?;
    if bytes != LARGE {
        return Err(io::Error::other(format!("{bytes} of {LARGE} bytes came")));
    }
    Ok(LARGE as f64 / MIB / begun.elapsed().as_secs_f64())
}

/// MiB in a second for all together, who begin at the same moment.
fn many(lab: &Lab, windowsize: u64) -> io::Result<f64> {
    let begun = lab.enter(|| {
        let start = Barrier::new(usize::from(CLIENTS) + 1);
        thread::scope(|scope| {
            let start = &start;
            let work = move |number| {
                let from = client(number);
                start.wait();
                match fetch(&from, "program", windowsize)? {
                    PROGRAM => Ok(()),
                    bytes => Err(io::Error::other(format!("{bytes} of {PROGRAM} bytes came"))),
                }
            };
            let threads: Vec<_> = (1..=CLIENTS).map(|number| scope.spawn(move || work(number))).collect();
            start.wait();
            let begun = Instant::now();
            for thread in threads {
                thread.join().map_err(|_| io::Error::other("a client broke down"))??;
            }
            Ok(begun.elapsed())
        })
    })?;
    Ok(f64::from(CLIENTS) * PROGRAM as f64 / MIB / begun.as_secs_f64())
}

type Start = fn(&Lab, &Path) -> io::Result<Server>;

pub(super) fn rows(
    lab: &Lab,
    effort: Effort,
    wanted: &dyn Fn(&str) -> bool,
    each: &mut dyn FnMut(Row),
) -> io::Result<()> {
    let files = lab.folder("files")?;
    make_image(&files.join("large"), LARGE)?;
    make_image(&files.join("program"), PROGRAM)?;
    fs::write(files.join("small"), "small")?;
    let servers: [Start; 3] = [servers::bootd, servers::tftpd_hpa, servers::dnsmasq];
    for (name, windowsize, measure) in [
        ("TFTP, one client, 64 MiB, windowsize 1", 1, one as fn(&Lab, u64) -> io::Result<f64>),
        ("TFTP, one client, 64 MiB, windowsize 16", 16, one),
        ("TFTP, 200 clients at once, 1 MiB each, windowsize 1", 1, many),
        ("TFTP, 200 clients at once, 1 MiB each, windowsize 16", 16, many),
    ] {
        if !wanted(name) {
            continue;
        }
        let mut figures = Vec::new();
        for start in servers {
            let server = start(lab, &files)?.ready(|| servers::answers_tftp(lab, "small"))?;
            let figure = median(effort.repeats, || measure(lab, windowsize));
            let figure = figure.map_err(|e| io::Error::other(format!("{}, {name}: {e}", server.name)))?;
            figures.push((server.name, Some(figure)));
        }
        each(Row { name: name.to_owned(), unit: "MiB/s", figures });
    }
    Ok(())
}
