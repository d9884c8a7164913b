//! Boot programs: taken in, listed, taken away.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong};
use super::api::ProgramRequest;
use crate::programs::{self, ProgramEntry, ProgramError};

type App = Extract<Arc<Control>>;

pub(super) async fn list(Extract(control): App) -> Result<Json<Vec<ProgramEntry>>, Wrong> {
    Ok(Json(spawn_blocking(move || programs::list(&control.state.files)).await?))
}

pub(super) async fn add(
    Extract(control): App,
    Body(request): Body<ProgramRequest>,
) -> Result<Json<ProgramEntry>, Wrong> {
    let ProgramRequest { file, name, arch } = request;
    let added = spawn_blocking(move || programs::add(&control.state.files, &file, name.as_deref(), arch));
    Ok(Json(added.await??))
}

pub(super) async fn remove(
    Extract(control): App,
    Path(name): Path<String>,
) -> Result<Json<ProgramEntry>, Wrong> {
    Ok(Json(spawn_blocking(move || programs::remove(&control.state.files, &name)).await??))
}

impl From<ProgramError> for Wrong {
    fn from(error: ProgramError) -> Self {
        let hint = match &error {
            ProgramError::Io(..) => {
                "the daemon reads it: is it where the daemon sees it, and may the daemon read it?"
            }
            ProgramError::NotFound(_) => "list them with: bootd bootprogram list",
            ProgramError::OtherArchitecture { .. } => {
                "nothing has changed; leave --arch away to put it where it belongs"
            }
            _ => "nothing has changed",
        };
        match error {
            ProgramError::NotFound(_) => Self::not_found(error.to_string(), hint),
            _ => Self::invalid(error.to_string(), hint),
        }
    }
}
