//! What the services share. They never call each other: they meet in this state only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use lvm::Engine;
use menus::Menus;
use netboot::{
    Asker, BootPlan, Boots, Decision, DhcpEvent, Interface, Leases, Mode, Others, Progress, Settings, Shapes,
    Stage, StepKind, plan, settings_at,
};
use parking_lot::Mutex;
use site::{MacAddr, Site, Store, StoreError};

use crate::config::Config;
use crate::events::{Event, Events};
use crate::firmwares::Firmwares;
use crate::mirror::Mirrors;
use crate::pings::Pings;
use crate::registrations::Waiting;
use crate::serve::files::Files;
use crate::serve::iscsi::TargetTable;
use crate::serve::script::Unfetched;
use crate::whereabouts::{Sign, Whereabouts};

/// Everything that the services share. Locks are held for look-ups and small edits only, never across I/O or an
/// `await`, and never two at a time.
pub(crate) struct State {
    /// What the operator asked for.
    pub(crate) config: Config,
    /// The interfaces served, each with the settings that hold on it.
    pub(crate) links: Vec<Link>,
    /// The settings that hold for subnets behind relays.
    pub(crate) relayed: Vec<Settings>,
    /// The site; `control` replaces it whole. Take one snapshot per packet or request.
    pub(crate) site: ArcSwap<Site>,
    /// The machines that wait to be registered.
    pub(crate) registrations: Waiting,
    /// Where the site is kept. Calls may block: use `spawn_blocking`.
    pub(crate) store: Arc<Store>,
    /// Held while a snapshot is taken and put in force, so that an older one never replaces a newer one.
    pub(crate) refreshing: Mutex<()>,
    /// Who holds which address.
    pub(crate) leases: Mutex<Leases>,
    /// In which form each machine takes its boot program beside another DHCP server.
    pub(crate) shapes: Mutex<Shapes>,
    /// Other DHCP servers that were heard.
    pub(crate) others: Mutex<Others>,
    /// Asks what is at an address.
    pub(crate) pings: Pings,
    /// Each client's boots and their timelines.
    pub(crate) boots: Mutex<Boots>,
    /// Which firmware machines last said that they have.
    pub(crate) firmwares: Firmwares,
    /// Where clients were seen.
    pub(crate) whereabouts: Whereabouts,
    /// The templates of boot scripts.
    pub(crate) menus: ArcSwap<Menus>,
    /// The files that clients may fetch.
    pub(crate) files: Files,
    /// The files of other servers that are kept here.
    pub(crate) mirrors: Mirrors,
    /// The maker of clients' disks. Calls may block: use `spawn_blocking`.
    pub(crate) engine: Arc<dyn Engine>,
    /// The disks that may be logged in to.
    pub(crate) targets: Arc<TargetTable>,
    /// Lets one script be made at a time for each client.
    pub(crate) script_turns: Turns,
    /// Scripts whose clients were told to ask again.
    pub(crate) unfetched: Unfetched,
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
    /// Our other addresses on it, of which no client is told. Whoever asks there for a file is given it from there.
    pub(crate) others: Vec<Ipv4Addr>,
    /// The settings that hold on it; the pool differs from interface to interface.
    pub(crate) settings: Settings,
}

impl State {
    /// The settings by which a machine at `address` is served that comes by `link`, the same as in DHCP.
    pub(crate) fn settings_at<'a>(&'a self, link: &'a Link, address: Ipv4Addr) -> &'a Settings {
        settings_at(address, &link.interface, &link.settings, &self.relayed)
    }

    /// Who fetches something, as far as DHCP has told.
    pub(crate) fn visitor(&self, mac: MacAddr) -> Asker {
        Asker::supposed(mac, Stage::Ipxe, self.firmwares.of(mac))
    }

    /// What a machine gets that fetches something from `address` by `link`: what its DHCP was answered by, of which a file's
    /// request says nothing.
    pub(crate) fn plan_at(&self, site: &Site, link: &Link, address: Ipv4Addr, mac: MacAddr) -> BootPlan {
        plan(&self.visitor(mac), &link.interface, site, self.settings_at(link, address))
    }

    /// Puts a DHCP exchange into the timeline of its machine, and tells whoever runs the site of machines that it
    /// does not know.
    pub(crate) fn on_dhcp(&self, link: &Link, event: &DhcpEvent) {
        let mac = event.asker.mac;
        self.boots.lock().on_dhcp(event, unix_millis());
        if let Some(firmware) = event.asker.firmware {
            self.firmwares.said(mac, firmware, event.plan.client.is_some());
        }
        if event.plan.client.is_none() {
            // Beside another server, machines that only want an address are none of our business.
            if link.settings.mode != Mode::Server && event.asker.stage == Stage::Other {
                return;
            }
            let interface = link.interface.name.clone();
            self.events.emit(Event::UnknownClient { mac, interface });
            return;
        }
        if link.settings.mode != Mode::Server
            && let Decision::ToldFile(address) = event.decision
        {
            self.whereabouts.saw(&self.site.load(), mac, address, Sign::Heard);
        }
        if event.asker.stage != Stage::Other {
            self.tell(mac, format!("DHCP from {}: {}", event.asker.stage, event.decision));
        }
    }

