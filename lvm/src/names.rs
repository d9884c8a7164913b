//! Every name that leaves the engine: iSCSI names, serial numbers, NAA designators, file names. Each has its
//! longest form, and the proof that it fits where it is used.
//!
//! ```text
//! iqn.2026-01.internal.lab.megatron:cs-lab:rook:19a2b3c4d5e    a client's disk in one boot
//! iqn.2026-01.internal.lab.rook:system-disk                    the client as an initiator
//! ```

use std::fmt;

/// The longest iSCSI name, in bytes (RFC 7143, 4.2.7.1).
pub const MAX_IQN_LEN: usize = 223;

/// The longest name of a client or an image that is taken, in bytes: a DNS label's.
pub const MAX_PART_LEN: usize = 63;

/// The longest domain and server name together, in bytes. What is left of [`MAX_IQN_LEN`] when everything else in
/// a target's name is as long as it can be.
pub const MAX_AUTHORITY_LEN: usize = MAX_IQN_LEN - "iqn.YYYY-MM...::".len() - 2 * MAX_PART_LEN - EPOCH_LEN;

/// Hexadecimal digits of the largest epoch.
const EPOCH_LEN: usize = 16;

/// The company identifier in the NAA designators: what Linux's own target uses, so that a client sees the same
/// disk whichever engine makes it.
const NAA_COMPANY: u64 = 0x00_14_05;

/// Hexadecimal digits of a serial number: 128 bits, which no two clients share by chance.
pub const SERIAL_LEN: usize = 32;

/// A name that can't be made, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has a form that iSCSI names can't have.
    #[error("{what} \"{value}\" can't be part of an iSCSI name: {rule}")]
    Form {
        /// What it names.
        what: &'static str,
        /// The name, its odd characters escaped, cut to 80.
        value: String,
        /// What it must be like.
        rule: String,
    },
    /// Domain and server name leave no room for the rest of a target's name.
    #[error(
        "domain \"{domain}\" and server name \"{server}\" may have {MAX_AUTHORITY_LEN} characters together, \
         so that every client and image fits into a target's name beside them"
    )]
    TooLong {
        /// The domain.
        domain: String,
        /// The server's name.
        server: String,
    },
}

impl NameError {
    fn new(what: &'static str, value: &str, rule: impl Into<String>) -> Self {
        Self::Form { what, value: value.escape_default().take(80).collect(), rule: rule.into() }
    }
}

/// Under whose name the site's disks are: the month, the reversed domain and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteNames {
    prefix: String,
    server: String,
}

impl SiteNames {
    /// The authority of `server` in `domain`, which was the site's in the month `date` (`YYYY-MM`).
    ///
    /// # Errors
    /// When one of them has characters that iSCSI names can't, the date is no month, or domain and server are
    /// longer than [`MAX_AUTHORITY_LEN`] together.
    pub fn new(date: &str, domain: &str, server: &str) -> Result<Self, NameError> {
        if !is_month(date) {
            return Err(NameError::new("date", date, "it must be a year and a month such as 2026-01"));
        }
        let reversed: Vec<&str> = domain.split('.').rev().collect();
        for label in &reversed {
            if !is_part(label) {
                return Err(NameError::new(
                    "domain",
                    domain,
                    "it must be like cs.example.org, in lower case",
                ));
            }
        }
        check("server name", server)?;
        if domain.len() + server.len() > MAX_AUTHORITY_LEN {
            return Err(NameError::TooLong { domain: domain.to_owned(), server: server.to_owned() });
        }
        Ok(Self { prefix: format!("iqn.{date}.{}", reversed.join(".")), server: server.to_owned() })
    }
}

/// The name of the target that serves `client` its disk of `image` in the boot `epoch`.
///
/// # Errors
/// When client or image have characters that iSCSI names can't.
pub fn target_iqn(
    site: &SiteNames,
    image: impl fmt::Display,
    client: impl fmt::Display,
    epoch: u64,
) -> Result<String, NameError> {
    let image = checked("image name", &image)?;
    let client = checked("client name", &client)?;
    Ok(format!("{}.{}:{image}:{client}:{epoch:x}", site.prefix, site.server))
}

