//! The shipped scripts as clients get them. `BOOTD_BLESS=1` rewrites the files; then read the diff.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use menus::{ChoiceFacts, ConfigView, MenuFacts};
use site::Site;
use site::entity::{Edit, Values};

use super::*;

fn check(file: &str, template: &str, context: &Context) {
    check_with(file, template, context, &Site::default());
}

fn check_with(file: &str, template: &str, context: &Context, site: &Site) {
    let view: Arc<dyn ConfigView> = Arc::new(site.clone());
    let text = Menus::new(Vec::new()).unwrap().render_with(template, context, &view).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    if std::env::var_os("BOOTD_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs, BOOTD_BLESS=1 rewrites it; now:\n{text}", path.display());
}

#[test]
fn a_disk_on_the_clients_own_subnet() {
    check("on-link.ipxe", "default.ipxe", &rook());
}

#[test]
fn a_disk_behind_a_router_on_another_port() {
    let mut context = rook();
    let disk = context.boot.disk.as_mut().unwrap();
    disk.on_link = false;
    disk.port = 3261;
    disk.lun = 0x1f;
    check("routed.ipxe", "default.ipxe", &context);
}

#[test]
fn a_disk_whose_loader_lies_elsewhere() {
    let set = |entity: &str, value: &str| Edit::Set {
        entity: entity.parse().unwrap(),
        variable: "efi_loader".parse().unwrap(),
        values: [value].into_iter().collect::<Values>(),
        expect: None,
    };
    let create = |entity: &str| Edit::Create { entity: entity.parse().unwrap() };
    let with = |edits: &[Edit], firmware: &str, template: &str| {
        let view: Arc<dyn ConfigView> = Arc::new(Site::default().edit(edits).unwrap().0);
        let mut context = rook();
        context.boot.firmware = firmware.to_owned();
        let text = Menus::new(Vec::new()).unwrap().render_with(template, &context, &view).unwrap();
        let boots = text.lines().find(|line| line.starts_with("sanboot")).unwrap();
        boots.replace(&context.boot.disk.unwrap().sanuri(), "DISK")
    };
    let of_image = vec![create("image/cs-lab"), set("image/cs-lab", r"\EFI\debian\grubx64.efi")];
    let of_both =
        [of_image.clone(), vec![create("client/rook"), set("client/rook", r"\EFI\own\shimx64.efi")]].concat();
    let rest = " || goto failed";
    for (template, disk) in [("default.ipxe", "DISK"), ("classic.ipxe", "--drive 0x80")] {
        let elsewhere = |path: &str| format!("sanboot --filename {path} {disk}{rest}");
        assert_eq!(with(&[], "uefi", template), format!("sanboot {disk}{rest}"));
        assert_eq!(with(&of_image, "bios", template), format!("sanboot {disk}{rest}"));
        assert_eq!(with(&of_image, "uefi", template), elsewhere(r"\EFI\debian\grubx64.efi"));
        assert_eq!(with(&of_both, "uefi", template), elsewhere(r"\EFI\own\shimx64.efi"));
    }
}

#[test]
fn no_disk_for_a_stranger() {
    check("stranger.ipxe", "nodisk.ipxe", &stranger());
}

#[test]
fn no_disk_for_a_client_that_is_disabled() {
    let mut context = rook();
    context.boot.disk = None;
    context.why = vec!["Client rook is disabled.".to_owned()];
    check("disabled.ipxe", "nodisk.ipxe", &context);
}

#[test]
fn a_signed_boot_program_finds_its_script() {
    check("autoexec.ipxe", "autoexec.ipxe", &rook());
}

const SCRIPTS: &str = "http://10.77.0.1/boot/52-54-00-77-00-01";

fn choice(name: &str, title: &str, kind: &str) -> ChoiceFacts {
    let url = format!("{SCRIPTS}/choice/{name}.ipxe");
    ChoiceFacts { name: name.to_owned(), title: title.to_owned(), kind: kind.to_owned(), key: None, url }
}

