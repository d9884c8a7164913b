//! The shipped menus of PXELINUX and GRUB for a client with one choice of each kind. `BOOTD_BLESS=1` rewrites the golden
//! texts; then read the diff.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use menus::{ConfigView, EmptyView};

use super::*;

/// Choices of rook, as they would be in iPXE's menu too.
fn site() -> Arc<dyn ConfigView> {
    lookups::made(
        &[
            "choice/windows kind disk",
            "choice/windows title Windows 11",
            "choice/windows key w",
            "choice/nfs kind linux",
            "choice/nfs title Linux (NFS) \"shared\"",
            "choice/nfs kernel debian/vmlinuz",
            "choice/nfs initrd debian/initrd.gz",
            "choice/nfs root 10.0.0.1:/srv/debian",
            "choice/nfs cmdline quiet mask=a;b",
            "choice/live kind linux",
            "choice/live kernel http://10.0.0.2/live/vmlinuz",
            "choice/live root http://10.0.0.2/live/root.squashfs",
            "choice/san kind linux",
            "choice/san kernel debian/vmlinuz",
            "choice/san keep_san yes",
            "choice/install kind installer",
            "choice/install title Install Debian",
            "choice/install kernel mirror/debian/linux",
            "choice/install initrd mirror/debian/initrd.gz",
            "choice/install installer preseed",
            "choice/install answer preseed.cfg",
            "choice/ubuntu kind installer",
            "choice/ubuntu kernel mirror/ubuntu/linux",
            "choice/ubuntu installer autoinstall",
            "choice/ubuntu answer autoinstall",
            "choice/pe kind wim",
            "choice/pe wim pe/boot.wim",
            "choice/memtest kind program",
            "choice/memtest program memtest.efi",
            "choice/memtest program_bios memtest.bin",
            "choice/uefi kind linux",
            "choice/uefi kernel x",
            "choice/uefi firmware uefi",
            "choice/secret kind local",
            "choice/secret hidden yes",
            "choice/local kind local",
        ],
        &[
            "choices windows",
            "choices nfs",
            "choices live",
            "choices san",
            "choices install",
            "choices ubuntu",
            "choices pe",
            "choices memtest",
            "choices uefi",
            "choices secret",
            "choices local",
            "default_choice nfs",
            "menu_timeout 15",
            "menu_title What shall it be?",
        ],
    )
}

fn check(file: &str, name: &str, view: &Arc<dyn ConfigView>, context: &Context) -> String {
    let text = Menus::new(Vec::new()).unwrap().render_with(name, context, view).unwrap();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/loaders").join(file);
    if std::env::var_os("BOOTD_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{} differs, BOOTD_BLESS=1 rewrites it; now:\n{text}", path.display());
    text
}

fn on(firmware: &str, port: u16) -> Context {
    let mut context = rook();
    context.boot.firmware = firmware.to_owned();
    context.server.http_port = port;
    context
}

#[test]
fn both_loaders_have_the_clients_choices_and_say_the_same_to_kernels() {
    let pxelinux = check("pxelinux", "pxelinux.cfg/default", &site(), &on("bios", 80));
    let grub = check("grub-uefi", "grub/grub.cfg", &site(), &on("uefi", 80));
    check("grub-bios-port", "grub/grub.cfg", &site(), &on("bios", 8080));
    let arguments = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once(" BOOTIF=")).map(|(_, rest)| rest);
        lines.map(|rest| rest.replace('\\', "")).collect()
    };
    let (of_pxelinux, of_grub) = (arguments(&pxelinux), arguments(&grub));
    assert_eq!(of_pxelinux.len(), 5, "{pxelinux}");
    assert!(of_pxelinux.iter().all(|line| of_grub.contains(line)), "{of_pxelinux:#?} {of_grub:#?}");
}

#[test]
fn a_client_without_choices_has_its_disk() {
    let nothing: Arc<dyn ConfigView> = Arc::new(EmptyView);
    check("pxelinux-bare", "pxelinux.cfg/default", &nothing, &on("bios", 80));
    check("grub-bare", "grub/grub.cfg", &nothing, &on("uefi", 80));
    check("classic-bios", "classic.ipxe", &nothing, &on("bios", 80));
    check("classic-uefi", "classic.ipxe", &nothing, &on("uefi", 80));
}
