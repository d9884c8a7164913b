//! What machines say of themselves, and what is made of it.

use netboot::{Asker, Firmware, IpxeFeatures, Method, Packet, Stage};
use site::MacAddr;

use crate::lab::mac;
use crate::wire::{Message, discover};

fn of(message: &Message) -> Asker {
    Asker::of(&Packet::parse(&message.encode()).unwrap())
}

fn pxe(arch: u16) -> Message {
    discover(mac(1)).option(93, &arch.to_be_bytes()).option(60, b"PXEClient:Arch:00000:UNDI:002001")
}

#[test]
fn architectures() {
    for (arch, firmware, method) in [
        (0, Firmware::Bios, Method::Tftp),
        (6, Firmware::UefiIa32, Method::Tftp),
        (7, Firmware::UefiX64, Method::Tftp),
        (9, Firmware::UefiX64, Method::Tftp),
        (10, Firmware::UefiArm32, Method::Tftp),
        (11, Firmware::UefiArm64, Method::Tftp),
        (15, Firmware::UefiIa32, Method::Http),
        (16, Firmware::UefiX64, Method::Http),
        (18, Firmware::UefiArm32, Method::Http),
        (19, Firmware::UefiArm64, Method::Http),
        (20, Firmware::Bios, Method::Http),
        (27, Firmware::Unknown(27), Method::Tftp),
    ] {
        let asker = of(&pxe(arch));
        assert_eq!((asker.firmware, asker.method, asker.stage), (Some(firmware), method, Stage::Firmware));
    }
}

#[test]
fn a_list_of_architectures_is_best_first() {
    let both = discover(mac(1)).option(93, &[0, 7, 0, 0]).option(60, b"PXEClient");
    assert_eq!(of(&both).firmware, Some(Firmware::UefiX64));
}

#[test]
fn the_vendor_class_stands_in_for_option_93() {
    let asker = |class: &[u8]| of(&discover(mac(1)).option(60, class));
    assert_eq!(asker(b"PXEClient:Arch:00007:UNDI:003016").firmware, Some(Firmware::UefiX64));
    assert_eq!(asker(b"HTTPClient:Arch:00016:UNDI:003016").method, Method::Http);
    for class in
        [&b"PXEClient"[..], b"PXEClient:Arch:seven", b"PXEClient:Arch:", b"PXEClient:Arch:99999", b"\xff"]
    {
        assert_eq!(asker(class).firmware, None);
    }
    assert_eq!(asker(b"PXEClient").stage, Stage::Firmware);
}

#[test]
fn http_boot_is_known_by_its_class_too() {
    let asker = of(&discover(mac(1)).option(93, &[0, 7]).option(60, b"HTTPClient:Arch:00007"));
    assert_eq!((asker.firmware, asker.method), (Some(Firmware::UefiX64), Method::Http));
}

#[test]
fn stages() {
    let features = [19, 1, 1];
    for (what, message, stage) in [
        ("udhcpc", discover(mac(1)).option(60, b"udhcp 1.35.0"), Stage::Other),
        ("Windows", discover(mac(1)).option(60, b"MSFT 5.0"), Stage::Other),
        ("nothing at all", discover(mac(1)), Stage::Other),
        ("a ROM", pxe(0), Stage::Firmware),
        ("a ROM that drops option 60", discover(mac(1)).option(93, &[0, 0]), Stage::Firmware),
        ("iPXE", pxe(0).option(77, b"iPXE").option(175, &features), Stage::Ipxe),
        ("iPXE, framed as RFC 3004 has it", pxe(0).option(77, b"\x04iPXE"), Stage::Ipxe),
        ("iPXE among others", pxe(0).option(77, b"\x03lab\x04iPXE"), Stage::Ipxe),
        ("gPXE", pxe(0).option(77, b"gPXE"), Stage::Ipxe),
        ("iPXE without a class", pxe(0).option(175, &features), Stage::Ipxe),
        ("iPXE told to be another", pxe(0).option(77, b"plainpxe").option(175, &features), Stage::Firmware),
        ("a class that only begins so", pxe(0).option(77, b"iPXEx"), Stage::Firmware),
    ] {
        assert_eq!(of(&message).stage, stage, "{what}");
    }
}

#[test]
fn a_raspberry_pi_is_no_pc_whatever_it_says() {
    let pi = MacAddr::new([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let says = |arch| of(&Message { mac: pi, ..pxe(arch) }).firmware;
    assert_eq!(says(0), Some(Firmware::RaspberryPi));
    assert_eq!(says(11), Some(Firmware::UefiArm64), "with a UEFI of its own");
    // Of 2025, and one whose card is by nobody that is known.
    let new = MacAddr::new([0x88, 0xa2, 0x9e, 1, 2, 3]);
    assert_eq!(of(&Message { mac: new, ..pxe(0) }).firmware, Some(Firmware::RaspberryPi));
    let uuid = |begin: &[u8; 4]| [&[0][..], begin, &[0x77; 12]].concat();
    let by_uuid = |arch, begin| of(&pxe(arch).option(97, &uuid(begin))).firmware;
    assert_eq!(by_uuid(0, b"RPi4"), Some(Firmware::RaspberryPi));
    assert_eq!(by_uuid(0, b"RPi5"), Some(Firmware::RaspberryPi));
    assert_eq!(by_uuid(11, b"RPi4"), Some(Firmware::UefiArm64));
    assert_eq!(by_uuid(0, b"RPix"), Some(Firmware::Bios));
}

#[test]
fn features_of_ipxe() {
    let features = |value: &[u8]| of(&pxe(0).option(77, b"iPXE").option(175, value)).ipxe;
    // As Debian's build of 2019 sends them (captured).
    let debian =
        b"\xb1\x05\x01\x1a\xf4\x10\x00\xeb\x03\x01\x00\x00\x17\x01\x01\x22\x01\x01\x13\x01\x01\x11\x01\x01\
        \x27\x01\x01\x19\x01\x01\x29\x01\x01\x10\x01\x02\x21\x01\x01\x15\x01\x01\x18\x01\x01\x12\x01\x01";
    let all = IpxeFeatures { http: true, iscsi: true, menu: true, bzimage: true, efi: false };
    assert_eq!(features(debian), Some(all));
    assert_eq!(features(&[0x15, 1, 1]), Some(IpxeFeatures::default()), "TFTP only");
    assert_eq!(features(&[0x13, 1, 0]), Some(IpxeFeatures::default()), "HTTP, switched off");
    assert_eq!(features(&[176, 1, 1]), None, "none listed");
    assert_eq!(features(&[0x13, 200, 1]), None, "cut short");
}

#[test]
fn classes_are_fit_to_be_shown() {
    let asker = of(&discover(mac(1)).option(60, b"a\n\x1b[2J").option(77, &[b'x'; 200]));
    assert_eq!(asker.vendor_class.as_deref(), Some("a\\n\\x1b[2J"));
    assert_eq!(asker.user_class.map(|class| class.len()), Some(64));
}
