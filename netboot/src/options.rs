//! DHCP options as they lie in a request: raw, bounded, and joined where they were split.

use std::net::Ipv4Addr;

use dhcproto::v4::{MessageType, OptionCode};

const PAD: u8 = 0;
const END: u8 = 255;
const OVERLOAD: u8 = 52;

/// The code of iPXE's own option, which holds sub-options (`ipxe.org`, "Etherboot encapsulated options").
pub(crate) const IPXE_ENCAPSULATED: u8 = 175;

/// Option 43, which holds PXE's sub-options (PXE 2.1, table 2-1).
pub(crate) const VENDOR_ENCAPSULATED: u8 = 43;

/// The option that says which subnet an address is wanted from (RFC 3011).
pub(crate) const SUBNET_SELECTION: u8 = 118;

/// The sub-option of option 82 that says which link the client is on.
const LINK_SELECTION: u8 = 5;

/// The sub-option of option 82 that says as whom the server is to answer.
const SERVER_OVERRIDE: u8 = 11;

/// Marks a code of which no option was seen. Never an index: there are at most 254 codes.
const UNSEEN: u8 = 255;

/// The options of one request, each code once. Values are as sent: getters read what they can and say `None` to
/// what is too short, so a bad option is as good as absent and hides no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    entries: Vec<(u8, Vec<u8>)>,
}

impl Options {
    /// The value of that option.
    #[must_use]
    pub fn get(&self, code: OptionCode) -> Option<&[u8]> {
        self.raw(code.into())
    }

    /// The value of the option with that number.
    #[must_use]
    pub fn raw(&self, code: u8) -> Option<&[u8]> {
        self.entries.iter().find(|(c, _)| *c == code).map(|(_, value)| value.as_slice())
    }

    /// All options, in the order in which they first came.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.entries.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// Option 53. `None` is a BOOTP request.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        self.first_bytes::<1>(OptionCode::MessageType).map(|[b]| b.into())
    }

    /// Option 50: the address that the client would like or believes to have.
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.address(OptionCode::RequestedIpAddress)
    }

    /// Option 54: the server that the client has chosen.
    #[must_use]
    pub fn server_identifier(&self) -> Option<Ipv4Addr> {
        self.address(OptionCode::ServerIdentifier)
    }

    /// Option 57: the longest answer that the client takes, in bytes, IP and UDP headers included.
    #[must_use]
    pub fn max_message_size(&self) -> Option<u16> {
        self.first_bytes(OptionCode::MaxMessageSize).map(u16::from_be_bytes)
    }

    /// Option 60: the vendor class, such as `PXEClient:Arch:00007:UNDI:003016`.
    #[must_use]
    pub fn vendor_class(&self) -> Option<&[u8]> {
        self.get(OptionCode::ClassIdentifier).map(trim)
    }

    /// Option 77: the user classes. iPXE sends its name plain, where RFC 3004 §4 wants each class behind a byte
    /// with its length: a value that is exactly so framed is taken apart, any other is one class.
    #[must_use]
    pub fn user_classes(&self) -> Vec<&[u8]> {
        let Some(value) = self.get(OptionCode::UserClass) else { return Vec::new() };
        framed(value).unwrap_or_else(|| vec![trim(value)])
    }

    /// Option 93: the architectures that the client can boot (RFC 4578 §2.1), best first.
    #[must_use]
    pub fn architectures(&self) -> Vec<u16> {
        let value = self.get(OptionCode::ClientSystemArchitecture).unwrap_or_default();
        value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// Option 97: the machine's UUID (RFC 4578 §2.3), as sent. Some ROMs send the option empty.
    #[must_use]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        match *self.get(OptionCode::ClientMachineIdentifier)? {
            [0, ref uuid @ ..] => uuid.try_into().ok(),
            _ => None,
        }
    }

    /// Option 55: what the client asks for. `None`: it leaves the choice to us.
    #[must_use]
    pub fn parameter_request_list(&self) -> Option<&[u8]> {
        self.get(OptionCode::ParameterRequestList)
    }

    /// Whether the client would make use of the option with that code: it asks for it, or says nothing of what it
    /// wants.
    #[must_use]
    pub fn asks_for(&self, code: OptionCode) -> bool {
        self.parameter_request_list().is_none_or(|list| list.contains(&code.into()))
    }

    /// Option 12: the name that the client gives itself, in whatever encoding.
    #[must_use]
    pub fn host_name(&self) -> Option<&[u8]> {
        self.get(OptionCode::Hostname).map(trim)
    }

    /// Option 61: how the client names itself. A ROM, iPXE and the operating system of one machine differ in it,
    /// so it is for show; machines are told apart by their Ethernet address.
    #[must_use]
    pub fn client_identifier(&self) -> Option<&[u8]> {
        self.get(OptionCode::ClientIdentifier)
    }

    /// Option 82: what the relay added, to be echoed untouched (RFC 3046 §2.2).
    #[must_use]
    pub fn relay_information(&self) -> Option<&[u8]> {
        self.get(OptionCode::RelayAgentInformation)
    }

    /// Sub-option 5 of option 82: an address on the client's link, where the relay's own is on another (RFC 3527).
    #[must_use]
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        self.relay_address(LINK_SELECTION)
    }

    /// Sub-option 11 of option 82: the address that the client is to take for the server's, so that it sends its renewals
    /// through the relay, too (RFC 5107).
    #[must_use]
    pub fn server_override(&self) -> Option<Ipv4Addr> {
        self.relay_address(SERVER_OVERRIDE).filter(|address| !address.is_unspecified())
    }

    /// Option 118: an address of the subnet that an address is wanted from (RFC 3011).
    #[must_use]
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        <[u8; 4]>::try_from(self.raw(SUBNET_SELECTION)?).ok().map(Ipv4Addr::from)
    }

    fn relay_address(&self, code: u8) -> Option<Ipv4Addr> {
        let (_, value) = tlvs(self.relay_information()?).find(|(found, _)| *found == code)?;
        <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
    }

    /// The sub-options of option 175, which only iPXE sends. A sub-option that is cut short ends the list.
    #[must_use]
    pub fn ipxe_sub_options(&self) -> Option<Vec<(u8, &[u8])>> {
        Some(tlvs(self.raw(IPXE_ENCAPSULATED)?).collect())
    }

    /// A sub-option of option 43.
    #[must_use]
    pub fn vendor_sub_option(&self, code: u8) -> Option<&[u8]> {
        tlvs(self.raw(VENDOR_ENCAPSULATED)?).find(|(found, _)| *found == code).map(|(_, value)| value)
    }

    fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        self.first_bytes::<4>(code).map(Ipv4Addr::from)
    }

    /// The first `N` bytes. Longer values are let pass: a client that repeats an option has it joined.
    fn first_bytes<const N: usize>(&self, code: OptionCode) -> Option<[u8; N]> {
        self.get(code)?.first_chunk().copied()
    }
}

