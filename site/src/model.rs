//! What boots, and what from, as the rest of bootd knows them.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::entity::EntityName;
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

/// Something that clients may be given to boot. What only its script says, kernels for instance, is left to templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Its name; part of its URL, and how iPXE's menu knows it.
    pub name: EntityName,
    /// What menus call it.
    pub title: String,
    /// What it is.
    pub kind: ChoiceKind,
    /// The key that chooses it.
    pub key: Option<char>,
    /// Whether no menu shows it.
    pub hidden: bool,
    /// Whether it is for a PC's BIOS.
    pub bios: bool,
    /// Whether it is for UEFI.
    pub uefi: bool,
    /// What can be chosen there, if it is a menu.
    pub choices: Vec<EntityName>,
    /// The image of the disk that it makes; `None`: the client's own.
    pub image: Option<ImageName>,
    /// Whether a disk is made although it is not what boots.
    pub keep_san: bool,
    /// The template of its script; `None`: the one for its kind.
    pub template: Option<String>,
}

impl Choice {
    /// Whether to boot it makes a disk.
    #[must_use]
    pub fn makes_disk(&self) -> bool {
        match self.kind {
            ChoiceKind::Disk => true,
            ChoiceKind::Linux | ChoiceKind::Installer | ChoiceKind::Wim | ChoiceKind::Program => {
                self.keep_san
            }
            ChoiceKind::Local | ChoiceKind::Menu => false,
        }
    }
}

/// What a choice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceKind {
    /// A disk of the client's own, made from an image.
    Disk,
    /// A Linux whose kernel is fetched.
    Linux,
    /// A system's installer.
    Installer,
    /// A Windows PE, by wimboot.
    Wim,
    /// Another boot program.
    Program,
    /// What is on the machine itself.
    Local,
    /// A menu of other choices.
    Menu,
}

impl ChoiceKind {
    /// As the site writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Linux => "linux",
            Self::Installer => "installer",
            Self::Wim => "wim",
            Self::Program => "program",
            Self::Local => "local",
            Self::Menu => "menu",
        }
    }
}

impl FromStr for ChoiceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Disk, Self::Linux, Self::Installer, Self::Wim, Self::Program, Self::Local, Self::Menu]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("\"{text}\" is no kind of choice"))
    }
}

impl fmt::Display for ChoiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client may choose among, and what it gets without choosing, as its variables say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Menu {
    /// Its choices, in their order.
    pub choices: Vec<EntityName>,
    /// What it gets when nobody chooses.
    pub default: Option<EntityName>,
    /// For how many seconds the menu waits; `None` and 0: there is no menu.
    pub timeout: Option<u64>,
    /// What it is called.
    pub title: Option<String>,
    /// Whether it shows only if a key is pressed.
    pub hidden: bool,
    /// What the client gets the next time only.
    pub once: Option<EntityName>,
}
