//! What the names mean that clients ask for, over TFTP and HTTP alike. No name leads out of the root.

use std::fmt;

use site::MacAddr;
use site::entity::EntityName;

use crate::programs::other_places;
use crate::pxe::Asker;
use crate::settings::{Interface, Settings};

/// The longest name that is looked at, in bytes; longer ones are no name of ours.
const MAX_PATH_LEN: usize = 512;
/// The longest part of a name between slashes, in bytes: what file systems hold.
const MAX_PART_LEN: usize = 255;

/// The most pixels of a screen in either direction.
const MAX_PIXELS: u32 = 65_535;

const SCRIPT: &str = "script.ipxe";
const MENU: &str = "menu.ipxe";
const REGISTER: &str = "register";
const CHOICE: &str = "choice";
const SCRIPT_SUFFIX: &str = ".ipxe";
const AUTOEXEC: &str = "autoexec.ipxe";
const MIRROR: &str = "mirror";

/// What a name that a client asks for stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The boot script of the client with that network card.
    Script {
        /// Whose.
        mac: MacAddr,
    },
    /// The menu of the client with that network card, also where its boot script leads elsewhere.
    Menu {
        /// Whose.
        mac: MacAddr,
    },
    /// The script of one of its choices.
    Choice {
        /// Whose.
        mac: MacAddr,
        /// Which.
        name: EntityName,
    },
    /// To be registered as what its query says.
    Register {
        /// Which machine.
        mac: MacAddr,
        /// The query, as it was sent.
        query: String,
    },
    /// The boot script of whoever asks: iPXE looks for it beside the program that it was loaded as.
    Autoexec,
    /// A file.
    File(FilePath),
    /// The list of the files that bootd keeps on whoever asks.
    ManagedList,
    /// The content of one of them, by its entity's name.
    Managed(String),
    /// The program with which a client keeps its files.
    ManagedProgram,
    /// The picture that fits a screen of so many pixels best.
    Wallpaper {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// Where a user has their files, by the user's name.
    UserHome(EntityName),
    /// A file of another server, that a mirror of the site brings.
    Mirrored {
        /// The mirror.
        mirror: String,
        /// The file there.
        path: FilePath,
    },
    /// Nothing that there could be: not valid as a name, or none of the places that are served.
    Other,
}

