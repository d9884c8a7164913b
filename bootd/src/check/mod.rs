//! Whether all is there that serving needs. Needs no daemon, and changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caps::{CapSet, Capability};
use menus::Menus;
use netboot::Mode;
use serde::Serialize;
use site::{Image, Location, Site, Store};

use crate::config::{Config, EngineKind, Flags, show_size};
use crate::data;
use crate::machine::Machine;
use crate::serve::files::Files;

mod ports;

/// With less free space than this below the overlays, in bytes, clients soon find their disks full.
const LOW_SPACE: u64 = 2 << 30;

/// The boot programs that the usual firmware needs, and what each is for. Any of a group will do.
const PROGRAMS: [(&str, &[&str]); 2] =
    [("BIOS", &["undionly.kpxe"]), ("UEFI x64", &["snponly.efi", "ipxe.efi"])];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Serving works, but not all of it, or not for long.
    Warn,
    /// Serving won't work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) level: Level,
    /// What was looked at.
    pub(crate) what: String,
    /// How it is.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), found: found.into(), remedy: None }
    }

    fn warn(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), found: found.into(), remedy: Some(remedy.into()) }
    }

    fn fail(what: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, what: what.into(), found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks at everything.
pub(crate) fn all(flags: &Flags) -> Vec<Finding> {
    let machine = Machine::look();
    let config = match Config::load(flags, &machine) {
        Ok(config) => config,
        Err(e) => {
            let text = e.to_string();
            let (found, remedy) = text.rsplit_once('\n').unwrap_or((&text, ""));
            return vec![Finding::fail("configuration", found, remedy)];
        }
    };
    let running = data::running(&config.data);
    let mut findings = vec![Finding::ok("configuration", "makes sense")];
    interfaces(&config, &machine, &mut findings);
    findings.push(capabilities(running.is_some()));
    findings.extend(ports::all(&config, running));
    programs(&config, &mut findings);
    directory("data directory", &config.data, running, &mut findings);
    let in_files = config.engine == EngineKind::Embedded || config.engine.is_files();
    if in_files && !config.overlay_directory.starts_with(&config.data) {
        directory("overlays", &config.overlay_directory, None, &mut findings);
    }
    findings.extend(engine(&config));
    findings.push(templates(&config));
    site(&config, &mut findings);
    findings
}

fn interfaces(config: &Config, machine: &Machine, findings: &mut Vec<Finding>) {
    for served in &config.interfaces {
        let what = format!("interface {}", served.name);
        let dhcp = match (served.dhcp.mode, served.dhcp.pool) {
            (Mode::Server, Some(pool)) => format!("pool {pool}"),
            (Mode::Server, None) => "no pool".to_owned(),
            (Mode::Proxy, _) => "a proxy beside the DHCP server".to_owned(),
            (Mode::Off, _) => "no DHCP".to_owned(),
        };
        let found = format!("{}/{}, {dhcp}", served.address, served.prefix_len);
        let up = machine.interfaces.get(&served.name).is_some_and(|now| now.up);
        findings.push(if up {
            Finding::ok(what, found)
        } else {
            let remedy = format!("bring it up: ip link set {} up", served.name);
            Finding::fail(what, format!("{found}, but it is down"), remedy)
        });
    }
}

fn capabilities(running: bool) -> Finding {
    let what = "privileges";
    let held = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let needed = [Capability::CAP_NET_BIND_SERVICE, Capability::CAP_NET_RAW];
    let missing: Vec<String> =
        needed.iter().filter(|one| !held.contains(one)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Finding::ok(what, "enough to open the sockets; the daemon drops them once it has");
    }
    let found = format!("{} missing", missing.join(" and "));
    if running {
        return Finding::warn(what, found, "the running daemon has its own; to start one, be root");
    }
    Finding::fail(what, found, "run bootd as root or by its systemd unit")
}

/// Whether the kernel has what its engine needs.
fn engine(config: &Config) -> Vec<Finding> {
    let EngineKind::Kernel(settings) = &config.engine else { return Vec::new() };
    let mut findings = Vec::new();
    let what = "kernel engine";
    let database = if config.site.is_some() { config.copy() } else { config.database() };
    // What is wrong with the site itself, another finding says.
    let site = if database.exists() { snapshot(&database).unwrap_or_default() } else { Arc::default() };
    let settings = match crate::engine::settle(settings, &config.server, config.memory, &site) {
        Ok(settled) => settled.kernel,
        Err(wrong) => {
            findings.push(Finding::fail(what, wrong.to_string(), wrong.remedy));
            settings.clone()
        }
    };
    let in_files = settings.is_files();
    findings.push(match crate::engine::usable(&settings, &config.overlay_directory) {
        Ok(()) if in_files => Finding::ok(
            what,
            format!("files in {} share their image's blocks", config.overlay_directory.display()),
        ),
        Ok(()) => Finding::ok(what, "device-mapper, loop devices and what exports them are there"),
        Err(e) => {
            let denied = matches!(
                &e,
                lvm::EngineError::Kernel { source, .. } if source.kind() == io::ErrorKind::PermissionDenied
            );
            let remedy = "do what it says (for modules for good: one a line in /etc/modules-load.d/bootd.conf), or write \
                          kind = \"embedded\" in [engine]";
            if denied {
                Finding::warn(what, format!("not tried: {e}"), "run this check as root")
            } else if settings.fallback {
                Finding::warn(what, format!("{e}; the embedded engine will take its place"), remedy)
            } else {
                Finding::fail(what, e.to_string(), remedy)
            }
        }
    });
    let apart = crate::engine::images_apart(&settings, &config.overlay_directory, &site);
    findings.extend(apart.into_iter().map(|error| {
        Finding::fail(
            what,
            error,
            "its clients won't boot until then; or write overlays = \"thin\" in [engine]",
        )
    }));
    let held = caps::read(None, CapSet::Permitted).unwrap_or_default();
    if (settings.lio || !in_files) && !held.contains(&Capability::CAP_SYS_ADMIN) {
        let who = if in_files { "LIO takes no secrets" } else { "device-mapper does nothing" };
        let found = format!("CAP_SYS_ADMIN missing, without which {who}");
        findings.push(Finding::warn(
            what,
            found,
            "run bootd as root; its systemd unit must not take that away",
        ));
    }
    findings
}

fn programs(config: &Config, findings: &mut Vec<Finding>) {
    let files = Files::find(&config.files(), &config.boot_programs);
    let there = files.programs().all();
    for (firmware, names) in PROGRAMS {
        let what = format!("boot program for {firmware}");
        findings.push(match names.iter().find(|name| there.iter().any(|one| one == *name)) {
            Some(name) => Finding::ok(what, place(config, name)),
            None => Finding::warn(
                what,
                format!("{} not found: such machines won't boot", names.join(" or ")),
                format!(
                    "install Debian's package \"ipxe\" (apt install ipxe), or put it into {}",
                    config.files().display()
                ),
            ),
        });
    }
}

/// Where a boot program lies: the first place that has it, as it is served.
fn place(config: &Config, name: &str) -> String {
    let mut places = std::iter::once(config.files()).chain(config.boot_programs.iter().cloned());
    places
        .find_map(|place| Some(place.join(name)).filter(|path| path.is_file()))
        .map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

fn directory(what: &str, path: &Path, running: Option<u32>, findings: &mut Vec<Finding>) {
    // The nearest part of it that is there: the rest will be made.
    let Some(there) = path.ancestors().find(|part| part.exists()) else { return };
    let shown = path.display();
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        findings.push(Finding::fail(
            what,
            format!("{} is not writable", there.display()),
            "run bootd as the user that it belongs to, or choose another directory",
        ));
        return;
    }
    let state = match (running, there == path) {
        (Some(pid), _) => format!("{shown}, served from by process {pid}"),
        (None, true) => format!("{shown}, writable"),
        (None, false) => format!("{shown}, will be made"),
    };
    findings.push(match rustix::fs::statvfs(there) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let found = format!("{state}, {} free", show_size(free));
            if free < LOW_SPACE {
                Finding::warn(what, found, "make room: clients' writes and new images go there")
            } else {
                Finding::ok(what, found)
            }
        }
        Err(e) => Finding::warn(what, format!("{state}, free space unknown: {e}"), "look at the file system"),
    });
}

