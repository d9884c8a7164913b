//! Who is asking: what a machine's firmware says of itself, and where it is known to be wrong.
//!
//! Every quirk of firmware is in this file, each beside its reason. Whether and what an asker gets is [`plan`]'s.
//!
//! [`plan`]: crate::plan()

use std::fmt;

use dhcproto::v4::OptionCode;
use serde::{Deserialize, Serialize};
use site::MacAddr;

use crate::packet::Packet;

/// How much of a class text is kept, in characters; the rest is cut off. Texts are only shown and logged.
const MAX_CLASS_LEN: usize = 64;

/// Addresses that the Raspberry Pi makers have bought. The last is that of boards of 2025: a Pi 5, and 4s of the same time.
const RASPBERRY_PI: [[u8; 3]; 7] = [
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
];

/// What a Raspberry Pi's ROM must find in option 43, or it takes no answer: a boot menu with this one entry. Around it
/// what `pxe-service=0,"Raspberry Pi Boot"` of dnsmasq sends, by which Raspberry Pi's documentation has its machines
/// booted: no search for boot servers (6), a prompt that is over at once (10), the menu (9) (PXE 2.1, table 2-1).
const RASPBERRY_PI_BOOT: &[u8] = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff";

/// What kind of firmware a machine has, as far as it matters for the program that it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A PC's BIOS.
    Bios,
    /// UEFI on a 32-bit x86.
    UefiIa32,
    /// UEFI on x86-64.
    UefiX64,
    /// UEFI on a 32-bit ARM.
    UefiArm32,
    /// UEFI on a 64-bit ARM.
    UefiArm64,
    /// A Raspberry Pi's own boot ROM.
    RaspberryPi,
    /// Another architecture, by its number in the IANA's registry.
    Unknown(u16),
}

/// How firmware wants to fetch its boot program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// PXE: by name, over TFTP.
    #[default]
    Tftp,
    /// UEFI HTTP boot: by URL.
    Http,
}

/// How far a machine's boot has come when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The firmware, which wants a boot program.
    Firmware,
    /// iPXE, from the network or from the card's ROM, which wants a script.
    Ipxe,
    /// An operating system, a phone, a printer: anything that wants an address only.
    Other,
}

/// What an iPXE says that it was built with (option 175).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IpxeFeatures {
    /// It fetches by HTTP.
    pub http: bool,
    /// It can hook an iSCSI disk.
    pub iscsi: bool,
    /// It has the `menu` command.
    pub menu: bool,
    /// It loads Linux kernels by itself (BIOS).
    pub bzimage: bool,
    /// It runs on EFI.
    pub efi: bool,
}

/// Who is asking, as far as it says so. Kept small and owned: it is logged, shown and kept in timelines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// Its Ethernet address, by which machines are told apart.
    pub mac: MacAddr,
    /// Its firmware; `None`: it does not say, as operating systems don't.
    pub firmware: Option<Firmware>,
    /// How its firmware wants to fetch.
    pub method: Method,
    /// How far its boot has come.
    pub stage: Stage,
    /// Its UUID from SMBIOS. Cheap boards share one, so it identifies nothing.
    pub uuid: Option<[u8; 16]>,
    /// Option 60, escaped and cut short.
    pub vendor_class: Option<String>,
    /// The first class of option 77, escaped and cut short.
    pub user_class: Option<String>,
    /// What its iPXE can do; `None`: it sent no option 175, or one that lists no features.
    pub ipxe: Option<IpxeFeatures>,
    /// Whether it is an iPXE that we have given the machine in place of one that lacks something.
    #[serde(default)]
    pub reloaded: bool,
}

impl IpxeFeatures {
    /// What it lacks that the boot script needs.
    #[must_use]
    pub fn lacks(&self) -> Vec<&'static str> {
        let needs = [(self.http, "HTTP"), (self.iscsi, "iSCSI"), (self.menu, "menus")];
        needs.into_iter().filter(|(has, _)| !has).map(|(_, name)| name).collect()
    }
}

impl Asker {
    /// Who sent this request.
    #[must_use]
    pub fn of(packet: &Packet) -> Self {
        let options = &packet.options;
        let vendor_class = options.vendor_class().unwrap_or_default();
        let http = vendor_class.starts_with(b"HTTPClient");
        let (firmware, method) = match architecture(packet, vendor_class) {
            Some(number) => {
                let (firmware, method) = firmware(number, packet);
                (Some(firmware), method)
            }
            None => (None, Method::default()),
        };
        let classes = options.user_classes();
        Self {
            mac: packet.mac,
            firmware,
            method: if http { Method::Http } else { method },
            stage: stage(packet, vendor_class, &classes),
            uuid: options.uuid(),
            vendor_class: text(vendor_class),
            user_class: classes.first().and_then(|class| text(class)),
            ipxe: options.ipxe_sub_options().and_then(|subs| features(&subs)),
            reloaded: packet.reloaded,
        }
    }

    /// What its firmware must find in option 43, whoever gives its address.
    pub(crate) fn vendor_options(&self) -> Option<&'static [u8]> {
        let is_pi = self.firmware == Some(Firmware::RaspberryPi) && self.stage == Stage::Firmware;
        is_pi.then_some(RASPBERRY_PI_BOOT)
    }

    /// A machine of which only the address is known: what [`plan`](crate::plan()) would say to it at that stage.
    #[must_use]
    pub fn supposed(mac: MacAddr, stage: Stage, firmware: Option<Firmware>) -> Self {
        Self {
            mac,
            firmware,
            method: Method::default(),
            stage,
            uuid: None,
            vendor_class: None,
            user_class: None,
            ipxe: None,
            reloaded: false,
        }
    }
}

