//! RFC 2131 §4.3, and what answers carry.

use netboot::{Decision, Destination, LeaseChange, LeaseState, MessageType, Outcome, Packet, Unknown};
use site::{Client, Image, Site};

use crate::choosing::{self, Boots, Heard};
use crate::lab::{Lab, SERVER, clients, image, ip, mac};
use crate::wire::{Message, discover, init_reboot, renewing, request, selecting};

/// Asks and says what was answered: the kind, and the address.
fn ask(lab: &mut Lab, message: &Message) -> (Option<MessageType>, Option<std::net::Ipv4Addr>) {
    let outcome = lab.send(&message.encode());
    let address = outcome.reply.map(|reply| Message::decode(&reply.bytes).yiaddr);
    (outcome.event.answered, address.filter(|address| !address.is_unspecified()))
}

fn told(outcome: &Outcome) -> Message {
    Message::decode(&outcome.reply.as_ref().expect("no answer").bytes)
}

const OFFER: Option<MessageType> = Some(MessageType::Offer);
const ACK: Option<MessageType> = Some(MessageType::Ack);
const NAK: Option<MessageType> = Some(MessageType::Nak);

/// Gives a machine an address, as a whole exchange does.
fn lease(lab: &mut Lab, last: u8) -> std::net::Ipv4Addr {
    let (kind, address) = ask(lab, &discover(mac(last)));
    assert_eq!(kind, OFFER);
    let address = address.unwrap();
    assert_eq!(ask(lab, &selecting(mac(last), address, SERVER)), (ACK, Some(address)));
    address
}

#[test]
fn own_addresses_and_the_pool() {
    let mut lab = Lab::new();
    assert_eq!(lease(&mut lab, 1), ip(11));
    assert_eq!(lease(&mut lab, 2), ip(100), "a client without an address of its own");
    assert_eq!(lease(&mut lab, 90), ip(101), "a machine that nobody knows");
    assert_eq!(lease(&mut lab, 2), ip(100), "the same again");
}

#[test]
fn one_machine_has_one_address_whatever_it_calls_itself() {
    let mut lab = Lab::new();
    let as_rom = discover(mac(2)).option(61, &[0, 1, 2, 3]);
    let as_system = discover(mac(2)).option(61, b"\xffsystemd");
    assert_eq!(ask(&mut lab, &as_rom), (OFFER, Some(ip(100))));
    assert_eq!(ask(&mut lab, &as_system), (OFFER, Some(ip(100))));
    assert_eq!(lease(&mut lab, 2), ip(100));
}

/// RFC 2131 §4.3.2, table 4 of §4.4: a machine that has 10.77.0.11 leased, and one without a lease.
#[test]
fn requests_in_every_state() {
    let elsewhere = [192, 168, 1, 9].into();
    let with_lease = [
        (selecting(mac(1), ip(11), SERVER), ACK),
        (selecting(mac(1), ip(12), SERVER), NAK),
        (selecting(mac(1), elsewhere, SERVER), NAK),
        (selecting(mac(1), ip(11), ip(2)), None),
        (init_reboot(mac(1), ip(11)), ACK),
        (init_reboot(mac(1), ip(105)), NAK),
        (init_reboot(mac(1), elsewhere), NAK),
        (renewing(mac(1), ip(11)), ACK),
        (renewing(mac(1), ip(105)), NAK),
        (renewing(mac(1), elsewhere), None),
        (request(mac(1), 3), None),
    ];
    for (message, expected) in &with_lease {
        let mut lab = Lab::new();
        lease(&mut lab, 1);
        assert_eq!(ask(&mut lab, message).0, *expected, "{message:?}");
    }
    // Its record is lost: a client may keep what it asks for, if nobody else has it. Others need an offer first.
    let without = [
        (init_reboot(mac(7), ip(105)), ACK),
        (renewing(mac(7), ip(105)), ACK),
        (selecting(mac(7), ip(105), SERVER), ACK),
        (init_reboot(mac(90), ip(105)), NAK),
        (renewing(mac(90), ip(105)), None),
        (selecting(mac(90), ip(105), SERVER), NAK),
        (init_reboot(mac(90), ip(11)), NAK),
        (init_reboot(mac(90), ip(50)), NAK),
        (init_reboot(mac(90), SERVER), NAK),
        (init_reboot(mac(90), ip(254)), NAK),
        (init_reboot(mac(90), ip(255)), NAK),
        (init_reboot(mac(90), ip(0)), NAK),
        (renewing(mac(90), ip(100)), NAK),
    ];
    for (message, expected) in &without {
        let mut lab = Lab::new();
        lease(&mut lab, 2);
        assert_eq!(ask(&mut lab, message).0, *expected, "{message:?}");
    }
}

