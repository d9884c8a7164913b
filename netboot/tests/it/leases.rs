//! The lease table, by what the network sees of it: under any sequence of requests, no address is given to two
//! machines, none that is another's own is given to anyone else, and all of it survives a restart.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use netboot::{Decision, LeaseChange, LeaseState, Leases, MessageType, NoAddress, PoolError, PoolRange};
use proptest::prelude::*;
use site::{Client, MacAddr, Site};

use crate::lab::{Lab, SERVER, client, image, ip, mac, pool};
use crate::wire::{Message, discover, init_reboot, renewing, request, selecting};

/// One thing that a machine or the world does. Machines 1 to 3 are clients with addresses of their own, 11 to 13 (of
/// which 12's is in the pool); 4 and 5 clients without; the rest are strangers.
#[derive(Debug, Clone)]
enum Op {
    Discover(u8, Option<u8>),
    /// It takes its last offer.
    Take(u8),
    Selecting(u8, u8),
    InitReboot(u8, u8),
    Renew(u8, u8),
    Release(u8, u8),
    Decline(u8, u8),
    OtherServer(u8),
    Wait(u64),
    Restart,
    /// A client's entry is given another address.
    Move(u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 1..9_u8;
    // Own addresses, the pool, and what nobody may have.
    let address = prop_oneof![10..17_u8, 98..106_u8, Just(0_u8), Just(1), Just(253), Just(254), Just(255)];
    prop_oneof![
        4 => (who.clone(), prop::option::of(address.clone())).prop_map(|(m, a)| Op::Discover(m, a)),
        4 => who.clone().prop_map(Op::Take),
        1 => (who.clone(), address.clone()).prop_map(|(m, a)| Op::Selecting(m, a)),
        1 => (who.clone(), address.clone()).prop_map(|(m, a)| Op::InitReboot(m, a)),
        1 => (who.clone(), address.clone()).prop_map(|(m, a)| Op::Renew(m, a)),
        1 => (who.clone(), address.clone()).prop_map(|(m, a)| Op::Release(m, a)),
        1 => (who.clone(), address).prop_map(|(m, a)| Op::Decline(m, a)),
        1 => who.clone().prop_map(Op::OtherServer),
        2 => prop_oneof![1..100_u64, 500..800_u64, 3000..9000_u64].prop_map(Op::Wait),
        1 => Just(Op::Restart),
        1 => (1..6_u8, prop_oneof![11..17_u8, 100..104_u8]).prop_map(|(m, a)| Op::Move(m, a)),
    ]
}

/// What the network believes: who was acknowledged which address, until when.
struct World {
    lab: Lab,
    clients: Vec<Client>,
    offers: HashMap<MacAddr, Ipv4Addr>,
    held: HashMap<Ipv4Addr, (MacAddr, u64)>,
    journal: Vec<LeaseChange>,
    revision: u64,
}

impl World {
    fn new() -> Self {
        let own =
            |last: u8, address| Client { address: Some(ip(address)), ..client(&format!("c{last}"), last) };
        let clients = vec![own(1, 11), own(2, 101), own(3, 13), client("c4", 4), client("c5", 5)];
        let mut lab = Lab::with_clients(clients.clone());
        lab.settings.pool = Some(pool(100, 104));
        Self { lab, clients, offers: HashMap::new(), held: HashMap::new(), journal: vec![], revision: 1 }
    }

    fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.held.get(&address).filter(|(_, until)| *until > self.lab.now).map(|(mac, _)| *mac)
    }