/// A relative path that can't lead out of the directory that it is joined to: at least one part, none of them
/// empty, `.` or `..`, no NUL or other control character, parts separated by `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// The path that a name stands for; `None`: it is none that could be served.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let parts = parts(name)?;
        (!parts.is_empty()).then(|| Self(parts.join("/")))
    }

    /// Where else it may lie, if nothing is there; see [`other_places`].
    #[must_use]
    pub fn other_places(&self) -> Vec<String> {
        other_places(&self.0)
    }

    /// The path, relative to the root of the files.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `name` in `folder`, both of them parts of paths already; an empty folder is the root.
    pub(crate) fn join(folder: &str, name: &str) -> Self {
        if folder.is_empty() { Self(name.to_owned()) } else { Self(format!("{folder}/{name}")) }
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the asker's iPXE finds its script: over HTTP, or over TFTP if it says that it has no HTTP.
#[must_use]
pub fn script_url(asker: &Asker, iface: &Interface, settings: &Settings) -> String {
    format!("{}/{SCRIPT}", scripts(asker, iface, settings))
}

/// Where it finds its menu.
#[must_use]
pub fn menu_url(asker: &Asker, iface: &Interface, settings: &Settings) -> String {
    format!("{}/{MENU}", scripts(asker, iface, settings))
}

/// What the URLs of its choices' scripts begin with; a name and `.ipxe` complete one.
#[must_use]
pub fn choices_url(asker: &Asker, iface: &Interface, settings: &Settings) -> String {
    format!("{}/{CHOICE}/", scripts(asker, iface, settings))
}

/// Where all of its scripts are.
fn scripts(asker: &Asker, iface: &Interface, settings: &Settings) -> String {
    let mac = asker.mac.hyphenated();
    if asker.ipxe.is_some_and(|features| !features.http) {
        return format!("tftp://{}/{mac}", iface.address);
    }
    format!("{}/boot/{mac}", settings.http_origin(iface))
}

/// What an HTTP request's path stands for: `/boot/<mac>/script.ipxe`, `menu.ipxe` and `choice/<name>.ipxe` beside it,
/// `/files/<path>`, for managed files `/client/files`, `/client/files/<name>` and `/client/bootd-files.sh`, for login screens
/// `/wallpaper?w=&h=` and `/user/<name>/home`, and `/mirror/<mirror>/<path>`. A mirror is also the folder `mirror` of the
/// files, so that whatever names a file can name one of its. Elsewhere than for wallpapers a query means nothing.
#[must_use]
pub fn parse_http_path(path: &str) -> Asked {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let Some(decoded) = percent_decode(path) else { return Asked::Other };
    let Some(parts) = parts(&decoded) else { return Asked::Other };
    match parts.as_slice() {
        ["boot", mac, REGISTER] => {
            mac.parse().map_or(Asked::Other, |mac| Asked::Register { mac, query: query.to_owned() })
        }
        ["boot", rest @ ..] => script(rest).unwrap_or(Asked::Other),
        ["files", rest @ ..] => file(rest),
        ["client", "files"] => Asked::ManagedList,
        ["client", "files", name] => Asked::Managed((*name).to_owned()),
        ["client", "bootd-files.sh"] => Asked::ManagedProgram,
        ["wallpaper"] => wallpaper(query),
        ["user", name, "home"] => name.parse().map_or(Asked::Other, Asked::UserHome),
        [MIRROR, rest @ ..] => mirrored(rest),
        _ => Asked::Other,
    }
}

/// What a TFTP request's file name stands for: `<path>`, `<mac>/script.ipxe` and its neighbours.
#[must_use]
pub fn parse_tftp_path(name: &str) -> Asked {
    let Some(parts) = parts(name) else { return Asked::Other };
    let in_boot = parts.strip_prefix(&["boot"]).unwrap_or(&parts);
    script(in_boot).unwrap_or_else(|| file(&parts))
}

/// The parts of a name. Firmware sends either slash, leading ones, and two where it joins names.
fn parts(name: &str) -> Option<Vec<&str>> {
    if name.len() > MAX_PATH_LEN {
        return None;
    }
    let parts: Vec<_> = name.split(['/', '\\']).filter(|part| !part.is_empty()).collect();
    let good = |part: &&str| {
        part.len() <= MAX_PART_LEN && !matches!(*part, "." | "..") && !part.chars().any(char::is_control)
    };
    parts.iter().all(good).then_some(parts)
}

fn script(parts: &[&str]) -> Option<Asked> {
    match parts {
        [mac, SCRIPT] => mac.parse().ok().map(|mac| Asked::Script { mac }),
        [mac, MENU] => mac.parse().ok().map(|mac| Asked::Menu { mac }),
        [mac, CHOICE, file] => {
            let (mac, name) = (mac.parse().ok()?, file.strip_suffix(SCRIPT_SUFFIX)?.parse().ok()?);
            Some(Asked::Choice { mac, name })
        }
        _ => None,
    }
}

/// `<mirror>/<path>`
fn mirrored(parts: &[&str]) -> Asked {
    match parts {
        [_] | [] => Asked::Other,
        [mirror, path @ ..] => {
            Asked::Mirrored { mirror: (*mirror).to_owned(), path: FilePath(path.join("/")) }
        }
    }
}

fn file(parts: &[&str]) -> Asked {
    if let Some(rest) = parts.strip_prefix(&[MIRROR]) {
        return mirrored(rest);
    }
    match parts.last() {
        None => Asked::Other,
        Some(&AUTOEXEC) => Asked::Autoexec,
        Some(_) => Asked::File(FilePath(parts.join("/"))),
    }
}

/// The screen that a picture is wanted for. No screen is wider or higher than [`MAX_PIXELS`].
fn wallpaper(query: &str) -> Asked {
    let pixels = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(key, _)| *key == name)?;
        value.parse::<u32>().ok().filter(|pixels| (1..=MAX_PIXELS).contains(pixels))
    };
    match (pixels("w"), pixels("h")) {
        (Some(width), Some(height)) => Asked::Wallpaper { width, height },
        _ => Asked::Other,
    }
}

/// `%41` to `A`. `None` if a `%` is followed by anything but two digits, or the result is no UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}
