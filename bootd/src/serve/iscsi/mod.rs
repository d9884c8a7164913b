//! The iSCSI portal: the one place where the protocol and the disks meet.

use std::sync::Arc;

use lvm::Disk;
use tokio_util::sync::CancellationToken;

use super::ServiceError;
use crate::boot::Login;
use crate::state::{Link, State};

/// The disks that may be logged in to, by target name.
#[derive(Default)]
pub(crate) struct TargetTable;

impl TargetTable {
    /// Lets `login.initiator` log in to `disk` as `login.target`. Ends what this client had of earlier epochs: its
    /// target is no longer found, its sessions are closed.
    pub(crate) fn export(&self, login: &Login, disk: &Disk) {
        let _ = (login, disk);
    }

    /// Ends all that this client has: its targets are no longer found, its sessions are closed.
    pub(crate) fn close(&self, client: &str) {
        let _ = client;
    }
}

/// The iSCSI service, listening.
pub(crate) struct Iscsi;

impl Iscsi {
    pub(crate) fn bind(links: &[Link], port: u16) -> Result<Self, ServiceError> {
        let _ = (links, port);
        Ok(Self)
    }

    pub(crate) async fn run(self, state: Arc<State>, stop: CancellationToken) -> Result<(), ServiceError> {
        drop(state);
        stop.cancelled().await;
        Ok(())
    }
}