#[test]
fn where_it_is_not_the_only_server_it_speaks_of_its_own_leases_only() {
    let mut lab = Lab::new();
    lab.settings.authoritative = false;
    for message in [
        init_reboot(mac(90), ip(105)),
        renewing(mac(90), ip(105)),
        init_reboot(mac(90), ip(11)),
        init_reboot(mac(90), [192, 168, 1, 9].into()),
    ] {
        assert_eq!(ask(&mut lab, &message).0, None, "{message:?}");
    }
    let address = lease(&mut lab, 90);
    assert_eq!(ask(&mut lab, &renewing(mac(90), address)).0, ACK);
    assert_eq!(ask(&mut lab, &selecting(mac(90), ip(11), SERVER)).0, NAK, "it chose us");
}

#[test]
fn another_servers_offer_frees_ours() {
    let mut lab = Lab::new();
    lab.settings.pool = Some(crate::lab::pool(100, 100));
    assert_eq!(ask(&mut lab, &discover(mac(90))), (OFFER, Some(ip(100))));
    let outcome = lab.send(&discover(mac(91)).encode());
    assert!(outcome.event.decision.to_string().contains("10.77.0.100 to 10.77.0.100 is exhausted"));
    assert_eq!(outcome.reply, None);
    ask(&mut lab, &selecting(mac(90), ip(77), ip(2)));
    assert_eq!(ask(&mut lab, &discover(mac(91))), (OFFER, Some(ip(100))));
}

#[test]
fn offers_are_kept_for_a_minute() {
    let mut lab = Lab::new();
    lab.settings.pool = Some(crate::lab::pool(100, 100));
    ask(&mut lab, &discover(mac(90)));
    lab.now += 59;
    assert_eq!(ask(&mut lab, &discover(mac(91))).0, None);
    lab.now += 1;
    assert_eq!(ask(&mut lab, &discover(mac(91))), (OFFER, Some(ip(100))));
    assert_eq!(ask(&mut lab, &selecting(mac(90), ip(100), SERVER)).0, NAK, "too late");
}

#[test]
fn release_and_decline_are_believed_of_the_holder_only() {
    let mut lab = Lab::new();
    let address = lease(&mut lab, 2);
    let release = |last| Message { ciaddr: address, ..request(mac(last), 7) }.option(54, &SERVER.octets());
    let decline = |last| request(mac(last), 4).option(50, &address.octets()).option(54, &SERVER.octets());
    for message in [release(90), decline(90)] {
        let outcome = lab.send(&message.encode());
        assert_eq!((outcome.event.decision, outcome.changes), (Decision::NotBelieved(address), vec![]));
    }
    assert_eq!(lab.leases.by_address(address, lab.now).map(|lease| lease.mac), Some(mac(2)));
    let outcome = lab.send(&release(2).encode());
    assert_eq!((outcome.reply, outcome.event.decision), (None, Decision::Released(address)));
    assert_eq!(lab.leases.by_address(address, lab.now), None);
    assert_eq!(lease(&mut lab, 2), address, "nobody else took it meanwhile");
    // Nobody else answers for the address, so it stays its own.
    let outcome = lab.send(&decline(2).encode());
    let doubted = (Decision::Doubted(address), Some(address), vec![]);
    assert_eq!((outcome.event.decision, outcome.untried, outcome.changes), doubted);
    assert_eq!(lease(&mut lab, 2), address);
    let change = lab.decline(2, address);
    assert!(matches!(change, Some(LeaseChange::Set(l)) if l.state == LeaseState::Declined));
    assert_ne!(lease(&mut lab, 2), address);
    lab.now += 599;
    assert_ne!(lease(&mut lab, 2), address);
    let other = Message { ciaddr: address, ..request(mac(2), 7) }.option(54, &ip(2).octets());
    assert_eq!(lab.send(&other.encode()).event.decision, Decision::NotOurs(ip(2)));
}

