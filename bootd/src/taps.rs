//! The packets of one machine, as a file that tcpdump and Wireshark read.
//!
//! One capture at a time: it sees all served interfaces. What belongs to a machine is found by a filter in the kernel, by its
//! Ethernet address, by the same address inside of DHCP (an answer may be broadcast, a relay's bears the relay's
//! address), and by its IP address.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use libc::sock_filter;
use parking_lot::Mutex;
use site::MacAddr;

use crate::state::Link;
use crate::sys::Tap;

/// As much of a frame as is kept at most, in bytes: also of those that the card or the kernel joined.
pub(crate) const SNAP_LEN: usize = 1 << 18;

/// How much of an iSCSI frame is kept beyond its TCP header, in bytes: one PDU's header, and a little.
const SNAP_DATA: usize = 64;

/// All taps, idle or in use.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    taps: Arc<Vec<Tap>>,
    /// Whose packets are being captured.
    busy: Arc<Mutex<Option<MacAddr>>>,
    /// Why there are none.
    missing: Option<String>,
}

/// Why there can be no capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    /// There are no taps.
    #[error("packets can't be captured: {0}")]
    Missing(String),
    /// One is under way.
    #[error("packets of {0} are being captured, and there is one capture at a time")]
    Busy(MacAddr),
    /// The system does not let us.
    #[error("packets can't be captured: {0}")]
    System(#[from] io::Error),
}

impl Taps {
    /// One on each link, idle. Where they can't be made, there will be no captures, and all else goes on.
    pub(crate) fn open(links: &[Link]) -> Self {
        let opened: io::Result<Vec<Tap>> = links.iter().map(|link| Tap::open(link.index)).collect();
        match opened {
            Ok(taps) => Self { taps: Arc::new(taps), ..Self::default() },
            Err(e) => Self { missing: Some(e.to_string()), ..Self::default() },
        }
    }

    /// None.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { missing: Some("a test has none".into()), ..Self::default() }
    }

    /// Begins to see the packets of `mac`, which has or had the address `ip`.
    ///
    /// # Errors
    /// When there are no taps, they are in use, or the system does not let us.
    pub(crate) fn begin(&self, mac: MacAddr, ip: Option<Ipv4Addr>) -> Result<Running, TapError> {
        if let Some(why) = &self.missing {
            return Err(TapError::Missing(why.clone()));
        }
        {
            let mut busy = self.busy.lock();
            if let Some(other) = *busy {
                return Err(TapError::Busy(other));
            }
            *busy = Some(mac);
        }
        let running = Running { taps: Arc::clone(&self.taps), busy: Arc::clone(&self.busy) };
        let filter = filter(mac, ip);
        for tap in running.taps.iter() {
            tap.begin(&filter)?;
        }
        Ok(running)
    }
}

/// A capture that is under way; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) taps: Arc<Vec<Tap>>,
    busy: Arc<Mutex<Option<MacAddr>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.taps.iter().for_each(Tap::end);
        *self.busy.lock() = None;
    }
}

/// The file's head: microseconds, Ethernet (`pcap-savefile(5)`).
pub(crate) fn pcap_header() -> Vec<u8> {
    let mut head = Vec::with_capacity(24);
    head.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    head.extend_from_slice(&[2, 0, 4, 0]);
    head.extend_from_slice(&[0; 8]);
    head.extend_from_slice(&(SNAP_LEN as u32).to_le_bytes());
    head.extend_from_slice(&1_u32.to_le_bytes());
    head
}

/// A frame in the file, which was `len` bytes long, at `micros` since 1970.
pub(crate) fn pcap_record(frame: &[u8], len: usize, micros: u64) -> Vec<u8> {
    let mut record = Vec::with_capacity(16 + frame.len());
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    for value in [micros / 1_000_000, micros % 1_000_000, frame.len() as u64, len as u64] {
        record.extend_from_slice(&word(value));
    }
    record.extend_from_slice(frame);
    record
}

