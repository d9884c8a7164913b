//! Answers beside another DHCP server, which gives the addresses: what to boot, and nothing else.
//!
//! Firmware takes such an answer in one of several shapes, and none suits all (`docs/booting.md`). Which one a machine
//! is offered, [`Shapes`](crate::shapes::Shapes) remembers.

use std::fmt;

use dhcproto::v4::{DhcpOption, MessageType};
use serde::{Deserialize, Serialize};
use site::Site;

use crate::decision::{Decision, DhcpEvent, Outcome};
use crate::options::{IPXE_ENCAPSULATED, VENDOR_ENCAPSULATED};
use crate::packet::Packet;
use crate::plan::{BootPlan, plan};
use crate::pxe::{Asker, Firmware, Method, Stage};
use crate::reply::{Destination, Header, Reply, Writer};
use crate::settings::{Interface, Settings};
use crate::shapes::Shapes;
use crate::subnet::Subnet;

/// Sub-option 6 of option 43, `PXE_DISCOVERY_CONTROL`, with bit 3: take the file that is named here and look for no boot
/// server (PXE 2.1, table 2-1).
const BYPASS_DISCOVERY: [u8; 4] = [6, 1, 8, 255];

/// Sub-option 71 of option 43, `PXE_BOOT_ITEM`: which entry of a boot menu is meant.
const BOOT_ITEM: u8 = 71;

/// In which form a machine is told what to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The offer names the file and says to look no further. BIOS ROMs take this; EDK2 of some years throws it away,
    /// as it keeps no first offer with option 43 (tianocore/edk2#6944).
    Bypass,
    /// The offer says only who we are: the machine asks on port 4011 once it has its address. What UEFI takes.
    Binl,
    /// The offer names the file as any DHCP server's would, and claims no PXE.
    Plain,
}

impl Shape {
    /// The shapes for that firmware, the likeliest first.
    #[must_use]
    pub fn of(firmware: Option<Firmware>) -> &'static [Self] {
        match firmware {
            Some(Firmware::UefiIa32 | Firmware::UefiX64 | Firmware::UefiArm32 | Firmware::UefiArm64) => {
                &[Self::Binl, Self::Bypass, Self::Plain]
            }
            _ => &[Self::Bypass, Self::Binl, Self::Plain],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bypass => "with the file and option 43",
            Self::Binl => "to ask on port 4011",
            Self::Plain => "with the file only",
        })
    }
}

/// Which port a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// Port 67.
    #[default]
    Dhcp,
    /// Port 4011, where firmware asks for its file once it has an address.
    Binl,
}

/// Answers one request that came in by `iface`, at `now` seconds since 1970: at port 67 beside another server, at port
/// 4011 in either role.
#[must_use]
pub fn respond_as_proxy(
    door: Door,
    packet: &Packet,
    iface: &Interface,
    site: &Site,
    settings: &Settings,
    shapes: &mut Shapes,
    now: u64,
) -> Outcome {
    let asker = Asker::of(packet);
    let plan = plan(&asker, iface, site, settings);
    let asked = packet.options.message_type();
    let searches = door == Door::Dhcp && asked == Some(MessageType::Discover) && plan.may_boot();
    let shape = match asker.stage {
        // These are told their file at once, whatever the firmware's PXE likes.
        _ if asker.stage == Stage::Ipxe || asker.method == Method::Http => Shape::Plain,
        Stage::Firmware if searches => shapes.offer(packet.mac, asker.firmware, now),
        _ => shapes.last(packet.mac, asker.firmware),
    };
    let subnet = settings.subnet_of(iface);
    if let Some(program) = plan.boot_program.as_ref().filter(|_| asker.stage == Stage::Firmware) {
        shapes.on_told(packet.mac, &program.name);
    }
    let proxy = Proxy { packet, iface, subnet, asker: &asker, plan: &plan, shape };
    let (decision, reply) = match door {
        Door::Dhcp => proxy.at_dhcp(),
        Door::Binl => proxy.at_binl(),
    };
    let answered = reply.as_ref().map(|(kind, _)| *kind);
    let (server, secs) = (packet.options.server_identifier(), packet.secs);
    let event =
        DhcpEvent { asked, answered, address: decision.address(), server, secs, decision, asker, plan };
    Outcome {
        reply: reply.map(|(_, reply)| reply),
        changes: Vec::new(),
        untried: None,
        displaces: false,
        left_out: Vec::new(),
        event,
    }
}

/// One request, and all that bears on its answer.
struct Proxy<'a> {
    packet: &'a Packet,
    iface: &'a Interface,
    subnet: Subnet,
    asker: &'a Asker,
    plan: &'a BootPlan,
    shape: Shape,
}

