//! What the services share. They never call each other: they meet in this state only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use lvm::Engine;
use parking_lot::Mutex;
use site::Site;

use crate::config::Config;
use crate::events::Events;
use crate::serve::iscsi::TargetTable;

/// The placeholders of types whose crates are still being written.
pub(crate) mod pending {
    /// `netboot::Leases`
    pub(crate) struct Leases;
    /// `netboot::Boots`
    pub(crate) struct Boots;
    /// `netboot::Settings`
    #[derive(Debug)]
    pub(crate) struct Settings;
    /// `netboot::Interface`
    #[derive(Debug)]
    pub(crate) struct Interface;
    /// `menus::Menus`
    pub(crate) struct Menus;
}
use pending::{Boots, Interface, Leases, Menus, Settings};

/// Everything that the services share. Locks are held for look-ups and small edits only, never across I/O or an
/// `await`, and never two at a time.
pub(crate) struct State {
    /// What the operator asked for.
    pub(crate) config: Config,
    /// The interfaces served, each with the settings that hold on it.
    pub(crate) links: Vec<Link>,
    /// The site; `control` replaces it whole. Take one snapshot per packet or request.
    pub(crate) site: ArcSwap<Site>,
    /// Who holds which address.
    pub(crate) leases: Mutex<Leases>,
    /// Each client's boots and their timelines.
    pub(crate) boots: Mutex<Boots>,
    /// The templates of boot scripts.
    pub(crate) menus: ArcSwap<Menus>,
    /// The maker of clients' disks. Calls may block: use `spawn_blocking`.
    pub(crate) engine: Arc<dyn Engine>,
    /// The disks that may be logged in to.
    pub(crate) targets: Arc<TargetTable>,
    /// Where facts are told.
    pub(crate) events: Events,
    /// How often what happened.
    pub(crate) counters: Arc<Counters>,
}

/// One interface that is served.
#[derive(Debug)]
pub(crate) struct Link {
    /// Its name, address and prefix.
    pub(crate) interface: Interface,
    /// The system's number of it.
    pub(crate) index: u32,
    /// Its Ethernet address.
    pub(crate) mac: [u8; 6],
    /// The settings that hold on it; the pool differs from interface to interface.
    pub(crate) settings: Settings,
}

/// Seconds since 1970: the clock of leases.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970: the clock of boots.
pub(crate) fn unix_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts one more.
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// Counts `n` more.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often what happened since the start.
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $($(#[$doc])* pub(crate) $name: Counter,)* }

        impl Counters {
            /// Every counter with its name.
            pub(crate) fn all(&self) -> HashMap<&'static str, u64> {
                HashMap::from([$((stringify!($name), self.$name.get()),)*])
            }
        }
    };
}

counters! {
    /// DHCP datagrams that came.
    dhcp_received,
    /// DHCP datagrams that were no DHCP.
    dhcp_malformed,
    /// DHCP replies that were sent.
    dhcp_sent,
    /// TFTP requests that came.
    tftp_requests,
    /// TFTP datagrams that were no request, or broken.
    tftp_malformed,
    /// TFTP requests that were refused because too many transfers were running.
    tftp_refused,
    /// TFTP transfers that ended well.
    tftp_completed,
    /// TFTP transfers that did not.
    tftp_failed,
    /// HTTP requests that came.
    http_requests,
    /// HTTP connections refused because too many were open.
    http_refused,
    /// Boot scripts rendered.
    scripts_rendered,
    /// Boot scripts refused: asked for by an address that is not the client's.
    scripts_refused,
    /// Boot scripts that could not be rendered, or whose disk could not be made.
    scripts_failed,
    /// iSCSI connections that came.
    iscsi_connections,
    /// iSCSI connections refused because too many were open.
    iscsi_refused,
    /// iSCSI log-ins that succeeded.
    iscsi_logins,
    /// iSCSI log-ins that were refused.
    iscsi_login_failures,
    /// iSCSI connections that ended for a breach of the protocol.
    iscsi_protocol_errors,
    /// Disk operations that failed.
    disk_errors,
    /// Events that were not told because the stream was full.
    events_lost,
}
