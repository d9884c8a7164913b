//! Subnets behind relays, options of the site's own, and addresses that somebody uses of his own accord.

use netboot::{Decision, Destination, LeaseState, Packet, PoolRange, Settings, respond, settings_for};
use site::entity::{Edit, EntityId, Values};

use crate::lab::{Lab, SERVER, interface, ip, mac, settings};
use crate::wire::{Message, discover, renewing, selecting};

fn behind(third: u8) -> Settings {
    let network = [10, third, 0, 0];
    let at = |last: u8| [10, third, 0, last].into();
    Settings {
        subnet: Some(netboot::Subnet::around(network.into(), 24)),
        pool: Some(PoolRange::new(at(100), at(120)).unwrap()),
        router: Some(at(254)),
        ..settings()
    }
}

fn relayed(giaddr: [u8; 4], message: Message) -> Message {
    Message { giaddr: giaddr.into(), ..message }
}

fn told(lab: &mut Lab, message: &Message) -> (Decision, Option<(Destination, Message)>) {
    let packet = Packet::parse(&message.encode()).unwrap();
    let others = [behind(8), behind(9)];
    let settings = settings_for(&packet, &lab.iface, &lab.settings, &others).unwrap_or(&lab.settings);
    let outcome = respond(&packet, &lab.iface, &lab.site, settings, &mut lab.leases, lab.now);
    let reply = outcome.reply.map(|reply| (reply.to, Message::decode(&reply.bytes)));
    (outcome.event.decision, reply)
}

#[test]
fn each_subnet_behind_a_relay_has_its_own_addresses_and_router() {
    let mut lab = Lab::new();
    for third in [8, 9] {
        let relay = [10, third, 0, 254];
        let (_, reply) = told(&mut lab, &relayed(relay, discover(mac(90))));
        let (to, offer) = reply.unwrap();
        assert_eq!(to, Destination::Relay(relay.into()));
        assert_eq!(offer.yiaddr, std::net::Ipv4Addr::new(10, third, 0, 100));
        assert_eq!((offer.get(1), offer.get(3)), (Some(&[255, 255, 255, 0][..]), Some(&relay[..])));
        assert_eq!(offer.get(54), Some(&SERVER.octets()[..]), "we are the same server everywhere");

        let (decision, _) = told(&mut lab, &relayed(relay, selecting(mac(90), offer.yiaddr, SERVER)));
        assert_eq!(decision, Decision::Leased(offer.yiaddr));
        // It is renewed without the relay.
        assert_eq!(told(&mut lab, &renewing(mac(90), offer.yiaddr)).0, Decision::Renewed(offer.yiaddr));
        // An address of another link is refused.
        let (decision, _) = told(&mut lab, &relayed(relay, selecting(mac(91), ip(100), SERVER)));
        assert_eq!(decision, Decision::WrongSubnet(ip(100)));
    }
    assert_eq!(told(&mut lab, &discover(mac(90))).0, Decision::Offered(ip(100)), "at home it has another");
}

#[test]
fn a_relay_may_say_which_link_it_means_and_only_a_relay() {
    let mut lab = Lab::new();
    let says = |message: Message, link: [u8; 4]| message.option(82, &[&[1, 1, 7, 5, 4][..], &link].concat());
    let (_, reply) = told(&mut lab, &says(relayed([10, 8, 0, 254], discover(mac(90))), [10, 9, 0, 0]));
    let (to, offer) = reply.unwrap();
    assert_eq!((to, offer.yiaddr.octets()), (Destination::Relay([10, 8, 0, 254].into()), [10, 9, 0, 100]));
    let last = offer.options.last().unwrap();
    assert_eq!((last.0, last.1.as_slice()), (82, &[1, 1, 7, 5, 4, 10, 9, 0, 0][..]), "comes back, last");
    let (decision, _) = told(&mut lab, &says(discover(mac(91)), [10, 9, 0, 0]));
    assert_eq!(decision, Decision::Offered(ip(100)), "no relay, no say");
    let (decision, reply) = told(&mut lab, &says(relayed([10, 8, 0, 254], discover(mac(91))), [10, 7, 0, 0]));
    assert_eq!((decision, reply), (Decision::RelayNotServed([10, 7, 0, 0].into()), None));
    assert!(decision.to_string().contains("[dhcp.subnet."), "{decision}");
}