    fn send(&mut self, message: &Message) {
        let machine = message.mac;
        let outcome = self.lab.send(&message.encode());
        self.journal.extend(&outcome.changes);
        let Some(reply) = &outcome.reply else {
            // Every other address that is said to be in use is.
            if let Some(address) = outcome.untried.filter(|address| address.octets()[3] % 2 == 0) {
                let pool = self.lab.settings.pool;
                self.journal.extend(self.lab.leases.on_conflict(
                    machine,
                    address,
                    Some(mac(250)),
                    pool,
                    self.lab.now,
                ));
                self.held.remove(&address);
            }
            return;
        };
        let told = Message::decode(&reply.bytes);
        let address = told.yiaddr;
        if outcome.event.answered == Some(MessageType::Nak) {
            return;
        }
        assert!(self.lab.iface.can_have(address) && ![253, 254].contains(&address.octets()[3]), "{address}");
        let taken = self.holder(address).filter(|holder| *holder != machine);
        // Before that is sent, it is found out that the stranger uses the address, or nothing is.
        if let Some(stranger) = taken.filter(|_| outcome.displaces) {
            match address.octets()[3] % 2 {
                0 => self.lab.leases.withdraw(machine, address),
                _ => {
                    let pool = self.lab.settings.pool;
                    let change =
                        self.lab.leases.on_conflict(machine, address, Some(stranger), pool, self.lab.now);
                    assert_eq!(change, None);
                }
            }
            return;
        }
        assert_eq!(taken, None, "{address} was given to {machine} too");
        let owner = self.lab.site.client_by_address(address).map(|client| client.mac);
        let renewed =
            outcome.event.asked == Some(MessageType::Request) && self.holder(address) == Some(machine);
        assert!(owner.is_none_or(|owner| owner == machine) || renewed, "{address} is {owner:?}'s own");
        if outcome.event.answered == Some(MessageType::Offer) {
            self.offers.insert(machine, address);
        } else {
            assert!(!outcome.changes.is_empty(), "an acknowledged lease must be on disk");
            self.held.retain(|_, (holder, _)| *holder != machine);
            let time = u32::from_be_bytes(told.get(51).unwrap().try_into().unwrap());
            self.held.insert(address, (machine, self.lab.now + u64::from(time)));
        }
    }

    fn run(&mut self, op: &Op) {
        let ours = |message: Message| message.option(54, &SERVER.octets());
        match *op {
            Op::Discover(m, None) => self.send(&discover(mac(m))),
            Op::Discover(m, Some(a)) => self.send(&discover(mac(m)).option(50, &ip(a).octets())),
            Op::Take(m) => {
                if let Some(address) = self.offers.remove(&mac(m)) {
                    self.send(&selecting(mac(m), address, SERVER));
                }
            }
            Op::Selecting(m, a) => self.send(&selecting(mac(m), ip(a), SERVER)),
            Op::InitReboot(m, a) => self.send(&init_reboot(mac(m), ip(a))),
            Op::Renew(m, a) => self.send(&renewing(mac(m), ip(a))),
            Op::Release(m, a) => {
                self.send(&ours(Message { ciaddr: ip(a), ..request(mac(m), 7) }));
                self.held.retain(|address, (holder, _)| *address != ip(a) || *holder != mac(m));
            }
            Op::Decline(m, a) => self.send(&ours(request(mac(m), 4).option(50, &ip(a).octets()))),
            Op::OtherServer(m) => self.send(&selecting(mac(m), ip(200), ip(2))),
            Op::Wait(seconds) => self.lab.now += seconds,
            Op::Restart => {
                self.lab.leases = Leases::restore(self.journal.iter().copied());
                self.journal = self.lab.leases.entries().into_iter().map(LeaseChange::Set).collect();
            }
            Op::Move(m, a) => {
                if self.clients.iter().all(|client| client.address != Some(ip(a))) {
                    self.clients[usize::from(m) - 1].address = Some(ip(a));
                    self.revision += 1;
                    self.lab.site = Site::new(self.revision, self.clients.clone(), vec![image("debian")]);
                }
            }
        }
    }

