//! The database file: what is in it, and how an older one is brought up to date.
//!
//! One table per idea, STRICT so that SQLite itself holds the types; every edit leaves a row in `revision`, whose
//! highest number is the site's revision. `user_version` counts the migrations that a file has been through, and
//! `application_id` tells our files from those of others.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// "boot" in ASCII.
const APPLICATION_ID: i64 = 0x626f_6f74;

/// Each brings a file from the format of its index to the next one. Never edited once released: only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE revision (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at     TEXT NOT NULL,
        what   TEXT NOT NULL
    ) STRICT;
    CREATE TABLE image (
        name    TEXT PRIMARY KEY,
        version TEXT NOT NULL,
        path    TEXT NOT NULL,
        size    INTEGER NOT NULL CHECK (size > 0)
    ) STRICT;
    CREATE TABLE client (
        name          TEXT PRIMARY KEY,
        mac           TEXT NOT NULL UNIQUE,
        address       TEXT UNIQUE,
        image         TEXT REFERENCES image(name),
        menu          TEXT,
        boot_program  TEXT,
        overlay_limit INTEGER,
        enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1))
    ) STRICT;
    CREATE INDEX client_image ON client(image);
"];

/// The format that this program writes.
fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Makes the connection ours: checks whose file it is, that it is whole, and brings it up to date.
pub(super) fn prepare(connection: &mut Connection, path: &Path, busy: Duration) -> Result<(), StoreError> {
    let sql = |source| StoreError::sql(path, source);
    connection.busy_timeout(busy).map_err(sql)?;
    // Before the first write, so that a file that is not ours stays as it is.
    check_owner(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(sql)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(sql)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(sql)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(sql)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sql)?;
    if verdict != "ok" {
        return Err(StoreError::Damaged { path: path.to_owned(), reason: verdict });
    }
    migrate(connection, path)
}

fn check_owner(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |source| StoreError::sql(path, source);
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sql)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    if application == APPLICATION_ID || (application == 0 && tables == 0) {
        return Ok(());
    }
    Err(StoreError::NotOurs { path: path.to_owned(), found: "an SQLite database of another program" })
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let sql = |source| StoreError::sql(path, source);
    let format = |connection: &Connection| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    let known = newest();
    let newer = |found| StoreError::Newer { path: path.to_owned(), found, known };
    match format(connection).map_err(sql)? {
        found if found == known => return Ok(()),
        found if found > known || found < 0 => return Err(newer(found)),
        _ => {}
    }
    // Immediate, and the format read again inside: another process may be migrating just now.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    let found = format(&transaction).map_err(sql)?;
    if found > known {
        return Err(newer(found));
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(sql)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
    transaction.pragma_update(None, "user_version", known).map_err(sql)?;
    transaction.commit().map_err(sql)
}
