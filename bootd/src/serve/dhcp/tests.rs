//! Datagrams in, answers, journal and events out.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use netboot::{Destination, Firmware, MessageType};
use proptest::prelude::*;
use site::Site;
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::testing;

const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
const STRANGER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);

struct Lab {
    place: TempDir,
    shared: Shared,
    told: Receiver<Event>,
}

impl Lab {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let (state, _store, told) = testing::state(place.path());
        state.site.store(Arc::new(testing::site(place.path())));
        let (journal, _) = Journal::open(&place.path().join("leases.journal")).unwrap();
        let allowance = Allowance::new(BURST, PER_SECOND);
        Self {
            place,
            shared: Shared {
                state,
                journal: Mutex::new(journal),
                allowance,
                crowd: Crowd::new(),
                reloads: Mutex::default(),
                far_trials: FarTrials::default(),
            },
            told,
        }
    }

    fn handle(&self, datagram: &[u8]) -> Option<Reply> {
        self.handle_from(datagram, PEER)
    }

    fn handle_from(&self, datagram: &[u8], peer: SocketAddrV4) -> Option<Reply> {
        self.shared.handle(&self.shared.state.links[0], Door::Dhcp, datagram, peer)?.reply
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.place.path().join("leases.journal")).unwrap()
    }

    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.told.try_recv().ok()).map(|event| event.to_string()).collect()
    }
}

/// A request with a message type and further options, each a code and a value.
fn request(mac: MacAddr, kind: MessageType, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut packet = vec![0; 240];
    packet[..4].copy_from_slice(&[1, 1, 6, 0]);
    packet[28..34].copy_from_slice(&mac.octets());
    packet[236..].copy_from_slice(&[99, 130, 83, 99]);
    packet.extend_from_slice(&[53, 1, u8::from(kind)]);
    for (code, value) in options {
        packet.extend_from_slice(&[*code, value.len() as u8]);
        packet.extend_from_slice(value);
    }
    packet.push(255);
    packet
}

