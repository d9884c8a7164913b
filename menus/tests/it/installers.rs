//! The shipped answer files of installers, for a client that says nothing and for one that says all, as golden texts and
//! as the formats that they are. `BOOTD_BLESS=1` rewrites the golden texts; then read the diff.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use menus::{ConfigView, EmptyView};
use saphyr_parser::{Event, Parser};

use super::*;

const FILES: [&str; 6] = [
    "preseed.cfg",
    "kickstart.cfg",
    "autoinstall/user-data",
    "autoinstall/meta-data",
    "autoinstall/vendor-data",
    "unattend.xml",
];

/// A site in which rook has every variable of installers, with what is hard to quote.
fn site() -> Arc<dyn ConfigView> {
    lookups::made(
        &["mirror/debian url http://deb.debian.org/debian"],
        &[
            "install_disk /dev/nvme0n1",
            "install_locale de_DE.UTF-8",
            "install_keyboard de",
            "install_timezone Europe/Berlin",
            "install_mirror debian",
            "install_path releases/40",
            "install_suite bookworm",
            "install_user lab",
            "install_password $6$salt$hash.with/signs",
            "install_ssh_keys ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI admin@lab",
            "install_packages vim",
            "install_edition Windows 11 Education (N)",
            "install_product_key AAAAA-BBBBB-CCCCC-DDDDD-EEEEE",
            "install_windows_password <\"&'\\>",
            "install_windows_timezone W. Europe Standard Time",
        ],
    )
}

fn render(file: &str, view: &Arc<dyn ConfigView>, firmware: &str) -> String {
    let mut context = rook();
    context.boot.firmware = firmware.to_owned();
    // Whoever asks for one of these is told no secret of a disk.
    context.boot.disk = None;
    Menus::new(Vec::new()).unwrap().render_with(file, &context, view).unwrap()
}

fn all() -> Vec<(String, &'static str, String)> {
    let nothing: Arc<dyn ConfigView> = Arc::new(EmptyView);
    let mut all = Vec::new();
    for file in FILES {
        let name = file.replace('/', "-");
        all.push((format!("{name}.bare"), file, render(file, &nothing, "bios")));
        all.push((format!("{name}.full"), file, render(file, &site(), "uefi")));
    }
    all
}

#[test]
fn answer_files_are_as_they_were_read_by_people() {
    for (name, _, text) in all() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/installers").join(&name);
        if std::env::var_os("BOOTD_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(text == golden, "{} differs, BOOTD_BLESS=1 rewrites it; now:\n{text}", path.display());
    }
}

#[test]
fn autoinstall_is_yaml_with_these_values() {
    for (name, file, text) in all() {
        if !file.starts_with("autoinstall/") {
            continue;
        }
        let mut values = Vec::new();
        for event in Parser::new_from_str(&text) {
            if let Event::Scalar(value, ..) = event.unwrap().0 {
                values.push(value.into_owned());
            }
        }
        if name == "autoinstall-user-data.full" {
            for pair in [
                ["hostname", "rook"],
                ["password", "$6$salt$hash.with/signs"],
                ["uri", "http://10.77.0.1/mirror/debian/releases/40"],
                ["path", "/dev/nvme0n1"],
                ["authorized-keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI admin@lab"],
            ] {
                assert!(values.windows(2).any(|two| two == pair), "{pair:?} is not in {values:?}");
            }
        }
    }
}

#[test]
fn unattend_is_xml_with_these_values() {
    for (name, file, text) in all() {
        if file != "unattend.xml" {
            continue;
        }
        let parsed = roxmltree::Document::parse(&text).unwrap();
        let values = |tag: &str| -> Vec<&str> {
            let found = parsed
                .descendants()
                .filter(|node| node.has_tag_name(("urn:schemas-microsoft-com:unattend", tag)));
            found.filter_map(|node| node.text()).collect()
        };
        assert_eq!(values("ComputerName"), ["rook"]);
        if name == "unattend.xml.full" {
            assert!(values("Value").contains(&"<\"&'\\>"), "{:?}", values("Value"));
            assert_eq!(values("UILanguage"), ["de-DE", "de-DE"]);
            // On UEFI there is a partition for the firmware, and Windows goes to the third.
            assert_eq!(values("Type"), ["EFI", "MSR", "Primary"]);
        } else {
            assert_eq!(values("Type"), ["Primary", "Primary"]);
        }
    }
}

/// What a shell-like reader makes of a kickstart line.
#[test]
fn kickstart_options_are_words_and_sections_end() {
    for (name, file, text) in all() {
        if file != "kickstart.cfg" {
            continue;
        }
        assert_eq!(text.matches("\n%packages\n").count(), 1, "{name}");
        assert!(text.trim_end().ends_with("%end"), "{name}");
        let quotes = text.matches('"').count() - text.matches("\\\"").count();
        assert_eq!(quotes % 2, 0, "{name}: {text}");
        let locked = text.contains("rootpw --lock\n");
        assert_eq!(locked, name.ends_with(".bare"), "without a password nobody logs in by one: {text}");
    }
}
