//! The one policy.

use netboot::{Asker, BootPlan, Firmware, Interface, IpxeFeatures, Method, Settings, Stage, Unknown, plan};
use site::{Client, Site};

use crate::lab::{client, clients, image, interface, ip, mac, settings};

fn plan_with(asker: &Asker, clients: Vec<Client>, settings: &Settings) -> BootPlan {
    plan(asker, &interface(), &Site::new(1, clients, vec![image("debian")]), settings)
}

fn plan_of(asker: &Asker) -> BootPlan {
    plan_with(asker, clients(), &settings())
}

fn firmware(last: u8, firmware: Firmware) -> Asker {
    Asker::supposed(mac(last), Stage::Firmware, Some(firmware))
}

fn why(plan: &BootPlan) -> String {
    plan.why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_stage_gets_what_it_can_use() {
    let ipxe = plan_of(&Asker::supposed(mac(1), Stage::Ipxe, None));
    assert_eq!(ipxe.script_url.as_deref(), Some("http://10.77.0.1/boot/52-54-00-77-01-01/script.ipxe"));
    assert_eq!(ipxe.boot_program, None);
    let bios = plan_of(&firmware(1, Firmware::Bios));
    assert_eq!(bios.boot_program.unwrap().file, "undionly.kpxe");
    assert_eq!(bios.script_url, None);
    let system = plan_of(&Asker::supposed(mac(1), Stage::Other, None));
    assert!(system.may_boot() && system.boot_program.is_none() && system.script_url.is_none());
    assert_eq!(system.address, Some(ip(11)));
}

#[test]
fn programs_for_each_firmware() {
    let file = |asker: &Asker, programs: &[&str]| {
        let settings =
            Settings { programs: programs.iter().map(ToString::to_string).collect(), ..settings() };
        let plan = plan_with(asker, clients(), &settings);
        plan.boot_program.as_ref().map(|program| program.file.clone()).ok_or_else(|| why(&plan))
    };
    let x64 = firmware(1, Firmware::UefiX64);
    assert_eq!(file(&x64, &["ipxe.efi", "snponly.efi"]).unwrap(), "snponly.efi");
    assert_eq!(file(&x64, &["ipxe.efi"]).unwrap(), "ipxe.efi");
    assert!(file(&x64, &["undionly.kpxe"]).unwrap_err().contains("put snponly.efi or ipxe.efi among"));
    assert_eq!(file(&firmware(1, Firmware::UefiArm64), &["snponly-arm64.efi"]).unwrap(), "snponly-arm64.efi");
    assert!(file(&firmware(1, Firmware::Unknown(27)), &["x"]).unwrap_err().contains("architecture 27"));
    let silent = Asker::supposed(mac(1), Stage::Firmware, None);
    assert!(file(&silent, &["x"]).unwrap_err().contains("does not say what it is"));
    let http = Asker { method: Method::Http, ..x64 };
    assert_eq!(file(&http, &["snponly.efi"]).unwrap(), "http://10.77.0.1/files/snponly.efi");
}

#[test]
fn a_shim_comes_first_where_what_it_loads_lies_beside_it() {
    let name = |of: Firmware, programs: &[&str], own: Option<&str>| {
        let settings =
            Settings { programs: programs.iter().map(ToString::to_string).collect(), ..settings() };
        let client = Client { boot_program: own.map(str::to_owned), ..client("lab02", 2) };
        plan_with(&firmware(2, of), vec![client], &settings).boot_program.map(|program| program.name)
    };
    let x64 = Firmware::UefiX64;
    let all = ["snponly.efi", "efi/x64/snponly-shim.efi", "efi/x64/snponly.efi", "efi/x64/ipxe.efi"];
    assert_eq!(name(x64, &all, None).unwrap(), "efi/x64/snponly-shim.efi");
    assert_eq!(name(x64, &all[..2], None).unwrap(), "snponly.efi", "nothing for shim to load");
    assert_eq!(name(Firmware::UefiArm64, &all, None), None, "another architecture's");
    assert_eq!(name(x64, &["efi/x64/ipxe.efi", "snponly.efi"], None).unwrap(), "efi/x64/ipxe.efi");
    // A bare name is the one of the machine's architecture.
    let both = ["ipxe.efi", "efi/arm64/ipxe.efi", "efi/x64/shimx64.efi"];
    assert_eq!(name(Firmware::UefiArm64, &both[1..], Some("ipxe.efi")).unwrap(), "efi/arm64/ipxe.efi");
    assert_eq!(name(x64, &both, Some("ipxe.efi")).unwrap(), "ipxe.efi");
    assert_eq!(name(x64, &both, Some("shimx64.efi")).unwrap(), "efi/x64/shimx64.efi");
    assert_eq!(name(x64, &both, Some("efi/x64/SHIMX64.EFI")).unwrap(), "efi/x64/shimx64.efi");
}

#[test]
fn an_ipxe_that_lacks_something_is_given_another_and_not_for_ever() {
    let asker = |features: IpxeFeatures, reloaded: bool| Asker {
        ipxe: Some(features),
        reloaded,
        ..Asker::supposed(mac(1), Stage::Ipxe, Some(Firmware::Bios))
    };
    let whole = IpxeFeatures { http: true, iscsi: true, menu: true, ..IpxeFeatures::default() };
    let plan = plan_of(&asker(whole, false));
    assert!(plan.boot_program.is_none() && plan.script_url.is_some());
    for (lacking, word) in [
        (IpxeFeatures { http: false, ..whole }, "HTTP"),
        (IpxeFeatures { iscsi: false, ..whole }, "iSCSI"),
        (IpxeFeatures { menu: false, ..whole }, "menus"),
    ] {
        let plan = plan_of(&asker(lacking, false));
        assert_eq!(plan.boot_program.as_ref().map(|program| program.file.as_str()), Some("undionly.kpxe"));
        assert_eq!(plan.script_url, None);
        assert!(why(&plan).contains(&format!("lacks {word}, so it is given another")), "{}", why(&plan));
        let plan = plan_of(&asker(lacking, true));
        assert!(plan.boot_program.is_none() && plan.script_url.is_some(), "{}", why(&plan));
        let none = Settings { programs: Vec::new().into(), ..settings() };
        let plan = plan_with(&asker(lacking, false), clients(), &none);
        assert!(plan.script_url.is_some(), "there is no other: {}", why(&plan));
    }
}

#[test]
fn an_entry_may_name_its_program() {
    let with = |program: &str, asker: &Asker| {
        let own = Client { boot_program: Some(program.into()), ..client("lab02", 2) };
        let plan = plan_with(asker, vec![own], &settings());
        (plan.boot_program.as_ref().map(|program| program.name.clone()), why(&plan))
    };
    let x64 = firmware(2, Firmware::UefiX64);
    let (name, why) = with("ipxe.efi", &x64);
    assert_eq!(name.as_deref(), Some("ipxe.efi"));
    assert!(why.contains("as its entry says"));
    let (name, why) = with("gone.efi", &x64);
    assert_eq!(name, None, "an override is never silently ignored");
    assert!(why.contains("put gone.efi among"), "{why}");
    let (name, why) = with("ipxe.efi", &firmware(2, Firmware::Bios));
    assert_eq!(name.as_deref(), Some("undionly.kpxe"));
    assert!(why.contains("ipxe.efi, which can't run on BIOS"), "{why}");
    let long = format!("{}.efi", "x".repeat(130));
    assert_eq!(with(&long, &x64).0, None);
}

#[test]
fn a_name_that_the_header_cannot_hold_is_not_sent() {
    let long = format!("{}.efi", "x".repeat(124));
    let own = Client { boot_program: Some(long.clone()), ..client("lab02", 2) };
    let settings = Settings { programs: vec![long].into(), ..settings() };
    let plan = plan_with(&firmware(2, Firmware::UefiX64), vec![own], &settings);
    assert_eq!(plan.boot_program, None);
    assert!(why(&plan).contains("too long"), "{}", why(&plan));
}

#[test]
fn those_who_may_not_boot_are_told_why() {
    for (last, because) in [
        (6, "\"lab06\" is disabled"),
        (7, "\"lab07\" has no image"),
        (90, "type: bootd client add NAME --mac 52:54:00:77:01:5a --image IMAGE"),
    ] {
        for stage in [Stage::Firmware, Stage::Ipxe, Stage::Other] {
            let plan = plan_of(&Asker::supposed(mac(last), stage, Some(Firmware::Bios)));
            assert!(!plan.may_boot() && plan.boot_program.is_none() && plan.script_url.is_none());
            assert!(plan.lease && why(&plan).contains(because), "{}", why(&plan));
        }
    }
    let settings = Settings { unknown: Unknown::Ignore, ..settings() };
    assert!(!plan_with(&firmware(90, Firmware::Bios), clients(), &settings).lease);
}

#[test]
fn addresses_that_no_machine_can_have_are_said_so() {
    for address in [ip(1), ip(0), ip(255), [10, 78, 0, 5].into(), ip(254), ip(253)] {
        let own = Client { address: Some(address), ..client("lab02", 2) };
        let plan = plan_with(&firmware(2, Firmware::Bios), vec![own], &settings());
        assert_eq!(plan.address, None);
        assert!(why(&plan).contains(&format!("{address}, which no machine can have on eth1")));
        assert!(plan.may_boot());
    }
    let none = Settings { pool: None, ..settings() };
    assert!(why(&plan_with(&firmware(2, Firmware::Bios), clients(), &none)).contains("there is no pool"));
}

#[test]
fn scripts_are_found_on_any_port_and_without_http() {
    let ipxe = Asker::supposed(mac(1), Stage::Ipxe, None);
    let settings = Settings { http_port: 8080, ..settings() };
    let url = |asker: &Asker| plan_with(asker, clients(), &settings).script_url.unwrap();
    assert_eq!(url(&ipxe), "http://10.77.0.1:8080/boot/52-54-00-77-01-01/script.ipxe");
    let without = Asker { ipxe: Some(IpxeFeatures::default()), ..ipxe };
    assert_eq!(url(&without), "tftp://10.77.0.1/52-54-00-77-01-01/script.ipxe");
}

#[test]
fn subnets_of_every_size() {
    let link = |prefix_len| Interface { name: "e".into(), address: [10, 0, 0, 1].into(), prefix_len };
    assert_eq!(link(0).mask(), std::net::Ipv4Addr::from([0, 0, 0, 0]));
    assert_eq!(link(20).mask(), std::net::Ipv4Addr::from([255, 255, 240, 0]));
    assert_eq!(link(32).mask(), std::net::Ipv4Addr::from([255; 4]));
    assert_eq!(link(20).broadcast(), std::net::Ipv4Addr::from([10, 0, 15, 255]));
    assert!(link(31).can_have([10, 0, 0, 0].into()), "RFC 3021");
    assert!(!link(24).can_have([10, 0, 0, 0].into()));
}
