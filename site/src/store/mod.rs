//! The site's database, and the snapshot that follows it.
//!
//! Every edit is one transaction that ends in a new revision: it is checked against the site as it is in that
//! transaction, so two that don't go together can't both be made. Reading gives a whole [`Site`] as of one revision,
//! made from the one before if the revisions in between lead there.
//!
//! Calls may block on the disk, and for [`BUSY_TIMEOUT`] on another process: not for use on an event loop's thread.

mod author;
mod clients;
#[cfg(feature = "postgres")]
mod copy;
mod error;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod schema;
#[cfg(feature = "postgres")]
mod server;
mod sql;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use author::{Author, MAX_WHO, MAX_WHY};
pub use clients::ClientChange;
pub use error::{StoreError, StoreErrorKind};
use rows::{How, Known};
#[cfg(feature = "postgres")]
use server::Server;
use sql::{Purpose, Sql};
use sqlite::Sqlite;

use crate::Site;
use crate::entity::{Edit, Effect, EntityId, Revision, revert};

/// How long a call waits for another process that holds the database; then it fails.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The most things that one set of edits may change. More are refused: one revision is read and sent whole.
pub const MAX_EFFECTS: usize = 500_000;

/// The most revisions that [`Store::log`] gives at once.
pub const MAX_LOG: usize = 1000;

/// How often a file is asked whether others have changed it, while waiting for that.
const POLL: Duration = Duration::from_millis(50);

/// Where a site's database is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// In this file.
    Sqlite(PathBuf),
    /// On a PostgreSQL server that several appservers share.
    #[cfg(feature = "postgres")]
    Postgres {
        /// As `postgres://USER:PASSWORD@HOST/DATABASE`.
        url: String,
        /// The file in which what it holds is kept here, for when it is down.
        copy: PathBuf,
    },
}

/// What an edit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "edited", rename_all = "snake_case")]
pub enum Edited {
    /// It is in force, as of this revision.
    Changed {
        /// The site's revision with it.
        revision: u64,
    },
    /// All was so already: no new revision.
    Already {
        /// The site's revision, as it was.
        revision: u64,
    },
}

/// How the database is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StoreState {
    /// It answers.
    Online,
    /// It does not: snapshots are the last good ones, edits are refused.
    Offline {
        /// Since when.
        since: jiff::Timestamp,
        /// Why.
        reason: String,
    },
}

/// The open database. Calls from several threads take turns.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    /// Beside what calls wait for, so that it can be asked meanwhile.
    state: Arc<Mutex<StoreState>>,
}

struct Inner {
    backend: Backend,
    known: Option<Known>,
    /// This store has made an edit since the last snapshot.
    has_edited: bool,
    notices: Vec<String>,
}

enum Backend {
    File {
        sqlite: Sqlite,
        /// SQLite's `data_version` as of the last snapshot.
        seen: Option<i64>,
    },
    #[cfg(feature = "postgres")]
    Server(Box<Server>),
}

/// What came of an edit.
struct Done<T> {
    result: T,
    edited: Edited,
    effects: Vec<Effect>,
    site: Arc<Site>,
}

impl Store {
    /// Opens the database; makes it where there is none, and brings one of an earlier release up to date.
    ///
    /// # Errors
    /// When it can't be opened or made, is not ours, is damaged, or was written by a later release.
    pub fn open(location: &Location) -> Result<Self, StoreError> {
        match location {
            Location::Sqlite(path) => Self::open_within(path, BUSY_TIMEOUT),
            #[cfg(feature = "postgres")]
            Location::Postgres { url, copy } => Self::open_server(url, copy),
        }
    }

    fn open_within(path: &Path, busy: Duration) -> Result<Self, StoreError> {
        let backend = Backend::File { sqlite: Sqlite::open(path, busy)?, seen: None };
        let inner = Inner { backend, known: None, has_edited: false, notices: Vec::new() };
        Ok(Self { inner: Mutex::new(inner), state: Arc::new(Mutex::new(StoreState::Online)) })
    }

    /// A server that is down is no error if there is a copy of what it held.
    #[cfg(feature = "postgres")]
    fn open_server(url: &str, copy: &Path) -> Result<Self, StoreError> {
        let state = Arc::new(Mutex::new(StoreState::Online));
        let mut server = Server::open(url, copy, Arc::clone(&state))?;
        let known = server.kept().cloned();
        match server.link() {
            Err(error) if known.is_none() || !error.is_outage() => return Err(error),
            _ => {}
        }
        let backend = Backend::Server(Box::new(server));
        let inner = Inner { backend, known, has_edited: false, notices: Vec::new() };
        Ok(Self { inner: Mutex::new(inner), state })
    }

