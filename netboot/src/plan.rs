//! The one policy: what an asker gets, and why. DHCP, TFTP, HTTP and `bootd explain` all ask here, so that no
//! door is open which another keeps shut.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use site::{Choice, Client, Image, Site};

use crate::offer::{Offer, Start, guest_offer, image_of, offer, start};
use crate::paths::script_url;
use crate::programs::{EFI_DIRECTORY, candidates, find};
use crate::pxe::{Asker, Firmware, Method, Stage};
use crate::reason::Reason;
use crate::settings::{Interface, Mode, Settings, Unknown};
use crate::site_options::{self, SiteOption};

/// The longest name of a boot program, in bytes: what fits the header's `file` with its end mark.
pub(crate) const MAX_FILE_LEN: usize = 127;

/// What a Raspberry Pi's ROM asks for first, of those models that ask for anything that they are told: the others know by
/// themselves what they want, in a directory that has their serial number for a name or beside it.
const RASPBERRY_PI_FIRST: &str = "bootcode.bin";

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
    /// What it may choose among.
    pub offer: Offer,
    /// Where its script leads: somewhere exactly if it may boot, whatever it asks for just now.
    pub start: Start,
    /// The image of the disk that its script makes without anyone's choosing; `None`: it makes none.
    pub image: Option<Arc<Image>>,
    /// DHCP options of the site's own.
    pub options: Vec<SiteOption>,
    /// Why, as sentences in the order of the decisions.
    pub why: Vec<Reason>,
}

impl BootPlan {
    /// Whether this machine may boot: have a script rendered, be served its files, log in to its disk.
    #[must_use]
    pub fn may_boot(&self) -> bool {
        self.start != Start::Nothing
    }

    /// The choice of that name, if it may boot that.
    #[must_use]
    pub fn choice(&self, name: &str) -> Option<&Arc<Choice>> {
        self.offer.get(name).filter(|_| self.may_boot())
    }
}

/// What `asker` gets on that interface, by that snapshot of the site.
#[must_use]
pub fn plan(asker: &Asker, iface: &Interface, site: &Site, settings: &Settings) -> BootPlan {
    made(asker, iface, site, settings, true)
}

/// The same without what it is to boot once, for when that can't be taken out of the site.
#[must_use]
pub fn plan_as_usual(asker: &Asker, iface: &Interface, site: &Site, settings: &Settings) -> BootPlan {
    made(asker, iface, site, settings, false)
}

fn made(asker: &Asker, iface: &Interface, site: &Site, settings: &Settings, with_once: bool) -> BootPlan {
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
    match settings.mode {
        Mode::Server => {
            plan.lease = true;
            plan.address = address(client, iface, settings, &mut plan.why);
            let (options, wrong) = site_options::of_site(site, client.map(AsRef::as_ref));
            plan.why.extend(options.iter().map(|option| Reason::SiteOption(option.code)));
            let cramped = site_options::cramped(&options);
            plan.why.extend((!cramped.is_empty()).then_some(Reason::SiteOptionsMayNotFit(cramped)));
            plan.why.extend(wrong.into_iter().map(|(text, error)| Reason::SiteOptionWrong(text, error)));
            plan.options = options;
        }
        // Options of that server, too.
        Mode::Proxy | Mode::Off => plan.why.push(Reason::AddressElsewhere),
    }
    plan.client = client.map(Arc::clone);
    let Some(client) = client else {
        stranger(asker, site, settings, &mut plan);
        return staged(asker, iface, settings, plan);
    };
    if client.enabled {
        let own = image(client, site);
        plan.offer = offer(client, asker.firmware, site, &mut plan.why);
        plan.offer.once = plan.offer.once.filter(|_| with_once);
        plan.start = start(client, &plan.offer, own.map(AsRef::as_ref), &mut plan.why);
        plan.image = match &plan.start {
            Start::Image => own.map(Arc::clone),
            Start::Choice(choice) | Start::Once(choice) if choice.makes_disk() => {
                image_of(choice, client, site)
            }
            _ => None,
        };
    } else {
        plan.why.push(Reason::Disabled(client.name.clone()));
    }
    staged(asker, iface, settings, plan)
}

/// What a machine boots that the site doesn't know.
fn stranger(asker: &Asker, site: &Site, settings: &Settings, plan: &mut BootPlan) {
    match settings.unknown {
        Unknown::Lease | Unknown::Ignore => return,
        Unknown::Register | Unknown::Guest => {}
    }
    plan.offer = guest_offer(asker.firmware, site, &mut plan.why);
    if settings.unknown == Unknown::Register {
        plan.why.push(Reason::MayRegister);
        plan.start = Start::Register;
    } else if let Some(choice) = &plan.offer.default {
        plan.why.push(Reason::Guest(choice.name.clone()));
        plan.start = Start::Choice(Arc::clone(choice));
    }
}

