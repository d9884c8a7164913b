//! The site in one SQLite file.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::error::StoreError;
use super::schema;
use super::sql::{Cell, Purpose, Row, Sql};

/// How many statements are kept ready.
const STATEMENTS: usize = 64;

/// An open file.
#[derive(Debug)]
pub(super) struct Sqlite {
    pub(super) connection: Connection,
    path: PathBuf,
    /// The file's device and inode when it was opened.
    identity: (u64, u64),
}

impl Sqlite {
    /// Opens the file; makes it where there is none, and brings one of an earlier release up to date.
    pub(super) fn open(path: &Path, busy: Duration) -> Result<Self, StoreError> {
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
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self { connection, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// SQLite goes on writing to a file that has no name any more; whatever went there would be lost.
    pub(super) fn check_identity(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => Ok(()),
            Ok(_) => Err(StoreError::Gone { path: self.path.clone() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::Gone { path: self.path.clone() })
            }
            Err(error) => Err(StoreError::Open { path: self.path.clone(), reason: error.to_string() }),
        }
    }

    /// A number that changes with every commit of another connection. Takes microseconds.
    pub(super) fn data_version(&self) -> Result<i64, StoreError> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(self.wrong())
    }

    fn wrong(&self) -> impl Fn(rusqlite::Error) -> StoreError {
        |source| StoreError::sql(&self.path, source)
    }
}

impl Sql for Sqlite {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        self.rollback();
        self.check_identity()?;
        let begin = match purpose {
            Purpose::Reading => "BEGIN",
            Purpose::Editing => "BEGIN IMMEDIATE",
        };
        self.connection.execute_batch(begin).map_err(self.wrong())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT").map_err(self.wrong())
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // What it could fail by has rolled it back already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn execute(&mut self, statement: &str, cells: &[Cell<'_>]) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(statement).map_err(self.wrong())?;
        statement.execute(params_from_iter(cells)).map_err(self.wrong())?;
        Ok(())
    }

    fn each(
        &mut self,
        query: &str,
        cells: &[Cell<'_>],
        take: &mut dyn FnMut(&dyn Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(query).map_err(self.wrong())?;
        let mut rows = statement.query(params_from_iter(cells)).map_err(self.wrong())?;
        while let Some(row) = rows.next().map_err(self.wrong())? {
            take(&SqliteRow { row, path: &self.path })?;
        }
        Ok(())
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Null => ValueRef::Null,
        }))
    }
}

struct SqliteRow<'a> {
    row: &'a rusqlite::Row<'a>,
    path: &'a Path,
}

impl SqliteRow<'_> {
    fn get<'a, T>(
        &'a self,
        column: usize,
        read: impl Fn(ValueRef<'a>) -> rusqlite::types::FromSqlResult<T>,
    ) -> Result<T, StoreError> {
        let value = self.row.get_ref(column).map_err(|source| StoreError::sql(self.path, source))?;
        read(value).map_err(|error| StoreError::BadRow {
            place: self.path.display().to_string(),
            row: "a row".to_owned(),
            reason: error.to_string(),
        })
    }
}

impl Row for SqliteRow<'_> {
    fn number(&self, column: usize) -> Result<i64, StoreError> {
        self.get(column, |value| value.as_i64())
    }

    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.get(column, |value| value.as_str())
    }

    fn text_or_null(&self, column: usize) -> Result<Option<&str>, StoreError> {
        self.get(column, |value| value.as_str_or_null())
    }
}