#[test]
fn a_client_behind_a_relay_may_name_its_subnet_and_the_relays_word_comes_first() {
    let mut lab = Lab::new();
    let names = |message: Message, subnet: [u8; 4]| message.option(118, &subnet);
    let relay = [10, 8, 0, 254];
    let (_, reply) = told(&mut lab, &names(relayed(relay, discover(mac(90))), [10, 9, 0, 0]));
    let (to, offer) = reply.unwrap();
    assert_eq!((to, offer.yiaddr.octets()), (Destination::Relay(relay.into()), [10, 9, 0, 100]));
    assert_eq!(offer.get(118), Some(&[10, 9, 0, 0][..]), "RFC 3011: an identical copy");
    let says_both = names(relayed(relay, discover(mac(91))), [10, 9, 0, 0]).option(82, &[5, 4, 10, 8, 0, 0]);
    let (_, reply) = told(&mut lab, &says_both);
    assert_eq!(reply.unwrap().1.yiaddr.octets(), [10, 8, 0, 100], "RFC 3527 before RFC 3011");
    let (decision, reply) = told(&mut lab, &names(relayed(relay, discover(mac(92))), [10, 7, 0, 0]));
    assert_eq!((decision, reply), (Decision::RelayNotServed([10, 7, 0, 0].into()), None));
    let (decision, reply) = told(&mut lab, &names(discover(mac(93)), [10, 9, 0, 0]));
    assert_eq!(decision, Decision::Offered(ip(100)), "on our own link it has no say");
    assert_eq!(reply.unwrap().1.get(118), None);
    // Neither has what is no address.
    let (decision, _) = told(&mut lab, &relayed(relay, discover(mac(94))).option(118, &[10, 9]));
    assert!(matches!(decision, Decision::Offered(a) if a.octets()[1] == 8), "{decision}");
}

#[test]
fn a_relay_may_be_taken_for_the_server_so_that_renewals_pass_through_it() {
    let mut lab = Lab::new();
    let relay = [10, 9, 0, 254];
    let through = |message: Message| relayed(relay, message).option(82, &[&[11, 4][..], &relay].concat());
    let (_, reply) = told(&mut lab, &through(discover(mac(90))));
    let (to, offer) = reply.unwrap();
    assert_eq!((to, offer.get(54)), (Destination::Relay(relay.into()), Some(&relay[..])));
    // What it then says to the relay is meant for us, and so is what it says to us.
    let (decision, reply) = told(&mut lab, &through(selecting(mac(90), offer.yiaddr, relay.into())));
    assert_eq!(decision, Decision::Leased(offer.yiaddr));
    assert_eq!(reply.unwrap().1.get(54), Some(&relay[..]));
    let (decision, reply) = told(&mut lab, &through(renewing(mac(90), offer.yiaddr)));
    assert_eq!(decision, Decision::Renewed(offer.yiaddr));
    assert_eq!(reply.unwrap().0, Destination::Relay(relay.into()), "as it came");
    let (decision, _) = told(&mut lab, &through(selecting(mac(90), offer.yiaddr, SERVER)));
    assert_eq!(decision, Decision::Leased(offer.yiaddr));
    // Another server is another, and where no relay says so, the relay is not us.
    let (decision, _) = told(&mut lab, &through(selecting(mac(90), offer.yiaddr, [10, 9, 0, 1].into())));
    assert_eq!(decision, Decision::ChoseOtherServer([10, 9, 0, 1].into()));
    let (decision, _) = told(&mut lab, &relayed(relay, selecting(mac(90), offer.yiaddr, relay.into())));
    assert_eq!(decision, Decision::ChoseOtherServer(relay.into()));
    let unrelayed = discover(mac(91)).option(82, &[&[11, 4][..], &relay].concat());
    assert_eq!(told(&mut lab, &unrelayed).1.unwrap().1.get(54), Some(&SERVER.octets()[..]));
    // Its address is given to nobody, wherever it is.
    let (decision, _) = told(&mut lab, &relayed([10, 9, 0, 253], selecting(mac(92), relay.into(), SERVER)));
    assert_eq!(decision, Decision::Refused(relay.into()));
}

