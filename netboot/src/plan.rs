//! The one policy: what an asker gets, and why. DHCP, TFTP, HTTP and `bootd explain` all ask here, so that no
//! door is open which another keeps shut.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use site::{Client, ClientName, Image, ImageName, MacAddr, Site};

use crate::paths::script_url;
use crate::pool::PoolRange;
use crate::pxe::{Asker, Firmware, Method, Stage};

/// The longest name of a boot program, in bytes: what fits the header's `file` with its end mark (L3).
const MAX_FILE_LEN: usize = 127;

/// What an address is leased for when nobody says otherwise, in seconds: half a day, so that a machine that runs
/// by day renews once and a night's power cut frees nothing that is wanted in the morning.
const DEFAULT_LEASE_TIME: u32 = 12 * 60 * 60;

/// How bootd serves one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What this server is called.
    pub server_name: String,
    /// The port of the boot scripts' URLs.
    pub http_port: u16,
    /// Addresses for machines that have none of their own; `None`: only reserved addresses are given.
    pub pool: Option<PoolRange>,
    /// The subnet's way out.
    pub router: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The DNS domain of the clients.
    pub domain: Option<String>,
    /// The MTU told to operating systems that ask. iPXE is never told: large frames were seen not to reach it (L18).
    pub mtu: Option<u16>,
    /// How long an address is leased for, in seconds; `u32::MAX` is for ever.
    pub lease_time: u32,
    /// What machines get that the site doesn't know.
    pub unknown: Unknown,
    /// Whether bootd is the subnet's only DHCP server, and so may refuse addresses that it did not give.
    pub authoritative: bool,
    /// The boot programs that are there to be fetched: names relative to the root of the files.
    pub programs: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server_name: "bootd".to_owned(),
            http_port: 80,
            pool: None,
            router: None,
            dns: Vec::new(),
            domain: None,
            mtu: None,
            lease_time: DEFAULT_LEASE_TIME,
            unknown: Unknown::default(),
            authoritative: true,
            programs: Vec::new(),
        }
    }
}

/// What a machine gets that the site doesn't know. In neither case does it boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// An address from the pool.
    #[default]
    Lease,
    /// No answer.
    Ignore,
}

/// One of our network interfaces, with the address that clients know it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, for people.
    pub name: String,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// How many bits of the address name the subnet.
    pub prefix_len: u8,
}

impl Interface {
    /// The subnet mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        let host_bits = 32_u32.saturating_sub(self.prefix_len.into());
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// The subnet's first address, which names it.
    #[must_use]
    pub fn network(&self) -> Ipv4Addr {
        self.address & self.mask()
    }

    /// The subnet's last address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        self.address | !self.mask()
    }

    /// Whether `address` is on this link.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address & self.mask() == self.network()
    }

    /// Whether a machine on this link may have `address`: it is neither ours nor the subnet's name or broadcast.
    #[must_use]
    pub fn can_have(&self, address: Ipv4Addr) -> bool {
        let edges = self.prefix_len < 31 && (address == self.network() || address == self.broadcast());
        self.contains(address) && address != self.address && !edges
    }
}

/// A boot program to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootProgram {
    /// Its name relative to the root of the files.
    pub name: String,
    /// What goes into the DHCP answer's `file`: the name for PXE, a URL for HTTP boot.
    pub file: String,
}

/// What an asker gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootPlan {
    /// Who it is in the site.
    pub client: Option<Arc<Client>>,
    /// Whether it is given an address.
    pub lease: bool,
    /// The address that is its own; `None`: one from the pool.
    pub address: Option<Ipv4Addr>,
    /// The program that its firmware is to run.
    pub boot_program: Option<BootProgram>,
    /// The script that its iPXE is to run.
    pub script_url: Option<String>,
    /// The image whose copy becomes its disk. `Some` exactly if it may boot, whatever it asks for just now.
    pub image: Option<Arc<Image>>,
    /// Why, as sentences in the order of the decisions.
    pub why: Vec<Reason>,
}

impl BootPlan {
    /// Whether this machine may boot: have a script rendered, be served its files, log in to its disk.
    #[must_use]
    pub fn may_boot(&self) -> bool {
        self.image.is_some()
    }
}

