//! Forms that values have by themselves, whatever the site: how they are written, and their one canonical spelling,
//! so that equal things compare equal.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::MacAddr;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Any text, as it is.
    #[default]
    Text,
    /// An Ethernet address; kept as `52:54:00:77:00:01`.
    Mac,
    /// An IPv4 address.
    Address,
    /// A UUID; kept as `4c4c4544-0042-3510-8052-b4c04f4e3732`.
    Uuid,
    /// A whole number from 0.
    Number,
    /// A number of bytes: `4294967296`, `4096M`, `4G`; kept as plain bytes.
    Size,
    /// `yes` or `no`, also written `true`, `on`, `1` and their opposites.
    Boolean,
}

impl Format {
    /// The value in its canonical spelling.
    ///
    /// # Errors
    /// The rule, when it is no such value.
    pub fn canonical(self, value: &str) -> Result<Box<str>, &'static str> {
        let trimmed = value.trim();
        let canonical = match self {
            Self::Text => return Ok(value.into()),
            Self::Mac => trimmed.parse().ok().map(|mac: MacAddr| mac.to_string()),
            Self::Address => trimmed.parse().ok().map(|address: Ipv4Addr| address.to_string()),
            Self::Uuid => uuid(trimmed),
            Self::Number => trimmed.parse().ok().map(|number: u64| number.to_string()),
            Self::Size => size(trimmed).map(|bytes| bytes.to_string()),
            Self::Boolean => boolean(trimmed).map(|yes| if yes { "yes" } else { "no" }.to_owned()),
        };
        canonical.map(Into::into).ok_or_else(|| self.rule())
    }

    /// What a value must be.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Text => "any text",
            Self::Mac => "the Ethernet address of one machine: six pairs of hexadecimal digits",
            Self::Address => "an IPv4 address",
            Self::Uuid => "a UUID: 32 hexadecimal digits, grouped or not",
            Self::Number => "a whole number from 0",
            Self::Size => "a number of bytes, which may end in K, M, G or T",
            Self::Boolean => "yes or no",
        }
    }

    /// One that would pass.
    #[must_use]
    pub fn example(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Mac => "52:54:00:77:00:01",
            Self::Address => "192.168.7.21",
            Self::Uuid => "4c4c4544-0042-3510-8052-b4c04f4e3732",
            Self::Number => "12",
            Self::Size => "4G",
            Self::Boolean => "yes",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule())
    }
}

fn uuid(text: &str) -> Option<String> {
    let digits: String = match text.len() {
        32 => text.to_owned(),
        36 => {
            let mut groups = text.split('-');
            let lengths_fit =
                [8, 4, 4, 4, 12].iter().all(|length| groups.next().map(str::len) == Some(*length));
            lengths_fit.then(|| text.replace('-', ""))?
        }
        _ => return None,
    };
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
    let digits = format!("{number:032x}");
    let (a, rest) = digits.split_at_checked(8)?;
    let (b, rest) = rest.split_at_checked(4)?;
    let (c, rest) = rest.split_at_checked(4)?;
    let (d, e) = rest.split_at_checked(4)?;
    Some(format!("{a}-{b}-{c}-{d}-{e}"))
}

fn size(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (text.get(..at)?, 10),
        (at, 'm' | 'M') => (text.get(..at)?, 20),
        (at, 'g' | 'G') => (text.get(..at)?, 30),
        (at, 't' | 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    number.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_things_are_spelt_alike() {
        for (format, values) in [
            (Format::Mac, ["52:54:00:77:00:AB", "52-54-00-77-00-ab", "5254007700ab"].as_slice()),
            (Format::Address, &["10.0.0.1", " 10.0.0.1 "]),
            (Format::Uuid, &["4C4C4544-0042-3510-8052-B4C04F4E3732", "4c4c4544004235108052b4c04f4e3732"]),
            (Format::Number, &["12", "012"]),
            (Format::Size, &["4294967296", "4G", "4096 m"]),
            (Format::Boolean, &["yes", "TRUE", "on", "1"]),
            (Format::Boolean, &["no", "false", "Off", "0"]),
        ] {
            let first = format.canonical(values[0]).unwrap();
            for value in values {
                assert_eq!(format.canonical(value).as_ref(), Ok(&first), "{value}");
            }
            assert_eq!(format.canonical(&first).as_ref(), Ok(&first), "canonical stays canonical");
        }
        assert_eq!(Format::Text.canonical(" a ").as_deref(), Ok(" a "));
    }

    #[test]
    fn what_is_no_such_value_is_told_the_rule() {
        for (format, values) in [
            (Format::Mac, ["", "52:54:00:77:00", "ff:ff:ff:ff:ff:ff"].as_slice()),
            (Format::Address, &["", "10.0.0", "10.0.0.256", "::1"]),
            (
                Format::Uuid,
                &["", "4c4c4544", "+c4c4544004235108052b4c04f4e3732", "4c4c45440-042-3510-8052-b4c04f4e3732"],
            ),
            (Format::Number, &["", "-1", "1.5", "18446744073709551616"]),
            (Format::Size, &["", "G", "4GG", "-4G", "4é", "16777216T"]),
            (Format::Boolean, &["", "maybe"]),
        ] {
            for value in values {
                assert_eq!(format.canonical(value), Err(format.rule()), "{value}");
            }
            assert!(format.canonical(format.example()).is_ok());
        }
    }
}
