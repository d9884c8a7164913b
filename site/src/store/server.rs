//! A site on a server, with a copy of it on this machine's disk.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::StoreState;
use super::copy::LocalCopy;
use super::error::StoreError;
use super::postgres::{Postgres, STATEMENT, shown};
use super::rows::{How, Known};

/// How long nothing is tried after the server was lost, at first; doubled with each failure.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest that nothing is tried.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How often the server is asked though it said nothing: a notification may be lost.
const ASK: Duration = Duration::from_secs(1);

/// A server, reachable or not.
pub(super) struct Server {
    config: Config,
    link: Option<Postgres>,
    copy: LocalCopy,
    down: Option<Down>,
    asked: Instant,
    state: Arc<Mutex<StoreState>>,
    /// What the operator should know.
    pub(super) notices: Vec<String>,
}

struct Down {
    since: jiff::Timestamp,
    error: String,
    wait: Duration,
    next: Instant,
}

impl Server {
    /// The server at `url`, with the copy at `path`. Nothing is asked of the server yet.
    pub(super) fn open(url: &str, path: &Path, state: Arc<Mutex<StoreState>>) -> Result<Self, StoreError> {
        let example = "postgres://bootd@db.example.net/bootd";
        let address = |reason: String| StoreError::Address { reason, example };
        // What it says may show the password.
        let config: Config = url.parse().map_err(|_| address("it is no PostgreSQL URL".to_owned()))?;
        if config.get_hosts().is_empty() {
            return Err(address("it names no host".to_owned()));
        }
        if !matches!(config.get_ssl_mode(), SslMode::Disable | SslMode::Prefer) {
            let reason = "this bootd does not speak TLS to PostgreSQL: use a Unix socket, a private network or a \
                          tunnel, and leave sslmode out";
            return Err(address(reason.to_owned()));
        }
        let (copy, notice) = LocalCopy::open(path, &shown(&config))?;
        let notices = notice.into_iter().collect();
        Ok(Self { config, link: None, copy, down: None, asked: Instant::now(), state, notices })
    }

    pub(super) fn place(&self) -> String {
        shown(&self.config)
    }

    /// What the copy holds.
    pub(super) fn kept(&self) -> Option<&Known> {
        self.copy.known()
    }

    /// Why nothing is to be tried just now.
    pub(super) fn resting(&self) -> Option<StoreError> {
        let down = self.down.as_ref().filter(|down| Instant::now() < down.next)?;
        Some(StoreError::Unreachable { place: self.place(), reason: down.error.clone() })
    }

    /// Whether it may have something new.
    pub(super) fn has_news(&self) -> bool {
        match &self.link {
            Some(link) => link.has_news() || self.asked.elapsed() >= ASK,
            None => self.resting().is_none(),
        }
    }

    /// The connection, made if there is none.
    pub(super) fn link(&mut self) -> Result<&mut Postgres, StoreError> {
        let link = match self.link.take().filter(|link| !link.is_lost()) {
            Some(link) => link,
            None => match Postgres::connect(&self.config, STATEMENT) {
                Ok(link) => link,
                Err(error) => {
                    self.failed(&error);
                    return Err(error);
                }
            },
        };
        // Before anything is read: what is said from now on is news again.
        link.take_news();
        self.asked = Instant::now();
        Ok(self.link.insert(link))
    }

    /// What was asked of it was answered.
    pub(super) fn answered(&mut self) {
        if self.down.take().is_some() {
            self.notices.push(format!("the site database {} answers again", self.place()));
            self.tell(StoreState::Online);
        }
    }

    /// What was asked of it was not.
    pub(super) fn failed(&mut self, error: &StoreError) {
        // Whatever it was: a new connection has nothing left of it.
        self.link = None;
        let reason = match error {
            StoreError::Unreachable { reason, .. } | StoreError::Unsure { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        let (since, wait) = match &self.down {
            Some(down) => (down.since, (down.wait * 2).min(LAST_WAIT)),
            None => {
                self.notices.push(error.to_string());
                (jiff::Timestamp::now(), FIRST_WAIT)
            }
        };
        self.tell(StoreState::Offline { since, reason: reason.clone() });
        self.down = Some(Down { since, error: reason, wait, next: Instant::now() + wait });
    }

    /// Keeps a state on disk. That this fails is told, and no reason to refuse what was done.
    pub(super) fn keep(&mut self, now: &Known, how: &How) {
        if let Err(error) = self.copy.keep(now, how) {
            self.copy.forget();
            self.notices.push(format!("the local copy of the site is not up to date: {error}"));
        }
    }

    fn tell(&self, state: StoreState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}
