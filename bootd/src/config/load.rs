//! From the file, the flags and the machine to a [`Config`], or to the first thing that is wrong.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use block::Bytes;
use lvm::names::{NameError, SiteNames};
use netboot::Subnet;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

use super::wire::Wire;
use super::{
    Config, ConfigError, DEFAULT_DATA, DEFAULT_FILE, DatabaseUrl, Dhcp, Flags, ServedInterface,
    StorageConfig, amounts, dhcp, engine,
};
use crate::machine::Machine;

/// The largest configuration file that is read, in bytes. A larger one is an error: it is some other file.
const LARGEST_FILE: u64 = 1 << 20;

/// The least RAM the cache may be given, in bytes: with less, a boot's own reads push each other out.
const LEAST_CACHE: u64 = 16 << 20;

/// The share of RAM, in percent, that the cache takes when nothing is said, and the most it takes by itself.
const DEFAULT_CACHE_PERCENT: u64 = 25;
const LARGEST_DEFAULT_CACHE: u64 = 64 << 30;

/// The least a client may be allowed to write, in bytes: the site's own rule for a client's entry.
const LEAST_OVERLAY: u64 = 1 << 20;

/// What a client may write when nothing is said, in bytes.
const DEFAULT_OVERLAY: u64 = 20 << 30;

/// The least that mirrors may be allowed to keep, in bytes: an installer's kernel and first root file system.
const LEAST_MIRROR: u64 = 128 << 20;

/// What mirrors may keep when nothing is said, in bytes.
const DEFAULT_MIRROR: u64 = 20 << 30;

/// Where Debian, Fedora, Arch and a build by hand put iPXE, and then where Debian puts PXELINUX and its menus, Fedora
/// both.
const BOOT_PROGRAMS: [&str; 7] = [
    "/usr/lib/ipxe",
    "/usr/share/ipxe",
    "/usr/share/ipxe/x86_64",
    "/usr/local/share/ipxe",
    "/usr/lib/PXELINUX",
    "/usr/lib/syslinux/modules/bios",
    "/usr/share/syslinux",
];

/// The file as read: what everything else is checked against.
pub(super) struct Source {
    path: PathBuf,
    text: String,
    pub(super) wire: Wire,
}

impl Source {
    /// Reads the file that the flags name, or the default one if it exists, or nothing.
    fn read(flags: &Flags) -> Result<Self, ConfigError> {
        let path = flags.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let text = match read_text(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound && flags.file.is_none() => String::new(),
            Err(e) => {
                let remedy =
                    "name a readable file with --config FILE, or leave --config away to run on defaults";
                return Err(ConfigError::whole_file(&path, format!("can't be read: {e}"), remedy));
            }
        };
        let wire = toml::from_str(&text).map_err(|e| ConfigError::syntax(&path, &text, &e))?;
        Ok(Self { path, text, wire })
    }

    /// The error of that value in the file.
    pub(super) fn wrong<T>(
        &self,
        value: &Spanned<T>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        ConfigError::in_file(&self.path, &self.text, value.span(), what, remedy)
    }

    /// The data directory of the flags, the file or the default.
    fn data(&self, flags: &Flags) -> Result<PathBuf, ConfigError> {
        if let Some(data) = &flags.data {
            return std::path::absolute(data)
                .map_err(|e| ConfigError::elsewhere("--data", e.to_string(), "give an absolute path"));
        }
        self.absolute(self.wire.data.as_ref(), || DEFAULT_DATA.into())
    }

    pub(super) fn absolute(
        &self,
        path: Option<&Spanned<PathBuf>>,
        default: impl FnOnce() -> PathBuf,
    ) -> Result<PathBuf, ConfigError> {
        let Some(path) = path else { return Ok(default()) };
        if path.get_ref().is_absolute() {
            return Ok(path.get_ref().clone());
        }
        let what = format!("{:?} is not an absolute path", path.get_ref());
        Err(self.wrong(path, what, "begin it with \"/\": where the daemon is started from must not matter"))
    }

