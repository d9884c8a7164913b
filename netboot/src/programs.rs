//! The boot programs that are there to be fetched, and under which of several names a firmware's is looked for.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use site::entity::CLIENT_TYPE;
use site::{MacAddr, Site};

use crate::paths::FilePath;
use crate::pxe::Firmware;

/// Where boot programs of UEFI lie side by side, a directory for each architecture. A boot loader looks beside itself for
/// what it loads next, and by names that do not say the architecture: shim for `ipxe.efi`, `snponly.efi` or
/// `grubx64.efi`, iPXE for `autoexec.ipxe`.
pub const EFI_DIRECTORY: &str = "efi";

/// Where what Raspberry Pis of all serial numbers fetch lies.
const RASPBERRY_PI: &str = "raspberrypi";

/// The variable that names a directory for some of them.
const PI_DIRECTORY: &str = "pi_directory";

/// The names of all boot programs, relative to the root of the files. A copy sees what is put into the other.
#[derive(Clone, Default)]
pub struct Programs(Arc<RwLock<Arc<Vec<String>>>>);

impl Programs {
    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<String>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on there are these.
    pub fn replace(&self, names: Vec<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }
}

impl From<Vec<String>> for Programs {
    fn from(names: Vec<String>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(names))))
    }
}

impl<const N: usize> From<[String; N]> for Programs {
    fn from(names: [String; N]) -> Self {
        Vec::from(names).into()
    }
}

impl FromIterator<String> for Programs {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        names.into_iter().collect::<Vec<_>>().into()
    }
}

impl PartialEq for Programs {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all()
    }
}

impl Eq for Programs {}

impl fmt::Debug for Programs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Programs").field(&self.all()).finish()
    }
}

/// The directory of that firmware's programs below [`EFI_DIRECTORY`]; `None`: it has none.
#[must_use]
pub fn efi_directory(firmware: Firmware) -> Option<&'static str> {
    match firmware {
        Firmware::UefiIa32 => Some("ia32"),
        Firmware::UefiX64 => Some("x64"),
        Firmware::UefiArm32 => Some("arm32"),
        Firmware::UefiArm64 => Some("arm64"),
        Firmware::Bios | Firmware::RaspberryPi | Firmware::Unknown(_) => None,
    }
}

/// What a firmware is offered where nobody chose, best first: its name, and what must lie beside it to be of use.
///
/// A shim that the admin has put there comes first, with or without Secure Boot, since a machine does not tell whether it
/// has it switched on. iPXE's own shims go by their names: `snponly-shim.efi` loads `snponly.efi` from beside itself, every
/// other `ipxe.efi` (ipxe/ipxe#1776). On UEFI `snponly.efi` is preferred, since it uses the firmware's own network
/// driver: the all-driver `ipxe.efi` was seen to hang where taking over the card fails, and resets the link, which costs
/// 30 s behind a switch with spanning tree (ipxe/ipxe#1337). `undionly.kpxe` is the same on a BIOS.
pub(crate) fn candidates(firmware: Firmware) -> &'static [(&'static str, Option<&'static str>)] {
    macro_rules! efi {
        ($dir:literal, $($bare:literal),*) => {
            &[
                (concat!("efi/", $dir, "/snponly-shim.efi"), Some(concat!("efi/", $dir, "/snponly.efi"))),
                (concat!("efi/", $dir, "/ipxe-shim.efi"), Some(concat!("efi/", $dir, "/ipxe.efi"))),
                (concat!("efi/", $dir, "/snponly.efi"), None),
                (concat!("efi/", $dir, "/ipxe.efi"), None),
                $(($bare, None)),*
            ]
        };
    }
    match firmware {
        Firmware::Bios => &[("undionly.kpxe", None)],
        Firmware::UefiX64 => efi!("x64", "snponly.efi", "ipxe.efi"),
        Firmware::UefiIa32 => efi!("ia32", "snponly-i386.efi", "ipxe-i386.efi"),
        Firmware::UefiArm64 => efi!("arm64", "snponly-arm64.efi", "ipxe-arm64.efi"),
        Firmware::UefiArm32 => efi!("arm32", "snponly-arm32.efi", "ipxe-arm32.efi"),
        // A Raspberry Pi's ROM asks for names of its own, whatever it is told.
        Firmware::RaspberryPi | Firmware::Unknown(_) => &[],
    }
}

/// The name of the program that is there for `name`: as it is; among those of the firmware's own directory, so that one
/// name on a group does for machines of several architectures; or either written in other capitals.
pub(crate) fn find<'a>(programs: &'a [String], name: &str, firmware: Firmware) -> Option<&'a str> {
    let beside = efi_directory(firmware).map(|dir| format!("{EFI_DIRECTORY}/{dir}/{name}"));
    let exact = |wanted: &str| programs.iter().find(|program| *program == wanted);
    let alike = |wanted: &str| programs.iter().find(|program| program.eq_ignore_ascii_case(wanted));
    let beside = beside.as_deref();
    let found = exact(name)
        .or_else(|| beside.and_then(exact))
        .or_else(|| alike(name))
        .or_else(|| beside.and_then(alike));
    found.map(String::as_str)
}

/// Where else the file of that name may lie, in the order in which to look, if there is none of the name itself.
///
/// - A directory of [`EFI_DIRECTORY`] has all that there is for its architecture: also what the system's packages
///   installed, under names that say the architecture.
/// - A Raspberry Pi asks for everything in a directory that is called by its serial number or its address, and only
///   then without; few have files of their own.
#[must_use]
pub fn other_places(name: &str) -> Vec<String> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [first, dir, file] if *first == EFI_DIRECTORY => {
            let suffix = match *dir {
                "x64" => "",
                "ia32" => "-i386",
                "arm64" => "-arm64",
                "arm32" => "-arm32",
                _ => return Vec::new(),
            };
            let file = file.to_ascii_lowercase();
            match file.strip_suffix(".efi") {
                Some(stem @ ("ipxe" | "snponly")) => vec![format!("{stem}{suffix}.efi")],
                _ => Vec::new(),
            }
        }
        [serial, rest @ ..] if !rest.is_empty() && is_raspberry_pi_directory(serial) => {
            vec![format!("{RASPBERRY_PI}/{}", rest.join("/"))]
        }
        _ => Vec::new(),
    }
}

/// Where what the Raspberry Pi `mac` asks for in a directory of its own is for those that it shares a directory with, by the
/// variable `pi_directory` of its client or a group: a room's, so that one card's worth of files serves all of them. `None`: it has
/// none, or does not ask so.
#[must_use]
pub fn raspberry_pi_place(name: &FilePath, mac: MacAddr, site: &Site) -> Option<FilePath> {
    let (own, rest) = name.as_str().split_once('/').filter(|(own, _)| is_raspberry_pi_directory(own))?;
    let client = site.client_by_mac(mac)?;
    let directory = site.model().effective(CLIENT_TYPE, client.name.as_str(), PI_DIRECTORY)?;
    let directory =
        FilePath::parse(directory.values.first()?).filter(|directory| directory.as_str() != own)?;
    Some(FilePath::join(directory.as_str(), rest))
}

/// A serial number of 8 hexadecimal digits, or an Ethernet address as newer ROMs can be told to use (`TFTP_PREFIX=2`).
fn is_raspberry_pi_directory(name: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let address = || name.len() == 17 && name.split('-').all(|pair| pair.len() == 2 && hex(pair));
    (name.len() == 8 && hex(name)) || address()
}