/// Collects options from the places where they may lie.
pub(crate) struct OptionsBuilder {
    options: Options,
    index: [u8; 256],
}

impl OptionsBuilder {
    pub(crate) fn new() -> Self {
        Self { options: Options::default(), index: [UNSEEN; 256] }
    }

    /// Adds what is found in one place, up to its end mark or to an option that is longer than the place.
    pub(crate) fn area(&mut self, area: &[u8]) {
        for (code, value) in tlvs(area) {
            let entries = &mut self.options.entries;
            let at = &mut self.index[usize::from(code)];
            if let Some((_, joined)) = entries.get_mut(usize::from(*at)) {
                joined.extend_from_slice(value);
            } else {
                // Codes 0 and 255 never come here, so the length is at most 253.
                *at = u8::try_from(entries.len()).unwrap_or(UNSEEN);
                entries.push((code, value.to_vec()));
            }
        }
    }

    /// Option 52, 0 if there is none: 1 = `file` holds options, 2 = `sname` does, 3 = both (RFC 2132 §9.3).
    pub(crate) fn overload(&self) -> u8 {
        match self.options.raw(OVERLOAD) {
            Some(&[how @ 1..=3]) => how,
            _ => 0,
        }
    }

    pub(crate) fn finish(self) -> Options {
        self.options
    }
}

/// The options or sub-options in `area`: code, length, value; pad and end marks as in RFC 2132 §2.
fn tlvs(mut area: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            match *area {
                [] | [END, ..] | [_] => return None,
                [PAD, ref rest @ ..] => area = rest,
                [code, len, ref rest @ ..] => {
                    let (value, rest) = rest.split_at_checked(usize::from(len))?;
                    area = rest;
                    return Some((code, value));
                }
            }
        }
    })
}

/// The parts of a value in which each is behind its length, if it is so to its last byte.
fn framed(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while let [len, rest @ ..] = value {
        let (part, rest) = rest.split_at_checked(usize::from(*len))?;
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        value = rest;
    }
    Some(parts)
}

/// Without the NULs that some clients end a text with.
fn trim(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    &text[..end]
}
