//! One step of a boot: what happened, as far as a rule can tell causes from it, and in words.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::proxy::Shape;
use crate::pxe::{Firmware, Stage};

/// How much of a name in a step is kept, in characters.
pub(crate) const MAX_NAME_LEN: usize = 200;

/// How much of a name is compared to find one that is like it, in characters.
const MAX_COMPARED: usize = 64;

/// How many names are kept that are like one that was asked for in vain.
const MAX_NEAR: usize = 3;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepKind {
    /// The machine looked for a DHCP server.
    Discover {
        /// How far its boot has come.
        stage: Stage,
        /// Its firmware, if it says.
        firmware: Option<Firmware>,
        /// For how long it has been looking, as it says, in seconds.
        secs: u16,
    },
    /// It was made an offer.
    Offer {
        /// The address in it; `None`: addresses are another server's.
        address: Option<Ipv4Addr>,
        /// In which form it was told what to boot; `None`: as a DHCP server's full offer.
        shape: Option<Shape>,
    },
    /// It takes its address from another DHCP server.
    ChoseOther {
        /// Which.
        server: Ipv4Addr,
    },
    /// It was given an address.
    Ack {
        /// How far its boot has come.
        stage: Stage,
        /// The address.
        address: Option<Ipv4Addr>,
    },
    /// It had an address and asked what to boot, at port 4011 or by an INFORM, and was told.
    Told {
        /// How far its boot has come.
        stage: Stage,
    },
    /// It was told that it must not use an address.
    Nak,
    /// It asked and got no answer.
    Silence,
    /// It fetched a file by TFTP, or tried.
    TftpFile(Fetch),
    /// It fetched a file by HTTP, or tried.
    HttpFile(Fetch),
    /// It asked for a file that there is not.
    Missing {
        /// Its name.
        path: String,
        /// Names that there are and that look like it.
        near: Vec<String>,
    },
    /// It asked for what it may not have.
    Refused,
    /// It was given a menu.
    Menu {
        /// Which.
        name: String,
    },
    /// Its user chose from the menu, or the menu's time was over.
    Choice {
        /// What.
        name: String,
    },
    /// Its script was rendered and its disk, if it boots from one, made.
    Script,
    /// Its disk takes long to be made, and it was told to ask for its script again.
    Waits,
    /// Its script or disk could not be made.
    ScriptFailed,
    /// It logged in to its disk, for the so-manieth time: iPXE first, then the operating system.
    Login(u32),
    /// It was not let in to its disk.
    LoginRefused {
        /// Whether it could not prove who it is (CHAP); otherwise it may not, or the disk is not there.
        chap: bool,
    },
    /// It wrote to its disk for the first time.
    FirstWrite,
    /// Its disk takes no more writes: what it may write is used up.
    DiskFull,
    /// Its disk failed.
    DiskFailed,
    /// It logged out of its disk.
    Logout,
    /// It is gone without a log-out.
    Lost,
    /// bootd was restarted and took its disk back as it was.
    Adopted,
    /// Something else went wrong.
    Failed,
}

/// A file on its way to a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The file's name.
    pub path: String,
    /// How much of it arrived, in bytes.
    pub bytes: u64,
    /// How long it is, in bytes, where that is known.
    pub size: Option<u64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many packets were sent more than once.
    pub resent: u64,
    /// How large a block is that was agreed on (TFTP), in bytes.
    pub blksize: Option<u16>,
    /// How it ended.
    pub end: FetchEnd,
}

/// How the fetching of a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FetchEnd {
    /// Well.
    Complete,
    /// The machine had enough. Firmware does so once it knows a file's length (pin/tftp#125).
    Aborted,
    /// The machine answered no more.
    Silent,
    /// Nobody listens at the machine's end any more.
    Gone,
    /// The machine asked for the same file again before it had it.
    BegunAnew,
    /// The file could not be read.
    Unreadable,
}

impl Fetch {
    /// Whether it is all there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end == FetchEnd::Complete
    }
}

