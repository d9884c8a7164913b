//! What can go wrong with the site's database: what, where, and what to do about it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::entity::EditError;
use crate::{ClientName, ImageName, MacAddr, NameError};

/// Why the store did not do what was asked. Nothing has changed when one is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file can't be opened or made.
    #[error(
        "can't open the site database {}: {reason}; check that its folder exists and that bootd may write there",
        .path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is something else.
    #[error(
        "{} is not bootd's site database ({found}); move it away and bootd makes a new one, or name another with --data",
        .path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The file's content is broken.
    #[error(
        "the site database {} is damaged ({reason}); restore it from a copy, or save what can be read with: \
         sqlite3 {} .recover | sqlite3 new.db",
        .path.display(), .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        reason: String,
    },
    /// A later bootd has migrated the file.
    #[error(
        "the site database {place} has format {found}, this bootd knows formats up to {known}; run the bootd that \
         wrote it, or restore the copy made before the upgrade"
    )]
    Newer {
        /// The file or server.
        place: String,
        /// The format it has.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// Another process held the file for too long.
    #[error(
        "the site database {} is locked by another process; see who with: fuser {}; then try again",
        .path.display(), .path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file or its file system can't be written to.
    #[error(
        "the site database {} can't be written to; check its owner and mode, and that its file system is not mounted \
         read-only",
        .path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// No space left.
    #[error("the file system of the site database {} is full; free some space and try again", .path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file was removed or replaced while open: what is written now would be lost.
    #[error(
        "the site database {} was removed or replaced while bootd had it open; stop bootd, put the right file in \
         place without its -wal and -shm companions, start bootd",
        .path.display()
    )]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// The server does not answer.
    #[error(
        "the site database {place} can't be reached: {reason}; clients boot from the last good copy of it, edits are \
         refused until it answers"
    )]
    Unreachable {
        /// The server.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The server stopped answering in the middle of an edit.
    #[error(
        "the site database {place} was lost while the edit was being made: {reason}; whether it holds is not known: \
         look into the site's log before it is made again"
    )]
    Unsure {
        /// The server.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Another editor holds the lock.
    #[error("the site database {place} is being edited by another for too long; try again")]
    Busy {
        /// The server.
        place: String,
    },
    /// The server takes no edits.
    #[error(
        "the site database {place} can only be read: it is a standby, or set so; name the primary in its URL"
    )]
    Standby {
        /// The server.
        place: String,
    },
    /// The server refuses what bootd asks of it.
    #[error(
        "the site database {place} refused: {reason}; bootd needs a database of its own user, or a schema \"bootd\" \
         that this user owns"
    )]
    Server {
        /// The server.
        place: String,
        /// What it said.
        reason: String,
    },
    /// The address makes no sense.
    #[error("the address of the site database makes no sense: {reason}, for example {example}")]
    Address {
        /// What is wrong.
        reason: String,
        /// One that would do.
        example: &'static str,
    },
    /// A row that bootd did not write breaks a rule.
    #[error(
        "the site database {place}: {row} is not valid: {reason}; correct it with the tool that it was written with \
         (sqlite3, psql)"
    )]
    BadRow {
        /// The file or server.
        place: String,
        /// What is wrong.
        row: String,
        /// The rule it breaks.
        reason: String,
    },
    /// Anything else that SQLite says: a bug, or a failing disk.
    #[error("the site database {} failed: {source}; see the system's log for disk errors", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A value breaks its rule.
    #[error(transparent)]
    Invalid(#[from] NameError),
    /// An edit breaks a rule of the site, or is at odds with what there is.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// One edit may not change so much.
    #[error("the edits change {count} things, at most {limit} may be changed at once; make them in parts")]
    TooMuch {
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// There is no such revision.
    #[error("there is no revision {number}; the newest is {newest}")]
    NoRevision {
        /// Which.
        number: u64,
        /// The newest.
        newest: u64,
    },
    /// Of a revision it is not known what it changed.
    #[error(
        "revision {number} can't be reverted: an earlier release of bootd made it, which did not keep what was \
         changed"
    )]
    Bare {
        /// Which.
        number: u64,
    },
    /// What is to be stored can't be written down: a bug.
    #[error("the edit can't be written down: {reason}; this is a bug in bootd")]
    Unwritable {
        /// Why.
        reason: String,
    },
    /// The client exists already.
    #[error("client {name} exists already, with MAC {mac}; to change it: bootd client set {name} ...")]
    ClientExists {
        /// Its name.
        name: ClientName,
        /// Its network card.
        mac: MacAddr,
    },
    /// Another client has that MAC or address.
    #[error("{what} {value} belongs to client {by} already; change or remove that one first")]
    Taken {
        /// `MAC` or `address`.
        what: &'static str,
        /// The MAC or address.
        value: String,
        /// The client that has it.
        by: String,
    },
    /// The image exists already.
    #[error(
        "image {name} exists already, at version {version}; to replace it: bootd image add {name} --replace ..."
    )]
    ImageExists {
        /// Its name.
        name: ImageName,
        /// Its current version.
        version: crate::Version,
    },
    /// There is no such client.
    #[error("there is no client {name}; {}", there_are("clients", .known))]
    NoClient {
        /// The name asked for.
        name: ClientName,
        /// Clients that there are, the first few by name.
        known: Vec<ClientName>,
    },
    /// There is no such image.
    #[error("there is no image {name}; {}", there_are("images", .known))]
    NoImage {
        /// The name asked for.
        name: ImageName,
        /// Images that there are, the first few by name.
        known: Vec<ImageName>,
    },
    /// Clients boot from the image.
    #[error(
        "image {image} is in use by {}; give them another image first, or force it and they are left without one",
        listed(.clients)
    )]
    InUse {
        /// The image.
        image: ImageName,
        /// Clients that name it.
        clients: Vec<ClientName>,
    },
}