#[test]
fn a_liar_cannot_empty_the_pool_by_declining() {
    let mut lab = Lab::new();
    let mut quarantined = 0;
    for last in 90..120 {
        let Some(address) = ask(&mut lab, &discover(mac(last))).1 else { continue };
        ask(&mut lab, &selecting(mac(last), address, SERVER));
        let Some(LeaseChange::Set(lease)) = lab.decline(last, address) else {
            panic!("the lease is over, also after a restart");
        };
        quarantined += usize::from(lease.state == LeaseState::Declined);
    }
    assert_eq!(quarantined, 5, "a quarter of 21");
}

#[test]
fn what_is_given_back_in_a_machines_name_is_believed_from_its_address_only() {
    let mut lab = Lab::new();
    let address = lease(&mut lab, 2);
    let release = Message { ciaddr: address, ..request(mac(2), 7) }.option(54, &SERVER.octets());
    let packet = Packet::parse(&release.encode()).unwrap();
    for source in [ip(0), SERVER, ip(66)] {
        let outcome = lab.send_packet(&Packet { source: Some(source), ..packet.clone() });
        assert_eq!((outcome.event.decision, outcome.changes), (Decision::NotFromIt(address), vec![]));
    }
    // On our link nobody speaks through a relay.
    let outcome = lab.send_packet(&Packet { giaddr: ip(250), source: Some(ip(250)), ..packet.clone() });
    assert_eq!((outcome.event.decision, outcome.changes), (Decision::NotFromIt(address), vec![]));
    // Where it comes from can be forged, too: who boots or runs keeps its address.
    let from_it = Packet { source: Some(address), ..packet };
    let outcome = lab.send_packet(&Packet { busy: true, ..from_it.clone() });
    assert_eq!((outcome.event.decision, outcome.changes), (Decision::Kept(address), vec![]));
    assert_eq!(lab.leases.by_address(address, lab.now).map(|lease| lease.mac), Some(mac(2)));
    let outcome = lab.send_packet(&from_it);
    assert_eq!((outcome.event.decision, outcome.changes.len()), (Decision::Released(address), 1));
}

#[test]
fn a_running_machine_keeps_its_address_though_its_entry_was_changed() {
    let mut lab = Lab::new();
    assert_eq!(lease(&mut lab, 1), ip(11));
    let mut changed = clients();
    changed[0].address = Some(ip(60));
    lab.site = Site::new(2, changed, vec![image("debian")]);
    assert_eq!(ask(&mut lab, &renewing(mac(1), ip(11))), (ACK, Some(ip(11))), "its disk hangs on it");
    assert_eq!(ask(&mut lab, &init_reboot(mac(1), ip(11))).0, NAK, "now it can change");
    assert_eq!(lease(&mut lab, 1), ip(60));
    assert_eq!(lab.leases.by_address(ip(11), lab.now), None);
}