    /// The site as it is now; while a server is down, as it was when it was asked last.
    ///
    /// # Errors
    /// When the database can't be read, or holds a row that breaks a rule; a snapshot taken earlier stays good.
    pub fn snapshot(&self) -> Result<Arc<Site>, StoreError> {
        self.lock().snapshot()
    }

    /// Makes edits, all or none, as one revision; and says what changed.
    ///
    /// # Errors
    /// When an edit, or what they come to together, breaks a rule or is at odds with what there is.
    pub fn edit(&self, edits: &[Edit], by: &Author) -> Result<(Edited, Vec<Effect>), StoreError> {
        let done = self.lock().edit(by, |_| Ok(((), edits.to_vec())))?;
        Ok((done.edited, done.effects))
    }

    /// What edits would change.
    ///
    /// # Errors
    /// As for [`edit`](Self::edit).
    pub fn preview(&self, edits: &[Edit]) -> Result<Vec<Effect>, StoreError> {
        let site = self.snapshot()?;
        let (_, effects) = site.edit(edits)?;
        bounded(&effects)?;
        Ok(effects)
    }

    /// The newest revisions before `before`, the newest first; with `of`, those that changed that entity. At most
    /// `limit`, and [`MAX_LOG`].
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn log(
        &self,
        of: Option<&EntityId>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Revision>, StoreError> {
        let before = before.map_or(i64::MAX as u64, |before| before.min(i64::MAX as u64));
        let limit = u64::try_from(limit.min(MAX_LOG)).unwrap_or(0);
        self.lock().read(|sql| rows::log(sql, of, before, limit))
    }

    /// Undoes what a revision changed, as a new revision. What else was changed since stays.
    ///
    /// # Errors
    /// When there is no such revision; when something that it changed is not as it left it.
    pub fn revert(&self, revision: u64, by: &Author) -> Result<(Edited, Vec<Effect>), StoreError> {
        let mut inner = self.lock();
        let newest = inner.snapshot()?.revision();
        let next = revision.saturating_add(1);
        let found = inner.read(|sql| rows::log(sql, None, next, 1))?.pop();
        let found = found.filter(|found| found.number == revision);
        let found = found.ok_or(StoreError::NoRevision { number: revision, newest })?;
        if found.effects.is_empty() {
            return Err(StoreError::Bare { number: revision });
        }
        let by = match by.why {
            Some(_) => by.clone(),
            None => by.clone().because(format!("reverts {revision}")),
        };
        let done = inner.edit(&by, |_| Ok(((), revert(&found.effects))))?;
        Ok((done.edited, done.effects))
    }

    /// Whether anyone, in this process or another, may have edited the site since the last [`snapshot`]. Takes
    /// microseconds. Also true when the database can't be asked: the next snapshot then says why.
    ///
    /// [`snapshot`]: Self::snapshot
    #[must_use]
    pub fn changed(&self) -> bool {
        self.lock().changed()
    }

    /// Waits until [`changed`](Self::changed), or until `timeout` has passed; says which.
    #[must_use]
    pub fn wait_changed(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        loop {
            if self.changed() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            std::thread::sleep(left.min(POLL));
        }
    }

    /// How the database is, as of the last time that it was asked.
    #[must_use]
    pub fn state(&self) -> StoreState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What has happened to the database that the operator should know, each once.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        self.lock().take_notices()
    }

