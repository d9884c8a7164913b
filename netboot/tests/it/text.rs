//! DHCP messages as text that loses nothing: one line for the header, one for each option.
//!
//! ```text
//! xid=420a653e secs=4 chaddr=52:54:00:77:01:01 len=400
//! 53 01
//! 60 505845436c69656e74 ; PXEClient
//! ```
//! Fields that are zero or empty are left out. What follows `;` is for people.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::wire::{Message, request};

pub(crate) fn dump(message: &Message) -> String {
    let mut out = format!("xid={:08x}", message.xid);
    let mut field = |name: &str, value: String, zero: &str| {
        if value != zero {
            write!(out, " {name}={value}").unwrap();
        }
    };
    field("secs", message.secs.to_string(), "0");
    field("flags", format!("{:04x}", message.flags), "0000");
    field("ciaddr", message.ciaddr.to_string(), "0.0.0.0");
    field("yiaddr", message.yiaddr.to_string(), "0.0.0.0");
    field("siaddr", message.siaddr.to_string(), "0.0.0.0");
    field("giaddr", message.giaddr.to_string(), "0.0.0.0");
    field("chaddr", message.mac.to_string(), "");
    field("sname", message.sname.clone(), "");
    field("file", message.file.clone(), "");
    field("len", message.len.to_string(), "");
    for (code, value) in &message.options {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(out, "\n{code} {hex}").unwrap();
        if let Some(note) = note(*code, value) {
            write!(out, " ; {note}").unwrap();
        }
    }
    out
}

pub(crate) fn read(lines: &[&str]) -> Message {
    let fields: HashMap<_, _> = lines[0].split(' ').map(|field| field.split_once('=').unwrap()).collect();
    let get = |name: &str, zero: &'static str| fields.get(name).copied().unwrap_or(zero).to_owned();
    let options = lines[1..].iter().map(|line| {
        let line = line.split(';').next().unwrap().trim();
        let (code, hex) = line.split_once(' ').unwrap_or((line, ""));
        let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap().try_into().unwrap()).collect();
        (code.parse().unwrap(), digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
    });
    Message {
        xid: u32::from_str_radix(&get("xid", "0"), 16).unwrap(),
        secs: get("secs", "0").parse().unwrap(),
        flags: u16::from_str_radix(&get("flags", "0"), 16).unwrap(),
        ciaddr: get("ciaddr", "0.0.0.0").parse().unwrap(),
        giaddr: get("giaddr", "0.0.0.0").parse().unwrap(),
        options: options.collect(),
        len: get("len", "300").parse().unwrap(),
        ..request(get("chaddr", "").parse().unwrap(), 0)
    }
}

/// What an option says, where that isn't plain from the digits.
fn note(code: u8, value: &[u8]) -> Option<String> {
    let address = |part: &[u8]| part.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
    match code {
        53 => ["DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"]
            .get(usize::from(value[0]) - 1)
            .map(ToString::to_string),
        1 | 3 | 6 | 28 | 50 | 54 => Some(value.chunks(4).map(address).collect::<Vec<_>>().join(", ")),
        51 | 58 | 59 => Some(format!("{} s", u32::from_be_bytes(value.try_into().ok()?))),
        12 | 15 | 60 | 66 | 67 | 77 => Some(value.escape_ascii().to_string()),
        _ => None,
    }
}