    fn port(&self, value: Option<&Spanned<i64>>, default: u16) -> Result<u16, ConfigError> {
        let Some(value) = value else { return Ok(default) };
        u16::try_from(*value.get_ref()).ok().filter(|port| *port != 0).ok_or_else(|| {
            let what = format!("{} is no TCP port", value.get_ref());
            self.wrong(value, what, format!("write a number from 1 to 65535; the usual one is {default}"))
        })
    }

    pub(super) fn size(
        &self,
        value: &Spanned<String>,
        whole: Option<u64>,
        least: u64,
        example: &str,
    ) -> Result<u64, ConfigError> {
        let text = value.get_ref();
        let remedy = format!("write, for example: {example}");
        let bytes = amounts::size(text, whole)
            .ok_or_else(|| self.wrong(value, format!("{text:?} is no size"), &remedy))?;
        if bytes < least {
            let what =
                format!("{text:?} is less than {}, the least that is of use", amounts::show_size(least));
            return Err(self.wrong(value, what, remedy));
        }
        Ok(bytes)
    }
}

impl Config {
    /// The configuration that the file, the flags (which come before the file) and the machine make.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and remedy.
    pub(crate) fn load(flags: &Flags, machine: &Machine) -> Result<Self, ConfigError> {
        Self::try_from((&Source::read(flags)?, flags, machine))
    }

    /// The data directory alone, for commands that only talk to the daemon and need no valid configuration.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(crate) fn data_directory(flags: &Flags) -> Result<PathBuf, ConfigError> {
        Source::read(flags)?.data(flags)
    }
}

#[cfg_attr(not(feature = "kernel"), allow(dead_code))]
impl StorageConfig {
    /// What the file, the flags and the machine say of storage. The rest of the file must be TOML, but need not be right.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and remedy.
    pub(crate) fn load(flags: &Flags, machine: &Machine) -> Result<Self, ConfigError> {
        let source = Source::read(flags)?;
        let data = source.data(flags)?;
        let (server, domain) = (server(&source, machine)?, domain(&source)?);
        Ok(Self {
            names: names(&source, &server, &domain)?,
            server,
            engine: engine::engine(&source, flags, machine)?,
            kernel: engine::kernel(&source, machine)?,
            overlay_limit: overlay_limit(&source)?,
            overlay_directory: overlay_directory(&source, &data)?,
            site: site(&source)?,
            memory: machine.memory,
            data,
        })
    }
}

fn overlay_limit(source: &Source) -> Result<Bytes, ConfigError> {
    Ok(Bytes(match &source.wire.overlay.limit {
        Some(limit) => source.size(limit, None, LEAST_OVERLAY, "limit = \"20GiB\"")?,
        None => DEFAULT_OVERLAY,
    }))
}

fn overlay_directory(source: &Source, data: &Path) -> Result<PathBuf, ConfigError> {
    source.absolute(source.wire.overlay.directory.as_ref(), || data.join("overlays"))
}

impl TryFrom<(&Source, &Flags, &Machine)> for Config {
    type Error = ConfigError;

