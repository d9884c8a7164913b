//! What the daemon serves and how it goes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Extract};
use serde::Deserialize;
use site::Client;
use tokio::task::spawn_blocking;

use super::answer::Wrong;
use super::api::{ClientStatus, DiskState, ServerStatus, Status};
use super::{Control, boots, clients};
use crate::serve::dhcp;
use crate::space;

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    client: Option<String>,
}

pub(super) async fn status(
    Extract(control): Extract<Arc<Control>>,
    Query(which): Query<Which>,
) -> Result<Json<Status>, Wrong> {
    let state = &control.state;
    let site = state.site.load_full();
    let wanted: Vec<Client> = match which.client {
        Some(name) => vec![clients::find(state, &name.parse()?)?],
        None => site.clients().into_iter().map(|client| Client::clone(client)).collect(),
    };
    // Asks the file system of each overlay.
    let (disks, caches, space) = {
        let engine = Arc::clone(&state.engine);
        spawn_blocking(move || (engine.status(), engine.cache(), engine.space())).await?
    };
    let warnings = {
        let (state, disks) = (Arc::clone(state), disks.clone());
        spawn_blocking(move || space::warnings(&space::all(&state.config, &disks, space))).await?
    };
    let disk_of = |client: &Client| {
        let disk = disks.iter().find(|disk| disk.request.client == client.name.as_str())?;
        Some(DiskState {
            image: disk.request.image.clone(),
            version: disk.request.version.clone(),
            used: disk.overlay_used.0,
            limit: disk.request.overlay_limit.0,
        })
    };
    let clients = wanted
        .iter()
        .map(|client| ClientStatus {
            name: client.name.clone(),
            mac: client.mac,
            address: state.leased(client.mac),
            seen: state.whereabouts.of(client.mac),
            reserved: client.address,
            source: state.address_source(),
            boot: boots::last(&state.boots.lock(), client.mac),
            disk: disk_of(client),
        })
        .collect();
    Ok(Json(Status {
        server: ServerStatus {
            name: state.config.server.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: control.started,
            engine: state.engine.name().to_owned(),
            revision: site.revision(),
            store: control.store.state(),
            inactive: site.inactive().count(),
            serves: control.serves.clone(),
            warnings: warnings.into_iter().chain(dhcp::warnings(state)).collect(),
            counters: state.counters.all(),
        },
        clients,
        caches,
        events: control.recent.all(),
    }))
}