/// The name under which `client` logs in.
///
/// # Errors
/// When the client's name has characters that iSCSI names can't.
pub fn initiator_iqn(site: &SiteNames, client: impl fmt::Display) -> Result<String, NameError> {
    Ok(format!("{}.{}:system-disk", site.prefix, checked("client name", &client)?))
}

/// What a client's operating system knows its disk by. The same at every boot, in both engines, and after
/// an image was updated; another for another client or another image. An operating system that finds another disk
/// than last time sets it up anew, and two disks of one identity confuse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskIdentity {
    /// The unit serial number: [`SERIAL_LEN`] hexadecimal digits.
    pub serial: String,
    /// The NAA designator, IEEE Registered Extended, made of the serial as Linux's own target makes it.
    pub naa: [u8; 16],
}

/// The identity of the disk that `client` gets of `image`.
#[must_use]
pub fn disk_identity(image: &str, client: &str) -> DiskIdentity {
    let mut hasher = blake3::Hasher::new_derive_key("bootd 2026 disk identity");
    for part in [image, client] {
        // The length in front keeps "ab" + "c" and "a" + "bc" apart.
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    let hash = u128::from_be_bytes(hash);
    let naa = 6 << 124 | u128::from(NAA_COMPANY) << 100 | hash >> 28;
    DiskIdentity { serial: format!("{hash:032x}"), naa: naa.to_be_bytes() }
}

/// The longest name and the longest identifier of a device that device-mapper takes, in bytes.
pub const MAX_DM_LEN: usize = 127;

/// The longest tag of one bootd's devices, in bytes.
pub const MAX_TAG_LEN: usize = 16;

/// What a device of the kernel engine is there for. Its name says so, so that the next process knows it again.
///
/// ```text
/// bootd-space                               where all overlays lie
/// bootd-images                              all images' files, where one cache in RAM is under all of them
/// bootd-cache                               these behind the cache
/// bootd-image-cs-lab-19a2b3c4d5e6f708       an image's version; the number is its file's, as it was opened
/// bootd-disk-rook-0000019a2b3c4d5e-meta     which blocks a client's overlay has in one boot
/// bootd-disk-rook-0000019a2b3c4d5e-data     these blocks
/// bootd-disk-rook-0000019a2b3c4d5e-pool     both together
/// bootd-disk-rook-0000019a2b3c4d5e-disk     the client's disk: the image, and the overlay over it
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DmRole {
    /// Where all overlays lie.
    Space,
    /// All images' files, one behind the other.
    Library,
    /// These behind a cache in RAM.
    Cache,
    /// An image's version.
    Image {
        /// The image's name.
        image: String,
        /// Which file it was, in which state.
        id: u64,
    },
    /// A part of a client's disk in one boot.
    Disk {
        /// The client's name.
        client: String,
        /// The boot.
        epoch: u64,
        /// Which part.
        part: DmPart,
    },
}

/// The parts of a client's disk, in the order in which they are removed: each stands on those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DmPart {
    /// What the client gets.
    Disk,
    /// The overlay's blocks with what says where they are.
    Pool,
    /// The overlay's blocks.
    Data,
    /// What says where the overlay's blocks are.
    Meta,
}

impl DmPart {
    /// All of them, from the top of the stack down.
    pub const ALL: [Self; 4] = [Self::Disk, Self::Pool, Self::Data, Self::Meta];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Pool => "pool",
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }
}

/// The name of a device of the bootd that has `tag`.
///
/// # Errors
/// When the tag, the client or the image have characters that such names can't.
pub fn dm_name(tag: &str, role: &DmRole) -> Result<String, NameError> {
    check_tag(tag)?;
    Ok(match role {
        DmRole::Space => format!("{tag}-space"),
        DmRole::Library => format!("{tag}-images"),
        DmRole::Cache => format!("{tag}-cache"),
        DmRole::Image { image, id } => format!("{tag}-image-{}-{id:016x}", checked("image name", image)?),
        DmRole::Disk { client, epoch, part } => {
            format!("{tag}-disk-{}-{epoch:016x}-{}", checked("client name", client)?, part.name())
        }
    })
}

/// The identifier of the device of that name. Whoever finds a device with such a name and another identifier leaves
/// it alone: it is somebody else's.
#[must_use]
pub fn dm_uuid(name: &str) -> String {
    format!("BOOTD-{name}")
}

