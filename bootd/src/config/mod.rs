//! The configuration as bootd runs by it: complete, checked, and made from the file, the flags and the machine.
//!
//! `wire` mirrors the file; [`Config`] has no optional part that means "default". The only road from one to
//! the other is [`Config::load`], and it ends before any socket is opened.

use std::path::{Path, PathBuf};

use block::Bytes;
use lvm::names::SiteNames;
use netboot::Subnet;

mod amounts;
mod dhcp;
mod engine;
mod error;
mod link;
mod load;
mod location;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use amounts::{show_size, size};
pub(crate) use dhcp::{Dhcp, Relayed};
#[cfg(feature = "kernel")]
pub(crate) use engine::Overlays;
pub(crate) use engine::{EngineKind, KernelSettings, LEAST_CACHE, SpacePlace};
pub(crate) use error::ConfigError;
pub(crate) use link::ServedInterface;
pub(crate) use location::DatabaseUrl;

/// The file that is read when no other is named, if it exists.
pub(crate) const DEFAULT_FILE: &str = "/etc/bootd/bootd.toml";

/// The data directory when no other is named.
pub(crate) const DEFAULT_DATA: &str = "/var/lib/bootd";

/// What the command line says; it comes before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// `--config`
    pub(crate) file: Option<PathBuf>,
    /// `--interface`
    pub(crate) interfaces: Vec<String>,
    /// `--data`
    pub(crate) data: Option<PathBuf>,
    /// `--log`
    pub(crate) log: Option<String>,
    /// `--sim`
    pub(crate) sim: bool,
}

/// All of bootd's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The interfaces served. Never empty.
    pub(crate) interfaces: Vec<ServedInterface>,
    /// Where everything is kept that outlives the process.
    pub(crate) data: PathBuf,
    /// The server that the site's database is on; `None`: it is a file of ours.
    pub(crate) site: Option<DatabaseUrl>,
    /// This server's name: one DNS label.
    pub(crate) server: String,
    /// The site's domain, that clients are told of.
    pub(crate) domain: String,
    /// What the names of all targets and initiators have in common.
    pub(crate) names: SiteNames,
    /// Whether clients are told at once that there is no IPv6 router to wait for.
    pub(crate) router_advertisement: bool,
    /// Where boot programs are looked for, in this order, behind `DATA/files`.
    pub(crate) boot_programs: Vec<PathBuf>,
    /// What is logged, as `tracing` filter directives.
    pub(crate) log: String,
    /// Who makes the disks.
    pub(crate) engine: EngineKind,
    /// Subnets behind relays whose machines are given addresses.
    pub(crate) relayed: Vec<Relayed>,
    /// Whether boot files are served over TFTP.
    pub(crate) tftp: bool,
    /// Whose TFTP transfers go from the port that was asked: those of the machines with these addresses.
    pub(crate) single_port: Vec<Subnet>,
    /// The TCP port of scripts and boot files.
    pub(crate) http_port: u16,
    /// The TCP port of the clients' disks.
    pub(crate) iscsi_port: u16,
    /// How much RAM the images' cache may take.
    pub(crate) cache_size: Bytes,
    /// How much a client may write, where its entry does not say.
    pub(crate) overlay_limit: Bytes,
    /// Where the overlays lie.
    pub(crate) overlay_directory: PathBuf,
    /// How much all mirrors together may keep.
    pub(crate) mirror_limit: Bytes,
    /// Where they keep it.
    pub(crate) mirror_directory: PathBuf,
    /// How much RAM this machine has, in bytes; 0: that can't be told.
    pub(crate) memory: u64,
}

/// What of it concerns storage: enough for a machine whose network is not up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "kernel"), allow(dead_code))]
pub(crate) struct StorageConfig {
    /// Where everything is kept that outlives the process.
    pub(crate) data: PathBuf,
    /// The server that the site's database is on; `None`: it is a file of ours.
    pub(crate) site: Option<DatabaseUrl>,
    /// This server's name.
    pub(crate) server: String,
    /// What the names of all targets and initiators have in common.
    pub(crate) names: SiteNames,
    /// Who makes the disks.
    pub(crate) engine: EngineKind,
    /// What the file says of the kernel engine, in use or not.
    pub(crate) kernel: KernelSettings,
    /// How much a client may write, where its entry does not say.
    pub(crate) overlay_limit: Bytes,
    /// Where the overlays lie.
    pub(crate) overlay_directory: PathBuf,
    /// How much RAM this machine has, in bytes; 0: that can't be told.
    pub(crate) memory: u64,
}

#[cfg_attr(not(feature = "kernel"), allow(dead_code))]
impl StorageConfig {
    /// The file of the site's database, or of the local copy of one on a server.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join(if self.site.is_some() { COPY } else { DATABASE })
    }

    /// Where imported images lie.
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join(IMAGES)
    }
}

const DATABASE: &str = "site.db";

const COPY: &str = "site.copy";

const IMAGES: &str = "images";

impl Config {
    /// Where the admin's own boot files lie.
    pub(crate) fn files(&self) -> PathBuf {
        self.data.join("files")
    }

    /// Where the admin's own templates lie.
    pub(crate) fn menus(&self) -> PathBuf {
        self.data.join("menus")
    }

    /// Where imported images lie.
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join(IMAGES)
    }

    /// The site's database, where it is a file of ours.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join(DATABASE)
    }

    /// The local copy of a site's database on a server, for when that is down.
    pub(crate) fn copy(&self) -> PathBuf {
        self.data.join(COPY)
    }

    /// Where the timelines of clients' boots are kept.
    pub(crate) fn boots(&self) -> PathBuf {
        self.data.join("boots")
    }

    /// The machines that wait to be registered.
    pub(crate) fn registrations(&self) -> PathBuf {
        self.data.join("registrations.json")
    }

    /// The journal of leases.
    pub(crate) fn leases(&self) -> PathBuf {
        self.data.join("leases.journal")
    }

    /// The socket of the command line.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(&self.data)
    }
}

/// The socket of the command line, in this data directory.
pub(crate) fn socket_in(data: &Path) -> PathBuf {
    data.join("bootd.sock")
}
