//! Names and addresses that are valid by construction. Whatever is printed into an IQN, a file name, a script or
//! a log line comes from these types, so it can't break out of there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name or an address that is none, with the rule and an example that would pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{value}\" is not valid: {rule}, for example \"{example}\"")]
pub struct NameError {
    what: &'static str,
    value: String,
    rule: &'static str,
    example: &'static str,
}

impl NameError {
    pub(crate) fn new(what: &'static str, value: &str, rule: &'static str, example: &'static str) -> Self {
        Self { what, value: value.escape_default().take(80).collect(), rule, example }
    }
}

/// A type for names of at most `$max` bytes: `$edge` at both ends, or with `first` only at the beginning, and besides
/// those `$extra` in between.
macro_rules! name {
    (
        $(#[$doc:meta])* $type:ident, $what:literal, $max:literal, $ends:ident $edge:pat, $extra:pat,
        $rule:literal, $example:literal
    ) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// The longest one, in bytes.
            pub const MAX_LEN: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = crate::NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let edge = |c: char| matches!(c, $edge);
                let inner = |c: char| matches!(c, $edge | $extra);
                let good = text.len() <= Self::MAX_LEN
                    && text.chars().all(inner)
                    && text.starts_with(edge)
                    && (stringify!($ends) == "first" || text.ends_with(edge));
                if good { Ok(Self(text.into())) } else { Err(crate::NameError::new($what, text, $rule, $example)) }
            }
        }

        impl TryFrom<String> for $type {
            type Error = crate::NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use name;

name!(
    /// A client's name: one DNS label, because it is the client's host name too.
    ClientName, "client name", 63, both 'a'..='z' | '0'..='9', '-',
    "1 to 63 of a-z, 0-9 and \"-\", beginning and ending with a letter or digit", "en1018-07"
);
name!(
    /// An image's name. No "_": IQNs forbid it, and the name is part of them.
    ImageName, "image name", 63, both 'a'..='z' | '0'..='9', '-' | '.',
    "1 to 63 of a-z, 0-9, \"-\" and \".\", beginning and ending with a letter or digit", "win11-cs.lab2"
);
name!(
    /// One immutable version of an image.
    Version, "image version", 64, both 'a'..='z' | '0'..='9', '-' | '.',
    "1 to 64 of a-z, 0-9, \"-\" and \".\", beginning and ending with a letter or digit", "3f2a9c4d5e6f7081"
);

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address with these octets.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Its octets, as sent.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// As boot programs write it in file names: `52-54-00-77-00-01`.
    #[must_use]
    pub fn hyphenated(self) -> String {
        self.to_string().replace(':', "-")
    }

    /// As [`Display`](fmt::Display) writes it, in ASCII and without a place on the heap: whoever sends a packet makes
    /// us look its card up.
    pub(crate) fn text(self) -> [u8; 17] {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        let mut text = [b':'; 17];
        for (pair, octet) in text.chunks_mut(3).zip(self.0) {
            if let [high, low, ..] = pair {
                (*high, *low) = (digit(octet >> 4), digit(octet & 15));
            }
        }
        text
    }
}

impl FromStr for MacAddr {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || {
            NameError::new(
                "MAC address",
                text,
                "six pairs of hexadecimal digits, separated by \":\" or \"-\" or not at all",
                "52:54:00:77:00:01",
            )
        };
        let digits: String = match text.len() {
            12 => text.to_owned(),
            17 => {
                let separator = text.as_bytes()[2];
                if !matches!(separator, b':' | b'-')
                    || text.bytes().skip(2).step_by(3).any(|c| c != separator)
                {
                    return Err(bad());
                }
                text.bytes().enumerate().filter(|(i, _)| i % 3 != 2).map(|(_, c)| char::from(c)).collect()
            }
            _ => return Err(bad()),
        };
        if digits.len() != 12 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let value = u64::from_str_radix(&digits, 16).map_err(|_| bad())?;
        let octets = value.to_be_bytes();
        let mut mac = [0; 6];
        mac.copy_from_slice(&octets[2..]);
        if mac[0] & 1 == 1 || mac == [0; 6] {
            return Err(NameError::new(
                "MAC address",
                text,
                "it must be one machine's, neither a group address nor all zero",
                "52:54:00:77:00:01",
            ));
        }
        Ok(Self(mac))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ascii(&self.text()))
    }
}

/// Text that was written in ASCII.
pub(crate) fn ascii(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["a", "en1018-07", "0x"] {
            assert!(good.parse::<ClientName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a\nb", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ClientName>().is_err(), "{bad}");
        }
        assert!("win11.cs".parse::<ImageName>().is_ok());
        let message = "Lab PC".parse::<ClientName>().unwrap_err().to_string();
        assert!(message.contains("Lab PC") && message.contains("en1018-07"), "{message}");
    }

    #[test]
    fn macs_are_read_in_every_usual_form() {
        let mac = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0xab]);
        for text in ["52:54:00:77:00:ab", "52-54-00-77-00-AB", "5254007700AB"] {
            assert_eq!(text.parse::<MacAddr>(), Ok(mac));
        }
        for bad in [
            "",
            "52:54:00:77:00",
            "52:54-00:77:00:ab",
            "5g:54:00:77:00:ab",
            "ff:ff:ff:ff:ff:ff",
            "5254007700äb",
            "é2:54:00:77:00:a",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
        assert_eq!(mac.to_string(), "52:54:00:77:00:ab");
        assert_eq!(mac.hyphenated(), "52-54-00-77-00-ab");
        assert_eq!(MacAddr::new([0x0a, 0x9f, 0xf0, 0, 0x19, 0xff]).to_string(), "0a:9f:f0:00:19:ff");
    }
}