/// How much of a frame says what happened: all of it, but of the data of disks only its PDU's header. Log-ins are kept
/// whole, which say what was agreed on.
pub(crate) fn worth_keeping(frame: &[u8], iscsi_port: u16) -> usize {
    data_starts(frame, iscsi_port).map_or(frame.len(), |start| frame.len().min(start + SNAP_DATA))
}

/// Where the payload of a frame of disk data starts.
fn data_starts(frame: &[u8], iscsi_port: u16) -> Option<usize> {
    let byte = |at: usize| frame.get(at).copied();
    let word = |at: usize| Some(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
    if word(12)? != 0x0800 || byte(23)? != 6 {
        return None;
    }
    let tcp = 14 + usize::from(byte(14)? & 0xf) * 4;
    if word(tcp)? != iscsi_port && word(tcp + 2)? != iscsi_port {
        return None;
    }
    let payload = tcp + usize::from(byte(tcp + 12)? >> 4) * 4;
    // Login and Text, requests and responses (RFC 7143, 11.2.1.2).
    let is_talk = matches!(byte(payload)? & 0x3f, 0x03 | 0x04 | 0x23 | 0x24);
    (!is_talk).then_some(payload)
}

/// The program that lets through what belongs to a machine: classic BPF, which the kernel runs on every frame.
fn filter(mac: MacAddr, ip: Option<Ipv4Addr>) -> Vec<sock_filter> {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD_X: u16 = 0x40;
    const LOAD_HALF_X: u16 = 0x48;
    const LOAD_X_HEADER_LEN: u16 = 0xb1;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const DHCP_PORTS: [u32; 3] = [67, 68, 4011];

    let [a, b, c, d, e, f] = mac.octets();
    let (high, low) = (u32::from(u16::from_be_bytes([a, b])), u32::from_be_bytes([c, d, e, f]));
    let mut code = Code::default();
    code.label("source");
    code.load(LOAD_HALF, 6).jump(JUMP_EQUAL, high, "source rest", "destination");
    code.label("source rest");
    code.load(LOAD_WORD, 8).jump(JUMP_EQUAL, low, "accept", "destination");
    code.label("destination");
    code.load(LOAD_HALF, 0).jump(JUMP_EQUAL, high, "destination rest", "type");
    code.label("destination rest");
    code.load(LOAD_WORD, 2).jump(JUMP_EQUAL, low, "accept", "type");
    code.label("type");
    code.load(LOAD_HALF, 12).jump(JUMP_EQUAL, 0x0800, "ip", "arp");
    code.label("arp");
    if let Some(ip) = ip {
        code.jump(JUMP_EQUAL, 0x0806, "arp sender", "reject");
        code.label("arp sender");
        code.load(LOAD_WORD, 28).jump(JUMP_EQUAL, ip.into(), "accept", "arp target");
        code.label("arp target");
        code.load(LOAD_WORD, 38).jump(JUMP_EQUAL, ip.into(), "accept", "reject");
    } else {
        code.jump(JUMP_EQUAL, 0x0806, "reject", "reject");
    }
    code.label("ip");
    if let Some(ip) = ip {
        code.load(LOAD_WORD, 26).jump(JUMP_EQUAL, ip.into(), "accept", "ip destination");
        code.label("ip destination");
        code.load(LOAD_WORD, 30).jump(JUMP_EQUAL, ip.into(), "accept", "udp");
    }
    code.label("udp");
    code.load(LOAD_BYTE, 23).jump(JUMP_EQUAL, 17, "first fragment", "reject");
    code.label("first fragment");
    code.load(LOAD_HALF, 20).jump(JUMP_SET, 0x1fff, "reject", "port");
    code.label("port");
    code.load(LOAD_X_HEADER_LEN, 14).load(LOAD_HALF_X, 16);
    let [server, client, binl] = DHCP_PORTS;
    code.jump(JUMP_EQUAL, server, "hardware", "to client");
    code.label("to client");
    code.jump(JUMP_EQUAL, client, "hardware", "to binl");
    code.label("to binl");
    code.jump(JUMP_EQUAL, binl, "hardware", "reject");
    // Ethernet's, IP's and UDP's headers, and 28 bytes of DHCP's (RFC 2131, figure 1).
    code.label("hardware");
    code.load(LOAD_HALF_X, 50).jump(JUMP_EQUAL, high, "hardware rest", "reject");
    code.label("hardware rest");
    code.load(LOAD_WORD_X, 52).jump(JUMP_EQUAL, low, "accept", "reject");
    code.label("accept");
    code.load(RETURN, u32::MAX);
    code.label("reject");
    code.load(RETURN, 0);
    code.finish()
}

/// Instructions whose jumps go to names.
#[derive(Default)]
struct Code {
    lines: Vec<(u16, u32, Option<[&'static str; 2]>)>,
    labels: HashMap<&'static str, usize>,
}

impl Code {
    fn label(&mut self, name: &'static str) {
        self.labels.insert(name, self.lines.len());
    }

    fn load(&mut self, code: u16, k: u32) -> &mut Self {
        self.lines.push((code, k, None));
        self
    }

    fn jump(&mut self, code: u16, k: u32, yes: &'static str, no: &'static str) {
        self.lines.push((code, k, Some([yes, no])));
    }

    fn finish(self) -> Vec<sock_filter> {
        let Self { lines, labels } = self;
        // Jumps lead forward, and the program is far shorter than they reach.
        let ahead = |from: usize, to: &str| {
            let at = labels.get(to).copied().unwrap_or(lines.len());
            u8::try_from(at.saturating_sub(from + 1)).unwrap_or(u8::MAX)
        };
        let line = |(from, (code, k, to)): (usize, &(u16, u32, Option<[&str; 2]>))| {
            let [jt, jf] = to.map_or([0, 0], |to| to.map(|name| ahead(from, name)));
            sock_filter { code: *code, jt, jf, k: *k }
        };
        lines.iter().enumerate().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 1]);
    const OTHER: [u8; 6] = [2, 2, 2, 2, 2, 2];
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);

    /// What the kernel does with a program; `None`: a load beyond the end, which drops the frame.
    fn run(program: &[sock_filter], frame: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0);
        let number = |from: u32, len: usize| -> Option<u32> {
            let bytes = frame.get(from as usize..from as usize + len)?;
            Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        };
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 => a = number(k, 4)?,
                0x28 => a = number(k, 2)?,
                0x30 => a = number(k, 1)?,
                0x40 => a = number(x + k, 4)?,
                0x48 => a = number(x + k, 2)?,
                0xb1 => x = (number(k, 1)? & 0xf) * 4,
                0x15 => at += usize::from(if a == k { jt } else { jf }),
                0x45 => at += usize::from(if a & k != 0 { jt } else { jf }),
                0x06 => return Some(k),
                other => panic!("code {other:#x}"),
            }
        }
    }

    fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
        [&to[..], &from, &kind.to_be_bytes(), rest].concat()
    }

    /// An IP packet with `options` words of options.
    fn ip(options: u8, protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 20 + usize::from(options) * 4];
        (head[0], head[9]) = (0x45 + options, protocol);
        head[12..16].copy_from_slice(&from.octets());
        head[16..20].copy_from_slice(&to.octets());
        [&head, payload].concat()
    }

    fn dhcp(port: u16, chaddr: [u8; 6]) -> Vec<u8> {
        let mut udp = vec![0; 8 + 240];
        udp[2..4].copy_from_slice(&port.to_be_bytes());
        udp[36..42].copy_from_slice(&chaddr);
        udp
    }

    #[test]
    fn the_filter_lets_through_what_belongs_to_the_machine() {
        let mac = MAC.octets();
        let all = [0xff; 6];
        let (nobody, far, relay) =
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 9, 0, 1));
        let packet = |options, protocol, from, to, payload: &[u8]| {
            ethernet(OTHER, OTHER, 0x0800, &ip(options, protocol, from, to, payload))
        };
        let mut later_fragment = packet(0, 17, far, relay, &dhcp(67, mac));
        later_fragment[21] = 9;
        let arp = |target: Ipv4Addr| {
            let mut arp = vec![0; 28];
            arp[24..28].copy_from_slice(&target.octets());
            ethernet(all, OTHER, 0x0806, &arp)
        };
        let broadcast =
            |chaddr| ethernet(all, OTHER, 0x0800, &ip(0, 17, far, [255; 4].into(), &dhcp(68, chaddr)));
        // Whether it is let through with the IP address known, and without.
        let table: &[(&str, Vec<u8>, bool, bool)] = &[
            ("from it", ethernet(OTHER, mac, 0x86dd, &[0; 40]), true, true),
            ("to it", ethernet(mac, OTHER, 0x88cc, &[]), true, true),
            (
                "half of its address",
                ethernet([0x52, 0x54, 1, 1, 1, 1], OTHER, 0x0800, &[0; 40]),
                false,
                false,
            ),
            ("an offer to all", broadcast(mac), true, true),
            ("another's offer to all", broadcast([0x52, 0x54, 0, 0x77, 0, 2]), false, false),
            ("relayed", packet(0, 17, far, relay, &dhcp(67, mac)), true, true),
            ("with IP options", packet(3, 17, far, relay, &dhcp(67, mac)), true, true),
            ("on port 4011", packet(0, 17, far, relay, &dhcp(4011, mac)), true, true),
            ("on another port", packet(0, 17, far, relay, &dhcp(69, mac)), false, false),
            ("a later fragment", later_fragment, false, false),
            ("from its address behind a router", packet(0, 6, IP, far, &[0; 20]), true, false),
            ("to its address behind a router", packet(0, 17, far, IP, &dhcp(9, OTHER)), true, false),
            ("who has its address", arp(IP), true, false),
            ("who has another", arp(far), false, false),
            ("strangers", packet(0, 6, nobody, far, &[0; 20]), false, false),
            ("cut short", ethernet(OTHER, OTHER, 0x0800, &[0x45]), false, false),
            ("a runt", vec![1, 2, 3], false, false),
        ];
        for (what, frame, with_ip, without) in table {
            for (ip, wanted) in [(Some(IP), with_ip), (None, without)] {
                let passed = run(&filter(MAC, ip), frame).unwrap_or(0) > 0;
                assert_eq!(passed, *wanted, "{what}, {ip:?}");
            }
        }
        assert!(filter(MAC, Some(IP)).len() < 64);
    }

    #[test]
    fn of_disk_data_the_head_is_kept() {
        let frame = |port: u16, first: u8| {
            let mut tcp = vec![0; 20 + 1000];
            tcp[..2].copy_from_slice(&port.to_be_bytes());
            (tcp[12], tcp[20]) = (0x50, first);
            ethernet(OTHER, OTHER, 0x0800, &ip(0, 6, IP, IP, &tcp))
        };
        let whole = 14 + 20 + 20 + 1000;
        for (port, first, kept) in
            [(3260, 0x25, whole - 1000 + 64), (3260, 0x23, whole), (3260, 0x43, whole), (80, 0x25, whole)]
        {
            assert_eq!(worth_keeping(&frame(port, first), 3260), kept, "{port} {first:#x}");
        }
        assert_eq!(worth_keeping(&[0; 9], 3260), 9);
    }

    #[test]
    fn there_is_one_capture_at_a_time() {
        let taps = Taps::default();
        let running = taps.begin(MAC, None).unwrap();
        assert!(matches!(taps.begin(MAC, None), Err(TapError::Busy(MAC))));
        drop(running);
        assert!(taps.begin(MAC, None).is_ok());
        assert!(matches!(Taps::none().begin(MAC, None), Err(TapError::Missing(_))));
    }
}
