//! Who gets what, at the one place where that is decided.

use std::sync::Arc;

use netboot::{
    Asker, Firmware, Interface, Lease, LeaseChange, LeaseState, Leases, Settings, Stage, Subnet, Unknown,
    parse_http_path, parse_tftp_path, plan,
};
use site::Image;
use site::entity::{Edit, Values};

use super::*;
use crate::testing;

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const KNOWN: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
const DISABLED: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);

fn decide_for(holder: Option<MacAddr>, name: &str) -> Result<Granted, Denied> {
    decide_where(Unknown::Lease, holder, name)
}

/// Where that is what strangers get.
fn decide_where(unknown: Unknown, holder: Option<MacAddr>, name: &str) -> Result<Granted, Denied> {
    let client = |name: &str, mac, enabled| site::Client {
        name: name.parse().unwrap(),
        mac,
        address: None,
        image: Some("debian".parse().unwrap()),
        menu: None,
        boot_program: None,
        overlay_limit: None,
        enabled,
    };
    let image = Image {
        name: "debian".parse().unwrap(),
        version: "1".parse().unwrap(),
        path: "/images/debian".into(),
        size: 1 << 20,
    };
    let site = Site::new(1, vec![client("one", KNOWN, true), client("two", DISABLED, false)], vec![image]);
    let interface = Interface { name: "eth1".into(), address: [10, 0, 0, 1].into(), prefix_len: 24 };
    let settings = Settings { unknown, ..Settings::default() };
    let plan_of = |mac| plan(&Asker::supposed(mac, Stage::Ipxe, None), &interface, &site, &settings);
    let wanted = match parse_tftp_path(name) {
        Asked::File(path) if path.as_str() == "menu" => Wanted::Text(path),
        asked => Wanted::Named(asked),
    };
    decide(&Visitor { peer: PEER, holder, nobody: "is leased to no machine" }, plan_of, wanted)
}

fn set(entity: &str, variable: &str, value: &str) -> Edit {
    Edit::Set {
        entity: entity.parse().unwrap(),
        variable: variable.parse().unwrap(),
        values: [value].into_iter().collect::<Values>(),
        expect: None,
    }
}

