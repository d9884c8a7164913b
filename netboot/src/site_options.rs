//! DHCP options that the site gives to its machines: the values of the variable `dhcp_option`, of a client, of its
//! groups or of all.
//!
//! A value is `NUMBER:TYPE:VALUE`, as in `42:ip:10.0.0.5`. The machine is told it if it asks for that number (option 55)
//! or says nothing of what it wants; with `!` behind the number, also unasked.

use std::net::Ipv4Addr;

use site::entity::{CLIENT_TYPE, SITE_DEFAULTS, SITE_TYPE, Values};
use site::{Client, Site};

use crate::reply::ROOM_FOR_OTHERS;
use crate::subnet::Subnet;

/// The variable.
const VARIABLE: &str = "dhcp_option";

/// How many options of the site one machine is told. Further ones are left out.
const MAX_OPTIONS: usize = 32;

/// The longest value, in bytes: that of one option which need not be split.
const MAX_LEN: usize = 255;

/// What DHCP itself is made of: pads, addresses, times, kinds, identifiers, the relay's. No site sets these.
const NOT_THE_SITES: [u8; 14] = [0, 50, 51, 52, 53, 54, 55, 57, 58, 59, 61, 82, 118, 255];

/// One option as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteOption {
    /// Its number.
    pub code: u8,
    /// Whether it is told to who does not ask for it.
    pub forced: bool,
    /// Its value as it is sent.
    pub value: Vec<u8>,
}

/// Why a text is no option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteOptionError {
    /// It is not of the form.
    #[error("it is not NUMBER:TYPE:VALUE, for example 42:ip:10.0.0.5")]
    Form,
    /// The number is DHCP's own.
    #[error("option {0} is DHCP's own to set")]
    NotTheSites(u8),
    /// There is no such type.
    #[error("there is no type {0:?}: write ip, text, hex, u8, u16, u32, bool, domains or routes")]
    Type(String),
    /// The value is none of that type.
    #[error("{value:?} is no {kind}; write, for example: {example}")]
    Value {
        /// What it should be.
        kind: &'static str,
        /// What it is.
        value: String,
        /// A right one.
        example: &'static str,
    },
    /// The value is longer than an option.
    #[error("it is longer than the {MAX_LEN} bytes of an option")]
    TooLong,
}

/// The options of the site for a client, or for machines that it doesn't know, and what is wrong with those that are
/// none.
pub(crate) fn of_site(
    site: &Site,
    client: Option<&Client>,
) -> (Vec<SiteOption>, Vec<(String, SiteOptionError)>) {
    let model = site.model();
    let values = match client {
        Some(client) => {
            model.effective(CLIENT_TYPE, client.name.as_str(), VARIABLE).map(|found| found.values)
        }
        None => model.get(SITE_TYPE, SITE_DEFAULTS).and_then(|defaults| defaults.get(VARIABLE)),
    };
    let (mut options, mut wrong) = (Vec::<SiteOption>::new(), Vec::new());
    for text in values.into_iter().flat_map(Values::iter).take(MAX_OPTIONS) {
        match text.parse::<SiteOption>() {
            // The first of a number counts.
            Ok(option) if options.iter().any(|other| other.code == option.code) => {}
            Ok(option) => options.push(option),
            Err(e) => wrong.push((text.to_owned(), e)),
        }
    }
    (options, wrong)
}

/// Those that do not fit every answer.
pub(crate) fn cramped(options: &[SiteOption]) -> Vec<u8> {
    let mut left = ROOM_FOR_OTHERS;
    let mut cramped = Vec::new();
    for SiteOption { code, value, .. } in options {
        match left.checked_sub(value.len() + 2) {
            Some(rest) => left = rest,
            None => cramped.push(*code),
        }
    }
    cramped
}

impl std::str::FromStr for SiteOption {
    type Err = SiteOptionError;

    fn from_str(text: &str) -> Result<Self, SiteOptionError> {
        let mut parts = text.splitn(3, ':');
        let (Some(number), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SiteOptionError::Form);
        };
        let (number, forced) = number.strip_suffix('!').map_or((number, false), |number| (number, true));
        let code: u8 = number.trim().parse().map_err(|_| SiteOptionError::Form)?;
        if NOT_THE_SITES.contains(&code) {
            return Err(SiteOptionError::NotTheSites(code));
        }
        let value = encode(kind.trim(), value.trim())?;
        if value.len() > MAX_LEN {
            return Err(SiteOptionError::TooLong);
        }
        Ok(Self { code, forced, value })
    }
}