#[test]
fn an_own_address_that_another_still_has_is_not_given_twice() {
    let mut lab = Lab::new();
    let address = lease(&mut lab, 90);
    let mut changed = clients();
    changed[0].address = Some(address);
    lab.site = Site::new(2, changed, vec![image("debian")]);
    let got = lease(&mut lab, 1);
    assert_ne!(got, address);
    assert!(lab.settings.pool.unwrap().contains(got));
    lab.now += 3601;
    assert_eq!(lease(&mut lab, 1), address, "the stranger's lease has ended");
}

#[test]
fn strangers_may_be_ignored() {
    let mut lab = Lab::new();
    lab.settings.unknown = Unknown::Ignore;
    for message in [discover(mac(90)), init_reboot(mac(90), ip(100)), renewing(mac(90), ip(9))] {
        let outcome = lab.send(&message.encode());
        assert_eq!((outcome.reply, outcome.event.decision), (None, Decision::Ignored));
    }
    assert_eq!(ask(&mut lab, &discover(mac(1))).0, OFFER);
}

#[test]
fn strangers_leases_are_short() {
    let mut lab = Lab::new();
    let offer = told(&lab.send(&discover(mac(90)).encode()));
    assert_eq!(offer.get(51), Some(&3600_u32.to_be_bytes()[..]));
    let offer = told(&lab.send(&discover(mac(1)).encode()));
    assert_eq!(offer.get(51), Some(&7200_u32.to_be_bytes()[..]));
    assert_eq!(offer.get(58), Some(&3600_u32.to_be_bytes()[..]));
    assert_eq!(offer.get(59), Some(&6300_u32.to_be_bytes()[..]));
}

#[test]
fn a_lease_for_ever_has_no_renewal() {
    let mut lab = Lab::new();
    lab.settings.lease_time = u32::MAX;
    let offer = told(&lab.send(&discover(mac(1)).encode()));
    assert_eq!(offer.get(51), Some(&[255; 4][..]));
    assert_eq!((offer.get(58), offer.get(59)), (None, None));
    lease(&mut lab, 1);
    lab.now += 100 * 365 * 86400;
    assert!(lab.leases.by_mac(mac(1), lab.now).is_some());
}

/// RFC 2131 §4.1.
#[test]
fn answers_go_where_they_are_heard() {
    let to = |message: Message| Lab::new().send(&message.encode()).reply.map(|reply| reply.to);
    let unicast = Destination::Unicast { ip: ip(11), mac: mac(1) };
    assert_eq!(to(discover(mac(1))), Some(unicast));
    assert_eq!(to(Message { flags: 0x8000, ..discover(mac(1)) }), Some(Destination::Broadcast));
    assert_eq!(to(renewing(mac(1), ip(11))), Some(Destination::Client(ip(11))));
    let relayed = Message { giaddr: ip(250), flags: 0x8000, ..discover(mac(1)) };
    assert_eq!(to(relayed), Some(Destination::Relay(ip(250))));
    assert_eq!(to(Message { giaddr: [10, 9, 9, 1].into(), ..discover(mac(1)) }), None, "not served");
    assert_eq!(to(init_reboot(mac(1), ip(99))), Some(Destination::Broadcast), "a NAK");
    let inform = Message { ciaddr: ip(40), ..request(mac(1), 8) };
    assert_eq!(to(inform), Some(Destination::Client(ip(40))));
    assert_eq!(to(request(mac(1), 8)), None, "INFORM without an address");
}

#[test]
fn a_nak_carries_nothing_to_live_by() {
    let mut lab = Lab::new();
    let message = Message { giaddr: ip(250), ..init_reboot(mac(1), ip(99)) }.option(61, &[1, 2]);
    let nak = told(&lab.send(&message.encode()));
    let codes: Vec<_> = nak.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 61]);
    assert_eq!((nak.yiaddr, nak.siaddr, nak.flags), ([0; 4].into(), [0; 4].into(), 0x8000));
}