/// What the device of that name is there for; `None` if it is none of the bootd that has `tag`.
#[must_use]
pub fn parse_dm_name(tag: &str, name: &str) -> Option<DmRole> {
    let rest = name.strip_prefix(tag)?.strip_prefix('-')?;
    let number = |text: &str| -> Option<u64> {
        let hex = text.len() == EPOCH_LEN && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| u64::from_str_radix(text, 16).ok())?
    };
    match rest {
        "space" => return Some(DmRole::Space),
        "images" => return Some(DmRole::Library),
        "cache" => return Some(DmRole::Cache),
        _ => {}
    }
    if let Some(rest) = rest.strip_prefix("image-") {
        let (image, id) = rest.rsplit_once('-')?;
        return Some(DmRole::Image { image: is_part(image).then(|| image.to_owned())?, id: number(id)? });
    }
    let (rest, part) = rest.strip_prefix("disk-")?.rsplit_once('-')?;
    let (client, epoch) = rest.rsplit_once('-')?;
    let part = DmPart::ALL.into_iter().find(|one| one.name() == part)?;
    Some(DmRole::Disk { client: is_part(client).then(|| client.to_owned())?, epoch: number(epoch)?, part })
}

/// The name of the target at which the kernel serves all disks of this server. No client's own is called so: that has
/// more parts.
#[must_use]
pub fn shared_target_iqn(site: &SiteNames) -> String {
    format!("{}.{}:disks", site.prefix, site.server)
}

fn check_tag(tag: &str) -> Result<(), NameError> {
    let plain = tag.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if plain && (1..=MAX_TAG_LEN).contains(&tag.len()) {
        return Ok(());
    }
    Err(NameError::new("tag", tag, format!("1 to {MAX_TAG_LEN} of a-z and 0-9")))
}

/// The file name of the overlay that `client` has in the boot `epoch`, without an extension.
///
/// # Errors
/// When the client's name could lead out of the folder.
pub fn overlay_name(client: &str, epoch: u64) -> Result<String, NameError> {
    Ok(format!("{}@{epoch:016x}", checked("client name", &client)?))
}

/// Client and epoch of an overlay's file name; `None` if it is none.
#[must_use]
pub fn parse_overlay_name(name: &str) -> Option<(&str, u64)> {
    let (client, epoch) = name.split_once('@')?;
    let epoch = (epoch.len() == EPOCH_LEN).then(|| u64::from_str_radix(epoch, 16).ok())??;
    is_part(client).then_some((client, epoch))
}

/// The file name of a version of an image.
///
/// # Errors
/// When one of the names could lead out of the folder.
pub fn image_file_name(image: &str, version: &str) -> Result<String, NameError> {
    Ok(format!("{}@{}.img", checked("image name", &image)?, checked("image version", &version)?))
}

fn is_month(date: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    date.split_once('-').is_some_and(|(year, month)| {
        let in_year = month.parse().is_ok_and(|number: u8| (1..=12).contains(&number));
        year.len() == 4 && month.len() == 2 && digits(year) && digits(month) && in_year
    })
}

fn is_part(text: &str) -> bool {
    let edge = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    !text.is_empty()
        && text.len() <= MAX_PART_LEN
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if is_part(text) {
        return Ok(());
    }
    let rule =
        format!("1 to {MAX_PART_LEN} of a-z, 0-9, \"-\" and \".\", with a letter or digit at both ends");
    Err(NameError::new(what, text, rule))
}