#[test]
fn a_script_goes_to_its_own_machine_only() {
    let own = "02-00-00-00-00-01/script.ipxe";
    assert_eq!(decide_for(Some(KNOWN), own), Ok(Granted::Script(KNOWN, Which::Boot)));
    assert_eq!(decide_for(Some(KNOWN), "autoexec.ipxe"), Ok(Granted::Script(KNOWN, Which::Autoexec)));
    // It makes no disk, but says on the screen why there is none.
    let disabled = "02-00-00-00-00-02/script.ipxe";
    assert_eq!(decide_for(Some(DISABLED), disabled), Ok(Granted::Script(DISABLED, Which::Boot)));
    for (holder, name, word) in [
        (None, own, "leased to no machine"),
        (None, "autoexec.ipxe", "leased to no machine"),
        (Some(DISABLED), own, "its own address"),
        (Some(KNOWN), "02-00-00-00-00-02/script.ipxe", "its own address"),
        (Some(MacAddr::new([2, 0, 0, 0, 0, 9])), "autoexec.ipxe", "bootd client add"),
    ] {
        let Err(Denied::Script(why)) = decide_for(holder, name) else { panic!("{holder:?} got {name}") };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn a_stranger_gets_what_it_is_offered_by_whichever_name_it_asks() {
    const STRANGER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);
    let by_name = |unknown, name| decide_where(unknown, Some(STRANGER), name);
    let doors = [
        ("02-00-00-00-00-09/script.ipxe", Which::Boot),
        ("autoexec.ipxe", Which::Autoexec),
        ("efi/x64/autoexec.ipxe", Which::Autoexec),
    ];
    for (name, which) in doors {
        assert_eq!(by_name(Unknown::Register, name), Ok(Granted::Script(STRANGER, which)), "{name}");
        // Nobody has said what guests boot.
        for nothing in [Unknown::Lease, Unknown::Guest, Unknown::Ignore] {
            assert!(matches!(by_name(nothing, name), Err(Denied::Script(_))), "{nothing:?} {name}");
        }
    }
    let menu = by_name(Unknown::Register, "02-00-00-00-00-09/menu.ipxe");
    assert!(matches!(menu, Err(Denied::Script(_))), "{menu:?}");
}

#[test]
fn texts_go_to_clients_that_may_boot() {
    let granted = decide_for(Some(KNOWN), "menu").unwrap();
    assert!(matches!(granted, Granted::Text { mac: KNOWN, path } if path.as_str() == "menu"));
    for (holder, word) in [
        (None, "leased to no machine"),
        (Some(DISABLED), "disabled"),
        (Some(MacAddr::new([2, 0, 0, 0, 0, 9])), "bootd client add"),
    ] {
        let Err(Denied::File(why)) = decide_for(holder, "menu") else { panic!("{holder:?} got it") };
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn files_go_to_everyone_but_machines_that_may_not_boot() {
    for holder in [Some(KNOWN), None] {
        let granted = decide_for(holder, "undionly.kpxe").unwrap();
        assert!(matches!(granted, Granted::File { visitor, .. } if visitor == holder));
    }
    assert!(matches!(decide_for(Some(DISABLED), "undionly.kpxe"), Err(Denied::File(_))));
    assert_eq!(decide_for(Some(KNOWN), "../x"), Err(Denied::NotFound));
}

/// What a visitor at that address gets for a path.
fn admitted(state: &State, peer: [u8; 4], path: &str) -> Result<Granted, Denied> {
    admit(state, &state.links[0], peer.into(), parse_http_path(path)).map_err(|away| away.why)
}

#[test]
fn a_machine_behind_a_relay_is_served_as_its_dhcp_was_answered() {
    const FAR: MacAddr = MacAddr::new([2, 0, 0, 0, 9, 1]);
    const NEAR: MacAddr = MacAddr::new([2, 0, 0, 0, 9, 2]);
    let place = tempfile::tempdir().unwrap();
    for (far, near) in [(Unknown::Register, Unknown::Lease), (Unknown::Lease, Unknown::Register)] {
        let (state, _store, _told) = testing::state(place.path());
        let mut state = Arc::into_inner(state).unwrap();
        state.links[0].settings.unknown = near;
        let subnet = Some(Subnet::around([10, 9, 0, 0].into(), 24));
        state.relayed = vec![Settings { subnet, unknown: far, ..state.links[0].settings.clone() }];
        let leased = |address: [u8; 4], mac| {
            LeaseChange::Set(Lease {
                address: address.into(),
                mac,
                state: LeaseState::Bound,
                expires: u64::MAX,
            })
        };
        *state.leases.lock() = Leases::restore([leased([10, 9, 0, 5], FAR), leased([10, 0, 0, 9], NEAR)]);
        for (peer, mac, unknown) in [([10, 9, 0, 5], FAR, far), ([10, 0, 0, 9], NEAR, near)] {
            let got = admitted(&state, peer, &format!("/boot/{}/script.ipxe", mac.hyphenated()));
            match unknown {
                Unknown::Register => assert_eq!(got, Ok(Granted::Script(mac, Which::Boot)), "{peer:?}"),
                _ => assert!(matches!(got, Err(Denied::Script(_))), "{peer:?}: {got:?}"),
            }
        }
    }
}

#[test]
fn what_its_firmware_can_not_boot_opens_no_door() {
    let place = tempfile::tempdir().unwrap();
    let (state, _store, _told) = testing::state(place.path());
    let site = Site::new(1, vec![site::Client { image: None, ..testing::client() }], Vec::new());
    let edits = [
        Edit::Create { entity: "choice/esp".parse().unwrap() },
        set("choice/esp", "kind", "program"),
        set("choice/esp", "program", "tool.efi"),
        set("choice/esp", "firmware", "uefi"),
        set("client/pc1", "choices", "esp"),
    ];
    state.site.store(Arc::new(site.edit(&edits).unwrap().0));
    testing::lease(&state, [10, 0, 0, 7].into());
    let doors = ["/files/tool.efi", "/wallpaper?w=800&h=600", "/client/files"];
    // Nothing is known of its firmware yet, then that it can, then that it can't.
    for (firmware, may) in [(None, true), (Some(Firmware::UefiX64), true), (Some(Firmware::Bios), false)] {
        if let Some(firmware) = firmware {
            state.firmwares.said(testing::MAC, firmware, true);
        }
        for door in doors {
            let got = admitted(&state, [10, 0, 0, 7], door);
            assert_eq!(got.is_ok(), may, "{firmware:?} {door}: {got:?}");
        }
    }
}

#[test]
fn a_raspberry_pi_finds_its_own_files_its_rooms_and_those_of_all() {
    let place = tempfile::tempdir().unwrap();
    let (state, _store, _told) = testing::state(place.path());
    let site = Site::new(1, vec![site::Client { image: None, ..testing::client() }], Vec::new());
    let edits = [
        Edit::Create { entity: "group/room12".parse().unwrap() },
        set("group/room12", "pi_directory", "pi/room12"),
        set("client/pc1", "groups", "room12"),
    ];
    let files = place.path().join("data/files");
    for name in [
        "9ffefdef/config.txt",
        "pi/room12/config.txt",
        "pi/room12/kernel8.img",
        "raspberrypi/config.txt",
        "raspberrypi/start4.elf",
    ] {
        let path = files.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    let given = |path: &str| match locate(
        &state,
        &state.site.load(),
        Some(testing::MAC),
        PEER,
        FilePath::parse(path).unwrap(),
    ) {
        Wanted::Named(Asked::File(path)) => {
            let mut text = String::new();
            let mut file = state.files.open(&path).ok()?.file;
            std::io::Read::read_to_string(&mut file, &mut text).unwrap();
            Some(text)
        }
        other => panic!("{path} is {}", matches!(other, Wanted::Text(_))),
    };
    let table = |rooms: [&str; 2]| {
        for (asked, got) in [
            ("9ffefdef/config.txt", Some("9ffefdef/config.txt")),
            ("dc-a6-32-00-00-01/config.txt", Some(rooms[0])),
            ("dc-a6-32-00-00-01/kernel8.img", Some(rooms[1]).filter(|name| !name.is_empty())),
            ("9ffefdef/start4.elf", Some("raspberrypi/start4.elf")),
            ("9ffefdef/absent", None),
            ("config.txt", None),
        ] {
            assert_eq!(given(asked).as_deref(), got, "{asked}");
        }
    };
    state.site.store(Arc::new(site.edit(&[]).unwrap().0));
    table(["raspberrypi/config.txt", ""]);
    state.site.store(Arc::new(site.edit(&edits).unwrap().0));
    table(["pi/room12/config.txt", "pi/room12/kernel8.img"]);
}