/// A PXE ROM's DISCOVER that asks for everything.
fn pxe(last: u8) -> Message {
    discover(mac(last))
        .option(93, &[0, 0])
        .option(60, b"PXEClient:Arch:00000:UNDI:002001")
        .option(55, &[1, 3, 6, 12, 15, 26, 28, 43, 60, 66, 67])
}

#[test]
fn firmware_is_told_its_program_in_every_place() {
    let mut lab = Lab::new();
    let offer = told(&lab.send(&pxe(1).encode()));
    assert_eq!((offer.siaddr, &*offer.sname, &*offer.file), (SERVER, "10.77.0.1", "undionly.kpxe"));
    assert_eq!(offer.get(66), Some(&b"10.77.0.1"[..]));
    assert_eq!(offer.get(67), Some(&b"undionly.kpxe"[..]));
    assert_eq!((offer.get(60), offer.get(43)), (None, None), "both or neither");
    assert_eq!(offer.get(12), Some(&b"lab01"[..]));
    assert_eq!(offer.get(3), Some(&[10, 77, 0, 254][..]));
    assert_eq!(offer.get(6), Some(&[10, 77, 0, 253, 9, 9, 9, 9][..]));
}

/// An answer with an address must be of a kind that firmware takes at once: with option 60 and without 43 it would go to
/// port 4011 (tianocore/edk2#8149), where these judges find nobody.
#[test]
fn every_firmware_takes_its_program_from_the_answer_that_gives_it_its_address() {
    let uefi = |arch: u8, class: &[u8]| {
        discover(mac(1)).option(93, &[0, arch]).option(60, class).option(55, &[1, 3, 6, 43, 60, 66, 67])
    };
    let taken = |file: &str| Some((SERVER, file.to_owned()));
    let mut lab = Lab::new();
    let mut offers = |message: Message| vec![told(&lab.send(&message.encode()))];
    let takes = |offers: &[Message], judge: &dyn Fn(Heard<'_>) -> Boots| {
        judge(Heard { offers, ask_4011: &mut |_| None })
    };
    assert_eq!(takes(&offers(pxe(1)), &choosing::bios), taken("undionly.kpxe"));
    for (arch, program) in [(7, "snponly.efi"), (9, "snponly.efi"), (11, "snponly-arm64.efi")] {
        let offers = offers(uefi(arch, format!("PXEClient:Arch:{arch:05}:UNDI:003001").as_bytes()));
        for forgets in [false, true] {
            assert_eq!(
                takes(&offers, &|heard| choosing::edk2(heard, forgets)),
                taken(program),
                "arch {arch}"
            );
        }
    }
    let http = offers(uefi(16, b"HTTPClient:Arch:00016:UNDI:003001"));
    assert_eq!(choosing::edk2_http(&http).as_deref(), Some("http://10.77.0.1/files/snponly.efi"));
    let ipxe = pxe(1).option(77, b"iPXE");
    let script = takes(&offers(ipxe), &choosing::ipxe).unwrap().1;
    assert!(script.starts_with("http://10.77.0.1/boot/"), "{script}");
}

#[test]
fn only_what_is_asked_for_is_told() {
    let mut lab = Lab::new();
    let offer = told(&lab.send(&discover(mac(1)).option(55, &[1]).encode()));
    let codes: Vec<_> = offer.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 51, 58, 59, 1]);
    let offer = told(&lab.send(&discover(mac(1)).encode()));
    let codes: Vec<_> = offer.options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [53, 54, 51, 58, 59, 1, 3, 6, 15, 12, 28], "it leaves the choice to us");
}

#[test]
fn the_machines_uuid_comes_back_if_it_is_one() {
    let mut lab = Lab::new();
    let uuid: Vec<u8> = (0..17).collect();
    assert_eq!(told(&lab.send(&pxe(1).option(97, &uuid).encode())).get(97), Some(&uuid[..]));
    assert_eq!(told(&lab.send(&pxe(1).option(97, &[]).encode())).get(97), None);
    assert_eq!(told(&lab.send(&pxe(1).option(97, &[0; 9]).encode())).get(97), None);
}

