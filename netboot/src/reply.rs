//! DHCP answers as bytes, and where they go.
//!
//! dhcproto encodes the header and each option; the order of the options is ours. Its own order is by code, and
//! clients were seen that want 53, 54 and 51 first (rawify/dhcp.js#56). See `docs/decisions/0001-dhcp-codec.md`.

use std::net::Ipv4Addr;

use dhcproto::Encodable;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption};
use site::MacAddr;

use crate::options::{IPXE_ENCAPSULATED, SUBNET_SELECTION};
use crate::packet::Packet;
use crate::site_options::SiteOption;

/// The shortest answer: the BOOTP message of RFC 1542 §2.1, which some relays and ROMs insist on.
const MIN_LEN: usize = 300;

/// The longest answer to a client that doesn't say what it takes: 576 bytes with IP and UDP headers (RFC 2131 §2).
const DEFAULT_MAX_LEN: usize = 576 - HEADERS;

/// The longest answer to any client: one Ethernet frame, since ROMs put no fragments together.
const MAX_LEN: usize = 1500 - HEADERS;

/// What IP and UDP put before an answer, in bytes.
const HEADERS: usize = 28;

/// Room for the options without which no client can use an answer: types, times, mask and router.
const ESSENTIAL: usize = 64;

/// The options without which a client can't use an answer, or does not boot: what the answer is and whose, the address's
/// times, mask and router, the program and what marks it as meant for firmware. What else there is must leave them room.
const FIRST: [u8; 14] = [1, 3, 43, 51, 53, 54, 58, 59, 60, 66, 67, 97, SUBNET_SELECTION, IPXE_ENCAPSULATED];

/// How many bytes of other options fit any answer: what is left of the shortest beside the header, the longest name of a
/// boot program, and the rest of those that come first.
pub(crate) const ROOM_FOR_OTHERS: usize = 80;

/// Where a DHCP answer goes (RFC 2131 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To 255.255.255.255, port 68, on the interface that the request came by.
    Broadcast,
    /// To a machine that has no address yet and does not answer ARP: an Ethernet frame to `mac`, port 68.
    Unicast {
        /// The address that it is being given.
        ip: Ipv4Addr,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// To the relay, port 67.
    Relay(Ipv4Addr),
    /// To a machine that has this address already, port 68.
    Client(Ipv4Addr),
}

/// One answer to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The UDP payload.
    pub bytes: Vec<u8>,
    /// Where to.
    pub to: Destination,
}

/// What an answer's fixed part says; the rest is the request's.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) kind: MessageType,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) yiaddr: Ipv4Addr,
    pub(crate) siaddr: Ipv4Addr,
    pub(crate) sname: String,
    pub(crate) file: String,
}

impl Header {
    pub(crate) fn new(kind: MessageType) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { kind, ciaddr: none, yiaddr: none, siaddr: none, sname: String::new(), file: String::new() }
    }
}

/// An answer in the making.
pub(crate) struct Writer {
    header: Vec<u8>,
    /// Each option's code, and its bytes.
    options: Vec<(u8, Vec<u8>)>,
    /// How long it may become before the relay's option and the end mark.
    room: usize,
    relay_information: Option<Vec<u8>>,
    /// The subnet that the client named.
    subnet: Option<Ipv4Addr>,
    /// Options that the site sets: what we would say under these numbers is left out.
    theirs: Vec<u8>,
}

