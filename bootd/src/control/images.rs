//! Images: taken in, listed, removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body as AnswerBody;
use axum::extract::{Path, Query, State as Extract};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use site::{Author, Client, Edited, Image, ImageName, Site, Store, StoreError};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong, edit};
use super::api::{Edit, ImageEntry, ImportLine, ImportRequest};
use super::entities::who::By;
use crate::events::Event;

/// How often the progress of an import is told.
const PERIOD: Duration = Duration::from_millis(200);

/// How many lines of progress may wait for a slow reader. Further ones are left out; the last line waits.
const LINES: usize = 16;

type App = Extract<Arc<Control>>;

pub(super) async fn list(Extract(control): App) -> Json<Vec<ImageEntry>> {
    let site = control.state.site.load();
    Json(site.images().into_iter().map(|image| entry(&site, image)).collect())
}

pub(super) async fn show(Extract(control): App, Path(name): Path<String>) -> Result<Json<ImageEntry>, Wrong> {
    let name: ImageName = name.parse()?;
    let site = control.state.site.load();
    let image = site.image(&name).ok_or_else(|| {
        Wrong::not_found(format!("there is no image \"{name}\""), "list them with: bootd image list")
    })?;
    Ok(Json(entry(&site, image)))
}

fn entry(site: &Site, image: &Image) -> ImageEntry {
    let its = |client: &&&Arc<Client>| client.image.as_ref() == Some(&image.name);
    let clients = site.clients();
    ImageEntry { image: image.clone(), clients: clients.iter().filter(its).map(|c| c.name.clone()).collect() }
}

/// Takes an image in, and tells how far it is, line by line.
pub(super) async fn add(
    Extract(control): App,
    By(author): By,
    Body(request): Body<ImportRequest>,
) -> Response {
    let (lines, told) = mpsc::channel(LINES);
    spawn_blocking(move || {
        let last = match import(&control, &request, &author, &lines) {
            Ok(done) => done,
            Err(wrong) => ImportLine::Failed(wrong.into_problem()),
        };
        let _ = lines.blocking_send(last);
    });
    let body = stream::unfold(told, async |mut told: mpsc::Receiver<ImportLine>| {
        let line = told.recv().await?;
        let text = serde_json::to_string(&line).map(|text| text + "\n");
        Some((text, told))
    });
    ([(hyper::header::CONTENT_TYPE, "application/x-ndjson")], AnswerBody::from_stream(body)).into_response()
}

fn import(
    control: &Control,
    request: &ImportRequest,
    author: &Author,
    lines: &mpsc::Sender<ImportLine>,
) -> Result<ImportLine, Wrong> {
    let mut told = Instant::now();
    let mut progress = |done, total| {
        if told.elapsed() >= PERIOD {
            told = Instant::now();
            let _ = lines.try_send(ImportLine::Progress { done, total });
        }
        // Nobody reads on: the command was interrupted.
        !lines.is_closed()
    };
    let images = control.state.config.images();
    let version = if request.in_place {
        lvm::images::use_in_place(&request.file, &mut progress)
    } else {
        lvm::images::import(&images, request.name.as_str(), &request.file, &mut progress)
    }
    .map_err(|e| Wrong::invalid(e.to_string(), "nothing has changed"))?;
    let image = Image {
        name: request.name.clone(),
        version: version.version.parse()?,
        path: version.path,
        size: version.size,
    };
    let (replaced, edited) = publish(&control.store, &image, author)?;
    control.refresh()?;
    let changed = matches!(edited, Edited::Changed { .. });
    Ok(ImportLine::Done { replaced: replaced.map(|old| old.version), image, changed })
}

/// Adds the image, or points it at its new version, and says what it was.
fn publish(store: &Store, image: &Image, author: &Author) -> Result<(Option<Image>, Edited), StoreError> {
    match store.add_image(image, author) {
        Err(StoreError::ImageExists { .. }) => {
            let (old, edited) = store.set_image_version(
                &image.name,
                image.version.clone(),
                image.path.clone(),
                image.size,
                author,
            )?;
            Ok((Some(old), edited))
        }
        added => added.map(|edited| (None, edited)),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Force {
    #[serde(default)]
    force: bool,
}

/// Whether the image's file is a copy of ours. One that the admin put into our directory, to be used in place, is not.
fn was_taken_in(image: &Image, images: &std::path::Path) -> bool {
    let name = lvm::names::image_file_name(image.name.as_str(), image.version.as_str());
    name.is_ok_and(|name| image.path == images.join(name))
}

/// Removes an image. The file of its version goes too, if it is one that was taken in; one that is used in place is
/// the admin's. A disk that runs from it needs it again after a restart of bootd, so then it stays.
pub(super) async fn remove(
    Extract(control): App,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
    By(author): By,
) -> Result<Json<Edit<ImageEntry>>, Wrong> {
    let name: ImageName = name.parse()?;
    spawn_blocking(move || {
        let ((image, clients), edited) = control.store.remove_image(&name, force, &author)?;
        control.refresh()?;
        let used = control.state.engine.list().iter().any(|disk| disk.request.path == image.path);
        if !used
            && was_taken_in(&image, &control.state.config.images())
            && let Err(e) = lvm::images::remove(&image.path)
        {
            let what =
                format!("the file of image {} is still there: {}: {e}", image.name, image.path.display());
            control.state.events.emit(Event::Trouble { service: "control", what });
        }
        Ok(edit(edited, ImageEntry { image, clients }))
    })
    .await?
}
