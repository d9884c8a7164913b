//! The database file: what is in it, and how an older one is brought up to date.
//!
//! One table per idea, STRICT so that SQLite itself holds the types. Names are keys, so that an admin can read the
//! tables with `sqlite3` as they are. `user_version` counts the migrations that a file has been through, and
//! `application_id` tells our files from those of others. What the rows mean: see [`rows`](super::rows).

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::error::StoreError;

/// "boot" in ASCII.
const APPLICATION_ID: i64 = 0x626f_6f74;

/// Each brings a file from the format of its index to the next one. Never edited once released: only added to.
const MIGRATIONS: &[&str] = &[CLIENTS_AND_IMAGES, ENTITIES];

/// Format 1: a table for clients and one for images.
const CLIENTS_AND_IMAGES: &str = "
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
";

/// Format 2: entities of any type. Clients and images become such; of the revisions so far it is known what they did
/// in words only.
const ENTITIES: &str = "
    ALTER TABLE revision RENAME TO old_revision;
    CREATE TABLE site (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        stamp    TEXT NOT NULL,
        settled  TEXT NOT NULL
    ) STRICT;
    CREATE TABLE definition (
        kind       TEXT NOT NULL,
        variable   TEXT NOT NULL,
        definition TEXT NOT NULL,
        PRIMARY KEY (kind, variable)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE entity (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE value (
        kind     TEXT NOT NULL,
        name     TEXT NOT NULL,
        variable TEXT NOT NULL,
        position INTEGER NOT NULL,
        value    TEXT NOT NULL,
        PRIMARY KEY (kind, name, variable, position),
        FOREIGN KEY (kind, name) REFERENCES entity (kind, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE revision (
        number  INTEGER PRIMARY KEY,
        stamp   TEXT NOT NULL,
        parent  TEXT NOT NULL,
        at      TEXT NOT NULL,
        who     TEXT NOT NULL,
        why     TEXT,
        effects TEXT NOT NULL
    ) STRICT;
    CREATE TABLE concern (
        kind   TEXT NOT NULL,
        name   TEXT NOT NULL,
        number INTEGER NOT NULL REFERENCES revision (number),
        PRIMARY KEY (kind, name, number)
    ) STRICT, WITHOUT ROWID;

    INSERT INTO entity SELECT 'image', name FROM image UNION ALL SELECT 'client', name FROM client;
    INSERT INTO value
        SELECT 'image', name, 'version', 0, version FROM image
        UNION ALL SELECT 'image', name, 'path', 0, path FROM image
        UNION ALL SELECT 'image', name, 'size', 0, CAST(size AS TEXT) FROM image
        UNION ALL SELECT 'client', name, 'mac', 0, mac FROM client
        UNION ALL SELECT 'client', name, 'address', 0, address FROM client WHERE address IS NOT NULL
        UNION ALL SELECT 'client', name, 'image', 0, image FROM client WHERE image IS NOT NULL
        UNION ALL SELECT 'client', name, 'menu', 0, menu FROM client WHERE menu IS NOT NULL
        UNION ALL SELECT 'client', name, 'boot_program', 0, boot_program FROM client
            WHERE boot_program IS NOT NULL
        UNION ALL SELECT 'client', name, 'overlay_limit', 0, CAST(overlay_limit AS TEXT) FROM client
            WHERE overlay_limit IS NOT NULL
        UNION ALL SELECT 'client', name, 'enabled', 0, 'no' FROM client WHERE enabled = 0;
    INSERT INTO revision
        SELECT number, 'old ' || number, 'old ' || (number - 1), at, 'bootd', what, '[]' FROM old_revision;
    INSERT INTO site SELECT 1, coalesce(max(number), 0), lower(hex(randomblob(16))), '' FROM old_revision;
    UPDATE site SET settled = stamp;
    DROP TABLE client;
    DROP TABLE image;
    DROP TABLE old_revision;

    CREATE TRIGGER definition_added AFTER INSERT ON definition
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER definition_changed AFTER UPDATE ON definition
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER definition_removed AFTER DELETE ON definition
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER entity_added AFTER INSERT ON entity
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER entity_changed AFTER UPDATE ON entity
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER entity_removed AFTER DELETE ON entity
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER value_added AFTER INSERT ON value
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER value_changed AFTER UPDATE ON value
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
    CREATE TRIGGER value_removed AFTER DELETE ON value
        BEGIN UPDATE site SET stamp = lower(hex(randomblob(16))); END;
";

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
    let newer = |found| StoreError::Newer { place: path.display().to_string(), found, known };
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
    // Not all that is made stands in the order of who refers to whom.
    transaction.pragma_update(None, "defer_foreign_keys", true).map_err(sql)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(sql)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
    transaction.pragma_update(None, "user_version", known).map_err(sql)?;
    transaction.commit().map_err(sql)
}
