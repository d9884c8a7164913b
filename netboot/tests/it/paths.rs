//! Names that clients ask for.

use netboot::{Asked, parse_http_path, parse_tftp_path};
use proptest::prelude::*;

use crate::lab::mac;

fn file(asked: Asked) -> Option<String> {
    match asked {
        Asked::File(path) => Some(path.as_str().to_owned()),
        _ => None,
    }
}

#[test]
fn tftp_names() {
    for (name, path) in [
        ("undionly.kpxe", "undionly.kpxe"),
        ("/undionly.kpxe", "undionly.kpxe"),
        ("///a//b/c.efi", "a/b/c.efi"),
        ("\\EFI\\BOOT\\BOOTX64.EFI", "EFI/BOOT/BOOTX64.EFI"),
        ("boot/x", "boot/x"),
        ("pxelinux.cfg/01-52-54-00-77-01-01", "pxelinux.cfg/01-52-54-00-77-01-01"),
        ("a%2e%2e", "a%2e%2e"),
        ("...", "..."),
    ] {
        assert_eq!(file(parse_tftp_path(name)).as_deref(), Some(path), "{name}");
    }
    let script = Asked::Script { mac: mac(1) };
    for name in
        ["52-54-00-77-01-01/script.ipxe", "/52:54:00:77:01:01/script.ipxe", "boot/525400770101/script.ipxe"]
    {
        assert_eq!(parse_tftp_path(name), script, "{name}");
    }
    let name = "memtest".parse().unwrap();
    assert_eq!(parse_tftp_path("52-54-00-77-01-01/menu.ipxe"), Asked::Menu { mac: mac(1) });
    assert_eq!(parse_tftp_path("52-54-00-77-01-01/choice/memtest.ipxe"), Asked::Choice { mac: mac(1), name });
    for name in ["autoexec.ipxe", "/autoexec.ipxe", "secure\\autoexec.ipxe"] {
        assert_eq!(parse_tftp_path(name), Asked::Autoexec, "{name}");
    }
}

#[test]
fn http_paths() {
    assert_eq!(parse_http_path("/boot/52-54-00-77-01-01/script.ipxe?x=1"), Asked::Script { mac: mac(1) });
    assert_eq!(file(parse_http_path("/files/a/b%20c.efi")).as_deref(), Some("a/b c.efi"));
    assert_eq!(
        file(parse_http_path("/files//shim/grub.efi")).as_deref(),
        Some("shim/grub.efi"),
        "shim joins so"
    );
    assert_eq!(parse_http_path("/files/autoexec.ipxe"), Asked::Autoexec);
    let name = "mem.test".parse().unwrap();
    let choice = Asked::Choice { mac: mac(1), name };
    assert_eq!(parse_http_path("/boot/52-54-00-77-01-01/choice/mem.test.ipxe"), choice);
    assert_eq!(parse_http_path("/boot/52-54-00-77-01-01/menu.ipxe"), Asked::Menu { mac: mac(1) });
    let screen = Asked::Wallpaper { width: 1920, height: 1080 };
    assert_eq!(parse_http_path("/wallpaper?w=1920&h=1080"), screen);
    assert_eq!(parse_http_path("/user/alice.b/home"), Asked::UserHome("alice.b".parse().unwrap()));
    for path in [
        "/wallpaper",
        "/wallpaper?w=0&h=1",
        "/wallpaper?w=1",
        "/wallpaper?w=70000&h=1",
        "/user/a%20b/home",
        "/user//home",
        "/boot/52-54-00-77-01-01/choice/memtest",
        "/boot/52-54-00-77-01-01/choice/.ipxe",
        "/boot/52-54-00-77-01-01/choice/a%20b.ipxe",
        "/boot/x/choice/memtest.ipxe",
        "",
        "/",
        "/files",
        "/files/",
        "/boot",
        "/boot/x/script.ipxe",
        "/boot/52-54-00-77-01-01",
        "/etc/passwd",
    ] {
        assert_eq!(parse_http_path(path), Asked::Other, "{path}");
    }
}

#[test]
fn no_way_out() {
    for name in [
        "..",
        "../x",
        "a/../../x",
        "a\\..\\x",
        "./x",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\u{85}b",
        "",
        "/",
        "\\",
        "52-54-00-77-01-01/../script.ipxe",
        &"x".repeat(256),
        &"x/".repeat(300),
    ] {
        assert_eq!(parse_tftp_path(name), Asked::Other, "{name:?}");
    }
    for path in [
        "/files/%2e%2e/x",
        "/files/%2E./x",
        "/files/a%2f..%2fx",
        "/files/%00",
        "/files/%",
        "/files/%f",
        "/files/%zz",
        "/files/%ff",
        "/files/..%5cx",
        "/%66iles/../x",
    ] {
        assert_eq!(parse_http_path(path), Asked::Other, "{path}");
    }
}

proptest! {
    #[test]
    fn every_path_stays_below(name in any::<String>()) {
        for asked in [parse_tftp_path(&name), parse_http_path(&format!("/files/{name}"))] {
            if let Asked::File(path) = asked {
                let path = path.as_str();
                prop_assert!(!path.starts_with('/') && !path.contains('\\') && !path.contains('\0'));
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
