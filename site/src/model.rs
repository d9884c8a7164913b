//! What boots, and what from, as the rest of bootd knows them.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ClientName, ImageName, MacAddr, Version};

/// A machine that may boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its name; also its host name, and part of its IQN.
    pub name: ClientName,
    /// Its network card.
    pub mac: MacAddr,
    /// Its address; `None`: one from the pool.
    pub address: Option<Ipv4Addr>,
    /// The image that it boots; `None`: none, it is given an address only.
    pub image: Option<ImageName>,
    /// The template of its boot script; `None`: the site's default.
    pub menu: Option<String>,
    /// The boot program for its firmware, where the usual choice does not suit it.
    pub boot_program: Option<String>,
    /// How much it may write, in bytes; `None`: the site's default.
    pub overlay_limit: Option<u64>,
    /// Whether it may boot at all.
    pub enabled: bool,
}

/// A master image: a name that points at one immutable version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name; part of target names.
    pub name: ImageName,
    /// The version that the next boot gets.
    pub version: Version,
    /// The version's file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
}