#[test]
fn the_mtu_is_for_operating_systems() {
    let mut lab = Lab::new();
    lab.settings.mtu = Some(9000);
    let system = discover(mac(1)).option(55, &[26]);
    assert_eq!(told(&lab.send(&system.encode())).get(26), Some(&9000_u16.to_be_bytes()[..]));
    assert_eq!(told(&lab.send(&pxe(1).encode())).get(26), None);
    let ipxe = pxe(1).option(77, b"iPXE").option(175, &[19, 1, 1]);
    let offer = told(&lab.send(&ipxe.encode()));
    assert_eq!((offer.get(26), offer.get(175)), (None, Some(&[176, 1, 1][..])));
}

#[test]
fn what_may_not_boot_gets_an_address_and_no_more() {
    let mut lab = Lab::new();
    for last in [6, 7, 90] {
        let offer = told(&lab.send(&pxe(last).encode()));
        assert_eq!((&*offer.sname, &*offer.file, offer.get(66), offer.get(67)), ("", "", None, None));
        assert!(offer.siaddr.is_unspecified() && !offer.yiaddr.is_unspecified());
    }
}

#[test]
fn a_client_with_small_buffers_gets_a_small_answer() {
    let mut lab = Lab::new();
    lab.settings.domain = Some("x".repeat(250));
    lab.settings.dns = (1..=60).map(ip).collect();
    let full = told(&lab.send(&pxe(1).option(57, &[2, 64]).option(82, &[7; 200]).encode()));
    assert!(full.len <= 548, "{}", full.len);
    assert_eq!(full.options.last(), Some(&(82, vec![7; 200])), "the relay's option is last");
    assert_eq!(full.get(6).map(<[u8]>::len), Some(32), "at most eight name servers");
    let roomy = told(&lab.send(&pxe(1).option(57, &[0xff, 0]).option(82, &[7; 200]).encode()));
    assert_eq!(roomy.get(15).map(<[u8]>::len), Some(250));
    assert_eq!(told(&lab.send(&pxe(1).option(57, &[0, 1]).encode())).options[0], (53, vec![2]));
    let long_names = (0..8).fold(pxe(1).option(57, &[0xff, 0]), |message, _| message.option(61, &[7; 200]));
    let framed = told(&lab.send(&long_names.encode()));
    assert!(framed.len <= 1472 && framed.get(61).is_none(), "one Ethernet frame, whatever the client takes");
}

#[test]
fn images_and_programs_that_are_missing_are_named() {
    let mut lab = Lab::with_clients(vec![Client {
        image: Some("gone".parse().unwrap()),
        ..crate::lab::client("lab01", 1)
    }]);
    let why = |outcome: &Outcome| {
        outcome.event.plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let outcome = lab.send(&pxe(1).encode());
    assert!(why(&outcome).contains("\"gone\", which does not exist"), "{}", why(&outcome));
    lab.site = Site::new(2, clients(), vec![Image { size: 1, ..image("debian") }]);
    lab.settings.programs = netboot::Programs::default();
    let outcome = lab.send(&pxe(1).encode());
    assert!(why(&outcome).contains("put undionly.kpxe among the boot files"), "{}", why(&outcome));
    assert_eq!(told(&outcome).file, "");
}

#[test]
fn requests_of_no_kind_that_a_server_answers() {
    let mut lab = Lab::new();
    let bootp = Message { options: vec![], ..discover(mac(1)) };
    for message in [bootp, request(mac(1), 2), request(mac(1), 5), request(mac(1), 0), request(mac(1), 200)] {
        let outcome = lab.send(&message.encode());
        assert_eq!((outcome.reply, outcome.event.decision), (None, Decision::NotSpoken));
    }
}