fn templates(config: &Config) -> Finding {
    let what = "templates";
    let own = match data::templates(&config.menus()) {
        Ok(own) => own,
        Err(e) => return Finding::fail(what, e.to_string(), "make them readable, or take them away"),
    };
    let count = own.len();
    match Menus::new(own) {
        Ok(_) => Finding::ok(what, format!("parse; {count} of them in {}", config.menus().display())),
        Err(e) => Finding::fail(what, e.to_string(), format!("mend it in {}", config.menus().display())),
    }
}

fn site(config: &Config, findings: &mut Vec<Finding>) {
    let what = "site";
    if let Some(url) = &config.site {
        // To open it would bring it up to date, which is for the daemon to do.
        findings.push(Finding::ok(
            what,
            format!("on {url}; bootd serve says whether it answers, and bootd status"),
        ));
        return;
    }
    let path = config.database();
    if !path.exists() {
        findings.push(Finding::ok(what, "no clients and images yet"));
        return;
    }
    let site = match snapshot(&path) {
        Ok(site) => site,
        Err(e) => {
            findings.push(Finding::fail(what, e, "mend that, or put a backup of it in its place"));
            return;
        }
    };
    let (clients, images) = (site.clients(), site.images());
    findings.push(Finding::ok(what, format!("{} clients, {} images", clients.len(), images.len())));
    findings.extend(images.iter().map(|image| readable(image)));
    for client in clients {
        let missing = client.image.as_ref().filter(|name| site.image(name).is_none());
        if let Some(image) = missing {
            findings.push(Finding::warn(
                format!("client {}", client.name),
                format!("its image \"{image}\" does not exist"),
                format!("bootd client set {} --image IMAGE", client.name),
            ));
        }
    }
}

