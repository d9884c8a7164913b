//! The policy's reasoning, in sentences for whoever runs the site.

use std::fmt;
use std::net::Ipv4Addr;

use site::entity::EntityName;
use site::{ClientName, ImageName, MacAddr, Version};

use crate::offer::MAX_OFFERED;
use crate::plan::MAX_FILE_LEN;
use crate::pool::PoolRange;
use crate::pxe::Firmware;
use crate::reply::ROOM_FOR_OTHERS;
use crate::site_options::SiteOptionError;

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
    /// The site doesn't have it, and it may be registered.
    MayRegister,
    /// The site doesn't have it, and guests boot this.
    Guest(EntityName),
    /// It has an address of its own.
    Reserved(Ipv4Addr),
    /// The address of its own can't be used on this link.
    ReservedElsewhere(Ipv4Addr, String),
    /// It has none of its own.
    FromPool(PoolRange),
    /// It has none of its own, and there is no pool.
    NoPool,
    /// The site gives it a DHCP option.
    SiteOption(u8),
    /// These options of the site may find no room beside those that come first.
    SiteOptionsMayNotFit(Vec<u8>),
    /// The site gives it a DHCP option that is none.
    SiteOptionWrong(String, SiteOptionError),
    /// Another server gives the addresses.
    AddressElsewhere,
    /// It may not boot.
    Disabled(ClientName),
    /// There is nothing to boot.
    NoImage(ClientName),
    /// What it should boot is not there.
    ImageMissing(ClientName, ImageName),
    /// It boots this.
    Image(ImageName, Version),
    /// It boots this choice the next time only.
    Once(EntityName),
    /// It may choose among these.
    Offered(Vec<EntityName>),
    /// Its menu waits for so many seconds, then goes on with that.
    Menu(u64, Option<EntityName>),
    /// Its menu waits until somebody chooses.
    MenuWaits,
    /// It boots this choice without a menu.
    Straight(EntityName),
    /// A choice that it should have is not there.
    ChoiceMissing(EntityName),
    /// A choice is not for its firmware.
    ChoiceUnsuited(EntityName, Firmware),
    /// A choice would make a disk, and there is no image to make it from.
    ChoiceWithoutImage(EntityName),
    /// It has more choices than are offered.
    TooManyChoices,
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
    /// It looks for its files by itself.
    RaspberryPi,
    /// Its iPXE lacks what the script needs, so it is given another.
    IpxeLacks(Vec<&'static str>),
    /// The iPXE that it was given lacks the same, and gets the script all the same.
    IpxeStillLacks(Vec<&'static str>),
    /// It gets its script.
    Script(String),
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
            Self::MayRegister => f.write_str(
                "It is offered to be registered; whoever runs the site then decides (bootd register list).",
            ),
            Self::Guest(choice) => write!(f, "Guests boot \"{choice}\"."),
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
            Self::SiteOption(code) => write!(f, "It is told DHCP option {code} as the site says."),
            Self::SiteOptionsMayNotFit(codes) => {
                let codes = codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(
                    f,
                    "DHCP option {codes} may be left out: {ROOM_FOR_OTHERS} bytes of such options fit any answer, \
                     and more only if it says that it takes long ones."
                )
            }
            Self::SiteOptionWrong(text, error) => {
                write!(f, "Its dhcp_option {text:?} is left out: {error}.")
            }
            Self::AddressElsewhere => f.write_str("Its address is the other DHCP server's affair."),
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
            Self::Once(choice) => {
                write!(f, "It boots \"{choice}\" the next time, and only then.")
            }
            Self::Offered(choices) => {
                let names: Vec<_> = choices.iter().map(EntityName::as_str).collect();
                write!(f, "It may choose among {}.", names.join(", "))
            }
            Self::Menu(seconds, Some(choice)) => {
                write!(f, "Its menu waits for {seconds} s, then goes on with \"{choice}\".")
            }
            Self::Menu(seconds, None) => write!(f, "Its menu waits for {seconds} s."),
            Self::MenuWaits => f.write_str(
                "Its menu waits until somebody chooses: it has neither an image nor a default choice.",
            ),
            Self::Straight(choice) => write!(f, "It boots \"{choice}\" without a menu."),
            Self::ChoiceMissing(choice) => write!(
                f,
                "The choice \"{choice}\" is left out: there is none, or it lacks something (bootd site show \
                 choice/{choice})."
            ),
            Self::ChoiceUnsuited(choice, firmware) => {
                write!(f, "The choice \"{choice}\" is left out: it is not for {firmware} firmware.")
            }
            Self::ChoiceWithoutImage(choice) => write!(
                f,
                "The choice \"{choice}\" is left out: neither it nor the client names an image that exists."
            ),
            Self::TooManyChoices => {
                write!(f, "It has more than {MAX_OFFERED} choices; the others are left out.")
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
            Self::RaspberryPi => f.write_str(
                "It is a Raspberry Pi, which asks for its files by itself: put them among the boot files, into a \
                 directory named by its serial number, into the one that its variable pi_directory names, or into raspberrypi, \
                 which is for all of them.",
            ),
            Self::IpxeLacks(what) => {
                write!(f, "Its iPXE lacks {}, so it is given another first.", what.join(", "))
            }
            Self::IpxeStillLacks(what) => write!(
                f,
                "Its iPXE lacks {}, also the one that it was given in place of its own; its script may fail.",
                what.join(", ")
            ),
            Self::Script(url) => write!(f, "It is iPXE already and is given its script, {url}."),
        }
    }
}