fn encode(kind: &str, value: &str) -> Result<Vec<u8>, SiteOptionError> {
    let wrong = |kind, example| SiteOptionError::Value { kind, value: value.to_owned(), example };
    let list = |one: &dyn Fn(&str) -> Option<Vec<u8>>| -> Option<Vec<u8>> {
        let all: Option<Vec<_>> = value.split(',').map(|part| one(part.trim())).collect();
        all.map(|parts| parts.concat())
    };
    match kind {
        "text" => {
            Some(value.as_bytes().to_vec()).filter(|text| !text.is_empty()).ok_or(SiteOptionError::Form)
        }
        "ip" => list(&|part| part.parse::<Ipv4Addr>().ok().map(|ip| ip.octets().to_vec()))
            .ok_or_else(|| wrong("list of addresses", "42:ip:10.0.0.5,10.0.0.6")),
        "hex" => hex(value).ok_or_else(|| wrong("row of hexadecimal digits", "43:hex:010400000000ff")),
        "u8" => list(&|part| part.parse::<u8>().ok().map(|n| vec![n]))
            .ok_or_else(|| wrong("number up to 255", "23:u8:64")),
        "u16" => list(&|part| part.parse::<u16>().ok().map(|n| n.to_be_bytes().to_vec()))
            .ok_or_else(|| wrong("number up to 65535", "26:u16:9000")),
        "u32" => list(&|part| part.parse::<u32>().ok().map(|n| n.to_be_bytes().to_vec()))
            .ok_or_else(|| wrong("number up to 4294967295", "35:u32:60")),
        "bool" => match value {
            "yes" | "true" => Ok(vec![1]),
            "no" | "false" => Ok(vec![0]),
            _ => Err(wrong("yes or no", "19:bool:no")),
        },
        "domains" => list(&domain).ok_or_else(|| wrong("list of domains", "119:domains:lab.example,example")),
        "routes" => list(&route)
            .ok_or_else(|| wrong("list of routes", "121:routes:10.1.0.0/16 10.0.0.254,0.0.0.0/0 10.0.0.1")),
        other => Err(SiteOptionError::Type(other.to_owned())),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A domain as labels behind their lengths (RFC 3397 §2, RFC 1035 §3.1).
fn domain(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in text.trim_end_matches('.').split('.') {
        let len = u8::try_from(label.len()).ok().filter(|len| (1..=63).contains(len))?;
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// `NETWORK/BITS ROUTER`, of the network as many bytes as its bits need (RFC 3442).
fn route(text: &str) -> Option<Vec<u8>> {
    let (subnet, router) = text.split_once(' ')?;
    let (subnet, router) = (subnet.parse::<Subnet>().ok()?, router.trim().parse::<Ipv4Addr>().ok()?);
    let significant = usize::from(subnet.prefix_len().div_ceil(8));
    let network = subnet.network().octets();
    Some([&[subnet.prefix_len()], network.get(..significant)?, &router.octets()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Vec<u8> {
        text.parse::<SiteOption>().unwrap_or_else(|e| panic!("{text}: {e}")).value
    }

    #[test]
    fn each_type_is_sent_as_its_rfc_has_it() {
        assert_eq!(value("42:ip:10.0.0.5, 10.0.0.6"), [10, 0, 0, 5, 10, 0, 0, 6]);
        assert_eq!(value("252:text:http://wpad/wpad.dat"), b"http://wpad/wpad.dat");
        assert_eq!(value("43:hex:01:04 0000ff0A"), [1, 4, 0, 0, 0xff, 0x0a]);
        assert_eq!(value("26:u16:9000"), [0x23, 0x28]);
        assert_eq!(value("25:u16:68,296"), [0, 68, 1, 40]);
        assert_eq!((value("23:u8:64"), value("35:u32:60")), (vec![64], vec![0, 0, 0, 60]));
        assert_eq!((value("19:bool:no"), value("19:bool:yes")), (vec![0], vec![1]));
        assert_eq!(value("119:domains:eng.apple.com"), b"\x03eng\x05apple\x03com\0");
        assert_eq!(
            value("121:routes:10.17.0.0/16 10.0.0.1,0.0.0.0/0 10.0.0.2"),
            [16, 10, 17, 10, 0, 0, 1, 0, 10, 0, 0, 2]
        );
        assert!("66!:text:x".parse::<SiteOption>().unwrap().forced);
    }

    #[test]
    fn what_is_none_says_what_would_be_right() {
        for (text, word) in [
            ("42", "NUMBER:TYPE:VALUE"),
            ("x:ip:10.0.0.1", "NUMBER:TYPE:VALUE"),
            ("256:u8:1", "NUMBER:TYPE:VALUE"),
            ("53:u8:1", "DHCP's own"),
            ("82:hex:00", "DHCP's own"),
            ("42:address:10.0.0.1", "domains or routes"),
            ("42:ip:10.0.0", "42:ip:10.0.0.5"),
            ("43:hex:123", "43:hex:"),
            ("43:hex:", "43:hex:"),
            ("26:u16:70000", "65535"),
            ("19:bool:maybe", "19:bool:no"),
            ("119:domains:a..b", "119:domains:"),
            ("121:routes:10.1.0.1/16 10.0.0.1", "121:routes:"),
            ("9:text:", "NUMBER:TYPE:VALUE"),
        ] {
            let error = text.parse::<SiteOption>().expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let long = format!("9:text:{}", "x".repeat(256));
        assert_eq!(long.parse::<SiteOption>(), Err(SiteOptionError::TooLong));
    }
}