/// Who has to act on a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// What was asked for breaks a rule.
    Invalid,
    /// What was asked for does not exist.
    NotFound,
    /// What was asked for is at odds with what there is.
    Conflict,
    /// The database can't serve just now.
    Unavailable,
}

impl StoreError {
    /// Who has to act.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Invalid(_) | Self::TooMuch { .. } => StoreErrorKind::Invalid,
            Self::Edit(error) => match error {
                EditError::UnknownEntity { .. } | EditError::UnknownType { .. } => StoreErrorKind::NotFound,
                EditError::Taken { .. }
                | EditError::Exists { .. }
                | EditError::InUse { .. }
                | EditError::TypeInUse { .. }
                | EditError::Conflict { .. } => StoreErrorKind::Conflict,
                _ => StoreErrorKind::Invalid,
            },
            Self::NoClient { .. } | Self::NoImage { .. } | Self::NoRevision { .. } => {
                StoreErrorKind::NotFound
            }
            Self::ClientExists { .. }
            | Self::Taken { .. }
            | Self::ImageExists { .. }
            | Self::Bare { .. }
            | Self::InUse { .. } => StoreErrorKind::Conflict,
            _ => StoreErrorKind::Unavailable,
        }
    }

    /// Whether a server is away for now: what was read from it before stays good.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unsure { .. })
    }

    /// What `source` means for the database at `path`.
    pub(super) fn sql(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotOurs { path, found: "no SQLite database at all" },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, reason: source.to_string() },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::Open { path, reason: source.to_string() }
            }
            _ => Self::Failed { path, source },
        }
    }
}

/// How many names an error lists before it says "and N more".
pub(super) const MAX_LISTED: usize = 12;

fn there_are<T: Display>(what: &str, names: &[T]) -> String {
    if names.is_empty() {
        format!("there are no {what} at all yet")
    } else {
        format!("{what}: {}", listed(names))
    }
}

fn listed<T: Display>(names: &[T]) -> String {
    let mut text = names.iter().take(MAX_LISTED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > MAX_LISTED {
        text.push_str(&format!(" and {} more", names.len() - MAX_LISTED));
    }
    text
}