#[test]
fn a_machine_behind_a_relay_has_the_address_of_its_entry_there() {
    let own = [10, 9, 0, 33];
    let mut lab =
        Lab::with_clients(vec![site::Client { address: Some(own.into()), ..crate::lab::client("lab01", 1) }]);
    let (decision, _) = told(&mut lab, &relayed([10, 9, 0, 254], discover(mac(1))));
    assert_eq!(decision, Decision::Offered(own.into()));
    let (decision, _) = told(&mut lab, &relayed([10, 8, 0, 254], discover(mac(1))));
    assert_eq!(decision, Decision::Offered([10, 8, 0, 100].into()), "elsewhere one of the pool's");
}

fn with_options(lab: &mut Lab, kind: &str, name: &str, options: &[&str]) {
    let entity = EntityId { kind: kind.parse().unwrap(), name: name.parse().unwrap() };
    let mut edits = Vec::new();
    if lab.site.model().get(kind, name).is_none() {
        edits.push(Edit::Create { entity: entity.clone() });
    }
    let values: Values = options.iter().map(|text| (*text).to_owned()).collect();
    edits.push(Edit::Set { entity, variable: "dhcp_option".parse().unwrap(), values, expect: None });
    lab.site = lab.site.edit(&edits).unwrap().0;
}

#[test]
fn the_sites_own_options_come_before_ours_and_go_to_who_asks() {
    let mut lab = Lab::new();
    let options =
        ["42:ip:10.0.0.5", "15:text:other.example", "43!:hex:0104", "26:u16:9000", "53:u8:1", "3:ip:x"];
    // The pattern of the definition lets these pass; what they come to is looked at when they are used.
    with_options(&mut lab, "client", "lab01", &options);
    let offer = |lab: &mut Lab, message: Message| told(lab, &message).1.unwrap().1;
    let all = offer(&mut lab, discover(mac(1)));
    assert_eq!((all.get(42), all.get(15)), (Some(&[10, 0, 0, 5][..]), Some(&b"other.example"[..])));
    assert_eq!((all.get(43), all.get(26)), (Some(&[1, 4][..]), Some(&[0x23, 0x28][..])));
    assert_eq!((all.get(53), all.get(3)), (Some(&[2][..]), Some(&ip(254).octets()[..])), "ours");
    assert_eq!(all.options.iter().filter(|(code, _)| *code == 15).count(), 1);
    let few = offer(&mut lab, discover(mac(1)).option(55, &[1, 15]));
    assert_eq!(
        (few.get(42), few.get(26), few.get(43)),
        (None, None, Some(&[1, 4][..])),
        "unasked only if so marked"
    );
    assert_eq!(few.get(15), Some(&b"other.example"[..]));
    // iPXE sets the MTU that it is told, and then large frames don't reach it.
    let ipxe = offer(&mut lab, discover(mac(1)).option(77, b"iPXE").option(93, &[0, 0]));
    assert_eq!((ipxe.get(26), ipxe.get(42)), (None, Some(&[10, 0, 0, 5][..])));
    assert_eq!(offer(&mut lab, discover(mac(2))).get(42), None, "another client");

    let outcome = lab.send(&discover(mac(1)).encode());
    let why: Vec<_> = outcome.event.plan.why.iter().map(ToString::to_string).collect();
    let why = why.join(" ");
    assert!(why.contains("told DHCP option 42 as the site says"), "{why}");
    assert!(why.contains("\"53:u8:1\" is left out") && why.contains("\"3:ip:x\" is left out"), "{why}");
}

