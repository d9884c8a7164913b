//! The site as a whole: all entities and definitions, seen, changed, exported, and what was changed when by whom.
//!
//! A change is made in two steps. The first says what would change, and gives the edits for it, each with what it
//! expects to find; the second makes exactly these. So what was shown is what is done, and whoever was faster in between
//! is not overwritten but told of.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, State as Extract};
use axum::routing::{get, post};
use hyper::StatusCode;
use site::entity::{
    CLIENT_TYPE, Definitions, Effect, Entity, EntityId, Inactive, Model, Revision, TypeDefinition, TypeName,
    Values,
};
use site::exchange::{Export, export};
use site::{Edited, Site, Store};
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong};
use crate::control::clients;

mod preview;
pub(crate) mod who;
pub(crate) mod wire;

use preview::{Plan, entity_of, expect_all, is_secret, search, shown, unknown};
use who::By;
use wire::{
    Ask, EditRequest, EntityView, ExportRequest, Exported, LogEntry, LogQuery, Outcome, Preview, Search,
    ValueView,
};

/// The largest request: a site file of the largest size, as JSON, and the edits that it comes to.
const LARGEST: usize = 128 << 20;

/// How many revisions of the log are shown when nothing is said.
const LOG: usize = 20;

type App = Extract<Arc<Control>>;

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/site/preview", post(ask))
        .route("/site/edit", post(edit))
        .route("/site/search", post(find))
        .route("/site/entities/{kind}/{name}", get(show))
        .route("/site/types", get(types))
        .route("/site/log", get(log))
        .route("/site/export", post(write))
        .layer(DefaultBodyLimit::max(LARGEST))
}

/// The newest snapshot, which an edit that another process just made is in.
fn newest(control: &Control) -> Result<Arc<Site>, Wrong> {
    control.refresh()?;
    Ok(control.state.site.load_full())
}

async fn ask(Extract(control): App, Body(ask): Body<Ask>) -> Result<Json<Preview>, Wrong> {
    spawn_blocking(move || {
        let site = newest(&control)?;
        let undone = match ask {
            Ask::Revert { revision } => {
                let effects = revision_of(&control.store, revision)?.effects;
                if effects.is_empty() {
                    let error = format!("of revision {revision} it is not known what it changed");
                    return Err(Wrong::invalid(
                        error,
                        "an earlier release of bootd made it; set the values again",
                    ));
                }
                effects
            }
            _ => Vec::new(),
        };
        Ok(Json(Plan::of(&ask, site.model(), &undone)?.preview(&site)?))
    })
    .await?
}

async fn edit(
    Extract(control): App,
    By(author): By,
    Body(request): Body<EditRequest>,
) -> Result<Json<Outcome>, Wrong> {
    spawn_blocking(move || {
        let before = newest(&control)?;
        if before.revision() != request.revision && !expect_all(&request.edits) {
            let error = format!(
                "the site was changed in the meantime: it was at revision {} and is at {} now",
                request.revision,
                before.revision()
            );
            let hint =
                format!("see what changed with: bootd site diff {}..; then try again", request.revision);
            return Err(Wrong::new(StatusCode::CONFLICT, error, Some(hint)));
        }
        let (edited, effects) = control.store.edit(&request.edits, &author)?;
        control.refresh()?;
        let after = control.state.site.load_full();
        clear_up(&control, &before, &effects)?;
        let (changed, revision) = match edited {
            Edited::Changed { revision } => (true, revision),
            Edited::Already { revision } => (false, revision),
        };
        let diff = shown(&effects, before.model(), after.model());
        Ok(Json(Outcome { changed, made: true, revision, diff, notes: Vec::new() }))
    })
    .await?
}

/// What a removed client had is removed with it.
fn clear_up(control: &Control, before: &Site, effects: &[Effect]) -> Result<(), Wrong> {
    for effect in effects {
        if let Effect::Removed { entity } = effect
            && entity.kind.as_str() == CLIENT_TYPE
            && let Ok(name) = entity.name.as_str().parse()
            && let Some(client) = before.client(&name)
        {
            clients::forget(control, client)?;
        }
    }
    Ok(())
}

async fn find(Extract(control): App, Body(asked): Body<Search>) -> Result<Json<Vec<EntityView>>, Wrong> {
    spawn_blocking(move || {
        let site = newest(&control)?;
        let found = search(site.model(), asked.filter.as_ref())?;
        let mut views: Vec<_> = found.into_iter().map(|entity| view(&site, entity, asked.secrets)).collect();
        views.sort_by(|a, b| (a.kind.as_str(), &a.name).cmp(&(b.kind.as_str(), &b.name)));
        Ok(Json(views))
    })
    .await?
}