impl Proxy<'_> {
    /// What a proxy answers at port 67: DISCOVERs of machines that boot from here. All else is the DHCP server's.
    fn at_dhcp(&self) -> (Decision, Option<(MessageType, Reply)>) {
        if self.packet.options.message_type() != Some(MessageType::Discover) {
            return (Decision::LeftToServer, None);
        }
        let giaddr = self.packet.giaddr;
        if let Some(link) = self.packet.relayed_from()
            && !self.subnet.contains(link)
        {
            return (Decision::RelayNotServed(link), None);
        }
        let Some(file) = self.file() else { return (Decision::NothingToBoot, None) };
        let mut header = self.header(MessageType::Offer, file);
        if self.is_binl() {
            // A file in the offer would do no harm to EDK2, but other firmware takes it and does not ask on.
            header.file.clear();
        }
        let to = match giaddr {
            // The machine has no address to be written to, and we give it none.
            relay if relay.is_unspecified() => Destination::Broadcast,
            relay => Destination::Relay(relay),
        };
        let bytes = self.write(&header, file);
        (Decision::ProxyOffered(self.shape), Some((MessageType::Offer, Reply { bytes, to })))
    }

    /// What is answered at port 4011, in either role: what to boot.
    fn at_binl(&self) -> (Decision, Option<(MessageType, Reply)>) {
        let kind = self.packet.options.message_type();
        if !matches!(kind, Some(MessageType::Request | MessageType::Inform)) {
            return (Decision::NotSpoken, None);
        }
        if self.packet.ciaddr.is_unspecified() {
            return (Decision::Incomplete, None);
        }
        if !self.subnet.contains(self.packet.ciaddr) && self.packet.giaddr.is_unspecified() {
            return (Decision::NotOurs(self.packet.ciaddr), None);
        }
        let Some(file) = self.file() else { return (Decision::NothingToBoot, None) };
        let mut header = self.header(MessageType::Ack, file);
        header.ciaddr = self.packet.ciaddr;
        let bytes = self.write(&header, file);
        let to = Destination::Client(self.packet.ciaddr);
        (Decision::ToldFile(self.packet.ciaddr), Some((MessageType::Ack, Reply { bytes, to })))
    }

    fn file(&self) -> Option<&str> {
        let program = self.plan.boot_program.as_ref().map(|program| program.file.as_str());
        program.or(self.plan.script_url.as_deref())
    }

    /// Whether the machine is to ask again on port 4011. iPXE takes the file from the offer, and UEFI HTTP boot knows
    /// no other way.
    fn is_binl(&self) -> bool {
        self.shape == Shape::Binl && self.asker.stage == Stage::Firmware
    }

    fn header(&self, kind: MessageType, file: &str) -> Header {
        let mut header = Header::new(kind);
        header.siaddr = self.iface.address;
        header.sname = self.iface.address.to_string();
        file.clone_into(&mut header.file);
        header
    }

    fn write(&self, header: &Header, file: &str) -> Vec<u8> {
        // Never by the name that a relay would have us answer under (RFC 5107): firmware asks the server of that name on
        // port 4011, where no relay listens.
        let mut writer = Writer::new(self.packet, header, self.iface.address);
        match self.asker.method {
            Method::Http if self.asker.stage == Stage::Firmware => {
                writer.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
            }
            _ if self.shape == Shape::Plain && header.kind == MessageType::Offer && !self.is_ipxe() => {}
            // iPXE, too, takes a proxy's offer only if it says this (iPXE, `src/net/udp/dhcp.c`).
            _ => {
                writer.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            }
        }
        if !header.file.is_empty() {
            writer.push_file(self.packet, self.iface.address, file);
        }
        writer.push_uuid(self.packet);
        if let Some(vendor) = self.vendor_options(header.kind) {
            writer.push_raw(VENDOR_ENCAPSULATED, &vendor);
        }
        if self.is_ipxe() {
            writer.push_raw(IPXE_ENCAPSULATED, &crate::dhcp::NO_PXEDHCP);
        }
        // All that is in it fits the shortest answer.
        writer.finish().0
    }

    fn is_ipxe(&self) -> bool {
        self.asker.stage == Stage::Ipxe
    }

    /// Option 43. Who asked for an entry of a boot menu is told that it is that entry's answer (PXE 2.1, §2.2.4).
    fn vendor_options(&self, kind: MessageType) -> Option<Vec<u8>> {
        if let Some(vendor) = self.asker.vendor_options() {
            return Some(vendor.to_vec());
        }
        if let Some(item) = self.packet.options.vendor_sub_option(BOOT_ITEM) {
            let len = u8::try_from(item.len()).ok()?;
            return Some([&[BOOT_ITEM, len], item, &[255]].concat());
        }
        let offers_file = kind == MessageType::Offer && self.shape == Shape::Bypass;
        (offers_file && self.asker.stage == Stage::Firmware && self.asker.method == Method::Tftp)
            .then(|| BYPASS_DISCOVERY.to_vec())
    }
}