/// What a BIOS's PXE ROM says of itself.
const BIOS: [(u8, &[u8]); 2] = [(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];

fn yiaddr(reply: &Reply) -> Ipv4Addr {
    <[u8; 4]>::try_from(&reply.bytes[16..20]).unwrap().into()
}

#[test]
fn a_lease_is_in_the_journal_before_its_answer_is_out() {
    let lab = Lab::new();
    let offer = lab.handle(&request(testing::MAC, MessageType::Discover, &BIOS)).unwrap();
    let own = Ipv4Addr::new(10, 0, 0, 7);
    assert_eq!(yiaddr(&offer), own);
    assert_eq!(offer.to, Destination::Unicast { ip: own, mac: testing::MAC });
    assert_eq!(lab.journal(), "", "an offer need not survive");

    let mut options = BIOS.to_vec();
    options.extend([(54, &[10, 0, 0, 1][..]), (50, &[10, 0, 0, 7][..])]);
    let ack = lab.handle(&request(testing::MAC, MessageType::Request, &options)).unwrap();
    assert_eq!(yiaddr(&ack), own);
    assert!(lab.journal().contains("\"10.0.0.7\""), "{}", lab.journal());
    let (_, replayed) = Journal::open(&lab.place.path().join("leases.journal")).unwrap();
    let lease = *replayed.leases.by_address(own, unix_seconds()).unwrap();
    assert_eq!(lease.mac, testing::MAC);
}

#[test]
fn a_stranger_is_told_of_and_a_client_that_can_not_boot_too() {
    let mut lab = Lab::new();
    assert!(lab.handle(&request(STRANGER, MessageType::Discover, &BIOS)).is_some());
    let told = lab.told();
    assert!(told[0].contains("bootd client add NAME --mac 02:00:00:00:00:09 --image IMAGE"), "{told:?}");

    let mut client = testing::client();
    client.enabled = false;
    lab.shared.state.site.store(Arc::new(Site::new(2, vec![client], vec![])));
    assert!(lab.handle(&request(testing::MAC, MessageType::Discover, &BIOS)).is_some());
    let told = lab.told();
    assert!(told[0].contains("dhcp: refused 10.0.0.7:68") && told[0].contains("is disabled"), "{told:?}");
}

#[test]
fn firmware_that_took_no_form_of_offer_is_told_of_with_the_remedy() {
    let mut lab = Lab::new();
    Arc::get_mut(&mut lab.shared.state).unwrap().links[0].settings.mode = Mode::Proxy;
    for ago in [180, 120, 60] {
        let at = unix_seconds() - ago;
        lab.shared.state.shapes.lock().offer(testing::MAC, Some(Firmware::Bios), at);
    }
    let discover = request(testing::MAC, MessageType::Discover, &BIOS);
    let offer = lab.handle(&discover).unwrap();
    assert_eq!((yiaddr(&offer), offer.to), (Ipv4Addr::UNSPECIFIED, Destination::Broadcast));
    let told = lab.told().join("\n");
    assert!(told.contains("in every form") && told.contains("mode = \"server\""), "{told}");
    assert!(told.contains("name 10.0.0.1 as next-server"), "{told}");

    // It is no more once it has fetched what it was offered.
    let fetch = netboot::Fetch {
        path: "undionly.kpxe".into(),
        bytes: 1,
        size: Some(1),
        took_ms: 1,
        resent: 0,
        blksize: None,
        end: netboot::FetchEnd::Complete,
    };
    lab.shared.state.step(testing::MAC, netboot::StepKind::TftpFile(fetch), "");
    assert!(lab.handle(&discover).is_some());
    assert!(!lab.told().join("\n").contains("in every form"));
}

#[test]
fn what_is_no_dhcp_is_counted_and_told() {
    let mut lab = Lab::new();
    let mut long_address = request(STRANGER, MessageType::Discover, &[]);
    long_address[2] = 255;
    for datagram in [&b""[..], b"hello", &[0; 4096], &long_address] {
        assert_eq!(lab.handle(datagram), None);
    }
    assert_eq!(lab.shared.state.counters.dhcp_malformed.get(), 4);
    assert_eq!(lab.told().len(), 4);
}

#[test]
fn one_machines_flood_is_dropped_and_anothers_request_answered() {
    let lab = Lab::new();
    let flood = request(STRANGER, MessageType::Discover, &[]);
    let answered = (0..10 * BURST).filter(|_| lab.handle(&flood).is_some()).count();
    assert!(answered < 2 * BURST as usize, "{answered}");
    assert!(lab.shared.state.counters.dhcp_dropped.get() > 8 * u64::from(BURST));
    assert!(lab.handle(&request(testing::MAC, MessageType::Discover, &[])).is_some());
}

#[test]
fn in_a_flood_of_strangers_clients_and_machines_with_a_lease_are_served() {
    let mut lab = Lab::new();
    let lessee = MacAddr::new([2, 0, 0, 0, 0, 8]);
    let discover = |mac| request(mac, MessageType::Discover, &BIOS);
    let offered = yiaddr(&lab.handle(&discover(lessee)).unwrap());
    let options = [(54, &[10, 0, 0, 1][..]), (50, &offered.octets()[..])];
    assert!(lab.handle(&request(lessee, MessageType::Request, &options)).is_some());
    lab.told();
    // Much is owed; each packet is looked at within the moment.
    lab.shared.crowd.took(Duration::from_millis(399));
    assert!(lab.handle(&discover(STRANGER)).is_none());
    assert!(lab.handle(&discover(lessee)).is_some());
    lab.shared.crowd.took(Duration::from_millis(500));
    assert!(lab.handle(&discover(lessee)).is_none());
    assert!(lab.handle(&discover(testing::MAC)).is_some());
    assert_eq!(lab.shared.state.counters.dhcp_flooded.get(), 2);
    let told: Vec<_> = lab.told().into_iter().filter(|line| line.contains("dhcp_flooded")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_flood_in_a_machines_name_does_not_keep_it_from_an_address() {
    let lab = Lab::new();
    let forged = request(testing::MAC, MessageType::Release, &[(54, &[10, 0, 0, 1])]);
    (0..10 * BURST).for_each(|_| assert_eq!(lab.handle(&forged), None));
    assert!(lab.shared.state.counters.dhcp_dropped.get() > 8 * u64::from(BURST));
    assert!(lab.handle(&request(testing::MAC, MessageType::Discover, &BIOS)).is_some());
}

#[test]
fn who_boots_keeps_its_address_whatever_is_given_back_in_its_name() {
    let mut lab = Lab::new();
    let own = Ipv4Addr::new(10, 0, 0, 7);
    let mut options = BIOS.to_vec();
    options.extend([(54, &[10, 0, 0, 1][..]), (50, &[10, 0, 0, 7][..])]);
    assert!(lab.handle(&request(testing::MAC, MessageType::Discover, &BIOS)).is_some());
    assert!(lab.handle(&request(testing::MAC, MessageType::Request, &options)).is_some());
    let mut release = request(testing::MAC, MessageType::Release, &[(54, &[10, 0, 0, 1])]);
    release[12..16].copy_from_slice(&own.octets());
    let has_it = |lab: &Lab| lab.shared.state.leases.lock().by_address(own, unix_seconds()).is_some();
    lab.told();
    for source in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 66), own] {
        lab.handle_from(&release, SocketAddrV4::new(source, 68));
        assert!(has_it(&lab), "it was given back from {source}");
    }
    let told = lab.told().join("\n");
    assert!(told.contains("from another address") && told.contains("boots or runs"), "{told}");
    // Its boot is long over.
    let mut boots = lab.shared.state.boots.lock();
    *boots = netboot::Boots::new();
    boots.on_discover(testing::MAC, Stage::Firmware, 1000);
    drop(boots);
    lab.handle_from(&release, SocketAddrV4::new(own, 68));
    assert!(!has_it(&lab));
}

#[test]
fn a_full_disk_is_told_and_the_client_answered() {
    let mut lab = Lab::new();
    fs::remove_file(lab.place.path().join("leases.journal")).unwrap();
    *lab.shared.journal.lock() = Journal::on_a_full_disk(&lab.place.path().join("gone/leases.journal"));
    let options: [(u8, &[u8]); 2] = [(54, &[10, 0, 0, 1]), (50, &[10, 0, 0, 7])];
    assert!(lab.handle(&request(testing::MAC, MessageType::Request, &options)).is_some());
    let told = lab.told();
    assert!(told[0].contains("journal of leases") && told[0].contains("make room"), "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_datagram_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), cut in 0usize..400) {
        let lab = Lab::new();
        let _ = lab.handle(&bytes);
        let mut packet = request(testing::MAC, MessageType::Discover, &BIOS);
        let tail = packet.len().min(cut);
        packet.truncate(tail);
        packet.extend_from_slice(&bytes);
        let _ = lab.handle(&packet);
    }
}
