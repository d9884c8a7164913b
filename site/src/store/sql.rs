//! What a database must be able to do. The statements in [`rows`](super::rows) are written once, in the SQL that
//! SQLite and PostgreSQL share; parameters are `$1`, `$2`, ... in the order of their first appearance.

use super::StoreError;

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    Number(i64),
    Text(&'a str),
    Null,
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell<'_> {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl<'a> From<Option<&'a str>> for Cell<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// A row of an answer. A column that is something else than asked for is an error.
pub(super) trait Row {
    fn number(&self, column: usize) -> Result<i64, StoreError>;
    fn text(&self, column: usize) -> Result<&str, StoreError>;
    fn text_or_null(&self, column: usize) -> Result<Option<&str>, StoreError>;
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Sees the database as of one moment.
    Reading,
    /// Alone of its kind until it ends: what it reads nobody else changes.
    Editing,
}

/// A connection to a database in our newest format.
pub(super) trait Sql: Send {
    /// What the database is called, for errors.
    fn place(&self) -> String;

    /// Begins a transaction. One that is open still is rolled back.
    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError>;

    /// Ends it; what was done holds.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Ends it; nothing was done.
    fn rollback(&mut self);

    /// Runs a statement that answers nothing.
    fn execute(&mut self, statement: &str, cells: &[Cell<'_>]) -> Result<(), StoreError>;

    /// Runs a query, and gives each row to `take`. Not all are held at once.
    fn each(
        &mut self,
        query: &str,
        cells: &[Cell<'_>],
        take: &mut dyn FnMut(&dyn Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;
}
