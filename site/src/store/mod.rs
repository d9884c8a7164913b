//! The site's database: one SQLite file that the daemon, and only the daemon, writes to in ordinary use.
//!
//! Every edit is one transaction that ends in a new revision; reading gives a whole [`Site`] as of one revision.
//! Calls may block on the disk, and for [`BUSY_TIMEOUT`] on another process: not for use on an event loop's thread.

mod edit;
mod error;
mod rows;
mod schema;

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

pub use edit::{ClientChange, Edited};
pub use error::{StoreError, StoreErrorKind};
use rows::Rows;

use crate::Site;

/// How long a call waits for another process that holds the file; then it fails with [`StoreError::Locked`].
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The open database. Calls from several threads take turns.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// The file's device and inode when it was opened.
    identity: (u64, u64),
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// SQLite's `data_version` as of the last snapshot; `None`: this store has written since.
    seen: Option<i64>,
}

impl Store {
    /// Opens the database at `path`; makes it where there is none, and brings one of an earlier release up to date.
    ///
    /// # Errors
    /// When the file can't be opened or made, is not ours, is damaged, or was written by a later release.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_within(path.as_ref(), BUSY_TIMEOUT)
    }

    fn open_within(path: &Path, busy: Duration) -> Result<Self, StoreError> {
        let open = |reason: String| StoreError::Open { path: path.to_owned(), reason };
        // Made by us and not by SQLite, so that nobody else can ever read what it will hold.
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(
            |error| match error.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path: path.to_owned() },
                std::io::ErrorKind::IsADirectory => open("it is a folder".to_owned()),
                _ => open(error.to_string()),
            },
        )?;
        let metadata = file.metadata().map_err(|error| open(error.to_string()))?;
        if !metadata.is_file() {
            return Err(StoreError::NotOurs { path: path.to_owned(), found: "no regular file" });
        }
        let mut connection = Connection::open(path).map_err(|source| StoreError::sql(path, source))?;
        schema::prepare(&mut connection, path, busy)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            inner: Mutex::new(Inner { connection, seen: None }),
        })
    }

    /// The site as it is now.
    ///
    /// # Errors
    /// When the file can't be read, is gone, or holds a row that breaks a rule; a snapshot taken earlier stays good.
    pub fn snapshot(&self) -> Result<Site, StoreError> {
        let mut inner = self.lock();
        self.check_identity()?;
        // Before the transaction: a commit in between makes `changed` say so once too often, never once too few.
        let version =
            data_version(&inner.connection).map_err(|source| StoreError::sql(&self.path, source))?;
        let site = {
            let transaction =
                inner.connection.transaction().map_err(|source| StoreError::sql(&self.path, source))?;
            let rows = Rows { connection: &transaction, path: &self.path };
            Site::new(rows.revision()?, rows.clients()?, rows.images()?)
        };
        inner.seen = Some(version);
        Ok(site)
    }

    /// Whether anyone, in this process or another, may have edited the site since the last [`snapshot`]. Takes
    /// microseconds. Also true when the file can't be asked: the next snapshot then says why.
    ///
    /// [`snapshot`]: Self::snapshot
    #[must_use]
    pub fn changed(&self) -> bool {
        let inner = self.lock();
        self.check_identity().is_err()
            || inner.seen.is_none()
            || data_version(&inner.connection).ok() != inner.seen
    }

    /// Runs one edit in one transaction. An edit that changed something says what, and that is its revision's text.
    fn edit<T>(
        &self,
        work: impl FnOnce(Rows<'_>) -> Result<(T, Option<String>), StoreError>,
    ) -> Result<(T, Edited), StoreError> {
        let sql = |source| StoreError::sql(&self.path, source);
        let mut inner = self.lock();
        self.check_identity()?;
        let transaction =
            inner.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
        let rows = Rows { connection: &transaction, path: &self.path };
        let (result, what) = work(rows)?;
        let Some(what) = what else {
            return Ok((result, Edited::Already { revision: rows.revision()? }));
        };
        transaction
            .execute(
                "INSERT INTO revision (at, what) VALUES (?1, ?2)",
                [jiff::Timestamp::now().to_string(), what],
            )
            .map_err(sql)?;
        let revision = rows.revision()?;
        transaction.commit().map_err(sql)?;
        inner.seen = None;
        Ok((result, Edited::Changed { revision }))
    }

    /// SQLite goes on writing to a file that has no name any more; whatever went there would be lost.
    fn check_identity(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => Ok(()),
            Ok(_) => Err(StoreError::Gone { path: self.path.clone() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::Gone { path: self.path.clone() })
            }
            Err(error) => Err(StoreError::Open { path: self.path.clone(), reason: error.to_string() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in an edit has rolled its transaction back: the connection is as good as before.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "data_version", |row| row.get(0))
}

#[cfg(test)]
mod tests;
