//! Every port gets what is random, truncated, oversized or not to the point. The daemon must live, count it, not log it
//! line by line, and hold no more memory than before.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use support::{
    Asks, DaemonOptions, Lab, NetClient, Result, SERVER, SERVER_INTERFACE, SOON, ensure, wait_for,
};

use crate::{IMAGE, Site};

const PC1: &str = "52:54:00:77:06:01";

/// How much more memory may be held after a flood than before, in KiB: buffers that were once needed are kept.
const MAY_GROW: u64 = 48 << 10;

/// How many lines a flood may add to the log.
const MAY_LOG: usize = 200;

/// How many datagrams or connections a flood has.
const FLOOD: usize = 2000;

/// Numbers that look random and are the same each time (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    /// A copy with a few bytes changed, cut off or added.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bad = good.to_vec();
        match self.below(4) {
            0 => bad.truncate(self.below(good.len() + 1)),
            1 => bad.extend(self.bytes(64)),
            _ => {}
        }
        for _ in 0..self.below(8) {
            let at = self.below(bad.len().max(1));
            let with = self.next().to_be_bytes()[0];
            bad.get_mut(at..=at).into_iter().flatten().for_each(|byte| *byte = with);
        }
        bad
    }
}

/// Sends a flood with `send` from a client's place, and checks that nothing but the named counters moved.
fn survives(counters: &[&str], send: impl Fn(&mut Random) -> std::io::Result<()> + Sync) -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let client = NetClient::new(&site.lab, PC1)?;
    client.boot()?;
    let sent = |seed: u64| client.namespace().enter(|| send(&mut Random(seed)));
    let before = counters.iter().map(|name| site.daemon.counter(name)).collect::<Result<Vec<_>>>()?;
    // The first flood makes what is made once.
    sent(0x5eed)??;
    let memory = site.daemon.memory_kib()?;
    let lines = site.daemon.log().lines().count();

    sent(0xf100d)??;
    wait_for("the flood to be counted", SOON, || {
        site.daemon.check_alive()?;
        let now = counters.iter().map(|name| site.daemon.counter(name)).collect::<Result<Vec<_>>>()?;
        Ok(now.iter().zip(&before).all(|(now, before)| now > before).then_some(()))
    })?;
    let grown = site.daemon.memory_kib()?.saturating_sub(memory);
    ensure!(grown < MAY_GROW, "a flood made bootd hold {grown} KiB more");
    let logged = site.daemon.log().lines().count() - lines;
    ensure!(logged < MAY_LOG, "a flood made bootd log {logged} lines");
    ensure!(!site.daemon.log().contains("panicked"), "something panicked");

    // And it serves as before.
    client.boot()?;
    Ok(())
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((SERVER.parse::<std::net::Ipv4Addr>().unwrap_or(std::net::Ipv4Addr::LOCALHOST), port))
}