fn menu() -> MenuFacts {
    let memtest = ChoiceFacts { key: Some('m'), ..choice("memtest", "Memory test", "program") };
    MenuFacts {
        title: "Operating system choices".to_owned(),
        items: vec![choice("win7", "Microsoft Windows 7", "disk"), memtest, choice("tools", "Tools", "menu")],
        default: Some("win7".to_owned()),
        timeout: 10_000,
        hidden: false,
        url: format!("{SCRIPTS}/menu.ipxe"),
        choices_url: format!("{SCRIPTS}/choice/"),
        inner: false,
    }
}

#[test]
fn menus_of_each_sort() {
    let with = |menu: MenuFacts| Context { menu: Some(menu), ..rook() };
    check("menu.ipxe", "menu.ipxe", &with(menu()));
    check("menu-hidden.ipxe", "menu.ipxe", &with(MenuFacts { hidden: true, ..menu() }));
    let waits = MenuFacts { timeout: 0, default: None, inner: true, title: "Tools".to_owned(), ..menu() };
    check("menu-inner.ipxe", "menu.ipxe", &with(waits));
}

/// A choice of that kind on that firmware, with these variables; what is not said to keep its disk has none.
fn check_choice(file: &str, kind: &str, firmware: &str, keep_san: bool, variables: &[(&str, &[&str])]) {
    let entity = "choice/it".parse().unwrap();
    let mut edits = vec![Edit::Create { entity }];
    for (variable, values) in variables {
        edits.push(Edit::Set {
            entity: "choice/it".parse().unwrap(),
            variable: variable.parse().unwrap(),
            values: values.iter().copied().collect::<Values>(),
            expect: None,
        });
    }
    let site = Site::default().edit(&edits).unwrap().0;
    let mut context =
        Context { choice: Some(choice("it", "The choice", kind)), menu: Some(menu()), ..rook() };
    context.boot.firmware = firmware.to_owned();
    if !keep_san {
        context.boot.disk = None;
    }
    check_with(file, &format!("choice-{kind}.ipxe"), &context, &site);
}

#[test]
fn choices_of_each_kind_and_firmware() {
    let linux: &[(&str, &[&str])] = &[
        ("kernel", &["debian/vmlinuz"]),
        ("initrd", &["debian/initrd.gz", "http://mirror/firmware.cpio"]),
        ("root", &["10.77.0.1:/srv/debian"]),
        ("cmdline", &["quiet ro"]),
    ];
    let live: &[(&str, &[&str])] = &[
        ("kernel", &["live/vmlinuz"]),
        ("initrd", &["live/initrd"]),
        ("root", &["http://10.77.0.1/files/live.img"]),
    ];
    check_choice("choice-linux-nfs.ipxe", "linux", "bios", false, linux);
    check_choice("choice-linux-http.ipxe", "linux", "uefi", false, live);
    check_choice("choice-linux-keep-san.ipxe", "linux", "uefi", true, &[("kernel", &["rescue/vmlinuz"])]);
    for installer in ["preseed", "kickstart", "autoinstall"] {
        let file = format!("choice-installer-{installer}.ipxe");
        let answer = format!("answers/{installer}");
        let variables: &[(&str, &[&str])] = &[
            ("kernel", &["debian/linux"]),
            ("initrd", &["debian/initrd.gz"]),
            ("installer", &[installer]),
            ("answer", &[&answer]),
        ];
        check_choice(&file, "installer", "bios", false, variables);
    }
    let program: &[(&str, &[&str])] =
        &[("program_bios", &["pxelinux.0"]), ("program_uefi", &["grubnetx64.efi"]), ("cmdline", &["a b"])];
    check_choice("choice-program-bios.ipxe", "program", "bios", false, program);
    check_choice("choice-program-uefi.ipxe", "program", "uefi", true, program);
    let wim: &[(&str, &[&str])] = &[("wim", &["winpe/boot.wim"]), ("wim_files", &["winpe/startnet.cmd"])];
    check_choice("choice-wim-bios.ipxe", "wim", "bios", false, wim);
    let wim: &[(&str, &[&str])] = &[
        ("wim", &["http://10.77.0.1/win/sources/boot.wim"]),
        ("bcd", &["win/boot/bcd"]),
        ("wimboot", &["signed/wimboot"]),
        ("answer", &["unattend.xml"]),
    ];
    check_choice("choice-wim-uefi.ipxe", "wim", "uefi", true, wim);
    check_choice("choice-local.ipxe", "local", "uefi", false, &[]);
}