/// The plan with what an asker gets at its stage.
fn staged(asker: &Asker, iface: &Interface, settings: &Settings, mut plan: BootPlan) -> BootPlan {
    if !plan.may_boot() {
        return plan;
    }
    let client = plan.client.clone();
    match asker.stage {
        Stage::Other => plan.why.push(Reason::AsksForAddressOnly),
        Stage::Firmware => {
            plan.boot_program = boot_program(asker, client.as_deref(), iface, settings, &mut plan.why);
        }
        Stage::Ipxe if needs_another(asker) => {
            let lacks = asker.ipxe.map(|features| features.lacks()).unwrap_or_default();
            plan.why.push(Reason::IpxeLacks(lacks));
            // An iPXE fetches by TFTP whatever it lacks.
            let plain = Asker { method: Method::Tftp, ..asker.clone() };
            plan.boot_program = boot_program(&plain, client.as_deref(), iface, settings, &mut plan.why);
            if plan.boot_program.is_none() {
                plan.script_url = Some(script_url(asker, iface, settings));
            }
        }
        Stage::Ipxe => {
            if let Some(features) = asker.ipxe.filter(|_| asker.reloaded) {
                plan.why.push(Reason::IpxeStillLacks(features.lacks()));
            }
            let url = script_url(asker, iface, settings);
            plan.why.push(Reason::Script(url.clone()));
            plan.script_url = Some(url);
        }
    }
    plan
}

/// Whether it is an iPXE too small for the boot script, in a card's ROM for instance, that has not been given a whole
/// one yet. One that says nothing of its features is taken to have them.
fn needs_another(asker: &Asker) -> bool {
    !asker.reloaded && asker.ipxe.is_some_and(|features| !features.lacks().is_empty())
}

fn address(
    client: Option<&Arc<Client>>,
    iface: &Interface,
    settings: &Settings,
    why: &mut Vec<Reason>,
) -> Option<Ipv4Addr> {
    if let Some(own) = client.and_then(|client| client.address) {
        if settings.can_give(own, iface) {
            why.push(Reason::Reserved(own));
            return Some(own);
        }
        let place = settings.subnet.map_or_else(|| iface.name.clone(), |subnet| subnet.to_string());
        why.push(Reason::ReservedElsewhere(own, place));
    }
    why.push(settings.pool.map_or(Reason::NoPool, Reason::FromPool));
    None
}

/// The image of its own.
fn image<'a>(client: &Client, site: &'a Site) -> Option<&'a Arc<Image>> {
    site.image(client.image.as_ref()?)
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
    client: Option<&Client>,
    iface: &Interface,
    settings: &Settings,
    why: &mut Vec<Reason>,
) -> Option<BootProgram> {
    let Some(firmware) = asker.firmware else {
        why.push(Reason::NoProgram(None));
        return None;
    };
    let programs = settings.programs.all();
    let mut found = None;
    let mut wanted = Vec::new();
    let own = client.and_then(|client| client.boot_program.as_deref());
    if let Some(own) = own.filter(|own| suits(firmware, own)) {
        found = find(&programs, own, firmware);
        wanted.push(own.to_owned());
    } else {
        if let Some(own) = own {
            why.push(Reason::ProgramUnsuited(firmware, own.to_owned()));
        }
        let there = |name: &str| programs.iter().any(|program| program == name);
        for (name, beside) in candidates(firmware) {
            if found.is_none() && there(name) && beside.is_none_or(there) {
                found = Some(*name);
            }
            // Whoever has none is told of those that the system's packages have.
            if !name.starts_with(EFI_DIRECTORY) {
                wanted.push((*name).to_owned());
            }
        }
    }
    let chosen_by_admin = own.is_some_and(|own| suits(firmware, own));
    if wanted.is_empty() && firmware == Firmware::RaspberryPi {
        why.push(Reason::RaspberryPi);
        let name = RASPBERRY_PI_FIRST.to_owned();
        return Some(BootProgram { file: name.clone(), name });
    }
    if wanted.is_empty() {
        why.push(Reason::NoProgram(Some(firmware)));
        return None;
    }
    let Some(name) = found else {
        why.push(Reason::ProgramMissing(firmware, wanted));
        return None;
    };
    let file = match asker.method {
        Method::Tftp => name.to_owned(),
        Method::Http => format!("{}/files/{name}", settings.http_origin(iface)),
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