impl StepKind {
    /// That a file was asked for which there is not. Of the names that there are, those that look like it are kept.
    #[must_use]
    pub fn missing<'a>(path: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Missing { path: cut(path), near: nearest(path, names) }
    }

    /// Whether it is DHCP.
    #[must_use]
    pub fn is_dhcp(&self) -> bool {
        self.is_search()
            || matches!(self, Self::ChoseOther { .. } | Self::Ack { .. } | Self::Told { .. } | Self::Nak)
    }

    /// Whether it is about a file, whether or not that could be had.
    #[must_use]
    pub fn is_fetch(&self) -> bool {
        matches!(self, Self::TftpFile(_) | Self::HttpFile(_) | Self::Missing { .. } | Self::Refused)
    }

    /// Whether it is noted only the first time that it happens in a boot.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self, Self::FirstWrite | Self::DiskFull | Self::DiskFailed)
    }

    /// Whether the machine is no further than looking for an address.
    #[must_use]
    pub fn is_search(&self) -> bool {
        matches!(self, Self::Discover { .. } | Self::Offer { .. } | Self::Silence)
    }

    /// Whether it is what went wrong.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Self::TftpFile(fetch) | Self::HttpFile(fetch) => {
                !matches!(fetch.end, FetchEnd::Complete | FetchEnd::Aborted)
            }
            Self::Missing { .. } | Self::Refused | Self::ScriptFailed | Self::LoginRefused { .. } => true,
            Self::DiskFull | Self::DiskFailed | Self::Failed | Self::Nak | Self::Silence => true,
            _ => false,
        }
    }

    /// The same with every name cut to a bounded length: names come from the network.
    pub(crate) fn bounded(mut self) -> Self {
        match &mut self {
            Self::TftpFile(fetch) | Self::HttpFile(fetch) => fetch.path = cut(&fetch.path),
            Self::Menu { name } | Self::Choice { name } => *name = cut(name),
            Self::Missing { path, near } => {
                *path = cut(path);
                near.truncate(MAX_NEAR);
            }
            _ => {}
        }
        self
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_NAME_LEN).collect()
}

/// The names most like `wanted`: those of the same last part in another folder, then those that differ in a few
/// letters.
fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let last = |path: &str| -> Vec<char> {
        let last = path.rsplit('/').next().unwrap_or_default();
        last.chars().take(MAX_COMPARED).map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let wanted_last = last(wanted);
    let most = wanted_last.len() / 3;
    let mut like: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let its_last = last(name);
            let close = its_last.len().abs_diff(wanted_last.len()) <= most;
            let far = close.then(|| distance(&its_last, &wanted_last))?;
            (far <= most).then_some((far, name))
        })
        .collect();
    like.sort_unstable();
    like.dedup();
    like.into_iter().take(MAX_NEAR).map(|(_, name)| cut(name)).collect()
}

