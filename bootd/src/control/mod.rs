//! The admin API: JSON over HTTP on the Unix socket `DATA/bootd.sock`, which only the daemon's user may open.
//!
//! Every edit goes to the database first; then the new snapshot is in force at once. Edits that other processes
//! make to the database are in force within 200 ms, those of the templates within a second.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post};
use menus::Menus;
use parking_lot::Mutex;
use site::{Store, StoreError};
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::data::{Stamp, templates, templates_stamp};
use crate::events::{Event, Recent};
use crate::serve::ServiceError;
use crate::state::State;
use crate::taps::Taps;

mod answer;
pub(crate) mod api;
mod boot_once;
mod boots;
mod capture;
mod clients;
pub(crate) mod entities;
mod explain;
mod images;
mod mirrors;
mod programs;
mod registrations;
mod render;
mod status;
#[cfg(test)]
mod tests;

use answer::Wrong;
use entities::who::Peer;

const SERVICE: &str = "control";

/// How often the database is asked whether other processes edited it: often enough for an edit to be in force within
/// 200 ms.
const POLL: Duration = Duration::from_millis(100);

/// How often the templates are looked at.
const POLL_TEMPLATES: Duration = Duration::from_secs(1);

/// How long requests that are being answered may go on when bootd stops. An import that takes longer is broken off,
/// and has changed nothing.
const DRAIN: Duration = Duration::from_secs(2);

/// What the API's answers are made of.
pub(crate) struct Control {
    state: Arc<State>,
    store: Arc<Store>,
    recent: Arc<Recent>,
    /// What is served where, for people.
    serves: Vec<String>,
    /// When the daemon started, in milliseconds since 1970.
    started: u64,
    /// The templates' stamp when they were last read.
    templates: Mutex<Option<Stamp>>,
    /// Through which packets are captured.
    taps: Taps,
}

impl Control {
    pub(crate) fn new(
        state: Arc<State>,
        recent: Arc<Recent>,
        serves: Vec<String>,
        started: u64,
        taps: Taps,
    ) -> Self {
        let templates = Mutex::new(templates_stamp(&state.config.menus()));
        let store = Arc::clone(&state.store);
        Self { state, store, recent, serves, started, templates, taps }
    }

    /// Puts the site as the database has it in force.
    fn refresh(&self) -> Result<(), StoreError> {
        self.state.refresh()
    }

    /// Reads the templates again if one was added, changed or removed. While one is wrong, all stay as they were.
    fn reload_templates(&self) {
        let directory = self.state.config.menus();
        let stamp = templates_stamp(&directory);
        if std::mem::replace(&mut *self.templates.lock(), stamp.clone()) == stamp {
            return;
        }
        let read = templates(&directory).map_err(|e| e.to_string());
        match read.and_then(|texts| Menus::new(texts).map_err(|e| e.to_string())) {
            Ok(menus) => {
                self.state.menus.store(Arc::new(menus));
                self.state.events.emit(Event::MenusChanged);
            }
            Err(e) => {
                let what = format!("the templates stay in force as they were: {e}");
                self.state.events.emit(Event::Trouble { service: SERVICE, what });
            }
        }
    }

    /// Looks for edits by other processes until `stop`.
    async fn poll(self: Arc<Self>, stop: CancellationToken) {
        // Told once, however often it is tried.
        let mut trouble = None;
        let mut templates = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            let look = templates.elapsed() >= POLL_TEMPLATES;
            if look {
                templates = tokio::time::Instant::now();
            }
            let control = Arc::clone(&self);
            let refreshed = spawn_blocking(move || {
                if look {
                    control.reload_templates();
                }
                let refreshed = if control.store.changed() { control.refresh() } else { Ok(()) };
                for what in control.store.take_notices() {
                    control.state.events.emit(Event::Trouble { service: SERVICE, what });
                }
                refreshed
            })
            .await;
            match refreshed {
                Ok(Err(e)) => {
                    let what = format!("the site is served as it was: {e}");
                    if trouble.as_ref() != Some(&what) {
                        self.state.events.emit(Event::Trouble { service: SERVICE, what: what.clone() });
                    }
                    trouble = Some(what);
                }
                Ok(Ok(())) => trouble = None,
                Err(_) => {}
            }
        }
    }
}

/// The socket, listening.
pub(crate) struct ControlSocket(StdListener);

impl ControlSocket {
    /// Listens. The caller holds the data directory's lock: a socket that lies there is a dead daemon's.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub(crate) fn bind(config: &Config) -> Result<Self, ServiceError> {
        let path = config.socket();
        let bind = || {
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = StdListener::bind(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(Self(listener))
        };
        bind().map_err(|e| {
            ServiceError::new(SERVICE, format!("can't listen on {}", path.display()), e)
                .remedy("check that the data directory is writable and its path shorter than 97 bytes")
        })
    }

    /// Answers until `stop`.
    ///
    /// # Errors
    /// When the runtime can't take the socket, or serving ends.
    pub(crate) async fn run(
        self,
        control: Arc<Control>,
        stop: CancellationToken,
    ) -> Result<(), ServiceError> {
        let listener = UnixListener::from_std(self.0)
            .map_err(|e| ServiceError::new(SERVICE, "can't watch a socket", e))?;
        let polling = tokio::spawn(Arc::clone(&control).poll(stop.clone()));
        let router = router(control).into_make_service_with_connect_info::<Peer>();
        let serving = axum::serve(listener, router)
            .with_graceful_shutdown(stop.clone().cancelled_owned())
            .into_future();
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let served = tokio::select! {
            served = serving => served,
            () = drained => Ok(()),
        };
        polling.abort();
        served.map_err(|e| ServiceError::new(SERVICE, "can't serve any more", e))
    }
}

fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/clients", get(clients::list).post(clients::add))
        .route("/clients/{name}", get(clients::show).patch(clients::set).delete(clients::remove))
        .route("/boot-once", post(boot_once::set))
        .route("/images", get(images::list).post(images::add))
        .route("/images/{name}", get(images::show).delete(images::remove))
        .route("/boots/{machine}", get(boots::boots))
        .route("/capture/{machine}", get(capture::capture))
        .route("/bootprograms", get(programs::list).post(programs::add))
        .route("/bootprograms/{*name}", delete(programs::remove))
        .route("/explain/{machine}", get(explain::explain))
        .route("/registrations", get(registrations::list))
        .route("/registrations/{mac}", delete(registrations::forget))
        .route("/registrations/{mac}/approve", post(registrations::approve))
        .route("/registrations/{mac}/reject", post(registrations::reject))
        .route("/render", get(render::render))
        .route("/status", get(status::status))
        .merge(entities::routes())
        .merge(mirrors::routes())
        .fallback(async || {
            Wrong::not_found("there is no such request", "see `bootd --help` for what there is")
        })
        .with_state(control)
}