/// A socket that waits for no answer.
fn udp() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends without minding that the peer, or the system's buffer, has had enough.
fn shoot(socket: &UdpSocket, datagram: &[u8], port: u16) -> std::io::Result<()> {
    match socket.send_to(datagram, address(port)) {
        Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Opens a connection, says that, and hears what comes until the other side closes or nothing comes for a moment.
fn say(port: u16, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address(port), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    // Whether it listens to the end is its own affair.
    let _ = stream.write_all(text);
    let mut heard = Vec::new();
    let _ = stream.take(1 << 16).read_to_end(&mut heard);
    Ok(heard)
}

/// A DISCOVER as a BIOS sends it.
fn discover(mac: [u8; 6]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    for (at, value) in [(0, 1), (1, 1), (2, 6), (10, 0x80), (236, 99), (237, 130), (238, 83), (239, 99)] {
        if let Some(byte) = packet.get_mut(at) {
            *byte = value;
        }
    }
    packet.splice(28..34, mac);
    packet.extend([53, 1, 1, 55, 4, 1, 3, 66, 67, 93, 2, 0, 0, 97, 17]);
    packet.extend([0; 17]);
    packet.extend([60, 20]);
    packet.extend(b"PXEClient:Arch:00000");
    packet.push(255);
    packet
}

#[test]
fn dhcp_takes_any_datagram() -> Result {
    survives(&["dhcp_received", "dhcp_malformed"], |random| {
        let socket = udp()?;
        for _ in 0..FLOOD {
            let length = random.below(1472);
            shoot(&socket, &random.bytes(length), 67)?;
            let mac = [2, 0, 0, 0, random.next().to_be_bytes()[0], 1];
            let good = discover(mac);
            shoot(&socket, &random.spoil(&good), 67)?;
            // hlen says more than the header has room for; options that say more than there is.
            let mut long = discover(mac);
            long.splice(2..3, [255]);
            shoot(&socket, &long, 67)?;
            shoot(&socket, &[&discover(mac)[..269], &[12, 255, 1]].concat(), 67)?;
        }
        Ok(())
    })
}

#[test]
fn a_crowd_of_strangers_does_not_fill_the_memory() -> Result {
    survives(&["dhcp_received"], |random| {
        let socket = udp()?;
        for _ in 0..FLOOD * 4 {
            let mut mac = [2, 0, 0, 0, 0, 0];
            mac.iter_mut().skip(1).for_each(|byte| *byte = random.next().to_be_bytes()[0]);
            shoot(&socket, &discover(mac), 67)?;
        }
        Ok(())
    })
}

#[test]
fn tftp_takes_any_datagram() -> Result {
    survives(&["tftp_requests", "tftp_malformed", "tftp_dropped"], |random| {
        for _ in 0..FLOOD / 10 {
            // A new port each time: a transfer belongs to its port.
            let socket = udp()?;
            for _ in 0..10 {
                let length = random.below(600);
                shoot(&socket, &random.bytes(length), 69)?;
                let good = b"\0\x01undionly.kpxe\0octet\0blksize\x001428\0tsize\x000\0windowsize\x0064\0";
                shoot(&socket, &random.spoil(good), 69)?;
            }
            for silly in [
                &b"\0\x01undionly.kpxe\0octet\0blksize\x000\0windowsize\x0099999999999999999999\0"[..],
                b"\0\x01undionly.kpxe\0octet\0timeout\x00-1\0tsize\0",
                b"\0\x02undionly.kpxe\0octet\0",
                b"\0\x01undionly.kpxe\0mail\0",
                b"\0\x01\0\0",
                b"\0\x04\0\x01",
                b"\0\x05",
                b"",
            ] {
                shoot(&socket, silly, 69)?;
            }
        }
        Ok(())
    })
}

/// Requests whose senders are not there, more of them than there are places for transfers: their blocks go to an Ethernet address
/// that nobody has, so that nobody answers them and nobody says that no one listens there.
#[test]
fn forged_requests_keep_nobody_out_of_tftp() -> Result {
    let Some(mut site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let client = NetClient::new(&site.lab, PC1)?;
    client.boot()?;
    let server = site.lab.server();
    server.ip(&["neigh", "add", "10.77.0.250", "lladdr", "02:00:00:00:fa:fa", "dev", SERVER_INTERFACE])?;
    server.ip(&["route", "add", "10.99.0.0/16", "via", "10.77.0.250"])?;
    client.namespace().ip(&["route", "add", "local", "10.99.0.0/16", "dev", "lo"])?;
    let before = site.daemon.counter("tftp_requests")?;
    let request = b"\0\x01undionly.kpxe\0octet\0blksize\x001428\0tsize\x000\0";
    let forge = |n: u16| -> std::io::Result<()> {
        let [high, low] = n.to_be_bytes();
        let socket = UdpSocket::bind((std::net::Ipv4Addr::new(10, 99, high, low), 2070))?;
        shoot(&socket, request, 69)
    };
    // Some at a time, or most would be lost where they wait to be received.
    let mut sent = 0..u16::MAX;
    wait_for("more of them than there are places", Duration::from_secs(120), || {
        client.namespace().enter(|| sent.by_ref().take(300).try_for_each(forge))??;
        Ok((site.daemon.counter("tftp_requests")? > before + 4500).then_some(()))
    })?;
    // They are silent for half a minute; the client comes at once.
    client.sh(&[
        "curl",
        "-sS",
        "--max-time",
        "20",
        "-o",
        &client.file("got"),
        &format!("tftp://{SERVER}/undionly.kpxe"),
    ])?;
    client.boot()?;
    site.daemon.check_alive()?;
    ensure!(site.daemon.counter("tftp_refused")? == 0, "requests were refused");
    Ok(())
}

/// Where transfers go from the port that was asked, answers can be forged as well as requests. Whoever does both takes the places of
/// such transfers, and those alone.
#[test]
fn forged_answers_to_a_shared_port_take_no_places_from_others() -> Result {
    let Some(lab) = Lab::for_test()? else { return Ok(()) };
    let config = format!("interface = \"{SERVER_INTERFACE}\"\n[tftp]\nsingle_port = \"10.99.0.0/16\"\n");
    let options = DaemonOptions { config: Some(config), ..DaemonOptions::default() };
    let mut site = Site::with(lab, &options)?;
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let client = NetClient::new(&site.lab, PC1)?;
    client.boot()?;
    let server = site.lab.server();
    server.ip(&["neigh", "add", "10.77.0.250", "lladdr", "02:00:00:00:fa:fa", "dev", SERVER_INTERFACE])?;
    server.ip(&["route", "add", "10.99.0.0/16", "via", "10.77.0.250"])?;
    client.namespace().ip(&["route", "add", "local", "10.99.0.0/16", "dev", "lo"])?;
    let memory = site.daemon.memory_kib()?;
    let mut random = Random(0x5eed);
    let forge = |n: u16| -> std::io::Result<()> {
        let [high, low] = n.to_be_bytes();
        let socket = UdpSocket::bind((std::net::Ipv4Addr::new(10, 99, high, low), 2070))?;
        shoot(&socket, b"\0\x01undionly.kpxe\0octet\0blksize\x001428\0tsize\x000\0", 69)?;
        shoot(&socket, &[0, 4, 0, 0], 69)?;
        for _ in 0..4 {
            let length = random.below(1600);
            shoot(&socket, &[&[0, 4], &random.bytes(length)[..]].concat(), 69)?;
        }
        Ok(())
    };
    let mut sent = (0..u16::MAX).map(forge);
    wait_for("all their places to be taken", Duration::from_secs(120), || {
        client.namespace().enter(|| sent.by_ref().take(200).collect::<std::io::Result<()>>())??;
        site.daemon.check_alive()?;
        Ok((site.daemon.counter("tftp_refused")? > 100).then_some(()))
    })?;
    let url = format!("tftp://{SERVER}/undionly.kpxe");
    client.sh(&["curl", "-sS", "--max-time", "20", "-o", &client.file("got"), &url])?;
    client.boot()?;
    let grown = site.daemon.memory_kib()?.saturating_sub(memory);
    ensure!(grown < MAY_GROW, "they made bootd hold {grown} KiB more");
    Ok(())
}

#[test]
fn http_takes_any_bytes() -> Result {
    survives(&["http_malformed"], |random| {
        let long = [b"GET /files/".as_slice(), &[b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n"].concat();
        let heads = [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(50_000), b"\r\n".to_vec()].concat();
        for n in 0..FLOOD / 40 {
            let length = random.below(4000);
            let noise = random.bytes(length);
            let good = b"GET /files/undionly.kpxe HTTP/1.1\r\nHost: a\r\nRange: bytes=0-99\r\n\r\n";
            let spoilt = random.spoil(good);
            for text in [
                noise.as_slice(),
                &spoilt,
                b"GET /files/undionly.kpxe HTTP/9.9\r\n\r\n",
                b"POST /files/x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                b"GET /files/undionly.kpxe HTTP/1.1\r\nRange: bytes=18446744073709551615-1,5-\r\n\r\n",
                b"GET /boot/%00%ff/script.ipxe HTTP/1.1\r\n\r\n",
                b"\r\n\r\n\r\n",
            ] {
                say(80, text)?;
            }
            if n % 10 == 0 {
                say(80, &long)?;
                say(80, &heads)?;
            }
        }
        Ok(())
    })
}

/// A PDU's header: opcode, its flags, and how long its data is said to be.
fn pdu(opcode: u8, flags: u8, length: u32) -> Vec<u8> {
    let mut header = vec![0; 48];
    header.splice(0..2, [opcode, flags]);
    header.splice(5..8, length.to_be_bytes().into_iter().skip(1));
    header
}

fn login(text: &[u8], length: u32) -> Vec<u8> {
    [pdu(0x43, 0x81, length), text.to_vec(), vec![0; text.len().next_multiple_of(4) - text.len()]].concat()
}

#[test]
fn iscsi_takes_any_bytes() -> Result {
    survives(&["iscsi_connections", "iscsi_protocol_errors"], |random| {
        let names = b"InitiatorName=iqn.2026-01.org.example:x\0SessionType=Discovery\0AuthMethod=None\0";
        let good = login(names, u32::try_from(names.len()).unwrap_or(u32::MAX));
        let flood = login(&b"X=y\0".repeat(30_000), 120_000);
        for _ in 0..FLOOD / 40 {
            let length = random.below(2000);
            let noise = random.bytes(length);
            let spoilt = random.spoil(&good);
            for bytes in [
                noise.as_slice(),
                &spoilt,
                // Lengths that lie: 16 MiB that never come, and a header that goes on for ever.
                &login(names, 0x00ff_ffff),
                &pdu(0x01, 0xff, 0x00ff_ffff),
                &[&[0x43, 0x81, 0, 0, 0xff][..], &[0; 43]].concat(),
                // A command before the log-in, text that is no list of keys, keys without end.
                &pdu(0x01, 0xc1, 0),
                &login(b"no list at all", 14),
                &login(b"InitiatorName=\0", 15),
                &flood,
                &[],
            ] {
                say(3260, bytes)?;
            }
        }
        Ok(())
    })
}

/// Connections that are opened and left alone take a place each, and no more than that.
#[test]
fn silent_connections_keep_nobody_out_for_long() -> Result {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.daemon.add_client("pc1", PC1, IMAGE)?;
    let silent = NetClient::new(&site.lab, "52:54:00:77:06:66")?;
    silent.ask(Asks::System, &[])?;
    let client = NetClient::new(&site.lab, PC1)?;
    let open = || -> std::io::Result<Vec<TcpStream>> {
        let ports = [80, 3260].into_iter().cycle().take(400);
        ports.map(|port| TcpStream::connect_timeout(&address(port), Duration::from_secs(5))).collect()
    };
    let held = silent.namespace().enter(open)??;
    // Another machine boots while all of them are open.
    let disk = client.boot()?;
    client.sh(&["iscsi-inq", "-i", &disk.initiator, &disk.url()])?;
    ensure!(held.len() == 400, "only {} connections were taken", held.len());
    Ok(())
}
