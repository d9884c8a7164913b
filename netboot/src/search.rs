//! The names under which boot loaders look for their menus, one after the other, until there is one.
//!
//! PXELINUX asks for `pxelinux.cfg/` and the machine's UUID, `01-` and its MAC, its address in hexadecimal digits, which
//! lose one at a time, and then `default`. GRUB asks for the same behind `grub.cfg-`, and at the end for `grub.cfg`
//! (Syslinux wiki, "PXELINUX", section "Configuration"; GRUB manual, section "Network").
//!
//! Since who asks is known, the whole search is done here when the first of these names is asked for. That saves a
//! dozen requests of each boot, and its timeline tells of the menu that was found and not of those that were not.

use std::net::Ipv4Addr;

use site::MacAddr;

use crate::paths::FilePath;

/// The folder that holds PXELINUX's menus, and the name of the one for everybody.
const PXELINUX: &str = "pxelinux.cfg";
const DEFAULT: &str = "default";

/// GRUB's menu for everybody, and where bootd has it: an image's builder chose in which folder GRUB looks.
const GRUB: &str = "grub.cfg";
const GRUB_PLACE: &str = "grub/grub.cfg";

/// Digits of an address.
const ADDRESS_DIGITS: usize = 8;

/// All that the machine with that network card and address would ask for from `path` on, `path` first. A name that is
/// not one of a search stands alone, and so does one that another machine would search by.
#[must_use]
pub fn search(path: &FilePath, mac: MacAddr, address: Ipv4Addr) -> Vec<FilePath> {
    let (folder, name) = match path.as_str().rsplit_once('/') {
        Some((folder, name)) => (folder, name),
        None => ("", path.as_str()),
    };
    let keys = keys(mac, address);
    let mut names = vec![path.clone()];
    if folder == PXELINUX || folder.ends_with(&format!("/{PXELINUX}")) {
        let Some(from) = position(&keys, name, DEFAULT) else { return names };
        names.extend(keys.iter().skip(from).map(|key| FilePath::join(folder, key)));
        names.push(FilePath::join(folder, DEFAULT));
        names.push(FilePath::join(PXELINUX, DEFAULT));
    } else if let Some(rest) = name.strip_prefix(GRUB) {
        let key = rest.strip_prefix('-').unwrap_or(GRUB);
        let Some(from) = position(&keys, key, GRUB).filter(|_| rest.is_empty() || key != GRUB) else {
            return names;
        };
        let own = keys.iter().skip(from);
        names.extend(own.map(|key| FilePath::join(folder, &format!("{GRUB}-{key}"))));
        names.push(FilePath::join(folder, GRUB));
        names.extend([FilePath::join("", GRUB_PLACE)]);
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The machine's own keys, in the order in which it is searched by them. The MAC stands there with its type, and
/// without, as admins write it.
fn keys(mac: MacAddr, address: Ipv4Addr) -> Vec<String> {
    let mac = mac.hyphenated();
    let digits = format!("{:08X}", address.to_bits());
    let mut keys = vec![format!("01-{mac}"), mac];
    keys.extend((1..=ADDRESS_DIGITS).rev().filter_map(|count| digits.get(..count).map(str::to_owned)));
    keys
}

/// Behind which of the keys `name` stands in the order: of those, the next comes after it. `None`: it is nobody's, or
/// another machine's.
fn position(keys: &[String], name: &str, last: &str) -> Option<usize> {
    if name == last {
        return Some(keys.len());
    }
    // A UUID comes before all others. Whose it is, is not looked at: what is found is this machine's anyway.
    if is_uuid(name) {
        return Some(0);
    }
    keys.iter().position(|key| key.eq_ignore_ascii_case(name))
}

/// `4c4c4544-0042-3510-8052-b4c04f4e3732`
fn is_uuid(name: &str) -> bool {
    let lengths = name.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && name.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::{Asked, parse_tftp_path};

    const MAC: MacAddr = MacAddr::new([0x52, 0x54, 0, 0x77, 0, 0x0a]);

    fn names(asked: &str) -> Vec<String> {
        let Asked::File(path) = parse_tftp_path(asked) else { panic!("{asked} is no file") };
        search(&path, MAC, [10, 77, 0, 66].into()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pxelinux_looks_by_uuid_mac_and_address_and_ends_with_default() {
        let rest = [
            "52-54-00-77-00-0a",
            "0A4D0042",
            "0A4D004",
            "0A4D00",
            "0A4D0",
            "0A4D",
            "0A4",
            "0A",
            "0",
            "default",
        ];
        let below = |folder: &str| rest.iter().map(|name| format!("{folder}/{name}")).collect::<Vec<_>>();
        let (uuid, mac) = ("4c4c4544-0042-3510-8052-b4c04f4e3732", "01-52-54-00-77-00-0a");
        let all = |folder: &str| {
            [&[format!("{folder}/{uuid}"), format!("{folder}/{mac}")][..], &below(folder)].concat()
        };
        assert_eq!(names(&format!("pxelinux.cfg/{uuid}")), all("pxelinux.cfg"));
        assert_eq!(names(&format!("pxelinux.cfg/{mac}")), all("pxelinux.cfg")[1..]);
        assert_eq!(
            names("pxelinux.cfg/0A4D"),
            [
                "pxelinux.cfg/0A4D",
                "pxelinux.cfg/0A4",
                "pxelinux.cfg/0A",
                "pxelinux.cfg/0",
                "pxelinux.cfg/default"
            ]
        );
        // A loader that was itself in a folder looks there, and finds the menu for all at last.
        let found = names(&format!("lab/pxelinux.cfg/{mac}"));
        assert_eq!(found[..found.len() - 1], all("lab/pxelinux.cfg")[1..]);
        assert_eq!(found.last().unwrap(), "pxelinux.cfg/default");
        assert_eq!(names("pxelinux.cfg/default"), ["pxelinux.cfg/default"]);
    }

    #[test]
    fn grub_looks_likewise_in_its_own_folder_and_finds_the_menu_for_all() {
        let found = names("grub/grub.cfg-01-52-54-00-77-00-0a");
        assert_eq!(
            found[..3],
            [
                "grub/grub.cfg-01-52-54-00-77-00-0a",
                "grub/grub.cfg-52-54-00-77-00-0a",
                "grub/grub.cfg-0A4D0042"
            ]
        );
        assert_eq!(found[found.len() - 2..], ["grub/grub.cfg-0", "grub/grub.cfg"]);
        assert_eq!(names("grub/grub.cfg"), ["grub/grub.cfg"]);
        assert_eq!(
            names("debian-installer/amd64/grub/grub.cfg"),
            ["debian-installer/amd64/grub/grub.cfg", "grub/grub.cfg"]
        );
        assert_eq!(names("grub.cfg"), ["grub.cfg", "grub/grub.cfg"]);
        let upper = names("boot/grub/grub.cfg-52-54-00-77-00-0A");
        assert_eq!(upper[1], "boot/grub/grub.cfg-52-54-00-77-00-0a");
    }

    #[test]
    fn what_is_no_search_or_another_machines_stands_alone() {
        for name in [
            "pxelinux.0",
            "pxelinux.cfg",
            "pxelinux.cfg/01-52-54-00-77-00-0b",
            "pxelinux.cfg/0A4E",
            "pxelinux.cfg/lab",
            "grub/grub.cfg.bak",
            "grub/grub.cfg-",
            "grub/grub.cfg-grub.cfg",
            "grub/grub.cfg-01-52-54-00-77-00-0b",
            "xgrub.cfg",
        ] {
            assert_eq!(names(name), [name]);
        }
    }
}