impl Writer {
    /// The header, and options 53 and 54, which all answers begin with.
    pub(crate) fn new(packet: &Packet, header: &Header, server: Ipv4Addr) -> Self {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootReply)
            .set_hops(0)
            .set_xid(packet.xid)
            .set_flags(packet.flags.into())
            .set_ciaddr(header.ciaddr)
            .set_yiaddr(header.yiaddr)
            .set_siaddr(header.siaddr)
            .set_giaddr(packet.giaddr)
            .set_chaddr(&packet.mac.octets());
        // dhcproto asserts that these fit. An end mark must fit too.
        if !header.sname.is_empty() && header.sname.len() < 64 {
            message.set_sname_str(&header.sname);
        }
        if !header.file.is_empty() && header.file.len() < 128 {
            message.set_fname_str(&header.file);
        }
        // A NAK through a relay must reach a client whose address may be wrong (RFC 2131 §4.3.2).
        if header.kind == MessageType::Nak && !packet.giaddr.is_unspecified() {
            message.set_flags((packet.flags | 0x8000).into());
        }
        let mut bytes = Vec::with_capacity(DEFAULT_MAX_LEN);
        encode(&message, &mut bytes);
        let longest = packet.options.max_message_size().map_or(DEFAULT_MAX_LEN, |size| {
            usize::from(size).saturating_sub(HEADERS).clamp(DEFAULT_MAX_LEN, MAX_LEN)
        });
        let relay_information = packet.options.relay_information().map(<[u8]>::to_vec);
        // RFC 3011 §2: who names a subnet is told which one that was.
        let subnet = packet.options.subnet_selection().filter(|_| packet.relayed_from().is_some());
        let echoed = relay_information.as_ref().map_or(0, |value| encoded_len(value.len()));
        // RFC 3046 §2.2: it is left out rather than what the client needs.
        let (relay_information, room) = match longest.checked_sub(bytes.len() + ESSENTIAL + echoed + 1) {
            Some(_) => (relay_information, longest - echoed - 1),
            None => (None, longest - 1),
        };
        let (options, theirs) = (Vec::new(), Vec::new());
        let mut writer = Self { header: bytes, options, room, relay_information, subnet, theirs };
        writer.push(DhcpOption::MessageType(header.kind));
        writer.push(DhcpOption::ServerIdentifier(server));
        writer
    }

    /// From now on the site's options come before ours.
    pub(crate) fn push_site(&mut self, packet: &Packet, options: &[SiteOption], but: Option<u8>) {
        for SiteOption { code, forced, value } in options.iter().filter(|option| Some(option.code) != but) {
            if (*forced || packet.options.asks_for((*code).into())) && self.push_raw(*code, value) {
                self.theirs.push(*code);
            }
        }
    }

    /// Adds an option, unless the site has set it.
    #[expect(clippy::needless_pass_by_value, reason = "options are made for this call")]
    pub(crate) fn push(&mut self, option: DhcpOption) -> bool {
        let code = OptionCode::from(&option).into();
        let ours = !self.theirs.contains(&code);
        if ours {
            let mut bytes = Vec::new();
            encode(&option, &mut bytes);
            self.options.push((code, bytes));
        }
        ours
    }

    /// Adds an option that dhcproto has no type for.
    pub(crate) fn push_raw(&mut self, code: u8, value: &[u8]) -> bool {
        self.push(DhcpOption::Unknown(UnknownOption::new(code.into(), value.to_vec())))
    }

    /// Options 66 and 67, for who asks for them: what to fetch, and where.
    pub(crate) fn push_file(&mut self, packet: &Packet, server: Ipv4Addr, file: &str) {
        if packet.options.asks_for(OptionCode::TFTPServerName) {
            self.push(DhcpOption::TFTPServerName(server.to_string().into_bytes()));
        }
        if packet.options.asks_for(OptionCode::BootfileName) {
            self.push(DhcpOption::BootfileName(file.as_bytes().to_vec()));
        }
    }

    /// Option 97, which RFC 4578 §2.3 wants back. Some ROMs send it empty (danderson/pixiecore#21): nothing to give back
    /// then.
    pub(crate) fn push_uuid(&mut self, packet: &Packet) {
        if let Some(uuid) = packet.options.get(OptionCode::ClientMachineIdentifier)
            && uuid.len() == 17
        {
            self.push(DhcpOption::ClientMachineIdentifier(uuid.to_vec()));
        }
    }

    /// The finished answer, and the options that it had no room for. The relay's option comes last, as RFC 3046 §2.1 has it,
    /// then the end mark, and zeros.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        if let Some(subnet) = self.subnet {
            self.push_raw(SUBNET_SELECTION, &subnet.octets());
        }
        let mut left = self.room.saturating_sub(self.header.len());
        let mut fits = vec![false; self.options.len()];
        for first in [true, false] {
            for ((code, bytes), fits) in self.options.iter().zip(&mut fits) {
                if FIRST.contains(code) == first && bytes.len() <= left {
                    left -= bytes.len();
                    *fits = true;
                }
            }
        }
        let (mut bytes, mut left_out) = (self.header, Vec::new());
        for ((code, option), fits) in self.options.iter().zip(fits) {
            if fits { bytes.extend_from_slice(option) } else { left_out.push(*code) }
        }
        if let Some(value) = self.relay_information.take() {
            let option = UnknownOption::new(OptionCode::RelayAgentInformation, value);
            encode(&DhcpOption::Unknown(option), &mut bytes);
        }
        bytes.push(255);
        // The Raspberry Pi discards answers that have pad options *among* the others (raspberrypi/rpi-eeprom#82);
        // after the end mark zeros are no options.
        if bytes.len() < MIN_LEN {
            bytes.resize(MIN_LEN, 0);
        }
        (bytes, left_out)
    }
}

/// Writing to memory can't fail; what dhcproto refuses for another reason is left out whole. (Its encoder writes from
/// the beginning of a buffer that holds something already, so each part has its own.)
fn encode(what: &impl Encodable, into: &mut Vec<u8>) {
    if let Ok(bytes) = what.to_vec() {
        into.extend_from_slice(&bytes);
    }
}

/// The length of an option whose value is `len` long, split where it must be (RFC 3396 §4).
fn encoded_len(len: usize) -> usize {
    len + 2 * len.div_ceil(255)
}
