//! Builds, owns and drains every service.
//!
//! The order of the start, each step of which can end it with an error that says what to do:
//!
//! 1. The data directory is ours and nobody else's: made, locked.
//! 2. Database, templates, boot programs and leases are read.
//! 3. All sockets are bound, or taken over from systemd, which keeps them open from one process to the next. Whoever
//!    connects from now on waits in the kernel.
//! 4. Privileges are dropped: no thread exists yet, so there is none that keeps them.
//! 5. The engine adopts the disks that an earlier process left, and their targets are open again: an operating
//!    system whose disk was gone for the moment of a restart logs in again and goes on.
//! 6. The services run, until a signal or the first failure; then all are drained, and the disks last: while others
//!    finish what they are sending, operating systems have theirs.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use lvm::{Engine, EngineError};
use menus::{MenuError, Menus};
use netboot::{Boots, Interface, Leases, Mode, Others, Programs, Settings, Shapes};
use parking_lot::Mutex;
use site::{Location, Site, Store, StoreError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::{self, Config, ServedInterface, show_size};
use crate::control::{Control, ControlSocket};
use crate::data::{self, DataDirectory, DataError};
use crate::engine;
use crate::events::{self, Events, Recent};
use crate::firmwares::Firmwares;
use crate::machine::Machine;
use crate::mirror::Mirrors;
use crate::pings::Pings;
use crate::privileges;
use crate::registrations::Waiting;
use crate::serve::ServiceError;
use crate::serve::dhcp::Dhcp;
use crate::serve::files::Files;
use crate::serve::http::Http;
use crate::serve::iscsi::{Iscsi, TargetTable};
use crate::serve::journal::Journal;
use crate::serve::ra::RouterAdvertiser;
use crate::serve::script::Unfetched;
use crate::serve::tftp::Tftp;
use crate::space;
use crate::state::{Counters, Link, State, Turns, unix_millis};
use crate::systemd::{self, Given};
use crate::taps::Taps;
use crate::timelines::Timelines;
use crate::whereabouts::Whereabouts;

/// How long all services together may take to drain. What is open then is broken off; clients of disks log in
/// again when bootd is back.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the interfaces are looked at.
const WATCH: Duration = Duration::from_secs(2);

/// Why bootd can't start, or had to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// The data directory can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database can't be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A template is wrong.
    #[error("menus: {0}")]
    Menus(#[from] MenuError),
    /// The overlays can't be used.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// A service can't start or had to end.
    #[error("{0}")]
    Service(#[from] ServiceError),
    /// Privileges can't be dropped.
    #[error("can't drop privileges: {0}; start bootd as root, or by its systemd unit")]
    Privileges(String),
    /// An interface is gone.
    #[error("{0}")]
    Interface(String),
    /// A bug.
    #[error("{service} broke down: {reason}; this is a bug in bootd")]
    Bug {
        /// Which service.
        service: &'static str,
        /// What the runtime says.
        reason: String,
    },
    /// The system gave no threads or no timers.
    #[error("can't start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// Serves until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// When it can't start, or when a service had to end.
pub(crate) fn run(config: Config) -> Result<(), AppError> {
    let started = unix_millis();
    let given = Given::from_systemd()?;
    let directory = DataDirectory::take(&config)?;
    let store = Arc::new(Store::open(&location(&config))?);
    let site = store.snapshot()?;
    let config = engine::settled(config, &site)?;
    let menus = Menus::new(data::templates(&config.menus())?)?;
    let files = files(&config);
    let (journal, leases) = leases(&config)?;
    let links = links(&config, &files);
    let sockets = Sockets::bind(&config, &links, journal, given)?;
    let taps = Taps::open(&links);
    let pings = Pings::open();
    privileges::drop_all(engine::privileges(&config)).map_err(|e| AppError::Privileges(e.to_string()))?;

    match lvm::images::clean_up(&config.images()) {
        Ok(0) => {}
        Ok(files) => tracing::info!("{files} files of imports that were broken off are removed"),
        Err(e) => tracing::warn!(
            "files of imports that were broken off may be left in {}: {e}",
            config.images().display()
        ),
    }
    let engine = engine::open(&config)?;
    let adopted = engine.reap()?;
    engine.notices().iter().for_each(|notice| tracing::warn!("{notice}"));
    let counters = Arc::new(Counters::default());
    let (events, told) = Events::new(Arc::clone(&counters));
    let parts = Parts { config, store, site, menus, files, leases, pings };
    let state = Arc::new(state(parts, engine, events, counters));
    let serves = serves(&state);
    // Before the disks are adopted, so that the step of that comes after those of the boot.
    let timelines = Timelines::open(&state);
    let kept = boot::adopt(&state, adopted);
    if kept > 0 {
        tracing::info!("disks of an earlier process that are served again as they were: {kept}");
    }
    let recent = Arc::new(Recent::default());
    let control = Control::new(Arc::clone(&state), Arc::clone(&recent), serves.clone(), started, taps);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(AppError::Runtime)?;
    let result = runtime.block_on(async {
        let log = tokio::spawn(events::consume(told, recent));
        let kept = tokio::spawn(Arc::clone(&timelines).keep());
        let result = serve(sockets, state, Arc::new(control), &serves).await;
        kept.abort();
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || timelines.save()).await {
            tracing::warn!("the end of the timelines is not kept: {e}");
        }
        // What was told last is logged before the end; a sender that still lives does not hold that up.
        let _ = tokio::time::timeout(Duration::from_millis(500), log).await;
        result
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(directory);
    result
}

/// What was read at the start.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) site: Arc<Site>,
    pub(crate) menus: Menus,
    pub(crate) files: Files,
    pub(crate) leases: Leases,
    pub(crate) pings: Pings,
}

/// What the services share.
pub(crate) fn state(parts: Parts, engine: Arc<dyn Engine>, events: Events, counters: Arc<Counters>) -> State {
    let Parts { config, store, site, menus, files, leases, pings } = parts;
    State {
        links: links(&config, &files),
        relayed: relayed(&config, &files),
        mirrors: Mirrors::open(config.mirror_directory.clone(), config.mirror_limit.0, events.clone()),
        registrations: Waiting::load(config.registrations(), &events),
        config,
        site: ArcSwap::new(site),
        store,
        refreshing: Mutex::default(),
        leases: Mutex::new(leases),
        shapes: Mutex::new(Shapes::new()),
        others: Mutex::new(Others::new()),
        pings,
        boots: Mutex::new(Boots::new()),
        firmwares: Firmwares::default(),
        whereabouts: Whereabouts::default(),
        menus: ArcSwap::from_pointee(menus),
        files,
        engine,
        targets: Arc::new(TargetTable::default()),
        script_turns: Turns::default(),
        unfetched: Unfetched::default(),
        events,
        counters,
    }
}

/// Runs all services until a signal comes or one of them ends, then drains them.
async fn serve(
    sockets: Sockets,
    state: Arc<State>,
    control: Arc<Control>,
    serves: &[String],
) -> Result<(), AppError> {
    let (stop, stop_disks) = (CancellationToken::new(), CancellationToken::new());
    let (mut services, mut disks) = (JoinSet::new(), JoinSet::new());
    sockets.spawn(&mut services, &mut disks, &state, control, [&stop, &stop_disks]);
    {
        let (state, stop) = (Arc::clone(&state), stop.clone());
        services.spawn(async move { ("interfaces", watch(&state, stop).await) });
    }
    {
        let (state, stop) = (Arc::clone(&state), stop.clone());
        services.spawn(async move {
            state.pings.listen(stop).await;
            ("ping", Ok(()))
        });
    }
    {
        let watch = space::watch(Arc::clone(&state), stop.clone());
        services.spawn(async move {
            watch.await;
            ("space", Ok(()))
        });
    }
    drop(state);
    serves.iter().for_each(|line| tracing::info!("serving {line}"));
    systemd::notify("READY=1");

    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Runtime)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(AppError::Runtime)?;
    let mut result = tokio::select! {
        _ = terminate.recv() => { tracing::info!("SIGTERM: stopping"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("SIGINT: stopping"); Ok(()) }
        _ = hangup.recv() => { tracing::info!("SIGHUP: stopping"); Ok(()) }
        Some(ended) = services.join_next() => Err(early_end(ended)),
        Some(ended) = disks.join_next() => Err(early_end(ended)),
    };
    systemd::notify("STOPPING=1");
    let drained = async {
        stop.cancel();
        drain(&mut services, &mut result).await;
        stop_disks.cancel();
        drain(&mut disks, &mut result).await;
    };
    tokio::select! {
        drained = tokio::time::timeout(DRAIN, drained) => if drained.is_err() {
            tracing::warn!("connections that were open after {} s were broken off", DRAIN.as_secs());
        },
        _ = terminate.recv() => tracing::warn!("SIGTERM again: not waiting for open connections"),
        _ = interrupt.recv() => tracing::warn!("SIGINT again: not waiting for open connections"),
    }
    services.shutdown().await;
    disks.shutdown().await;
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

/// Waits until all of them have ended. The first failure is the cause; what follows from it is only logged.
async fn drain(services: &mut JoinSet<Ended>, result: &mut Result<(), AppError>) {
    while let Some(ended) = services.join_next().await {
        if let Ok((_, Err(e))) = ended {
            tracing::error!("{e}");
            if result.is_ok() {
                *result = Err(e);
            }
        }
    }
}

type Ended = (&'static str, Result<(), AppError>);

/// What it means that a service ended although nothing stopped it.
fn early_end(ended: Result<Ended, tokio::task::JoinError>) -> AppError {
    match ended {
        Ok((_, Err(e))) => e,
        Ok((service, Ok(()))) => AppError::Bug { service, reason: "it ended by itself".into() },
        Err(e) => AppError::Bug { service: "a service", reason: e.to_string() },
    }
}

/// Every socket, bound.
struct Sockets {
    dhcp: Dhcp,
    tftp: Option<Tftp>,
    http: Http,
    iscsi: Iscsi,
    advertiser: Option<RouterAdvertiser>,
    control: ControlSocket,
}

impl Sockets {
    fn bind(
        config: &Config,
        links: &[Link],
        journal: Journal,
        mut given: Given,
    ) -> Result<Self, ServiceError> {
        // Where the kernel exports disks, their port is the kernel's to open.
        let own = if config.engine.is_exported_by_kernel() { &[] } else { links };
        let at = |links: &[Link], port| {
            links.iter().map(|link| SocketAddrV4::new(link.interface.address, port)).collect::<Vec<_>>()
        };
        given.keep_only(&[at(links, config.http_port), at(own, config.iscsi_port)].concat())?;
        let dhcp = Dhcp::bind(links, journal)?;
        let tftp = config.tftp.then(|| Tftp::bind(links)).transpose()?;
        let http = Http::bind(links, config.http_port, &mut given)?;
        // By now no other bootd can be at work here, whose target it would be.
        engine::give_back(config, &at(own, config.iscsi_port))
            .map_err(|e| ServiceError::new("iscsi", format!("can't have port {}", config.iscsi_port), e))?;
        Ok(Self {
            dhcp,
            tftp,
            http,
            iscsi: Iscsi::bind(own, config.iscsi_port, &mut given)?,
            advertiser: config.router_advertisement.then(|| RouterAdvertiser::bind(links)).transpose()?,
            control: ControlSocket::bind(config)?,
        })
    }

    fn spawn(
        self,
        services: &mut JoinSet<Ended>,
        disks: &mut JoinSet<Ended>,
        state: &Arc<State>,
        control: Arc<Control>,
        [stop, stop_disks]: [&CancellationToken; 2],
    ) {
        macro_rules! spawn {
            ($name:literal, $service:expr, $shared:expr) => {
                spawn!($name, $service, $shared, services, stop)
            };
            ($name:literal, $service:expr, $shared:expr, $among:ident, $stop:ident) => {{
                let running = $service.run($shared, $stop.clone());
                $among.spawn(async move { ($name, running.await.map_err(AppError::from)) });
            }};
        }
        spawn!("dhcp", self.dhcp, Arc::clone(state));
        if let Some(tftp) = self.tftp {
            spawn!("tftp", tftp, Arc::clone(state));
        }
        if let Some(advertiser) = self.advertiser {
            spawn!("ra", advertiser, Arc::clone(state));
        }
        spawn!("http", self.http, Arc::clone(state));
        spawn!("control", self.control, control);
        spawn!("iscsi", self.iscsi, Arc::clone(state), disks, stop_disks);
    }
}

/// Ends with an error when an interface that is served is gone, or has another address: every socket on it is dead
/// then, and a daemon that runs on in silence helps nobody.
async fn watch(state: &State, stop: CancellationToken) -> Result<(), AppError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(WATCH) => {}
        }
        let machine = Machine::look();
        for link in &state.links {
            let Interface { name, address, .. } = &link.interface;
            let now = machine.interfaces.get(name).filter(|now| now.index == link.index);
            let lost = match now {
                None => format!("interface {name} is gone; start bootd again when it is back"),
                Some(now) if !now.addresses.iter().any(|(one, _)| one == address) => format!(
                    "interface {name} has lost its address {address}; give it back, or start bootd again with the new one"
                ),
                Some(_) => continue,
            };
            return Err(AppError::Interface(lost));
        }
    }
}

/// Where the site's database is.
pub(crate) fn location(config: &Config) -> Location {
    #[cfg(feature = "postgres")]
    if let Some(url) = &config.site {
        return Location::Postgres { url: url.reveal().to_owned(), copy: config.copy() };
    }
    Location::Sqlite(config.database())
}

/// The files that clients may fetch.
pub(crate) fn files(config: &Config) -> Files {
    Files::find(&config.files(), &config.boot_programs)
}

fn links(config: &Config, files: &Files) -> Vec<Link> {
    config.interfaces.iter().map(|link| served_link(config, link, files.programs().clone())).collect()
}

/// The interface with the settings that hold on it.
fn served_link(config: &Config, served: &ServedInterface, programs: Programs) -> Link {
    Link {
        interface: Interface {
            name: served.name.clone(),
            address: served.address,
            prefix_len: served.prefix_len,
        },
        index: served.index,
        others: served.others.clone(),
        settings: settings(config, &served.dhcp, programs),
    }
}

/// The settings that hold for each subnet behind a relay.
fn relayed(config: &Config, files: &Files) -> Vec<Settings> {
    let settings = |relayed: &config::Relayed| Settings {
        subnet: Some(relayed.subnet),
        ..settings(config, &relayed.dhcp, files.programs().clone())
    };
    config.relayed.iter().map(settings).collect()
}

fn settings(config: &Config, dhcp: &config::Dhcp, programs: Programs) -> Settings {
    Settings {
        server_name: config.server.clone(),
        http_port: config.http_port,
        pool: dhcp.pool,
        router: dhcp.router,
        dns: dhcp.dns.clone(),
        domain: Some(config.domain.clone()),
        lease_time: u32::try_from(dhcp.lease.as_secs()).unwrap_or(u32::MAX),
        unknown: dhcp.unknown,
        mode: dhcp.mode,
        programs,
        ..Settings::default()
    }
}

fn leases(config: &Config) -> Result<(Journal, Leases), DataError> {
    let path = config.leases();
    let (journal, replayed) =
        Journal::open(&path).map_err(|e| DataError::file(&path, "can't read or replace the leases", e))?;
    // One torn line is a crash's, and no news.
    if replayed.unreadable > 1 {
        tracing::warn!("{}: {} lines made no sense and were left out", path.display(), replayed.unreadable);
    }
    Ok((journal, replayed.leases))
}

/// What is served where, for people: one line each.
fn serves(state: &State) -> Vec<String> {
    let State { config, links, relayed, engine, files, .. } = state;
    let pool =
        |settings: &Settings| settings.pool.map_or("no pool".to_owned(), |pool| format!("pool {pool}"));
    let mut lines = Vec::new();
    for link in links {
        let Interface { name, address, prefix_len } = &link.interface;
        match link.settings.mode {
            Mode::Server => {
                lines.push(format!("DHCP on {name} ({address}/{prefix_len}), {}", pool(&link.settings)));
            }
            Mode::Proxy => lines.push(format!(
                "proxy DHCP on {name} ({address}/{prefix_len}), beside the server that gives addresses"
            )),
            Mode::Off => {}
        }
        if config.tftp {
            lines.push(format!("TFTP on {address}:69, {} boot programs", files.programs().all().len()));
        }
        lines.push(format!("HTTP on {address}:{}", config.http_port));
        if !link.others.is_empty() {
            let others: Vec<_> = link.others.iter().map(ToString::to_string).collect();
            lines.push(format!("files also on the other addresses of {name}: {}", others.join(", ")));
        }
        lines.push(format!("iSCSI on {address}:{}", config.iscsi_port));
        if config.router_advertisement {
            lines.push(format!("IPv6 router advertisements of no router on {name}"));
        }
    }
    for settings in relayed {
        let Some(subnet) = settings.subnet else { continue };
        lines.push(format!("DHCP by relays from {subnet}, {}", pool(settings)));
    }
    lines.push(format!("disks by the {} engine, cache {}", engine.name(), show_size(config.cache_size.0)));
    lines.push(format!("commands on {}", config.socket().display()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_ends_by_itself_is_an_error_whatever_it_says() {
        let ended = |result| early_end(Ok(("http", result))).to_string();
        assert!(ended(Ok(())).contains("http broke down"));
        assert_eq!(ended(Err(AppError::Interface("eth1 is gone".into()))), "eth1 is gone");
    }

    #[tokio::test]
    async fn an_interface_that_is_gone_ends_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        // The state serves eth1 at 10.0.0.1, which this machine has not, or not with that number.
        let (state, _store, _told) = crate::testing::state(directory.path());
        let error = watch(&state, CancellationToken::new()).await.unwrap_err().to_string();
        assert!(error.contains("eth1") && error.contains("start bootd again"), "{error}");
    }
}