    /// An edit that depends on the site as it is.
    fn edit_as<T>(
        &self,
        by: &Author,
        work: impl FnOnce(&Site) -> Result<(T, Vec<Edit>), StoreError>,
    ) -> Result<(T, Edited, Arc<Site>), StoreError> {
        let done = self.lock().edit(by, work)?;
        Ok((done.result, done.edited, done.site))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A transaction that a panic left open is rolled back when the next begins.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn snapshot(&mut self) -> Result<Arc<Site>, StoreError> {
        if let Some(known) = self.unchanged()? {
            return Ok(known);
        }
        let version = self.backend.version()?;
        let known = self.known.clone();
        match self.read(|sql| rows::catch_up(sql, known.as_ref())) {
            Ok((now, how)) => {
                self.learn(now.clone(), &how);
                self.has_edited = false;
                self.backend.saw(version);
                Ok(now.site)
            }
            Err(error) if error.is_outage() => known.map(|known| known.site).ok_or(error),
            Err(error) => Err(error),
        }
    }

    /// The site as it was, if nothing is to be asked.
    fn unchanged(&self) -> Result<Option<Arc<Site>>, StoreError> {
        let known = self.known.as_ref();
        match &self.backend {
            Backend::File { sqlite, .. } => {
                sqlite.check_identity()?;
                Ok(known.filter(|_| !self.changed()).map(|known| Arc::clone(&known.site)))
            }
            #[cfg(feature = "postgres")]
            Backend::Server(server) => match (server.resting(), known) {
                (Some(_), Some(known)) => Ok(Some(Arc::clone(&known.site))),
                (Some(error), None) => Err(error),
                (None, _) => Ok(None),
            },
        }
    }

    fn changed(&self) -> bool {
        self.has_edited
            || match &self.backend {
                Backend::File { sqlite, seen } => {
                    sqlite.check_identity().is_err() || seen.is_none() || sqlite.data_version().ok() != *seen
                }
                #[cfg(feature = "postgres")]
                Backend::Server(server) => server.has_news(),
            }
    }

    fn read<T>(&mut self, work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.transaction(Purpose::Reading, |sql| {
            let result = work(sql);
            sql.rollback();
            result
        })
    }

    fn edit<T>(
        &mut self,
        by: &Author,
        work: impl FnOnce(&Site) -> Result<(T, Vec<Edit>), StoreError>,
    ) -> Result<Done<T>, StoreError> {
        by.check()?;
        let known = self.known.clone();
        let (done, known, how) = self.transaction(Purpose::Editing, |sql| {
            let made = make(sql, known.as_ref(), by, work);
            if made.is_err() {
                sql.rollback();
            }
            made
        })?;
        self.learn(known, &how);
        self.has_edited |= matches!(done.edited, Edited::Changed { .. });
        Ok(done)
    }

    /// Runs `work` in a transaction, which it ends.
    fn transaction<T>(
        &mut self,
        purpose: Purpose,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match &mut self.backend {
            Backend::File { sqlite, .. } => {
                sqlite.begin(purpose)?;
                work(sqlite)
            }
            #[cfg(feature = "postgres")]
            Backend::Server(server) => {
                let link = server.link()?;
                let result = link.begin(purpose).and_then(|()| work(link));
                match &result {
                    Err(error) if error.is_outage() => server.failed(error),
                    _ => server.answered(),
                }
                result
            }
        }
    }

    /// A state that the database is in now.
    fn learn(&mut self, now: Known, how: &How) {
        if let (Some(before), How::Anew) = (&self.known, how) {
            self.notices.push(format!(
                "the site database was restored, or changed by hand: the site goes from revision {} to {}, and is as \
                 the database has it",
                before.head.revision, now.head.revision
            ));
        }
        #[cfg(feature = "postgres")]
        if let Backend::Server(server) = &mut self.backend {
            server.keep(&now, how);
        }
        self.known = Some(now);
    }

    fn take_notices(&mut self) -> Vec<String> {
        #[cfg(feature = "postgres")]
        if let Backend::Server(server) = &mut self.backend {
            self.notices.append(&mut server.notices);
        }
        std::mem::take(&mut self.notices)
    }
}

impl Backend {
    /// Asked before a transaction: a commit in between makes [`Inner::changed`] say so once too often, never once too
    /// few.
    fn version(&self) -> Result<Option<i64>, StoreError> {
        match self {
            Self::File { sqlite, .. } => sqlite.data_version().map(Some),
            #[cfg(feature = "postgres")]
            Self::Server(_) => Ok(None),
        }
    }

    fn saw(&mut self, version: Option<i64>) {
        match self {
            Self::File { seen, .. } => *seen = version,
            #[cfg(feature = "postgres")]
            Self::Server(_) => {}
        }
    }

    fn place(&self) -> String {
        match self {
            Self::File { sqlite, .. } => sqlite.place(),
            #[cfg(feature = "postgres")]
            Self::Server(server) => server.place(),
        }
    }
}

/// Makes an edit in the open transaction, and ends that.
fn make<T>(
    sql: &mut dyn Sql,
    known: Option<&Known>,
    by: &Author,
    work: impl FnOnce(&Site) -> Result<(T, Vec<Edit>), StoreError>,
) -> Result<(Done<T>, Known, How), StoreError> {
    let (before, how) = rows::catch_up(sql, known)?;
    let (result, edits) = work(&before.site)?;
    let (site, effects) = before.site.edit(&edits)?;
    let revision = site.revision();
    if effects.is_empty() {
        sql.rollback();
        let site = Arc::clone(&before.site);
        return Ok((Done { result, edited: Edited::Already { revision }, effects, site }, before, how));
    }
    bounded(&effects)?;
    let stamp = new_stamp()?;
    let head = rows::write(sql, &before.head, &site, &effects, by, &stamp)?;
    sql.commit()?;
    let site = Arc::new(site);
    let how = how.and(&before.head, &effects);
    let done = Done { result, edited: Edited::Changed { revision }, effects, site: Arc::clone(&site) };
    Ok((done, Known { site, head }, how))
}

fn bounded(effects: &[Effect]) -> Result<(), StoreError> {
    match effects.len() {
        0..=MAX_EFFECTS => Ok(()),
        count => Err(StoreError::TooMuch { count, limit: MAX_EFFECTS }),
    }
}

/// A name for a state that no other has.
fn new_stamp() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Unwritable { reason: error.to_string() })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("place", &self.backend.place()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
