//! What ties the portal to the rest of bootd: the disks of boots, their timelines, the log.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use iscsi::{
    Account, Credentials, EndReason, Identity, Limits, LoginStatus, Lun, LunOptions, Secret, Target,
};
use lvm::names::{self, DiskIdentity};
use lvm::{Disk, Export};
use netboot::StepKind;
use parking_lot::{Mutex, RwLock};
use site::MacAddr;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::elsewhere;
use super::portal::{Fact, Portal, Report, Table};
use crate::boot::Login;
use crate::events::Event;
use crate::serve::{ServiceError, listen_on};
use crate::state::{Link, State, unix_millis};
use crate::systemd::Given;
use crate::whereabouts::Sign;

pub(super) const SERVICE: &str = "iscsi";

/// What every disk says of itself, whoever exports it: with another engine it must not become another disk.
const VENDOR: &str = "BOOTD";
const PRODUCT: &str = "Virtual Disk";
const REVISION: &str = "1";

/// What an engine that exports disks by itself is told.
pub(crate) fn export_of(login: &Login, disk: &Disk) -> Export {
    Export {
        target: login.target.clone(),
        initiator: login.initiator.clone(),
        user: login.user.clone(),
        secret: login.secret.clone(),
        vendor: VENDOR.into(),
        product: PRODUCT.into(),
        revision: REVISION.into(),
        serial: names::disk_identity(&disk.request.image, &disk.request.client).serial,
    }
}

/// Whose disk a target is.
#[derive(Debug, Clone)]
struct Owner {
    client: String,
    target: String,
    initiator: String,
    mac: MacAddr,
    epoch: u64,
}

/// The disks that may be logged in to, by target name. Those that the kernel exports have one target together, and
/// stand among the owners by their initiators' names.
#[derive(Default)]
pub(crate) struct TargetTable {
    disks: Arc<Table>,
    owners: RwLock<HashMap<String, Owner>>,
}

impl TargetTable {
    /// Lets `login.initiator` log in to `disk` as `login.target`. Ends what this client had of earlier epochs: its
    /// target is no longer found, its sessions are closed.
    pub(crate) fn export(&self, login: &Login, disk: &Disk) {
        let client = &disk.request.client;
        let key = if disk.volume.is_some() { &login.target } else { &login.initiator };
        self.end(|name, owner| owner.client == *client && name != key);
        let owner = Owner {
            client: client.clone(),
            target: login.target.clone(),
            initiator: login.initiator.clone(),
            mac: login.mac,
            epoch: login.epoch,
        };
        self.owners.write().insert(key.clone(), owner);
        // Where the kernel exports the disk, there is nothing to serve here.
        let Some(volume) = disk.volume.clone() else { return };
        let DiskIdentity { serial, naa } = names::disk_identity(&disk.request.image, client);
        let identity = Identity {
            vendor: VENDOR.into(),
            product: PRODUCT.into(),
            revision: REVISION.into(),
            serial,
            naa,
            target_name: login.target.clone(),
        };
        let lun = Arc::new(Lun::new(identity, disk.geometry, LunOptions::default()));
        let account = Account { user: login.user.clone(), secret: Secret::new(login.secret.clone()) };
        let credentials =
            Credentials { initiator: Some(login.initiator.clone()), chap: Some(account), mutual: None };
        let target = Target::new(&login.target, credentials, lun);
        self.disks.insert(target, volume);
    }

    /// Ends all that this client has: its targets are no longer found, its sessions are closed.
    pub(crate) fn close(&self, client: &str) {
        self.end(|_, owner| owner.client == client);
    }

    /// How that machine may log in to the disk of the boot that it is in, but for the secret.
    pub(crate) fn login_of(&self, mac: MacAddr) -> Option<Login> {
        let owners = self.owners.read();
        let owner = owners.values().find(|owner| owner.mac == mac)?;
        let Owner { target, initiator, epoch, .. } = owner.clone();
        let (user, secret) = (initiator.clone(), String::new());
        Some(Login { mac, epoch, target, initiator, user, secret })
    }

    /// The machine whose boot has that disk.
    pub(super) fn machine_of(&self, client: &str, epoch: u64) -> Option<MacAddr> {
        let owners = self.owners.read();
        owners.values().find(|owner| owner.client == client && owner.epoch == epoch).map(|owner| owner.mac)
    }

    /// The machine, and its boot, whose disk that initiator may log in to.
    pub(super) fn boot_of_initiator(&self, initiator: &str) -> Option<(MacAddr, u64)> {
        let owners = self.owners.read();
        owners.values().find(|owner| owner.initiator == initiator).map(|owner| (owner.mac, owner.epoch))
    }