fn checked(what: &'static str, name: &impl fmt::Display) -> Result<String, NameError> {
    let text = name.to_string();
    check(what, &text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteNames {
        SiteNames::new("1989-06", "cs.mun.ca", "megatron").unwrap()
    }

    #[test]
    fn names_are_built_as_labnet_built_them() {
        let target = target_iqn(&site(), "cs-lab2", "rook", 0x19a).unwrap();
        assert_eq!(target, "iqn.1989-06.ca.mun.cs.megatron:cs-lab2:rook:19a");
        assert_eq!(shared_target_iqn(&site()), "iqn.1989-06.ca.mun.cs.megatron:disks");
        assert_eq!(initiator_iqn(&site(), "rook").unwrap(), "iqn.1989-06.ca.mun.cs.rook:system-disk");
    }

    #[test]
    fn the_longest_names_fit() {
        let long = "x".repeat(MAX_PART_LEN);
        let domain = "d".repeat(MAX_AUTHORITY_LEN - MAX_PART_LEN);
        let site = SiteNames::new("2026-12", &domain, &long).unwrap();
        assert_eq!(target_iqn(&site, &long, &long, u64::MAX).unwrap().len(), MAX_IQN_LEN);
        assert!(initiator_iqn(&site, &long).unwrap().len() <= MAX_IQN_LEN);
        let longer = SiteNames::new("2026-12", &format!("{domain}d"), &long);
        assert!(matches!(longer, Err(NameError::TooLong { .. })));
        let most = 255 - ".json.partial".len();
        assert!(overlay_name(&long, u64::MAX).unwrap().len() <= most);
        assert!(image_file_name(&long, &long).unwrap().len() <= most);
    }

    #[test]
    fn nothing_breaks_out_of_a_name() {
        for bad in ["", ".", "..", "a/b", "a:b", "a@b", "A", "a_b", "-a", "a\n", "ä", &"x".repeat(64)] {
            assert!(target_iqn(&site(), bad, "rook", 1).is_err(), "{bad}");
            assert!(initiator_iqn(&site(), bad).is_err(), "{bad}");
            assert!(overlay_name(bad, 1).is_err(), "{bad}");
            assert!(image_file_name("a", bad).is_err(), "{bad}");
            assert!(SiteNames::new("2026-01", "lab.internal", bad).is_err(), "{bad}");
        }
        for bad in ["", "2026", "2026-13", "2026-00", "26-01", "2026-1", "+026-01", "2026-+1"] {
            assert!(SiteNames::new(bad, "lab.internal", "a").is_err(), "{bad}");
        }
        assert!(SiteNames::new("2026-01", "lab..internal", "a").is_err());
    }

    #[test]
    fn overlay_names_are_read_back() {
        let name = overlay_name("rook", 0x19a).unwrap();
        assert_eq!(parse_overlay_name(&name), Some(("rook", 0x19a)));
        for bad in ["rook", "rook@19a", "rook@000000000000019g", "@0000000000000001", "../a@0000000000000001"]
        {
            assert_eq!(parse_overlay_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn devices_names_fit_and_are_read_back() {
        let long = "x-1.".repeat(MAX_PART_LEN / 4) + "abc";
        let tag = "t".repeat(MAX_TAG_LEN);
        let mut roles = vec![
            DmRole::Space,
            DmRole::Library,
            DmRole::Cache,
            DmRole::Image { image: long.clone(), id: u64::MAX },
        ];
        roles.extend(DmPart::ALL.map(|part| DmRole::Disk { client: long.clone(), epoch: 0x19a, part }));
        for role in roles {
            let name = dm_name(&tag, &role).unwrap();
            assert!(dm_uuid(&name).len() <= MAX_DM_LEN, "{name}");
            assert_eq!(parse_dm_name(&tag, &name), Some(role), "{name}");
            assert_eq!(parse_dm_name("bootd", &name), None, "{name}");
        }
        for bad in [
            "bootd",
            "bootd-",
            "bootd-spaces",
            "bootd-image-a-1",
            "bootd-disk-a-0000000000000001",
            "vg0-root",
        ] {
            assert_eq!(parse_dm_name("bootd", bad), None, "{bad}");
        }
        for bad in ["", "a-b", "A", &"x".repeat(MAX_TAG_LEN + 1)] {
            assert!(dm_name(bad, &DmRole::Space).is_err(), "{bad}");
        }
        let client = "a/b".to_owned();
        assert!(dm_name("bootd", &DmRole::Disk { client, epoch: 1, part: DmPart::Disk }).is_err());
    }

    #[test]
    fn an_identity_is_the_clients_own_and_stays() {
        let rook = disk_identity("cs-lab", "rook");
        assert_eq!(rook, disk_identity("cs-lab", "rook"));
        for (image, client) in [("cs-lab", "bunting"), ("cs-lab2", "rook"), ("cs-la", "brook")] {
            let other = disk_identity(image, client);
            assert!(other.serial != rook.serial && other.naa != rook.naa);
        }
        // As Linux makes it: 6, the company, then the first 25 digits of the serial number.
        let naa: String = rook.naa.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(naa, format!("6001405{}", &rook.serial[..25]));
        assert_eq!(rook.serial.len(), SERIAL_LEN);
    }
}
