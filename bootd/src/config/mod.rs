//! The configuration as bootd runs by it: complete, checked, and made from the file and the flags alone.
//!
//! [`wire`] mirrors the file; [`Config`] has no optional part that means "default". The only road from one to
//! the other is [`Config::load`].

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use block::Bytes;

/// All of bootd's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The interfaces served. Never empty.
    pub(crate) interfaces: Vec<String>,
    /// Where everything is kept that outlives the process.
    pub(crate) data: PathBuf,
    /// This server's name: one DNS label, also in the target names.
    pub(crate) server: String,
    /// The site's domain, for DHCP option 15 and, reversed, in the target names.
    pub(crate) domain: String,
    /// The `YYYY-MM` in the target names: a month in which the domain was the site's.
    pub(crate) iqn_date: String,
    /// Whether clients are told at once that there is no IPv6 router to wait for.
    pub(crate) router_advertisement: bool,
    /// Where boot programs are looked for, in this order, behind `DATA/files`.
    pub(crate) boot_programs: Vec<PathBuf>,
    /// What is logged, as `tracing` filter directives.
    pub(crate) log: String,
    /// Who makes the disks.
    pub(crate) engine: EngineKind,
    /// DHCP.
    pub(crate) dhcp: Dhcp,
    /// Whether boot files are served over TFTP.
    pub(crate) tftp: bool,
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
}

/// Who makes the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineKind {
    /// In this process, from files.
    Embedded,
    /// In memory, for trying things out: `--sim`.
    Sim,
}

/// The settings of DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dhcp {
    /// Whether bootd answers DHCP at all.
    pub(crate) enabled: bool,
    /// Addresses for machines whose entry names none.
    pub(crate) pool: Pool,
    /// The router clients are told of; `None`: none.
    pub(crate) router: Option<Ipv4Addr>,
    /// The name servers clients are told of.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// How long a lease lasts.
    pub(crate) lease: Duration,
    /// What a machine gets that is no client.
    pub(crate) unknown: Unknown,
}

/// The addresses that DHCP hands out by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The upper half of each interface's subnet, without the server's own address.
    UpperHalf,
    /// From the first to the last, on the interface whose subnet they lie in.
    Range(Ipv4Addr, Ipv4Addr),
    /// None: only addresses named in clients' entries.
    Empty,
}

/// What a machine gets that is no client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// An address from the pool, and nothing to boot.
    Lease,
    /// No answer.
    Ignore,
}

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
        self.data.join("images")
    }

    /// The site's database.
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("site.db")
    }

    /// The journal of leases.
    pub(crate) fn leases(&self) -> PathBuf {
        self.data.join("leases.journal")
    }

    /// The socket of the command line.
    pub(crate) fn socket(&self) -> PathBuf {
        self.data.join("bootd.sock")
    }
}