/// The architecture's number: the first of option 93's list, or what the vendor class says. Some ROMs leave out
/// option 93, and RFC 4578 §2 has the same number in `PXEClient:Arch:00007:UNDI:003016`.
fn architecture(packet: &Packet, vendor_class: &[u8]) -> Option<u16> {
    packet.options.architectures().first().copied().or_else(|| {
        let (_, number) = std::str::from_utf8(vendor_class).ok()?.split_once("Client:Arch:")?;
        number.split(':').next()?.parse().ok()
    })
}

/// What an architecture's number means ("Processor Architecture Types" of the IANA).
fn firmware(number: u16, packet: &Packet) -> (Firmware, Method) {
    // A Raspberry Pi's ROM says that it is an x86 BIOS (raspberrypi/rpi-eeprom#182). With UEFI of its own it says
    // what it is.
    if number == 0 && is_raspberry_pi(packet) {
        return (Firmware::RaspberryPi, Method::Tftp);
    }
    match number {
        0 => (Firmware::Bios, Method::Tftp),
        6 => (Firmware::UefiIa32, Method::Tftp),
        // RFC 4578 and the IANA had 7 and 9 swapped, so that machines in the field send either (ipxe/ipxe
        // commit af9afd0).
        7 | 9 => (Firmware::UefiX64, Method::Tftp),
        10 => (Firmware::UefiArm32, Method::Tftp),
        11 => (Firmware::UefiArm64, Method::Tftp),
        15 => (Firmware::UefiIa32, Method::Http),
        16 => (Firmware::UefiX64, Method::Http),
        18 => (Firmware::UefiArm32, Method::Http),
        19 => (Firmware::UefiArm64, Method::Http),
        20 => (Firmware::Bios, Method::Http),
        other => (Firmware::Unknown(other), Method::Tftp),
    }
}

/// By the maker of its network card; or by its UUID, which since the Pi 4 begins with `RPi4`, just so that it needs no list
/// of makers (raspberrypi/documentation, `DHCP_OPTION97`).
fn is_raspberry_pi(packet: &Packet) -> bool {
    let [a, b, c, ..] = packet.mac.octets();
    let says_so = |uuid: [u8; 16]| matches!(uuid, [b'R', b'P', b'i', model, ..] if model.is_ascii_digit());
    RASPBERRY_PI.contains(&[a, b, c]) || packet.options.uuid().is_some_and(says_so)
}

fn stage(packet: &Packet, vendor_class: &[u8], classes: &[&[u8]]) -> Stage {
    let ipxe = |class: &&[u8]| *class == b"iPXE" || *class == b"gPXE";
    if classes.iter().any(ipxe) {
        return Stage::Ipxe;
    }
    let boots = vendor_class.starts_with(b"PXEClient") || vendor_class.starts_with(b"HTTPClient");
    // An iPXE whose user class was cleared still sends its own option 175. One that was told to name another class
    // (`set user-class`) wants to be taken for what it says, which is how a ROM's iPXE is made to load ours: the
    // program it gets forgets that class at its own DHCP, so this can't go round for ever.
    if classes.is_empty() && packet.options.ipxe_sub_options().is_some() {
        return Stage::Ipxe;
    }
    // Some firmware drops option 60 in its REQUEST (raspberrypi/rpi-eeprom#82), but keeps telling its architecture,
    // which no operating system does.
    if boots || packet.options.get(OptionCode::ClientSystemArchitecture).is_some() {
        return Stage::Firmware;
    }
    Stage::Other
}

/// Which features are among the sub-options (iPXE, `src/include/ipxe/features.h`). Debian's build of 2019, which
/// is in QEMU's ROMs and in the field, lists HTTP, iSCSI and menus like today's does.
fn features(sub_options: &[(u8, &[u8])]) -> Option<IpxeFeatures> {
    let has = |code: u8| sub_options.iter().any(|(c, value)| *c == code && **value != [0]);
    let any = sub_options.iter().any(|(code, _)| (0x10..0x80).contains(code));
    any.then(|| IpxeFeatures {
        http: has(0x13),
        iscsi: has(0x11),
        menu: has(0x27),
        bzimage: has(0x18),
        efi: has(0x24),
    })
}

fn text(bytes: &[u8]) -> Option<String> {
    let escaped: String = bytes.escape_ascii().map(char::from).take(MAX_CLASS_LEN).collect();
    (!escaped.is_empty()).then_some(escaped)
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::UefiIa32 => f.write_str("UEFI ia32"),
            Self::UefiX64 => f.write_str("UEFI x64"),
            Self::UefiArm32 => f.write_str("UEFI arm32"),
            Self::UefiArm64 => f.write_str("UEFI arm64"),
            Self::RaspberryPi => f.write_str("Raspberry Pi"),
            Self::Unknown(number) => write!(f, "architecture {number}"),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firmware => "firmware",
            Self::Ipxe => "iPXE",
            Self::Other => "operating system",
        })
    }
}