    /// Puts the site as the database has it in force. Blocks.
    pub(crate) fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.refreshing.lock();
        let site = self.store.snapshot()?;
        let revision = site.revision();
        if self.site.swap(site).revision() != revision {
            self.events.emit(Event::SiteChanged { revision });
        }
        Ok(())
    }

    /// Notes a step of the boot that the machine is in.
    pub(crate) fn step(&self, mac: MacAddr, kind: StepKind, detail: &str) {
        self.step_past(mac, kind, detail, Duration::ZERO);
    }

    /// Notes a step of the boot that the machine was in that long ago.
    pub(crate) fn step_past(&self, mac: MacAddr, kind: StepKind, detail: &str, ago: Duration) {
        // Firmware that a proxy answers fetches by TFTP. What broke off, too, was begun because the offer was taken.
        if let StepKind::TftpFile(fetch) = &kind
            && (fetch.bytes > 0 || fetch.is_complete())
        {
            self.shapes.lock().on_fetch(mac, &fetch.path, unix_seconds());
        }
        let text = step_text(&kind, detail);
        let now = unix_millis();
        let at = now.saturating_sub(millis(ago));
        if self.boots.lock().record_past(mac, kind, detail, at, now) {
            self.tell(mac, text);
        }
    }

    /// Notes a step of the machine's boot with that epoch.
    pub(crate) fn step_at(&self, mac: MacAddr, epoch: u64, kind: StepKind, detail: &str) {
        let text = step_text(&kind, detail);
        if self.boots.lock().record_at(mac, epoch, kind, detail, unix_millis()) {
            self.tell(mac, text);
        }
    }

    /// Whether a machine boots just now, or runs from a disk that it has of us.
    pub(crate) fn is_busy(&self, mac: MacAddr) -> bool {
        let (boots, now) = (self.boots.lock(), unix_millis());
        boots.history(mac).any(|boot| matches!(boot.progress(now), Progress::Booting | Progress::Running))
    }

    /// Tells the log what a machine does, by its client's name if it has one.
    pub(crate) fn tell(&self, mac: MacAddr, what: String) {
        let site = self.site.load();
        let who = site.client_by_mac(mac).map_or_else(|| mac.to_string(), |client| client.name.to_string());
        self.events.emit(Event::Step { who, what });
    }
}

/// Locks that many clients share: enough of them that clients seldom wait for each other, and never more.
#[derive(Debug)]
pub(crate) struct Turns([tokio::sync::Mutex<()>; 64]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| tokio::sync::Mutex::new(())))
    }
}

impl Turns {
    /// The lock of that machine.
    pub(crate) fn of(&self, mac: MacAddr) -> &tokio::sync::Mutex<()> {
        let [.., last] = mac.octets();
        &self.0[usize::from(last & 63)]
    }
}

/// A step and what is said of it, in one line.
fn step_text(kind: &StepKind, detail: &str) -> String {
    if detail.is_empty() { kind.to_string() } else { format!("{kind}: {detail}") }
}

/// Seconds since 1970: the clock of leases.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970: the clock of boots.
pub(crate) fn unix_millis() -> u64 {
    millis(since_1970())
}

/// A time span in milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
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
            pub(crate) fn all(&self) -> BTreeMap<String, u64> {
                BTreeMap::from([$((stringify!($name).to_owned(), self.$name.get()),)*])
            }
        }
    };
}

counters! {
    /// DHCP datagrams that came.
    dhcp_received,
    /// DHCP datagrams that were no DHCP.
    dhcp_malformed,
    /// DHCP requests dropped because their sender sent too many.
    dhcp_dropped,
    /// DHCP requests dropped because all of them together were too many.
    dhcp_flooded,
    /// DHCP replies that were sent.
    dhcp_sent,
    /// TFTP requests that came.
    tftp_requests,
    /// TFTP datagrams that were no request, or broken.
    tftp_malformed,
    /// TFTP requests dropped because their sender sent too many.
    tftp_dropped,
    /// TFTP requests that were refused because too many transfers were running.
    tftp_refused,
    /// TFTP transfers that ended well.
    tftp_completed,
    /// TFTP transfers that did not.
    tftp_failed,
    /// HTTP requests that came.
    http_requests,
    /// HTTP requests that were no HTTP.
    http_malformed,
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

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn every_counter_is_in_the_manual() {
        let manual = include_str!("../../docs/troubleshooting.md");
        for name in Counters::default().all().into_keys() {
            assert!(manual.contains(&format!("| `{name}` | ")), "docs/troubleshooting.md lacks {name}");
        }
    }
}