    fn try_from((source, flags, machine): (&Source, &Flags, &Machine)) -> Result<Self, ConfigError> {
        let wire = &source.wire;
        let data = source.data(flags)?;
        let (http_port, iscsi_port) = ports(source)?;
        let (server, domain) = (server(source, machine)?, domain(source)?);
        let mut interfaces = interfaces(source, flags, machine)?;
        let relayed = dhcp::settle(source, &mut interfaces)?;
        Ok(Self {
            interfaces,
            relayed,
            names: names(source, &server, &domain)?,
            server,
            domain,
            router_advertisement: wire.router_advertisement.unwrap_or(true),
            boot_programs: boot_programs(source)?,
            log: log(source, flags)?,
            engine: engine::engine(source, flags, machine)?,
            tftp: wire.tftp.enabled.unwrap_or(true),
            single_port: single_port(source)?,
            http_port,
            iscsi_port,
            cache_size: cache_size(source, machine)?,
            overlay_limit: overlay_limit(source)?,
            overlay_directory: overlay_directory(source, &data)?,
            mirror_limit: Bytes(match &wire.mirror.limit {
                Some(limit) => source.size(limit, None, LEAST_MIRROR, "limit = \"50GiB\"")?,
                None => DEFAULT_MIRROR,
            }),
            mirror_directory: source.absolute(wire.mirror.directory.as_ref(), || data.join("mirror"))?,
            site: site(source)?,
            memory: machine.memory,
            data,
        })
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST_FILE {
        return Err(io::Error::other("it is larger than any configuration file"));
    }
    fs::read_to_string(path)
}

fn ports(source: &Source) -> Result<(u16, u16), ConfigError> {
    let http = source.port(source.wire.http.port.as_ref(), 80)?;
    let iscsi = source.port(source.wire.iscsi.port.as_ref(), 3260)?;
    match source.wire.iscsi.port.as_ref().or(source.wire.http.port.as_ref()) {
        Some(port) if http == iscsi => {
            Err(source.wrong(port, format!("HTTP and iSCSI can't share port {http}"), "give each its own"))
        }
        _ => Ok((http, iscsi)),
    }
}

fn single_port(source: &Source) -> Result<Vec<Subnet>, ConfigError> {
    let Some(names) = &source.wire.tftp.single_port else { return Ok(Vec::new()) };
    let read = |text: &String| {
        text.parse::<Subnet>().map_err(|e| {
            let remedy = "write the first address and the bits of the mask, for example: single_port = [\"10.9.0.0/24\"]; \
                          one address has 32 bits, and \"0.0.0.0/0\" is all there are";
            source.wrong(names, format!("{text:?}: {e}"), remedy)
        })
    };
    names.get_ref().0.iter().map(read).collect()
}

fn interfaces(
    source: &Source,
    flags: &Flags,
    machine: &Machine,
) -> Result<Vec<ServedInterface>, ConfigError> {
    let in_file = source.wire.interface.as_ref().filter(|_| flags.interfaces.is_empty());
    let names = in_file.map_or(&flags.interfaces, |names| &names.get_ref().0);
    let wrong = |what: String, remedy: String| match in_file {
        Some(names) => source.wrong(names, what, remedy),
        None => ConfigError::elsewhere("--interface", what, remedy),
    };
    if names.is_empty() {
        return Err(wrong(
            "no interface to serve is named".into(),
            format!(
                "write --interface NAME, or interface = \"NAME\" in the file; this machine has: {}",
                machine.choices()
            ),
        ));
    }
    let mut all: Vec<ServedInterface> = Vec::new();
    for name in names {
        let Some(found) = machine.interfaces.get(name) else {
            let what = format!("there is no interface {name:?}");
            return Err(wrong(what, format!("this machine has: {}", machine.choices())));
        };
        let [(address, prefix_len), others @ ..] = found.addresses.as_slice() else {
            let what = format!("interface {name} has no IPv4 address");
            return Err(wrong(
                what,
                format!("give it one, for example: ip address add 10.0.0.1/24 dev {name}"),
            ));
        };
        if all.iter().any(|other| other.name == *name) {
            return Err(wrong(format!("interface {name} is named twice"), "name each interface once".into()));
        }
        all.push(ServedInterface {
            name: name.clone(),
            index: found.index,
            address: *address,
            others: others.iter().map(|(other, _)| *other).collect(),
            prefix_len: *prefix_len,
            dhcp: Dhcp::default(),
        });
    }
    Ok(all)
}

/// Whether `text` is one DNS label in lower case.
fn is_label(text: &str) -> bool {
    text.parse::<site::ClientName>().is_ok()
}

fn server(source: &Source, machine: &Machine) -> Result<String, ConfigError> {
    let rule = "it is one DNS label of a-z, 0-9 and \"-\"; write, for example: server = \"appserver1\"";
    if let Some(name) = &source.wire.server {
        if is_label(name.get_ref()) {
            return Ok(name.get_ref().clone());
        }
        return Err(source.wrong(name, format!("{:?} is no server name", name.get_ref()), rule));
    }
    let name = machine.host_name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    if is_label(&name) {
        return Ok(name);
    }
    let what = format!("this machine's host name {:?} can't stand in a target name", machine.host_name);
    Err(ConfigError::elsewhere("server", what, format!("set a name in the file: {rule}")))
}

fn site(source: &Source) -> Result<Option<DatabaseUrl>, ConfigError> {
    let Some(url) = &source.wire.site else { return Ok(None) };
    if cfg!(not(feature = "postgres")) {
        let what = "this bootd was built without PostgreSQL";
        return Err(source.wrong(
            url,
            what,
            "build it with the feature \"postgres\", or leave the line away",
        ));
    }
    url.get_ref().parse().map(Some).map_err(|what: String| {
        let remedy = "write, for example: site = \"postgres://bootd:PASSWORD@db.example.org/bootd\", or leave it away to \
                      keep the site in a file of the data directory";
        source.wrong(url, what, remedy)
    })
}

fn domain(source: &Source) -> Result<String, ConfigError> {
    let Some(domain) = &source.wire.domain else { return Ok("lab.internal".into()) };
    let text = domain.get_ref();
    if text.split('.').all(is_label) {
        return Ok(text.clone());
    }
    let remedy =
        "write labels of a-z, 0-9 and \"-\" with dots between, for example: domain = \"lab.example.org\"";
    Err(source.wrong(domain, format!("{text:?} is no domain"), remedy))
}

fn names(source: &Source, server: &str, domain: &str) -> Result<SiteNames, ConfigError> {
    let date = source.wire.iqn_date.as_ref();
    let text = date.map_or("2026-01", |date| date.get_ref().as_str());
    SiteNames::new(text, domain, server).map_err(|e| match (e, date) {
        (NameError::Form { .. }, Some(date)) => {
            let remedy = "write a month in which the domain was yours: iqn_date = \"2026-01\"";
            source.wrong(date, format!("{text:?} is no year and month"), remedy)
        }
        (e, _) => match source.wire.domain.as_ref().or(source.wire.server.as_ref()) {
            Some(name) => source.wrong(name, e.to_string(), "set a shorter one of the two"),
            None => {
                ConfigError::elsewhere("server", e.to_string(), "set it in the file: server = \"appserver1\"")
            }
        },
    })
}

fn boot_programs(source: &Source) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(places) = &source.wire.boot_programs else {
        return Ok(BOOT_PROGRAMS.iter().map(PathBuf::from).collect());
    };
    match places.get_ref().iter().find(|place| !place.is_absolute()) {
        None => Ok(places.get_ref().clone()),
        Some(place) => {
            let what = format!("{place:?} is not an absolute path");
            Err(source.wrong(places, what, "write, for example: boot_programs = [\"/usr/lib/ipxe\"]"))
        }
    }
}