#[test]
fn what_holds_for_all_holds_for_strangers_too() {
    let mut lab = Lab::new();
    with_options(&mut lab, "site", "defaults", &["42:ip:10.0.0.5"]);
    for machine in [mac(2), mac(90)] {
        let (_, reply) = told(&mut lab, &discover(machine));
        assert_eq!(reply.unwrap().1.get(42), Some(&[10, 0, 0, 5][..]), "{machine}");
    }
    with_options(&mut lab, "client", "lab02", &["42:ip:10.0.0.6"]);
    assert_eq!(told(&mut lab, &discover(mac(2))).1.unwrap().1.get(42), Some(&[10, 0, 0, 6][..]));
}

#[test]
fn what_a_machine_boots_by_comes_before_the_sites_options() {
    let mut lab = Lab::new();
    let long = format!("224!:hex:{}", "ab".repeat(200));
    with_options(&mut lab, "client", "lab01", &[&long, "42!:ip:10.0.0.5", "225!:hex:0102"]);
    let firmware = discover(mac(1))
        .option(93, &[0, 0])
        .option(60, b"PXEClient:Arch:00000:UNDI:002001")
        .option(97, &[0; 17])
        .option(82, &[1; 30])
        .option(55, &[1, 3, 60, 66, 67]);
    let outcome = lab.send(&firmware.encode());
    let offer = Message::decode(&outcome.reply.unwrap().bytes);
    for code in [1, 3, 42, 51, 53, 54, 66, 67, 82, 97, 225] {
        assert!(offer.get(code).is_some(), "option {code} is missing");
    }
    assert!(offer.len <= 548 && offer.get(224).is_none(), "{}", offer.len);
    assert_eq!(outcome.left_out, [224]);
    let why: Vec<_> = outcome.event.plan.why.iter().map(ToString::to_string).collect();
    assert!(why.iter().any(|why| why.starts_with("DHCP option 224 may be left out")), "{why:?}");
    // Who takes more is told all.
    let outcome = lab.send(&firmware.option(57, &[5, 220]).encode());
    assert!(outcome.left_out.is_empty());
    assert!(Message::decode(&outcome.reply.unwrap().bytes).get(224).is_some());
}

#[test]
fn an_address_is_to_be_tried_before_its_first_offer_to_a_machine() {
    let mut lab = Lab::new();
    let first = lab.send(&discover(mac(90)).encode());
    assert_eq!(first.untried, Some(ip(100)));
    assert_eq!(lab.send(&discover(mac(90)).encode()).untried, None, "it is being tried");
    assert_eq!(lab.send(&selecting(mac(90), ip(100), SERVER).encode()).untried, None);
    assert_eq!(lab.send(&discover(mac(90)).encode()).untried, None, "it has it");

    // Somebody has the next one from elsewhere.
    assert_eq!(lab.send(&discover(mac(91)).encode()).untried, Some(ip(101)));
    let change = lab.leases.on_conflict(mac(91), ip(101), Some(mac(250)), lab.settings.pool, lab.now);
    assert!(matches!(change, Some(netboot::LeaseChange::Set(l)) if l.state == LeaseState::Declined));
    let again = lab.send(&discover(mac(91)).encode());
    assert_eq!((again.event.decision, again.untried), (Decision::Offered(ip(102)), Some(ip(102))));
    assert_ne!(lab.send(&discover(mac(92)).encode()).untried, Some(ip(101)), "it is nobody's for a while");
    // Who has a lease is not believed to be elsewhere: its offer would have to come first.
    assert_eq!(lab.leases.on_conflict(mac(91), ip(100), Some(mac(250)), lab.settings.pool, lab.now), None);
}

#[test]
fn our_own_address_is_given_to_nobody_wherever_it_is() {
    let settings = Settings { subnet: Some("10.0.0.0/8".parse().unwrap()), ..settings() };
    let message = relayed([10, 9, 0, 254], selecting(mac(90), SERVER, SERVER));
    let packet = Packet::parse(&message.encode()).unwrap();
    let mut lab = Lab::new();
    let outcome = respond(&packet, &interface(), &lab.site, &settings, &mut lab.leases, lab.now);
    assert_eq!(outcome.event.decision, Decision::Refused(SERVER));
}
