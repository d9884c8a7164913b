//! The database: what is in it, and how an older one is brought up to date.
//!
//! All is in a schema of its own, `bootd`, so that the database may hold other things as well. The tables are those of
//! the SQLite file. `format` counts the migrations. Names are compared byte by byte, whatever the database's collation.

use std::time::Duration;

use super::super::error::StoreError;
use super::super::sql::Sql as _;
use super::Postgres;

/// Held while migrating: "boot" in ASCII.
const LOCK: i64 = 0x626f_6f74;

/// Each brings a database from the format of its index to the next one. Never edited once released: only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE site (
        one      BIGINT PRIMARY KEY CHECK (one = 1),
        revision BIGINT NOT NULL,
        stamp    TEXT NOT NULL,
        settled  TEXT NOT NULL
    );
    CREATE TABLE definition (
        kind       TEXT COLLATE \"C\" NOT NULL,
        variable   TEXT COLLATE \"C\" NOT NULL,
        definition TEXT NOT NULL,
        PRIMARY KEY (kind, variable)
    );
    CREATE TABLE entity (
        kind TEXT COLLATE \"C\" NOT NULL,
        name TEXT COLLATE \"C\" NOT NULL,
        PRIMARY KEY (kind, name)
    );
    CREATE TABLE value (
        kind     TEXT COLLATE \"C\" NOT NULL,
        name     TEXT COLLATE \"C\" NOT NULL,
        variable TEXT COLLATE \"C\" NOT NULL,
        position BIGINT NOT NULL,
        value    TEXT NOT NULL,
        PRIMARY KEY (kind, name, variable, position),
        FOREIGN KEY (kind, name) REFERENCES entity (kind, name)
    );
    CREATE TABLE revision (
        number  BIGINT PRIMARY KEY,
        stamp   TEXT NOT NULL,
        parent  TEXT NOT NULL,
        at      TEXT NOT NULL,
        who     TEXT NOT NULL,
        why     TEXT,
        effects TEXT NOT NULL
    );
    CREATE TABLE concern (
        kind   TEXT COLLATE \"C\" NOT NULL,
        name   TEXT COLLATE \"C\" NOT NULL,
        number BIGINT NOT NULL REFERENCES revision (number),
        PRIMARY KEY (kind, name, number)
    );
    INSERT INTO site VALUES (1, 0, gen_random_uuid()::text, '');
    UPDATE site SET settled = stamp;
    CREATE FUNCTION stir() RETURNS trigger LANGUAGE plpgsql SET search_path = bootd, pg_catalog AS $$
        BEGIN
            UPDATE site SET stamp = gen_random_uuid()::text;
            PERFORM pg_notify('bootd_site', '');
            RETURN NULL;
        END
    $$;
    CREATE TRIGGER stir AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON definition
        FOR EACH STATEMENT EXECUTE FUNCTION stir();
    CREATE TRIGGER stir AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON entity
        FOR EACH STATEMENT EXECUTE FUNCTION stir();
    CREATE TRIGGER stir AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON value
        FOR EACH STATEMENT EXECUTE FUNCTION stir();
"];

/// Makes the connection ours: limits, the schema, its format.
pub(super) fn prepare(postgres: &mut Postgres, limit: Duration) -> Result<(), StoreError> {
    let limit = limit.as_millis();
    postgres.batch(&format!(
        "SET search_path = bootd, pg_catalog; SET client_encoding = 'UTF8'; \
         SET standard_conforming_strings = on; \
         SET statement_timeout = {limit}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}",
        limit / 2,
        limit * 3,
    ))?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let encoding = text(postgres, "SELECT current_setting('server_encoding')")?;
    if encoding != "UTF8" {
        let found = format!("its encoding is {encoding}, it must be UTF8: createdb -E UTF8 -T template0");
        return Err(StoreError::Server { place: postgres.place.clone(), reason: found });
    }
    // Without a lock first: nearly always there is nothing to do, and a standby can't take one.
    if format(postgres)? == known {
        return Ok(());
    }
    postgres.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))?;
    postgres.is_open = true;
    let migrated = migrate(postgres, known);
    if migrated.is_err() {
        postgres.rollback();
    }
    migrated
}

fn migrate(postgres: &mut Postgres, known: i64) -> Result<(), StoreError> {
    let found = format(postgres)?;
    if found > known || found < 0 {
        return Err(StoreError::Newer { place: postgres.place.clone(), found, known });
    }
    if found == 0 {
        postgres.batch(
            "CREATE SCHEMA IF NOT EXISTS bootd; CREATE TABLE bootd.format (number BIGINT NOT NULL); \
             INSERT INTO bootd.format VALUES (0)",
        )?;
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        postgres.batch(step)?;
    }
    postgres.batch(&format!("UPDATE format SET number = {known}"))?;
    postgres.commit()
}

/// The format that the database has; 0: it has none of ours yet.
fn format(postgres: &mut Postgres) -> Result<i64, StoreError> {
    if text(postgres, "SELECT coalesce(to_regclass('bootd.format')::text, '')")?.is_empty() {
        return Ok(0);
    }
    let mut found = 0;
    postgres.each("SELECT number FROM bootd.format", &[], &mut |row| {
        found = row.number(0)?;
        Ok(())
    })?;
    Ok(found)
}

fn text(postgres: &mut Postgres, query: &str) -> Result<String, StoreError> {
    let mut text = String::new();
    postgres.each(query, &[], &mut |row| {
        row.text(0)?.clone_into(&mut text);
        Ok(())
    })?;
    Ok(text)
}