/// How many letters have to be put in, taken out or changed to make one of the other (Levenshtein's).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut left = i + 1;
        let mut above_left = i;
        for (cell, to) in row.iter_mut().skip(1).zip(b) {
            let changed = above_left + usize::from(from != to);
            above_left = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A step in a few words, for people.
impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discover { stage, firmware, secs } => {
                write!(f, "asks for an address ({stage}")?;
                firmware.map_or(Ok(()), |firmware| write!(f, ", {firmware}"))?;
                if *secs == 0 { f.write_str(")") } else { write!(f, ", for {secs} s by now)") }
            }
            Self::Offer { address: Some(address), shape: None } => write!(f, "offered {address}"),
            Self::Offer { address: None, shape: Some(shape) } => write!(f, "offered what to boot, {shape}"),
            Self::Offer { .. } => f.write_str("offered"),
            Self::ChoseOther { server } => write!(f, "takes the address of the DHCP server {server}"),
            Self::Ack { stage, address: Some(address) } => write!(f, "has the address {address} ({stage})"),
            Self::Ack { stage, address: None } => write!(f, "has an address ({stage})"),
            Self::Told { stage } => write!(f, "has an address and was told what to boot ({stage})"),
            Self::Nak => f.write_str("address refused"),
            Self::Silence => f.write_str("not answered"),
            Self::TftpFile(fetch) => write!(f, "TFTP {fetch}"),
            Self::HttpFile(fetch) => write!(f, "HTTP {fetch}"),
            Self::Missing { path, near } if near.is_empty() => write!(f, "no such file: {path}"),
            Self::Missing { path, near } => write!(f, "no such file: {path}; there is {}", near.join(", ")),
            Self::Refused => f.write_str("refused"),
            Self::Menu { name } => write!(f, "menu {name}"),
            Self::Choice { name } => write!(f, "chosen: {name}"),
            Self::Script => f.write_str("boot script"),
            Self::Waits => f.write_str("waits for its disk"),
            Self::ScriptFailed => f.write_str("no boot script"),
            Self::Login(number) => write!(f, "log-in {number} to its disk"),
            Self::LoginRefused { chap: true } => f.write_str("log-in to its disk refused (CHAP)"),
            Self::LoginRefused { chap: false } => f.write_str("log-in to its disk refused"),
            Self::FirstWrite => f.write_str("first write to its disk"),
            Self::DiskFull => f.write_str("disk full"),
            Self::DiskFailed => f.write_str("disk failed"),
            Self::Logout => f.write_str("log-out from its disk"),
            Self::Lost => f.write_str("gone without a log-out"),
            Self::Adopted => f.write_str("disk kept over a restart of bootd"),
            Self::Failed => f.write_str("failed"),
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, bytes, size, took_ms, resent, end, .. } = self;
        write!(f, "{path}, {bytes}")?;
        if let Some(size) = size.filter(|size| size != bytes) {
            write!(f, " of {size}")?;
        }
        write!(f, " bytes in {}.{:03} s", took_ms / 1000, took_ms % 1000)?;
        if *resent > 0 {
            write!(f, ", {resent} packets again")?;
        }
        match end {
            FetchEnd::Complete => Ok(()),
            other => write!(f, ": {other}"),
        }
    }
}

impl fmt::Display for FetchEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete",
            Self::Aborted => "the client had enough",
            Self::Silent => "the client fell silent",
            Self::Gone => "the client is gone",
            Self::BegunAnew => "begun anew",
            Self::Unreadable => "the file can't be read",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_alike_are_found() {
        let names = ["undionly.kpxe", "snponly.efi", "ipxe.efi", "debian/vmlinuz", "debian/initrd.img"];
        for (wanted, near) in [
            ("undionly.kpx", &["undionly.kpxe"][..]),
            ("boot/Snponly.EFI", &["snponly.efi"]),
            ("vmlinuz", &["debian/vmlinuz"]),
            ("vmlinux", &["debian/vmlinuz"]),
            ("pxelinux.cfg/default", &[]),
            ("", &[]),
        ] {
            let StepKind::Missing { near: found, .. } = StepKind::missing(wanted, names) else { panic!() };
            assert_eq!(found, near, "{wanted}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, far) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            let [a, b] = [a, b].map(|text| text.chars().collect::<Vec<_>>());
            assert_eq!((distance(&a, &b), distance(&b, &a)), (far, far), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_fetch_tells_what_there_is_to_tell() {
        let fetch = |bytes, resent, end| Fetch {
            path: "undionly.kpxe".into(),
            bytes,
            size: Some(100),
            took_ms: 1234,
            resent,
            blksize: Some(1468),
            end,
        };
        let text = |fetch| StepKind::TftpFile(fetch).to_string();
        assert_eq!(text(fetch(100, 0, FetchEnd::Complete)), "TFTP undionly.kpxe, 100 bytes in 1.234 s");
        assert_eq!(
            text(fetch(0, 6, FetchEnd::Silent)),
            "TFTP undionly.kpxe, 0 of 100 bytes in 1.234 s, 6 packets again: the client fell silent"
        );
    }
}