fn log(source: &Source, flags: &Flags) -> Result<String, ConfigError> {
    let remedy = "write error, warn, info, debug or trace, or directives such as \"info,bootd=debug\"";
    let good = |text: &str| !text.is_empty() && EnvFilter::builder().parse(text).is_ok();
    match (&flags.log, &source.wire.log) {
        (Some(log), _) if good(log) => Ok(log.clone()),
        (Some(log), _) => Err(ConfigError::elsewhere("--log", format!("{log:?} is no log level"), remedy)),
        (None, Some(log)) if good(log.get_ref()) => Ok(log.get_ref().clone()),
        (None, Some(log)) => Err(source.wrong(log, format!("{:?} is no log level", log.get_ref()), remedy)),
        (None, None) => Ok("info".into()),
    }
}

fn cache_size(source: &Source, machine: &Machine) -> Result<Bytes, ConfigError> {
    let Some(size) = &source.wire.cache.size else {
        let share = machine.memory / 100 * DEFAULT_CACHE_PERCENT;
        return Ok(Bytes(share.clamp(LEAST_CACHE, LARGEST_DEFAULT_CACHE)));
    };
    let example = "size = \"25%\" (of RAM) or size = \"4GiB\"";
    let bytes = source.size(size, Some(machine.memory), LEAST_CACHE, example)?;
    if machine.memory != 0 && bytes > machine.memory {
        let what = format!(
            "{:?} is more than this machine's {}",
            size.get_ref(),
            amounts::show_size(machine.memory)
        );
        return Err(source.wrong(size, what, format!("write, for example: {example}")));
    }
    Ok(Bytes(bytes))
}
