//! DHCP messages for tests: made and taken apart by code that shares nothing with what is tested.

use std::net::Ipv4Addr;

use site::MacAddr;

const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// A message's fields and options, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) op: u8,
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) flags: u16,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) siaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) mac: MacAddr,
    pub(crate) sname: String,
    pub(crate) file: String,
    pub(crate) options: Vec<(u8, Vec<u8>)>,
    pub(crate) len: usize,
}

/// A request of that kind (option 53).
pub(crate) fn request(mac: MacAddr, kind: u8) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    Message {
        op: 1,
        xid: 0x1234_5678,
        secs: 0,
        flags: 0,
        ciaddr: none,
        yiaddr: none,
        siaddr: none,
        giaddr: none,
        mac,
        sname: String::new(),
        file: String::new(),
        options: vec![(53, vec![kind])],
        len: 300,
    }
}

pub(crate) fn discover(mac: MacAddr) -> Message {
    request(mac, 1)
}

/// A REQUEST as after an offer.
pub(crate) fn selecting(mac: MacAddr, address: Ipv4Addr, server: Ipv4Addr) -> Message {
    request(mac, 3).option(50, &address.octets()).option(54, &server.octets())
}

/// A REQUEST as after a reboot, of an address that is remembered.
pub(crate) fn init_reboot(mac: MacAddr, address: Ipv4Addr) -> Message {
    request(mac, 3).option(50, &address.octets())
}

/// A REQUEST to prolong.
pub(crate) fn renewing(mac: MacAddr, address: Ipv4Addr) -> Message {
    Message { ciaddr: address, ..request(mac, 3) }
}

impl Message {
    pub(crate) fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    pub(crate) fn get(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(c, _)| *c == code).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.op, 1, 6, 0];
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.mac.octets());
        out.resize(44, 0);
        out.extend(self.sname.as_bytes());
        out.resize(108, 0);
        out.extend(self.file.as_bytes());
        out.resize(236, 0);
        out.extend(COOKIE);
        for (code, value) in &self.options {
            out.extend([*code, u8::try_from(value.len()).unwrap()]);
            out.extend(value);
        }
        out.push(255);
        out.resize(self.len.max(out.len()), 0);
        out
    }

    /// Takes a message apart. Panics where it is not exactly as it should be.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
        let text = |from: usize, to: usize| {
            let field = &bytes[from..to];
            let end = field.iter().position(|b| *b == 0).expect("no end mark in a text of the header");
            assert!(field[end..].iter().all(|b| *b == 0), "rubbish behind a text of the header");
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        assert_eq!(bytes[1..3], [1, 6], "hardware type and length");
        assert!(bytes[34..44].iter().all(|b| *b == 0), "rubbish behind the hardware address");
        assert_eq!(bytes[236..240], COOKIE);
        let mut options = Vec::new();
        let mut at = 240;
        while bytes[at] != 255 {
            assert_ne!(bytes[at], 0, "a pad option among the options");
            let len = usize::from(bytes[at + 1]);
            options.push((bytes[at], bytes[at + 2..at + 2 + len].to_vec()));
            at += 2 + len;
        }
        assert!(bytes[at + 1..].iter().all(|b| *b == 0), "rubbish behind the end mark");
        Self {
            op: bytes[0],
            xid: u32::from_be_bytes(bytes[4..8].try_into().unwrap()),
            secs: u16::from_be_bytes(bytes[8..10].try_into().unwrap()),
            flags: u16::from_be_bytes(bytes[10..12].try_into().unwrap()),
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            mac: MacAddr::new(bytes[28..34].try_into().unwrap()),
            sname: text(44, 108),
            file: text(108, 236),
            options,
            len: bytes.len(),
        }
    }
}