    /// The table says the same of every address as the network believes.
    fn check(&self) {
        for (address, (machine, _)) in self.held.iter().filter(|(_, (_, until))| *until > self.lab.now) {
            let lease = self.lab.leases.by_address(*address, self.lab.now);
            assert_eq!(lease.map(|lease| lease.mac), Some(*machine), "{address}");
            let holder = self.lab.leases.holder(*address, &self.lab.site, self.lab.now);
            assert_eq!(holder, Some(*machine), "{address}");
        }
        for lease in self.lab.leases.entries() {
            let runs = lease.state == LeaseState::Bound && lease.expires > self.lab.now;
            assert!(!runs || self.holder(lease.address) == Some(lease.mac), "{lease:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_address_is_given_twice(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check();
        }
    }
}

fn stranger(i: u32) -> MacAddr {
    let [_, a, b, c] = i.to_be_bytes();
    MacAddr::new([2, 0, 0, a, b, c])
}

#[test]
fn a_flood_of_strangers_takes_neither_leases_nor_memory() {
    let mut lab = Lab::new();
    let take = |lab: &mut Lab, machine: MacAddr| -> Option<Ipv4Addr> {
        let offer = lab.send(&discover(machine).encode()).reply?;
        let address = Message::decode(&offer.bytes).yiaddr;
        let outcome = lab.send(&selecting(machine, address, SERVER).encode());
        (outcome.event.answered == Some(MessageType::Ack)).then_some(address)
    };
    assert_eq!(take(&mut lab, mac(1)), Some(ip(11)));
    assert_eq!(take(&mut lab, mac(90)), Some(ip(100)));
    for i in 0..50_000 {
        let outcome = lab.send(&discover(stranger(i)).encode());
        assert_eq!(outcome.reply.is_some(), i < 16, "all but those for four clients, each for its minute");
    }
    assert!(lab.leases.len() <= 1 + 21, "{}", lab.leases.len());
    assert_eq!(lab.leases.by_address(ip(11), lab.now).map(|lease| lease.mac), Some(mac(1)));
    assert_eq!(lab.leases.by_address(ip(100), lab.now).map(|lease| lease.mac), Some(mac(90)));
    assert_eq!(take(&mut lab, mac(3)), Some(ip(13)), "an address of its own");
    assert!(take(&mut lab, mac(2)).is_some(), "a client without: offers to strangers don't keep it waiting");
    assert_eq!(take(&mut lab, stranger(60_000)), None);
}

#[test]
fn requests_that_follow_no_offer_take_nothing() {
    let mut lab = Lab::new();
    for i in 0..1000 {
        let address = ip(100 + u8::try_from(i % 21).unwrap());
        for message in [
            init_reboot(stranger(i), address),
            renewing(stranger(i), address),
            selecting(stranger(i), address, SERVER),
        ] {
            let outcome = lab.send(&message.encode());
            assert_eq!((outcome.event.decision, outcome.changes), (Decision::NoRecord(address), vec![]));
        }
    }
    assert!(lab.leases.is_empty());
}

#[test]
fn a_client_is_given_what_strangers_do_not_use_and_leaves_them_what_they_do() {
    // All clients but one have an address of their own, so all but one of the pool may be strangers'.
    let mut clients = vec![client("lab02", 2), client("lab07", 7)];
    clients[1].address = Some(ip(17));
    let mut lab = Lab::with_clients(clients);
    lab.settings.pool = Some(pool(100, 103));
    for i in 0..3 {
        lab.take(stranger(i), ip(100 + u8::try_from(i).unwrap()));
    }
    assert_eq!(lab.send(&discover(stranger(3)).encode()).reply, None, "the last is for the client");
    assert_eq!(lab.send(&discover(mac(2)).encode()).untried, Some(ip(103)));
    lab.send(&selecting(mac(2), ip(103), SERVER).encode());

    // The site grows: there is another client, and nothing is free.
    let clients = vec![client("lab02", 2), client("lab03", 3), client("lab04", 4)];
    lab.site = Site::new(2, clients, vec![image("debian")]);
    let offer = |lab: &mut Lab, last| {
        let outcome = lab.send(&discover(mac(last)).encode());
        (outcome.untried, outcome.displaces)
    };
    let conflict = |lab: &mut Lab, last, address, user| {
        lab.leases.on_conflict(mac(last), address, Some(user), lab.settings.pool, lab.now)
    };
    assert_eq!(offer(&mut lab, 3), (Some(ip(100)), true));
    assert!(lab.leases.entries().iter().any(|lease| lease.mac == stranger(0)), "the journal has it yet");
    // It runs, and keeps what it has; the second can't be asked just now; the third is gone.
    assert_eq!(conflict(&mut lab, 3, ip(100), stranger(0)), None);
    assert_eq!(lab.leases.by_address(ip(100), lab.now).map(|lease| lease.mac), Some(stranger(0)));
    assert_eq!(offer(&mut lab, 3), (Some(ip(101)), true));
    lab.leases.withdraw(mac(3), ip(101));
    assert_eq!(lab.leases.by_address(ip(101), lab.now).map(|lease| lease.mac), Some(stranger(1)));
    assert_eq!(offer(&mut lab, 3), (Some(ip(101)), true), "it may be asked again");
    assert_eq!(conflict(&mut lab, 3, ip(101), stranger(1)), None);
    assert_eq!(offer(&mut lab, 3), (Some(ip(102)), true));
    let outcome = lab.send(&selecting(mac(3), ip(102), SERVER).encode());
    assert_eq!(outcome.event.answered, Some(MessageType::Ack));
    let gone = lab.send(&renewing(stranger(2), ip(102)).encode());
    assert_eq!(gone.event.answered, Some(MessageType::Nak));

    // Those that run are not asked again for a while, nor are clients, and strangers displace nobody.
    let exhausted = Decision::NoAddress(NoAddress::Exhausted(pool(100, 103)));
    assert_eq!(lab.send(&discover(mac(4)).encode()).event.decision, exhausted);
    lab.now += 600;
    assert_eq!(lab.send(&discover(stranger(9)).encode()).event.decision, exhausted);
    assert_eq!(offer(&mut lab, 4), (Some(ip(100)), true));
    // It takes another server's offer: the stranger has it back.
    lab.send(&selecting(mac(4), ip(200), ip(2)).encode());
    assert_eq!(lab.leases.by_address(ip(100), lab.now).map(|lease| lease.mac), Some(stranger(0)));
}

#[test]
fn behind_a_relay_where_nobody_can_be_asked_strangers_keep_what_they_have() {
    let mut lab = Lab::with_clients(vec![client("lab02", 2)]);
    lab.settings.subnet = Some("10.77.0.0/24".parse().unwrap());
    lab.iface.address = [10, 9, 0, 1].into();
    lab.settings.pool = Some(pool(100, 100));
    let server = lab.iface.address;
    let behind = |message: Message| Message { giaddr: ip(254), ..message }.encode();
    lab.send(&behind(discover(mac(90))));
    let taken = lab.send(&behind(selecting(mac(90), ip(100), server)));
    assert_eq!(taken.event.decision, Decision::Leased(ip(100)));
    assert_eq!(lab.send(&behind(discover(mac(2)))).reply, None);
}

#[test]
fn a_subnet_that_is_exhausted_leaves_the_others_what_they_remember() {
    let mut lab = Lab::new();
    lab.settings.pool = Some(pool(100, 101));
    lab.take(mac(90), ip(101));
    lab.now += 4000;
    // On another subnet all is leased, and somebody asks for more.
    let (iface, settings) = (lab.iface.clone(), lab.settings.clone());
    lab.iface.address = [10, 78, 0, 1].into();
    let other = [10, 78, 0, 100].into();
    lab.settings.pool = PoolRange::new(other, other).ok();
    lab.send(&discover(mac(91)).encode());
    assert_eq!(lab.send(&discover(mac(92)).encode()).reply, None);
    (lab.iface, lab.settings) = (iface, settings);
    // Back on the first, everyone gets what they had.
    let offer = lab.send(&discover(mac(90)).encode()).reply.unwrap();
    assert_eq!(Message::decode(&offer.bytes).yiaddr, ip(101));
}

#[test]
fn a_full_pool_is_said_so_and_the_oldest_lease_is_used_again_first() {
    let mut lab = Lab::new();
    lab.settings.pool = Some(pool(100, 102));
    for (i, expected) in [(1, 100), (2, 101), (3, 102)] {
        lab.now += 10;
        lab.take(stranger(i), ip(expected));
    }
    let outcome = lab.send(&discover(stranger(9)).encode());
    assert_eq!(outcome.reply, None);
    let why = NoAddress::Exhausted(pool(100, 102));
    assert_eq!(outcome.event.decision, Decision::NoAddress(why));
    // The second renews, so that the first and then the third end first.
    lab.now += 100;
    lab.send(&renewing(stranger(2), ip(101)).encode());
    lab.now += 10_000;
    let mut next = |machine| {
        lab.send(&discover(machine).encode()).reply.map(|reply| Message::decode(&reply.bytes).yiaddr)
    };
    assert_eq!(next(stranger(2)), Some(ip(101)), "it gets back what it had");
    assert_eq!(next(stranger(9)), Some(ip(100)));
    assert_eq!(next(stranger(8)), Some(ip(102)));
    assert_eq!(next(stranger(7)), None);
}

#[test]
fn an_address_that_its_machine_no_longer_needs_goes_to_the_next() {
    let mut lab = Lab::new();
    lab.settings.pool = Some(pool(100, 100));
    lab.send(&init_reboot(mac(2), ip(100)).encode());
    assert_eq!(lab.send(&discover(mac(90)).encode()).reply, None);
    let own = Client { address: Some(ip(12)), ..client("lab02", 2) };
    lab.site = Site::new(2, vec![own], vec![image("debian")]);
    lab.send(&init_reboot(mac(2), ip(12)).encode());
    lab.now += 1;
    let offer = lab.send(&discover(mac(90)).encode()).reply.expect("10.77.0.100 is free at once");
    assert_eq!(Message::decode(&offer.bytes).yiaddr, ip(100));
}

#[test]
fn a_machine_with_two_interfaces_on_two_subnets_keeps_both() {
    let mut lab = Lab::new();
    lab.take(mac(90), ip(100));
    let (iface, settings) = (lab.iface.clone(), lab.settings.clone());
    lab.iface.address = [10, 78, 0, 1].into();
    lab.settings.pool = PoolRange::new([10, 78, 0, 100].into(), [10, 78, 0, 110].into()).ok();
    lab.take(mac(90), [10, 78, 0, 100].into());
    (lab.iface, lab.settings) = (iface, settings);
    assert!(lab.leases.by_address(ip(100), lab.now).is_some());
    let offer = lab.send(&discover(mac(90)).encode()).reply.unwrap();
    assert_eq!(Message::decode(&offer.bytes).yiaddr, ip(100));
}

#[test]
fn who_is_behind_an_address() {
    let mut lab = Lab::new();
    let holder = |lab: &Lab, last| lab.leases.holder(ip(last), &lab.site, lab.now);
    assert_eq!(holder(&lab, 11), Some(mac(1)), "its own, and nobody else has it");
    assert_eq!(holder(&lab, 100), None);
    lab.send(&discover(mac(90)).encode());
    assert_eq!(holder(&lab, 100), None, "offered is not leased");
    lab.send(&selecting(mac(90), ip(100), SERVER).encode());
    assert_eq!(holder(&lab, 100), Some(mac(90)));
    lab.now += 4000;
    assert_eq!(holder(&lab, 100), None);
    lab.send(&discover(mac(1)).encode());
    assert_eq!(holder(&lab, 11), Some(mac(1)));
    lab.send(&selecting(mac(1), ip(11), SERVER).encode());
    assert!(lab.decline(1, ip(11)).is_some());
    assert_eq!(holder(&lab, 11), None, "a stranger was seen to use it");
}

#[test]
fn pools() {
    assert_eq!(pool(100, 100).len(), 1);
    assert_eq!(PoolRange::new(ip(5), ip(4)), Err(PoolError::Reversed(ip(5), ip(4))));
    let (first, last) = ([10, 0, 0, 0].into(), [10, 0, 255, 255].into());
    assert_eq!(PoolRange::new(first, last).map(PoolRange::len), Ok(1 << 16));
    let last = [10, 1, 0, 0].into();
    assert_eq!(PoolRange::new(first, last), Err(PoolError::TooLarge(first, last)));
    assert_eq!(PoolRange::new([0; 4].into(), [255; 4].into()).ok(), None);
}