async fn show(
    Extract(control): App,
    Path((kind, name)): Path<(String, String)>,
    Query(asked): Query<BTreeMap<String, String>>,
) -> Result<Json<EntityView>, Wrong> {
    let id: EntityId = format!("{kind}/{name}").parse()?;
    spawn_blocking(move || {
        let site = newest(&control)?;
        let model = site.model();
        let entity = model.get(id.kind.as_str(), id.name.as_str()).ok_or_else(|| unknown(model, &id))?;
        Ok(Json(view(&site, entity, asked.get("secrets").is_some_and(|yes| yes == "true"))))
    })
    .await?
}

/// An entity with what counts for it.
pub(super) fn view(site: &Site, entity: &Entity, secrets: bool) -> EntityView {
    let model = site.model();
    let id = entity.id();
    let variables =
        model.all_effective(id.kind.as_str(), id.name.as_str()).into_iter().map(|(variable, effective)| {
            let hidden = !secrets && is_secret(model.definitions(), id, variable);
            let values = if hidden {
                effective.values.iter().map(|_| "***").collect::<Values>()
            } else {
                effective.values.clone()
            };
            let definition = model.definitions().definition(id.kind.as_str(), variable.as_str());
            let table = definition.and_then(|definition| definition.table.as_ref()).map(ToString::to_string);
            (variable.clone(), ValueView { values, from: effective.origin, table })
        });
    EntityView {
        kind: id.kind.clone(),
        name: id.name.to_string(),
        variables: variables.collect(),
        inactive: inactive(site, id),
    }
}

/// Why an entity is not served.
fn inactive(site: &Site, id: &EntityId) -> Option<String> {
    let served = |reason: Inactive| reason.reason;
    match id.kind.as_str() {
        CLIENT_TYPE => site.model().client(id.name.as_str())?.err().map(served),
        site::entity::IMAGE_TYPE => site.model().image(id.name.as_str())?.err().map(served),
        kind => lacks(site.model(), kind, id.name.as_str()),
    }
}

fn lacks(model: &Model, kind: &str, name: &str) -> Option<String> {
    let missing = model.missing(kind, name).filter(|missing| !missing.is_empty())?;
    let missing: Vec<_> = missing.iter().map(|name| name.as_str()).collect();
    Some(format!("it lacks {}", missing.join(", ")))
}

async fn types(Extract(control): App) -> Json<BTreeMap<TypeName, TypeDefinition>> {
    let site = control.state.site.load();
    let types: &Definitions = site.model().definitions();
    Json(types.iter().map(|(name, definition)| (name.clone(), definition.clone())).collect())
}

async fn log(Extract(control): App, Query(asked): Query<LogQuery>) -> Result<Json<Vec<LogEntry>>, Wrong> {
    let entity: Option<EntityId> = asked.entity.map(|entity| entity.parse()).transpose()?;
    spawn_blocking(move || {
        let site = newest(&control)?;
        let log = control.store.log(entity.as_ref(), asked.before, asked.limit.unwrap_or(LOG))?;
        let entry = |revision: Revision| {
            let mut effects = revision.effects;
            if let Some(entity) = &entity {
                effects.retain(|effect| entity_of(effect) == Some(entity));
            }
            LogEntry {
                revision: revision.number,
                at: u64::try_from(revision.at.as_millisecond()).unwrap_or_default(),
                who: revision.who,
                why: revision.why,
                diff: shown(&effects, site.model(), site.model()),
            }
        };
        Ok(Json(log.into_iter().map(entry).collect()))
    })
    .await?
}

fn revision_of(store: &Store, number: u64) -> Result<Revision, Wrong> {
    let found = store.log(None, number.checked_add(1), 1)?.into_iter().next();
    match found {
        Some(revision) if revision.number == number => Ok(revision),
        _ => Err(Wrong::not_found(
            format!("there is no revision {number}"),
            "see what there is with: bootd site log",
        )),
    }
}

async fn write(Extract(control): App, Body(asked): Body<ExportRequest>) -> Result<Json<Exported>, Wrong> {
    spawn_blocking(move || {
        let site = newest(&control)?;
        let found = search(site.model(), asked.filter.as_ref())?;
        let how =
            Export { format: asked.format, secrets: asked.secrets, definitions: asked.filter.is_none() };
        Ok(Json(Exported { revision: site.revision(), text: export(site.model(), found, how) }))
    })
    .await?
}