/// The site in a copy of the database: opening the database itself could bring it up to date, which is for the
/// daemon to do.
pub(crate) fn snapshot(path: &Path) -> Result<Arc<Site>, String> {
    let copy =
        Copy::of(path).map_err(|e| format!("{}: can't copy it to look inside: {e}", path.display()))?;
    let site = Store::open(&Location::Sqlite(copy.0.join(COPY))).and_then(|store| store.snapshot());
    site.map_err(|e| {
        e.to_string().replace(&copy.0.join(COPY).display().to_string(), &path.display().to_string())
    })
}

/// What a copied database is called.
const COPY: &str = "site.db";

/// A directory of our own with a copied database, gone when dropped.
struct Copy(PathBuf);

impl Copy {
    fn of(path: &Path) -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("bootd-check-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&directory)?;
        let copy = Self(directory);
        // What was written last may still be in SQLite's log.
        for ending in ["", "-wal"] {
            let from = PathBuf::from(format!("{}{ending}", path.display()));
            if from.exists() {
                fs::copy(from, copy.0.join(format!("{COPY}{ending}")))?;
            }
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn readable(image: &Image) -> Finding {
    let what = format!("image {}", image.name);
    let path = image.path.display();
    match fs::File::open(&image.path).and_then(|file| file.metadata()) {
        Ok(now) if now.len() == image.size => Finding::ok(what, format!("{path}, {}", show_size(image.size))),
        Ok(now) => Finding::fail(
            what,
            format!("{path} is {} bytes long and was {} when it was taken in", now.len(), image.size),
            "an image must never change: take it in again with: bootd image add",
        ),
        Err(e) => Finding::fail(what, format!("{path}: {e}"), "put the file back, or take it in again"),
    }
}
