//! The shipped scripts as clients get them. `BOOTD_BLESS=1` rewrites the files; then read the diff.

use std::fs;
use std::path::PathBuf;

use super::*;

fn check(file: &str, template: &str, context: &Context) {
    let text = Menus::new(Vec::new()).unwrap().render(template, context).unwrap();
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
