//! The Labnet Administrators Guide's section 3.3.5: what client rook gets from iPXE's template and from PXELINUX's, whole,
//! by the names that it asks for them, in both languages. `fixtures/guide` holds what the guide prints; its text lost
//! the line in which LOCALBOOT stands, which it names below the menu, and those of the URLs.

use std::sync::Arc;

use menus::ConfigView;

use super::lookups::apply;
use super::*;

const IPXE: &str = include_str!("../fixtures/guide/ipxe");
const PXELINUX: &str = include_str!("../fixtures/guide/pxelinux");

/// The site of the guide, as far as the two menus need it.
fn site() -> Arc<dyn ConfigView> {
    apply(
        &["kernel", "preinit_script", "run_level_name", "windowsImage", "iscsi_passwd", "bgimage"],
        "app/iscsi
         app/iscsi iqn_prefix iqn.1989-06-ca.mun.cs
         client/rook
         client/rook kernel bzImage.noarch-3.7.2-gentoo
         client/rook preinit_script rc.preinit.moreminimal
         client/rook run_level_name ipsec-win
         client/rook windowsImage cs_lab
         client/rook iscsi_passwd rookiscsipas
         client/rook bgimage images/image.png",
    )
}

fn check(name: &str, template: &str, golden: &str) {
    let text = one(name, template).render_with(name, &rook(), &site()).unwrap();
    assert_eq!(text.trim_end(), golden.trim_end(), "{name}");
}

#[test]
fn the_first_boot_loaders_menu() {
    check("ipxe_menu", include_str!("../fixtures/guide/ipxe.xml"), IPXE);
    check("ipxe_menu.tera", include_str!("../fixtures/guide/ipxe.tera"), IPXE);
}

#[test]
fn the_second_boot_loaders_menu() {
    check("pxelinux.cfg/default", include_str!("../fixtures/guide/pxelinux.xml"), PXELINUX);
    check("pxelinux.cfg/default.tera", include_str!("../fixtures/guide/pxelinux.tera"), PXELINUX);
}

/// A client that has no Windows has no entry for it, and nothing else changes.
#[test]
fn a_client_without_windows_has_no_entry_for_it() {
    let site = apply(
        &["kernel", "preinit_script", "run_level_name", "windowsImage", "bgimage"],
        "client/rook
         client/rook kernel bzImage.noarch-3.7.2-gentoo
         client/rook preinit_script rc.preinit.moreminimal
         client/rook run_level_name ipsec-win
         client/rook bgimage images/image.png",
    );
    let (before, rest) = PXELINUX.split_once("LABEL window7\n").unwrap();
    let (_, after) = rest.split_once("LOCALBOOT 0\n").unwrap();
    let golden = format!("{before}{after}");
    for (name, template) in [
        ("pxelinux.cfg/default", include_str!("../fixtures/guide/pxelinux.xml")),
        ("pxelinux.cfg/default.tera", include_str!("../fixtures/guide/pxelinux.tera")),
    ] {
        let text = one(name, template).render_with(name, &rook(), &site).unwrap();
        assert_eq!(text.trim_end(), golden.trim_end(), "{name}");
    }
}
