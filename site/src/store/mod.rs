//! The site's database, and the snapshot that follows it.
//!
//! Every edit is one transaction that ends in a new revision: it is checked against the site as it is in that
//! transaction, so two that don't go together can't both be made. Reading gives a whole [`Site`] as of one revision,
//! made from the one before if the revisions in between lead there.
//!
//! Calls may block on the disk, and for [`BUSY_TIMEOUT`] on another process: not for use on an event loop's thread.

mod author;
mod clients;
mod error;
mod rows;
mod schema;
mod sql;
mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use author::{Author, MAX_WHO, MAX_WHY};
pub use clients::ClientChange;
pub use error::{StoreError, StoreErrorKind};
use rows::Known;
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
}

struct Inner {
    sqlite: Sqlite,
    known: Option<Known>,
    /// SQLite's `data_version` as of the last snapshot; `None`: this store has written since.
    seen: Option<i64>,
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
        }
    }

    fn open_within(path: &Path, busy: Duration) -> Result<Self, StoreError> {
        let inner = Inner { sqlite: Sqlite::open(path, busy)?, known: None, seen: None };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// The site as it is now.
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
        StoreState::Online
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
        self.sqlite.check_identity()?;
        // Before the transaction: a commit in between makes `changed` say so once too often, never once too few.
        let version = self.sqlite.data_version()?;
        if let Some(known) = self.known.as_ref().filter(|_| self.seen == Some(version)) {
            return Ok(Arc::clone(&known.site));
        }
        let known = self.known.take();
        let caught_up = self.read(|sql| rows::catch_up(sql, known.as_ref()));
        // What was good stays known, whatever is there now.
        let now = match caught_up {
            Ok(now) => now,
            Err(error) => {
                self.known = known;
                return Err(error);
            }
        };
        self.seen = Some(version);
        Ok(Arc::clone(&self.known.insert(now).site))
    }

    fn changed(&self) -> bool {
        self.sqlite.check_identity().is_err()
            || self.seen.is_none()
            || self.sqlite.data_version().ok() != self.seen
    }

    fn read<T>(&mut self, work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.sqlite.begin(Purpose::Reading)?;
        let result = work(&mut self.sqlite);
        self.sqlite.rollback();
        result
    }

    fn edit<T>(
        &mut self,
        by: &Author,
        work: impl FnOnce(&Site) -> Result<(T, Vec<Edit>), StoreError>,
    ) -> Result<Done<T>, StoreError> {
        by.check()?;
        self.sqlite.begin(Purpose::Editing)?;
        let known = self.known.clone();
        let made = make(&mut self.sqlite, known.as_ref(), by, work);
        if made.is_err() {
            self.sqlite.rollback();
        }
        let (done, known) = made?;
        self.known = Some(known);
        if matches!(done.edited, Edited::Changed { .. }) {
            self.seen = None;
        }
        Ok(done)
    }
}

/// Makes an edit in the open transaction, and ends that.
fn make<T>(
    sql: &mut dyn Sql,
    known: Option<&Known>,
    by: &Author,
    work: impl FnOnce(&Site) -> Result<(T, Vec<Edit>), StoreError>,
) -> Result<(Done<T>, Known), StoreError> {
    let before = rows::catch_up(sql, known)?;
    let (result, edits) = work(&before.site)?;
    let (site, effects) = before.site.edit(&edits)?;
    let revision = site.revision();
    if effects.is_empty() {
        sql.rollback();
        let site = Arc::clone(&before.site);
        return Ok((Done { result, edited: Edited::Already { revision }, effects, site }, before));
    }
    bounded(&effects)?;
    let stamp = new_stamp()?;
    let head = rows::write(sql, &before.head, &site, &effects, by, &stamp)?;
    sql.commit()?;
    let site = Arc::new(site);
    let done = Done { result, edited: Edited::Changed { revision }, effects, site: Arc::clone(&site) };
    Ok((done, Known { site, head }))
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
        f.debug_struct("Inner").field("place", &self.sqlite.place()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