/// One step of the reasoning, a whole sentence when printed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The site has it.
    Known(ClientName, MacAddr),
    /// The site doesn't have it.
    UnknownClient(MacAddr),
    /// The site doesn't have it, and such machines are not answered.
    UnknownIgnored,
    /// It has an address of its own.
    Reserved(Ipv4Addr),
    /// The address of its own can't be used on this link.
    ReservedElsewhere(Ipv4Addr, String),
    /// It has none of its own.
    FromPool(PoolRange),
    /// It has none of its own, and there is no pool.
    NoPool,
    /// It may not boot.
    Disabled(ClientName),
    /// There is nothing to boot.
    NoImage(ClientName),
    /// What it should boot is not there.
    ImageMissing(ClientName, ImageName),
    /// It boots this.
    Image(ImageName, site::Version),
    /// It did not ask to boot.
    AsksForAddressOnly,
    /// The program for its firmware.
    Program(Firmware, String),
    /// The program that its entry names.
    ProgramOverride(Firmware, String),
    /// The program that its entry names is for another kind of firmware, so the usual one is taken.
    ProgramUnsuited(Firmware, String),
    /// The programs that would do are not there.
    ProgramMissing(Firmware, Vec<String>),
    /// The program's name or URL doesn't fit into a DHCP answer.
    ProgramTooLong(String),
    /// No program for that firmware is known.
    NoProgram(Option<Firmware>),
    /// It gets its script.
    Script(String),
}

/// What `asker` gets on that interface, by that snapshot of the site.
#[must_use]
pub fn plan(asker: &Asker, iface: &Interface, site: &Site, settings: &Settings) -> BootPlan {
    let mut plan = BootPlan::default();
    let client = site.client_by_mac(asker.mac);
    match client {
        Some(client) => plan.why.push(Reason::Known(client.name.clone(), asker.mac)),
        None => {
            plan.why.push(Reason::UnknownClient(asker.mac));
            if settings.unknown == Unknown::Ignore {
                plan.why.push(Reason::UnknownIgnored);
                return plan;
            }
        }
    }
    plan.lease = true;
    plan.address = address(client, iface, settings, &mut plan.why);
    let Some(client) = client else { return plan };
    plan.client = Some(Arc::clone(client));
    plan.image = image(client, site, &mut plan.why);
    if !plan.may_boot() {
        return plan;
    }
    match asker.stage {
        Stage::Other => plan.why.push(Reason::AsksForAddressOnly),
        Stage::Firmware => plan.boot_program = boot_program(asker, client, iface, settings, &mut plan.why),
        Stage::Ipxe => {
            let url = script_url(asker, iface, settings);
            plan.why.push(Reason::Script(url.clone()));
            plan.script_url = Some(url);
        }
    }
    plan
}

fn address(
    client: Option<&Arc<Client>>,
    iface: &Interface,
    settings: &Settings,
    why: &mut Vec<Reason>,
) -> Option<Ipv4Addr> {
    if let Some(own) = client.and_then(|client| client.address) {
        if iface.can_have(own) {
            why.push(Reason::Reserved(own));
            return Some(own);
        }
        why.push(Reason::ReservedElsewhere(own, iface.name.clone()));
    }
    why.push(settings.pool.map_or(Reason::NoPool, Reason::FromPool));
    None
}

fn image(client: &Client, site: &Site, why: &mut Vec<Reason>) -> Option<Arc<Image>> {
    if !client.enabled {
        why.push(Reason::Disabled(client.name.clone()));
        return None;
    }
    let Some(name) = &client.image else {
        why.push(Reason::NoImage(client.name.clone()));
        return None;
    };
    let Some(image) = site.image(name) else {
        why.push(Reason::ImageMissing(client.name.clone(), name.clone()));
        return None;
    };
    why.push(Reason::Image(image.name.clone(), image.version.clone()));
    Some(Arc::clone(image))
}

/// The programs that suit a firmware, best first. On UEFI x64 `snponly.efi` is preferred, since it uses the
/// firmware's own network driver: the all-driver `ipxe.efi` hangs where taking over the card fails (L7), and resets
/// the link, which costs 30 s behind a switch with spanning tree (L16). `undionly.kpxe` is the same on a BIOS.
fn candidates(firmware: Firmware) -> &'static [&'static str] {
    match firmware {
        Firmware::Bios => &["undionly.kpxe"],
        Firmware::UefiX64 => &["snponly.efi", "ipxe.efi"],
        Firmware::UefiIa32 => &["snponly-i386.efi", "ipxe-i386.efi"],
        Firmware::UefiArm64 => &["snponly-arm64.efi", "ipxe-arm64.efi"],
        Firmware::UefiArm32 | Firmware::RaspberryPi | Firmware::Unknown(_) => &[],
    }
}

/// Whether a program of that name may run on that firmware. Only what is surely wrong is refused.
fn suits(firmware: Firmware, program: &str) -> bool {
    let efi = program.len() >= 4 && program.as_bytes()[program.len() - 4..].eq_ignore_ascii_case(b".efi");
    match firmware {
        Firmware::Bios => !efi,
        Firmware::UefiIa32 | Firmware::UefiX64 | Firmware::UefiArm32 | Firmware::UefiArm64 => efi,
        Firmware::RaspberryPi | Firmware::Unknown(_) => true,
    }
}

