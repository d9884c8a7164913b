//! bootd beside another DHCP server: every firmware, judged by how it chooses, comes to its file.

use std::net::Ipv4Addr;

use netboot::{
    Decision, Destination, Door, MessageType, Mode, Outcome, Packet, Shape, Shapes, respond_as_proxy,
};

use crate::choosing::{self, Boots, Heard};
use crate::lab::{Lab, SERVER, START, ip, mac};
use crate::wire::{Message, discover, request, selecting};

/// The other server of the lab.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

struct ProxyLab {
    lab: Lab,
    shapes: Shapes,
}

impl ProxyLab {
    fn new() -> Self {
        let mut lab = Lab::new();
        lab.settings.mode = Mode::Proxy;
        Self { lab, shapes: Shapes::new() }
    }

    fn send(&mut self, door: Door, message: &Message) -> Outcome {
        let packet = Packet::parse(&message.encode()).unwrap();
        let Lab { iface, site, settings, now, .. } = &self.lab;
        respond_as_proxy(door, &packet, iface, site, settings, &mut self.shapes, *now)
    }

    fn told(&mut self, door: Door, message: &Message) -> Option<Message> {
        self.send(door, message).reply.map(|reply| Message::decode(&reply.bytes))
    }

    /// One search of a machine: its offers, ours among them, and what it makes of them.
    fn search(&mut self, discover: &Message, judge: impl Fn(Heard<'_>) -> Boots) -> Boots {
        let proxy = self.told(Door::Dhcp, discover);
        let offers: Vec<_> = [other_offer(discover)].into_iter().chain(proxy).collect();
        let asks = Message { options: discover.options.clone(), ciaddr: ip(50), ..request(discover.mac, 3) };
        let options = asks.options.iter().filter(|(code, _)| *code != 53).cloned();
        let asks = Message { options: [(53, vec![3])].into_iter().chain(options).collect(), ..asks };
        let mut ask_4011 = |server| (server == SERVER).then(|| self.told(Door::Binl, &asks)).flatten();
        judge(Heard { offers: &offers, ask_4011: &mut ask_4011 })
    }

    /// Searches again and again until it boots or `searches` are over.
    fn boots_within(
        &mut self,
        searches: usize,
        discover: &Message,
        judge: impl Fn(Heard<'_>) -> Boots,
    ) -> Boots {
        (0..searches).find_map(|_| {
            let boots = self.search(discover, &judge);
            self.lab.now += 60;
            boots
        })
    }
}

/// What a plain DHCP server offers.
fn other_offer(discover: &Message) -> Message {
    let offer = Message { op: 2, yiaddr: ip(50), ..request(discover.mac, 2) };
    offer.option(54, &OTHER.octets()).option(51, &[0, 0, 14, 16])
}

fn pxe(last: u8, arch: u16) -> Message {
    let class = format!("PXEClient:Arch:{arch:05}:UNDI:003016");
    discover(mac(last))
        .option(60, class.as_bytes())
        .option(93, &arch.to_be_bytes())
        .option(97, &[&[0][..], &[7; 16]].concat())
}

fn boots(file: &str) -> Boots {
    Some((SERVER, file.to_owned()))
}

#[test]
fn bios_boots_at_its_first_search() {
    assert_eq!(ProxyLab::new().search(&pxe(1, 0), choosing::bios), boots("undionly.kpxe"));
}

#[test]
fn uefi_boots_at_its_first_search_with_the_caching_bug_and_without() {
    for forgets in [false, true] {
        for arch in [7, 9] {
            let mut lab = ProxyLab::new();
            let boots_from = lab.search(&pxe(1, arch), |heard| choosing::edk2(heard, forgets));
            assert_eq!(boots_from, boots("snponly.efi"), "{forgets} {arch}");
        }
    }
}

#[test]
fn ipxe_takes_its_script_from_the_offer() {
    let asks = discover(mac(1))
        .option(77, b"iPXE")
        .option(93, &[0, 7])
        .option(175, &[0x13, 1, 1, 0x11, 1, 1, 0x27, 1, 1]);
    let boots_from = ProxyLab::new().search(&asks, choosing::ipxe);
    assert!(
        boots_from.is_some_and(|(server, url)| server == SERVER && url.starts_with("http://10.77.0.1/boot/"))
    );
}

/// Firmware that is wrong about one shape comes to its file by another, without anyone's help.
#[test]
fn a_machine_that_dislikes_an_offer_is_made_another() {
    let only = |shape: fn(&Message) -> bool| {
        move |heard: Heard<'_>| {
            let Heard { offers, ask_4011 } = heard;
            let liked: Vec<_> =
                offers.iter().filter(|o| !o.yiaddr.is_unspecified() || shape(o)).cloned().collect();
            let booted = choosing::bios(Heard { offers: &liked, ask_4011 });
            booted.or_else(|| liked.iter().find(|o| !o.file.is_empty()).map(|o| (o.siaddr, o.file.clone())))
        }
    };
    let with_43 = only(|offer| offer.get(43).is_some());
    let without_43 = only(|offer| offer.get(43).is_none() && offer.get(60).is_some());
    let no_class = only(|offer| offer.get(60).is_none());
    for (name, arch, file) in [("BIOS", 0, "undionly.kpxe"), ("UEFI", 7, "snponly.efi")] {
        for (what, judge) in [
            ("option 43", &with_43 as &dyn Fn(Heard<'_>) -> Boots),
            ("no option 43", &without_43),
            ("no option 60", &no_class),
        ] {
            let boots_from = ProxyLab::new().boots_within(3, &pxe(1, arch), judge);
            assert_eq!(boots_from, boots(file), "{name} that wants {what}");
        }
    }
}

#[test]
fn what_an_offer_and_an_answer_carry() {
    let mut lab = ProxyLab::new();
    let outcome = lab.send(Door::Dhcp, &pxe(1, 0));
    assert_eq!(outcome.event.decision, Decision::ProxyOffered(Shape::Bypass));
    let reply = outcome.reply.unwrap();
    assert_eq!(reply.to, Destination::Broadcast);
    let offer = Message::decode(&reply.bytes);
    assert_eq!(
        (offer.yiaddr, offer.siaddr, offer.sname.as_str()),
        (Ipv4Addr::UNSPECIFIED, SERVER, "10.77.0.1")
    );
    assert_eq!(offer.get(54), Some(&SERVER.octets()[..]));
    assert_eq!(offer.get(60), Some(&b"PXEClient"[..]));
    assert_eq!(offer.get(43), Some(&[6, 1, 8, 255][..]));
    assert_eq!(offer.get(97).map(<[u8]>::len), Some(17));
    for of_the_server in [1, 3, 6, 51, 58, 59] {
        assert_eq!(offer.get(of_the_server), None, "option {of_the_server} is the DHCP server's");
    }

    let offer = lab.told(Door::Dhcp, &pxe(2, 7)).unwrap();
    assert_eq!((offer.file.as_str(), offer.get(43), offer.get(67)), ("", None, None));
    let asks = Message { ciaddr: ip(50), ..request(mac(2), 3) }
        .option(60, b"PXEClient:Arch:00007")
        .option(93, &[0, 7]);
    let outcome = lab.send(Door::Binl, &asks);
    assert_eq!(outcome.event.answered, Some(MessageType::Ack));
    let reply = outcome.reply.unwrap();
    assert_eq!(reply.to, Destination::Client(ip(50)));
    let answer = Message::decode(&reply.bytes);
    assert_eq!((answer.file.as_str(), answer.siaddr), ("snponly.efi", SERVER));
    assert_eq!((answer.get(60), answer.get(51)), (Some(&b"PXEClient"[..]), None));
}

#[test]
fn an_entry_of_a_boot_menu_is_named_back() {
    let asks = Message { ciaddr: ip(50), ..request(mac(1), 3) }.option(60, b"PXEClient").option(93, &[0, 0]);
    let answer = ProxyLab::new().told(Door::Binl, &asks.option(43, &[71, 4, 0, 0, 0, 0, 255])).unwrap();
    assert_eq!(answer.get(43), Some(&[71, 4, 0, 0, 0, 0, 255][..]));
}

#[test]
fn uefi_http_boot_is_told_its_url_at_once() {
    let asks = discover(mac(1)).option(60, b"HTTPClient:Arch:00016:UNDI:003001").option(93, &[0, 16]);
    let offer = ProxyLab::new().told(Door::Dhcp, &asks).unwrap();
    assert_eq!(offer.file, "http://10.77.0.1/files/snponly.efi");
    assert_eq!((offer.get(60), offer.get(43)), (Some(&b"HTTPClient"[..]), None));
}

#[test]
fn addresses_are_left_to_the_server_and_strangers_alone() {
    let mut lab = ProxyLab::new();
    let told = |lab: &mut ProxyLab, door, message: &Message| {
        let outcome = lab.send(door, message);
        assert_eq!(outcome.reply, None, "{message:?}");
        outcome.event.decision
    };
    let arch = |message: Message| message.option(60, b"PXEClient").option(93, &[0, 0]);
    for (message, decision) in [
        (arch(selecting(mac(1), ip(50), OTHER)), Decision::LeftToServer),
        (arch(selecting(mac(1), ip(50), SERVER)), Decision::LeftToServer),
        (request(mac(1), 8), Decision::LeftToServer),
        (discover(mac(1)), Decision::NothingToBoot),
        (pxe(90, 0), Decision::NothingToBoot),
        (pxe(6, 0), Decision::NothingToBoot),
        (pxe(7, 0), Decision::NothingToBoot),
        (pxe(1, 4711), Decision::NothingToBoot),
    ] {
        assert_eq!(told(&mut lab, Door::Dhcp, &message), decision, "{message:?}");
    }
    let at = |address: Ipv4Addr, message: Message| Message { ciaddr: address, ..arch(message) };
    for (message, decision) in [
        (at(Ipv4Addr::UNSPECIFIED, request(mac(1), 3)), Decision::Incomplete),
        (at([192, 168, 7, 7].into(), request(mac(1), 3)), Decision::NotOurs([192, 168, 7, 7].into())),
        (at(ip(50), request(mac(90), 3)), Decision::NothingToBoot),
        (at(ip(50), discover(mac(1))), Decision::NotSpoken),
    ] {
        assert_eq!(told(&mut lab, Door::Binl, &message), decision, "{message:?}");
    }
}

#[test]
fn a_machine_that_refused_every_shape_is_known() {
    let mut lab = ProxyLab::new();
    assert_eq!(lab.boots_within(3, &pxe(1, 7), |_| None), None);
    assert!(lab.shapes.has_refused_all(mac(1)));
    lab.shapes.on_fetch(mac(1), "snponly.efi", START + 600);
    assert!(!lab.shapes.has_refused_all(mac(1)));
}
