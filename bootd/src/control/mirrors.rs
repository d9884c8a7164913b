//! Mirrors: what they have stored, fetching ahead, and throwing away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body as AnswerBody;
use axum::extract::{Path, Query, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use hyper::StatusCode;
use netboot::{Asked, FilePath, parse_tftp_path};
use serde::Deserialize;
use site::Site;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Control;
use super::answer::{Body, Wrong};
use super::api::{FetchLine, FetchRequest, MirrorEntry, MirrorList, Problem, StoredFile};
use crate::mirror::{Got, Known, MirrorError, Phase, Upstream};

/// How often the progress of a fetch is told.
const PERIOD: Duration = Duration::from_millis(200);

/// How many lines of progress may wait for a slow reader.
const LINES: usize = 16;

type App = Extract<Arc<Control>>;

pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new().route("/mirrors", get(list).post(fetch)).route("/mirrors/{name}", get(show).delete(discard))
}

impl From<MirrorError> for Wrong {
    fn from(error: MirrorError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.to_string(), None)
    }
}

async fn list(Extract(control): App) -> Json<MirrorList> {
    let state = &control.state;
    let site = state.site.load();
    let mut stored: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for (mirror, known, _) in state.mirrors.all() {
        let (files, bytes) = stored.entry(mirror).or_default();
        *files += 1;
        *bytes += known.size;
    }
    let mut names = Upstream::names(&site);
    // What a mirror stored that the site has no more is still there, and takes space.
    names.extend(stored.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    names.sort();
    let entry = |name: String| {
        let (files, bytes) = stored.get(&name).copied().unwrap_or_default();
        let url = match Upstream::of(&site, &name) {
            Some(Ok(upstream)) => Some(upstream.url()),
            _ => None,
        };
        MirrorEntry { name, url, files, bytes }
    };
    let mirrors: Vec<_> = names.into_iter().map(entry).collect();
    let bytes = mirrors.iter().map(|mirror| mirror.bytes).sum();
    Json(MirrorList { mirrors, bytes, limit: state.mirrors.limit() })
}

async fn show(Extract(control): App, Path(name): Path<String>) -> Result<Json<Vec<StoredFile>>, Wrong> {
    let stored = control.state.mirrors.all().into_iter().filter(|(mirror, ..)| *mirror == name);
    let files: Vec<_> = stored.map(|(mirror, known, used)| file(mirror, known, Some(used))).collect();
    if files.is_empty() {
        upstream(&control.state.site.load(), &name)?;
    }
    Ok(Json(files))
}

#[derive(Debug, Deserialize)]
struct Which {
    path: Option<String>,
}

async fn discard(
    Extract(control): App,
    Path(name): Path<String>,
    Query(Which { path }): Query<Which>,
) -> Result<Json<Vec<StoredFile>>, Wrong> {
    let wanted = path.clone();
    let (of, mirror) = (Arc::clone(&control.state), name.clone());
    let gone = spawn_blocking(move || of.mirrors.drop_stored(&mirror, wanted.as_deref())).await??;
    if gone.is_empty() {
        if let Some(path) = path {
            let what = format!("mirror {name} has no file {path} stored");
            return Err(Wrong::not_found(what, format!("list them with: bootd mirror list {name}")));
        }
        upstream(&control.state.site.load(), &name)?;
    }
    Ok(Json(gone.into_iter().map(|known| file(name.clone(), known, None)).collect()))
}

fn file(mirror: String, known: Known, used: Option<u64>) -> StoredFile {
    let Known { path, url, size, sha256, verified, fetched, checked, .. } = known;
    StoredFile { mirror, path, url, size, sha256, verified, fetched, checked, used }
}

fn upstream(site: &Site, name: &str) -> Result<Upstream, MirrorError> {
    Upstream::of(site, name).unwrap_or_else(|| Err(MirrorError::Unknown(name.to_owned())))
}

/// Fetches a file, and tells how far it is, line by line.
async fn fetch(Extract(control): App, Body(request): Body<FetchRequest>) -> Response {
    let (lines, told) = mpsc::channel(LINES);
    tokio::spawn(async move {
        let last = match bring(&control, &request, &lines).await {
            Ok(done) => done,
            Err(e) => FetchLine::Failed(Problem { error: e.to_string(), hint: None }),
        };
        let _ = lines.send(last).await;
    });
    let body = stream::unfold(told, async |mut told: mpsc::Receiver<FetchLine>| {
        let line = told.recv().await?;
        let text = serde_json::to_string(&line).map(|text| text + "\n");
        Some((text, told))
    });
    ([(hyper::header::CONTENT_TYPE, "application/x-ndjson")], AnswerBody::from_stream(body)).into_response()
}

async fn bring(
    control: &Control,
    request: &FetchRequest,
    lines: &mpsc::Sender<FetchLine>,
) -> Result<FetchLine, MirrorError> {
    let mirrors = &control.state.mirrors;
    let upstream = upstream(&control.state.site.load_full(), &request.mirror)?;
    let path: FilePath = match parse_tftp_path(&request.path) {
        Asked::File(path) => path,
        _ => {
            let what = format!("{:?} is no path of a file", request.path);
            return Err(MirrorError::Site { mirror: request.mirror.clone(), what });
        }
    };
    let mut fetched = false;
    if let Got::Arriving { len, mut flight, .. } = mirrors.get(&upstream, &path).await? {
        fetched = true;
        loop {
            match flight.borrow_and_update().clone() {
                Phase::Asked => {}
                Phase::Arriving { written, .. } => {
                    let _ = lines.try_send(FetchLine::Progress { done: written, total: len });
                }
                Phase::Stored => break,
                Phase::Failed(e) => return Err(e),
            }
            if flight.changed().await.is_err() {
                break;
            }
            if matches!(&*flight.borrow(), Phase::Arriving { .. }) {
                tokio::time::sleep(PERIOD).await;
            }
        }
    }
    let known = mirrors.known(&request.mirror, path.as_str());
    let known = known.ok_or_else(|| MirrorError::Internal("what was stored is gone".into()))?;
    Ok(FetchLine::Done { file: file(request.mirror.clone(), known, None), fetched })
}