fn boot_program(
    asker: &Asker,
    client: &Client,
    iface: &Interface,
    settings: &Settings,
    why: &mut Vec<Reason>,
) -> Option<BootProgram> {
    let Some(firmware) = asker.firmware else {
        why.push(Reason::NoProgram(None));
        return None;
    };
    let there = |name: &str| settings.programs.iter().any(|program| program == name);
    let mut wanted: Vec<&str> = candidates(firmware).to_vec();
    let mut chosen_by_admin = false;
    if let Some(own) = client.boot_program.as_deref() {
        if suits(firmware, own) {
            wanted = vec![own];
            chosen_by_admin = true;
        } else {
            why.push(Reason::ProgramUnsuited(firmware, own.to_owned()));
        }
    }
    if wanted.is_empty() {
        why.push(Reason::NoProgram(Some(firmware)));
        return None;
    }
    let Some(name) = wanted.iter().copied().find(|name| there(name)) else {
        why.push(Reason::ProgramMissing(firmware, wanted.into_iter().map(str::to_owned).collect()));
        return None;
    };
    let file = match asker.method {
        Method::Tftp => name.to_owned(),
        Method::Http => format!("{}/files/{name}", http_origin(iface, settings)),
    };
    if file.len() > MAX_FILE_LEN {
        why.push(Reason::ProgramTooLong(file));
        return None;
    }
    let name = name.to_owned();
    why.push(if chosen_by_admin {
        Reason::ProgramOverride(firmware, name.clone())
    } else {
        Reason::Program(firmware, name.clone())
    });
    Some(BootProgram { name, file })
}

/// Where our HTTP server is. An address, not a name: firmware without a name server still finds it (L6).
pub(crate) fn http_origin(iface: &Interface, settings: &Settings) -> String {
    match settings.http_port {
        80 => format!("http://{}", iface.address),
        port => format!("http://{}:{port}", iface.address),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(name, mac) => write!(f, "{mac} is the client \"{name}\"."),
            Self::UnknownClient(mac) => write!(
                f,
                "No client has the MAC address {mac}, so it does not boot. To let it boot, type: \
                 bootd client add NAME --mac {mac} --image IMAGE"
            ),
            Self::UnknownIgnored => f.write_str("Machines that the site doesn't know are not answered."),
            Self::Reserved(address) => write!(f, "Its entry gives it the address {address}."),
            Self::ReservedElsewhere(address, iface) => write!(
                f,
                "Its entry gives it the address {address}, which no machine can have on {iface}; \
                 it is treated as if it had none."
            ),
            Self::FromPool(pool) => write!(f, "It gets an address from the pool {pool}."),
            Self::NoPool => {
                f.write_str("It has no address of its own and there is no pool, so it gets no address.")
            }
            Self::Disabled(name) => write!(f, "The client \"{name}\" is disabled: it gets an address only."),
            Self::NoImage(name) => {
                write!(f, "The client \"{name}\" has no image: it gets an address only.")
            }
            Self::ImageMissing(name, image) => write!(
                f,
                "The client \"{name}\" should boot the image \"{image}\", which does not exist: it gets an \
                 address only."
            ),
            Self::Image(image, version) => {
                write!(f, "It boots the image \"{image}\", version {version}.")
            }
            Self::AsksForAddressOnly => {
                f.write_str("It does not ask to boot now, so it gets an address only.")
            }
            Self::Program(firmware, name) => write!(f, "Its firmware ({firmware}) is given {name}."),
            Self::ProgramOverride(firmware, name) => {
                write!(f, "Its firmware ({firmware}) is given {name}, as its entry says.")
            }
            Self::ProgramUnsuited(firmware, name) => write!(
                f,
                "Its entry names the boot program {name}, which can't run on {firmware}, so the usual one is \
                 taken."
            ),
            Self::ProgramMissing(firmware, names) => write!(
                f,
                "The boot program for its firmware ({firmware}) is missing: put {} among the boot files.",
                names.join(" or ")
            ),
            Self::ProgramTooLong(file) => write!(
                f,
                "The boot program's name {file} is too long for DHCP, which holds {MAX_FILE_LEN} bytes: rename it."
            ),
            Self::NoProgram(Some(firmware)) => {
                write!(f, "No boot program for its firmware ({firmware}) is known; its entry may name one.")
            }
            Self::NoProgram(None) => {
                f.write_str("Its firmware does not say what it is, so no boot program can be chosen.")
            }
            Self::Script(url) => write!(f, "It is iPXE already and is given its script, {url}."),
        }
    }
}
