//! The guard at the door of DHCP: raw datagrams in, a checked view of the header and the raw options out.
//!
//! dhcproto's decoder panics on `hlen` > 16 and stops at the first option that it can't read, hiding the rest, so
//! the walk over the bytes is ours. See `docs/decisions/0001-dhcp-codec.md`.

use std::net::Ipv4Addr;

use site::MacAddr;

use crate::options::{Options, OptionsBuilder};

/// The shortest datagram that can be DHCP: the BOOTP header of 236 bytes and the magic cookie. Shorter ones are
/// refused. Senders pad to 300 (RFC 1542 §2.1), but not all of them do.
pub(crate) const MIN_LEN: usize = 240;

/// The longest datagram that is looked at. Requests fit one Ethernet frame; longer ones are refused, so that no
/// datagram makes us hold more than this.
pub(crate) const MAX_LEN: usize = 4096;

/// What precedes the options (RFC 2131 §3).
pub(crate) const COOKIE: [u8; 4] = [99, 130, 83, 99];

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// A request as received (RFC 2131 §2), its hardware address known to be one machine's Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Relays that it came through.
    pub hops: u8,
    /// The exchange that it belongs to; echoed.
    pub xid: u32,
    /// Seconds since the client began to ask, as it says.
    pub secs: u16,
    /// The flags; the top bit asks for a broadcast answer.
    pub flags: u16,
    /// The address that the client has and answers for, or 0.0.0.0.
    pub ciaddr: Ipv4Addr,
    /// "Your" address. Zero in requests; kept for dumps.
    pub yiaddr: Ipv4Addr,
    /// The next server. Zero in requests; kept for dumps.
    pub siaddr: Ipv4Addr,
    /// The relay's address on the client's link, or 0.0.0.0.
    pub giaddr: Ipv4Addr,
    /// The hardware address field as sent.
    pub chaddr: [u8; 16],
    /// The client's Ethernet address, from `chaddr`.
    pub mac: MacAddr,
    /// The options, repeated ones joined.
    pub options: Options,
    /// Whether it comes from an iPXE that we have given the machine; see [`Reloads`](crate::Reloads). Not in the
    /// bytes: whoever remembers sets it.
    pub reloaded: bool,
    /// The address that it came from. Not in the bytes: whoever receives it sets it; `None`: unknown.
    pub source: Option<Ipv4Addr>,
    /// Whether the machine boots just now, or runs from a disk of ours. Not in the bytes: whoever knows sets it.
    pub busy: bool,
}

/// Why a datagram is no DHCP request for us. All of these are the sender's doing; there is no answer to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It ends before the options begin.
    #[error("a DHCP datagram of {0} bytes, shorter than {MIN_LEN}")]
    TooShort(usize),
    /// It is longer than any request.
    #[error("a DHCP datagram of {0} bytes, longer than {MAX_LEN}")]
    TooLong(usize),
    /// It is an answer, or nothing that RFC 2131 knows.
    #[error("a DHCP datagram with op {0}, not a request")]
    NotARequest(u8),
    /// Not an Ethernet client.
    #[error("a DHCP request from hardware type {htype} with {hlen} bytes of address, not Ethernet")]
    Hardware {
        /// The hardware type (RFC 1700).
        htype: u8,
        /// The length of its addresses.
        hlen: u8,
    },
    /// Its hardware address is a group's or all zero.
    #[error("a DHCP request from a hardware address that is no single machine's")]
    NoMachine,
    /// The magic cookie is missing: BOOTP of old, or no BOOTP at all.
    #[error("a DHCP datagram without the magic cookie")]
    NoCookie,
}

impl Packet {
    /// Reads a request. Never panics, whatever the bytes; an option that can't be read is left out and hides no
    /// other. Repeated options are joined (RFC 3396) and those in `file` and `sname` are found (option 52).
    ///
    /// # Errors
    /// When the fixed part is none of an Ethernet client's request.
    pub fn parse(bytes: &[u8]) -> Result<Self, PacketError> {
        if bytes.len() > MAX_LEN {
            return Err(PacketError::TooLong(bytes.len()));
        }
        let too_short = || PacketError::TooShort(bytes.len());
        let (header, rest) = bytes.split_first_chunk::<236>().ok_or_else(too_short)?;
        let (cookie, area) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
        let [op, htype, hlen, hops, ..] = *header;
        if op != 1 {
            return Err(PacketError::NotARequest(op));
        }
        if *cookie != COOKIE {
            return Err(PacketError::NoCookie);
        }
        if (htype, hlen) != (1, 6) {
            return Err(PacketError::Hardware { htype, hlen });
        }
        let mut chaddr = [0; 16];
        chaddr.copy_from_slice(&header[28..44]);
        let [a, b, c, d, e, f, ..] = chaddr;
        let octets = [a, b, c, d, e, f];
        if a & 1 == 1 || octets == [0; 6] {
            return Err(PacketError::NoMachine);
        }
        Ok(Self {
            hops,
            xid: u32::from_be_bytes(field(header, 4)),
            secs: u16::from_be_bytes(field(header, 8)),
            flags: u16::from_be_bytes(field(header, 10)),
            ciaddr: field::<4>(header, 12).into(),
            yiaddr: field::<4>(header, 16).into(),
            siaddr: field::<4>(header, 20).into(),
            giaddr: field::<4>(header, 24).into(),
            chaddr,
            mac: MacAddr::new(octets),
            options: options(header, area),
            reloaded: false,
            source: None,
            busy: false,
        })
    }

    /// An address on the client's link, if the request came through a relay: the relay's own, unless it or the client says
    /// that another link is meant. RFC 3527 §3 has the relay's word before the client's (RFC 3011), and that before its
    /// own address. Only behind a relay is any of them heard: a machine on our link is on our link.
    #[must_use]
    pub fn relayed_from(&self) -> Option<Ipv4Addr> {
        if self.giaddr.is_unspecified() {
            return None;
        }
        let said = self.options.link_selection().or_else(|| self.options.subnet_selection());
        Some(said.unwrap_or(self.giaddr))
    }

    /// As whom the relay wants us to answer (RFC 5107). Only a relay is heard.
    #[must_use]
    pub fn server_override(&self) -> Option<Ipv4Addr> {
        self.options.server_override().filter(|_| !self.giaddr.is_unspecified())
    }

    /// Whether the client asks for the answer to be broadcast (RFC 2131 §2, the B flag).
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }
}

/// The `N` bytes at `at` of the header. All callers name places inside of it.
fn field<const N: usize>(header: &[u8; 236], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

/// All options, in the order in which RFC 3396 §5 joins the places where they may lie.
fn options(header: &[u8; 236], area: &[u8]) -> Options {
    let mut builder = OptionsBuilder::new();
    builder.area(area);
    let overload = builder.overload();
    if overload & 1 != 0 {
        builder.area(&header[FILE]);
    }
    if overload & 2 != 0 {
        builder.area(&header[SNAME]);
    }
    builder.finish()
}
