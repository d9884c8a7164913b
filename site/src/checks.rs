//! Rules of the fields that no type of their own guards.

use std::net::Ipv4Addr;

use crate::{Client, Image, NameError};

/// The longest template name and boot program path, in bytes.
const MAX_FILE_NAME: usize = 128;

/// The smallest write limit that makes sense: a Linux that boots writes more than this into its journal.
const MIN_OVERLAY_LIMIT: u64 = 1 << 20;

pub(crate) fn client(client: &Client) -> Result<(), NameError> {
    if let Some(address) = client.address {
        host_address(address)?;
    }
    if let Some(menu) = &client.menu {
        file_name("menu", menu, "lab.ipxe")?;
    }
    if let Some(program) = &client.boot_program {
        file_name("boot program", program, "snponly.efi")?;
    }
    match client.overlay_limit {
        Some(limit) if limit < MIN_OVERLAY_LIMIT || i64::try_from(limit).is_err() => Err(NameError::new(
            "overlay limit",
            &limit.to_string(),
            "a number of bytes from 1 MiB upwards that fits 63 bits",
            "4294967296",
        )),
        _ => Ok(()),
    }
}

pub(crate) fn image(image: &Image) -> Result<(), NameError> {
    if image.size == 0 || i64::try_from(image.size).is_err() {
        let size = image.size.to_string();
        return Err(NameError::new(
            "image size",
            &size,
            "a number of bytes above 0 that fits 63 bits",
            "10737418240",
        ));
    }
    match image.path.to_str() {
        Some(path) if image.path.is_absolute() && !path.contains(char::is_control) => Ok(()),
        _ => Err(NameError::new(
            "image file",
            &image.path.to_string_lossy(),
            "an absolute path in UTF-8 without control characters",
            "/var/lib/bootd/images/lab/3f2a9c4d.img",
        )),
    }
}

/// Refuses addresses that no client could be given on any network.
fn host_address(address: Ipv4Addr) -> Result<(), NameError> {
    let [first, ..] = address.octets();
    if first == 0 || first >= 224 || address.is_loopback() || address.is_link_local() {
        return Err(NameError::new(
            "address",
            &address.to_string(),
            "it must be one machine's: not 0.x, not loopback, not link-local, not multicast or above",
            "192.168.7.21",
        ));
    }
    Ok(())
}

/// Names that come from an admin's folder: no way out of it, and nothing that a URL or a log line would garble.
fn file_name(what: &'static str, name: &str, example: &'static str) -> Result<(), NameError> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
    };
    if name.len() <= MAX_FILE_NAME && name.split('/').all(part) {
        return Ok(());
    }
    Err(NameError::new(
        what,
        name,
        "1 to 128 of letters, digits, \".\", \"_\" and \"-\", in folders separated by \"/\", none beginning with \".\"",
        example,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_be_one_machines() {
        for good in ["10.0.0.1", "192.168.7.255", "223.255.255.254"] {
            assert_eq!(host_address(good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255"] {
            let error = host_address(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(bad) && error.contains("192.168.7.21"), "{error}");
        }
    }

    #[test]
    fn a_file_name_stays_in_its_folder() {
        for good in ["lab.ipxe", "rooms/EN1018.ipxe", "a"] {
            assert_eq!(file_name("menu", good, "x"), Ok(()), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", ".hidden", "a//b", "a b", "a\nb", "ä", "a/"] {
            assert!(file_name("menu", bad, "x").is_err(), "{bad}");
        }
        assert!(file_name("menu", &"x".repeat(MAX_FILE_NAME + 1), "x").is_err());
    }
}