    fn end(&self, is_over: impl Fn(&str, &Owner) -> bool) {
        let over = |(name, owner): (&String, &mut Owner)| is_over(name, owner).then(|| name.clone());
        let names: Vec<String> = self.owners.write().iter_mut().filter_map(over).collect();
        for name in names {
            self.owners.write().remove(&name);
            self.disks.remove(&name);
        }
    }

    fn owner(&self, target: Option<&str>) -> Option<Owner> {
        self.owners.read().get(target?).cloned()
    }
}

/// The iSCSI service, listening.
#[derive(Debug)]
pub(crate) struct Iscsi {
    listeners: Vec<std::net::TcpListener>,
}

impl Iscsi {
    /// Listens on the address of each link, by the sockets that were `given` where there are some.
    ///
    /// # Errors
    /// When an address can't be listened on.
    pub(crate) fn bind(links: &[Link], port: u16, given: &mut Given) -> Result<Self, ServiceError> {
        Ok(Self { listeners: listen_on(SERVICE, links, port, "port in [iscsi]", given)? })
    }

    /// Serves until `stop`. Then sessions end as if the network had failed: requests that are under way are
    /// finished, and initiators log in again when bootd is back.
    ///
    /// # Errors
    /// When the runtime can't take the sockets.
    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        let table = Arc::clone(&state.targets.disks);
        let is_elsewhere = state.config.engine.is_exported_by_kernel();
        let watching = is_elsewhere.then(|| elsewhere::watch(Arc::clone(&state), stop.clone()));
        let teller = Teller { state, stop: stop.clone(), logged_out: Mutex::default() };
        let portal = Arc::new(Portal::new(table, Arc::new(teller), Limits::default(), stop.clone()));
        let accepting = TaskTracker::new();
        for listener in self.listeners {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|e| ServiceError::new(SERVICE, "can't use a listening socket", e))?;
            let portal = Arc::clone(&portal);
            accepting.spawn(async move { portal.serve(listener).await });
        }
        accepting.close();
        accepting.wait().await;
        // Without a socket, as the kernel exports the disks, there is nothing else to wait for.
        match watching {
            Some(watching) => watching.await,
            None => stop.cancelled().await,
        }
        portal.drain().await;
        Ok(())
    }
}

/// Tells bootd what happens at the portal.
struct Teller {
    state: Arc<State>,
    stop: CancellationToken,
    /// The connections whose initiators have logged out, until they are closed: as many as there are connections.
    logged_out: Mutex<HashSet<SocketAddr>>,
}

impl Report for Teller {
    fn tell(&self, peer: SocketAddr, fact: Fact<'_>) {
        let counters = &self.state.counters;
        match fact {
            Fact::Connected => counters.iscsi_connections.inc(),
            Fact::Refused { why } => {
                counters.iscsi_refused.inc();
                self.refused(peer, why.to_owned());
            }
            Fact::Session { target, event } => self.session(peer, target, event),
            Fact::DiskFailed { target, error } => {
                counters.disk_errors.inc();
                let full = error.kind() == block::ErrorKind::NoSpace;
                let kind = if full { StepKind::DiskFull } else { StepKind::DiskFailed };
                self.step(self.state.targets.owner(Some(target)), kind, &error.to_string());
                let what = format!("the disk {target} failed: {error}");
                self.state.events.emit(Event::Trouble { service: SERVICE, what });
            }
            Fact::Closed { target } => {
                let logged_out = self.logged_out.lock().remove(&peer);
                // A daemon that stops breaks sessions off, which come back by themselves.
                if !logged_out && !self.stop.is_cancelled() {
                    self.step(self.state.targets.owner(target), StepKind::Lost, &peer.ip().to_string());
                }
            }
        }
    }

    fn trouble(&self, error: &io::Error) {
        let what = format!("can't take a connection: {error}");
        self.state.events.emit(Event::Trouble { service: SERVICE, what });
    }
}

impl Teller {
    fn session(&self, peer: SocketAddr, target: Option<&str>, event: iscsi::Event) {
        let state = &self.state;
        let owner = state.targets.owner(target);
        match event {
            iscsi::Event::LoggedIn { initiator, .. } => {
                state.counters.iscsi_logins.inc();
                let Some(owner) = owner else { return };
                if let IpAddr::V4(address) = peer.ip() {
                    state.whereabouts.saw(&state.site.load(), owner.mac, address, Sign::Login);
                }
                let detail = format!("{initiator} from {}", peer.ip());
                let number = state.boots.lock().on_login(owner.mac, owner.epoch, &detail, unix_millis());
                state.tell(owner.mac, format!("{}: {detail}", StepKind::Login(number)));
            }
            iscsi::Event::LoginRefused { initiator, target, status, why } => {
                state.counters.iscsi_login_failures.inc();
                let who = initiator.as_deref().unwrap_or("an initiator without a name");
                let what = target.as_deref().unwrap_or("nothing");
                let text = format!("{who} may not log in to {what}: {why} (status {:04x})", status.code());
                // What a stranger tries at a client's disk is no step of that client's boot.
                let is_its_own = |owner: &Owner| initiator.as_deref() == Some(&owner.initiator);
                if let Some(owner) = state.targets.owner(target.as_deref()).filter(is_its_own) {
                    let chap = status == LoginStatus::AuthenticationFailure;
                    state.step_at(owner.mac, owner.epoch, StepKind::LoginRefused { chap }, &text);
                }
                self.refused(peer, text);
            }
            iscsi::Event::Ended { why: EndReason::ProtocolError(why) } => {
                state.counters.iscsi_protocol_errors.inc();
                state.events.emit(Event::Malformed { service: SERVICE, peer, why });
            }
            iscsi::Event::FirstWrite => self.step(owner, StepKind::FirstWrite, ""),
            iscsi::Event::LoggedOut => {
                self.logged_out.lock().insert(peer);
                self.step(owner, StepKind::Logout, "");
            }
            _ => {}
        }
    }

    fn step(&self, owner: Option<Owner>, kind: StepKind, detail: &str) {
        if let Some(owner) = owner {
            self.state.step_at(owner.mac, owner.epoch, kind, detail);
        }
    }

    fn refused(&self, peer: SocketAddr, why: String) {
        self.state.events.emit(Event::Refused { service: SERVICE, peer, why });
    }
}

#[cfg(test)]
mod tests {
    use block::{BlockCount, Bytes, Geometry, MemVolume};
    use iscsi::Directory;
    use lvm::DiskRequest;

    use super::*;

    fn export(table: &TargetTable, client: &str, epoch: u64) -> String {
        let target = format!("iqn.2026-01.internal.lab.server:image:{client}:{epoch:x}");
        let initiator = format!("iqn.2026-01.internal.lab.{client}:system-disk");
        let login = Login {
            mac: MacAddr::new([2, 0, 0, 0, 0, 1]),
            epoch,
            target: target.clone(),
            user: initiator.clone(),
            initiator,
            secret: "hunter2hunter2hu".into(),
        };
        let geometry = Geometry::new(BlockCount::new(8)).unwrap();
        let request = DiskRequest {
            client: client.into(),
            epoch,
            image: "image".into(),
            version: "1".into(),
            path: "/image".into(),
            overlay_limit: Bytes(0),
            note: String::new(),
        };
        table.export(&login, &Disk { request, geometry, volume: Some(Arc::new(MemVolume::new(geometry))) });
        target
    }

    #[test]
    fn a_new_boot_ends_the_targets_of_earlier_ones_of_that_client() {
        let table = TargetTable::default();
        let first = export(&table, "rook", 1);
        let other = export(&table, "pawn", 1);
        let second = export(&table, "rook", 2);
        assert!(table.disks.target(&first).is_none() && table.owner(Some(&first)).is_none());
        assert!(table.disks.target(&second).is_some() && table.disks.target(&other).is_some());
        assert_eq!(table.owner(Some(&second)).map(|owner| owner.epoch), Some(2));
        table.close("rook");
        assert!(table.disks.target(&second).is_none());
        assert!(table.disks.target(&other).is_some());
    }

    #[test]
    fn only_the_client_itself_may_log_in_and_sees_its_target() {
        let table = TargetTable::default();
        let target = export(&table, "rook", 1);
        export(&table, "pawn", 1);
        let found = table.disks.target(&target).unwrap();
        let credentials = found.credentials();
        assert_eq!(credentials.initiator.as_deref(), Some("iqn.2026-01.internal.lab.rook:system-disk"));
        assert!(credentials.chap.is_some());
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let seen = table.disks.targets_for("iqn.2026-01.internal.lab.rook:system-disk");
        assert_eq!(seen.iter().map(|target| target.name()).collect::<Vec<_>>(), [target]);
    }

    #[test]
    fn a_client_finds_the_same_disk_after_every_boot() {
        let table = TargetTable::default();
        let identity = |name: &str| {
            let target = table.disks.target(name).unwrap();
            let identity = target.lun().identity().clone();
            (identity.serial, identity.naa)
        };
        let first = identity(&export(&table, "rook", 1));
        assert_eq!(identity(&export(&table, "rook", 2)), first);
        assert_ne!(identity(&export(&table, "pawn", 2)), first);
    }
}
