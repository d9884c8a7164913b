//! The site in a PostgreSQL database, which several appservers share.
//!
//! The client has a small runtime of its own: what is asked of the server is given to that, and waited for with a
//! limit. Without one, a server that is stopped but whose kernel still answers would hold a call for ever; that is why
//! this is `tokio-postgres` and not the blocking crate around it, which has no such limit.
//!
//! Editors take turns by a lock on the one row of table `site`, which holds the newest revision's number: numbers are
//! given out in the order in which edits are committed, and none is skipped. (Numbers of a sequence are not: a reader
//! who saw 7 may find 6 later.) Notifications only wake; what has changed is read from the tables.

mod error;
mod schema;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};

use super::error::StoreError;
use super::sql::{Cell, Purpose, Row, Sql};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long one statement, or the next rows of one, may take. Then the connection is given up.
pub(super) const STATEMENT: Duration = Duration::from_secs(10);

/// How many rows go from the runtime at once.
const ROWS: usize = 1000;

/// How many statements are kept ready.
const STATEMENTS: usize = 64;

/// The channel of notifications.
const CHANNEL: &str = "bootd_site";

type Parameter = Box<dyn ToSql + Sync + Send>;

/// A connection.
pub(super) struct Postgres {
    runtime: Option<Runtime>,
    client: Arc<Client>,
    place: String,
    statements: HashMap<String, Statement>,
    is_open: bool,
    /// The connection can't be used any more.
    is_lost: bool,
    /// Set when the server says that something was changed, and when the connection ends.
    news: Arc<AtomicBool>,
}

/// A database's address as it may be shown: without a password.
pub(super) fn shown(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        tokio_postgres::config::Host::Tcp(name) => name.clone(),
        tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().filter(|port| **port != 5432);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("postgres://{host}{port}/{}", config.get_dbname().or(config.get_user()).unwrap_or_default())
}

impl Postgres {
    /// Connects, and brings the database up to date.
    pub(super) fn connect(config: &Config, limit: Duration) -> Result<Self, StoreError> {
        let place = shown(config);
        let unreachable = |reason: String| StoreError::Unreachable { place: place.clone(), reason };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bootd-site")
            .enable_all()
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let news = Arc::new(AtomicBool::new(true));
        let mut config = config.clone();
        config.connect_timeout(CONNECT).application_name("bootd");
        config.tcp_user_timeout(limit).keepalives_idle(limit);
        let connected = {
            let news = Arc::clone(&news);
            wait(&runtime, CONNECT, async move {
                let (client, mut connection) = config.connect(NoTls).await?;
                tokio::spawn(async move {
                    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                        if matches!(message, AsyncMessage::Notification(_)) {
                            news.store(true, Ordering::Release);
                        }
                    }
                    news.store(true, Ordering::Release);
                });
                Ok(client)
            })
        };
        let client = match connected {
            Some(Ok(client)) => Arc::new(client),
            Some(Err(error)) => {
                runtime.shutdown_background();
                return Err(error::of(&place, &error));
            }
            None => {
                runtime.shutdown_background();
                return Err(unreachable(format!("no connection within {} s", CONNECT.as_secs())));
            }
        };
        let mut made = Self {
            runtime: Some(runtime),
            client,
            place,
            statements: HashMap::new(),
            is_open: false,
            is_lost: false,
            news,
        };
        schema::prepare(&mut made, limit)?;
        made.batch(&format!("LISTEN {CHANNEL}"))?;
        Ok(made)
    }

    /// Whether something may have changed since this was asked last.
    pub(super) fn take_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    /// Whether there are news, which stay.
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost || self.client.is_closed()
    }

    /// Runs statements that answer nothing and have no parameters.
    fn batch(&mut self, statements: &str) -> Result<(), StoreError> {
        let (client, statements) = (Arc::clone(&self.client), statements.to_owned());
        self.run(async move { client.batch_execute(&statements).await })
    }

    fn run<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let done = self.runtime.as_ref().and_then(|runtime| wait(runtime, STATEMENT, work));
        self.answered(done)
    }

    fn answered<T>(&mut self, done: Option<Result<T, tokio_postgres::Error>>) -> Result<T, StoreError> {
        match done {
            Some(done) => done.map_err(|error| error::of(&self.place, &error)),
            None => {
                self.is_lost = true;
                let reason = format!("no answer within {} s", STATEMENT.as_secs());
                Err(StoreError::Unreachable { place: self.place.clone(), reason })
            }
        }
    }

    fn statement(&mut self, text: &str) -> Result<Statement, StoreError> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        let (client, query) = (Arc::clone(&self.client), text.to_owned());
        let statement = self.run(async move { client.prepare(&query).await })?;
        self.statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// Runs `work` on the runtime, and waits for it at most as long as `limit`. On any thread: also on one of another
/// runtime.
fn wait<T: Send + 'static>(
    runtime: &Runtime,
    limit: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (send, receive) = mpsc::channel();
    runtime.spawn(async move {
        // Nobody may wait any more.
        let _ = send.send(timeout(limit, work).await.ok());
    });
    receive.recv().ok().flatten()
}

fn owned(cells: &[Cell<'_>]) -> Vec<Parameter> {
    let owned = |cell: &Cell<'_>| -> Parameter {
        match cell {
            Cell::Number(number) => Box::new(*number),
            Cell::Text(text) => Box::new((*text).to_owned()),
            Cell::Null => Box::new(None::<String>),
        }
    };
    cells.iter().map(owned).collect()
}

impl Sql for Postgres {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn begin(&mut self, purpose: Purpose) -> Result<(), StoreError> {
        self.rollback();
        self.is_open = true;
        self.batch(match purpose {
            Purpose::Reading => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // What is read after the lock was taken includes all edits that were made before.
            Purpose::Editing => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT 1 FROM site FOR UPDATE"
            }
        })
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let done = self.batch("COMMIT");
        match done {
            Ok(()) => self.is_open = false,
            // The answer is lost, the edit perhaps not.
            Err(StoreError::Unreachable { place, reason }) => {
                return Err(StoreError::Unsure { place, reason });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.is_open) && !self.is_lost() && self.batch("ROLLBACK").is_err() {
            self.is_lost = true;
        }
    }

    fn execute(&mut self, statement: &str, cells: &[Cell<'_>]) -> Result<(), StoreError> {
        let statement = self.statement(statement)?;
        let (client, parameters) = (Arc::clone(&self.client), owned(cells));
        self.run(async move {
            let parameters = parameters.iter().map(|one| one.as_ref() as &(dyn ToSql + Sync));
            client.execute_raw(&statement, parameters).await
        })?;
        Ok(())
    }

    fn each(
        &mut self,
        query: &str,
        cells: &[Cell<'_>],
        take: &mut dyn FnMut(&dyn Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let statement = self.statement(query)?;
        let (client, parameters) = (Arc::clone(&self.client), owned(cells));
        let Some(runtime) = &self.runtime else { return self.answered(None) };
        let (send, receive) = mpsc::sync_channel(2);
        runtime.spawn(async move {
            let parameters = parameters.iter().map(|one| one.as_ref() as &(dyn ToSql + Sync));
            let asked = match timeout(STATEMENT, client.query_raw(&statement, parameters)).await {
                Ok(Ok(rows)) => rows,
                Ok(Err(error)) => return drop(send.send(Some(Err(error)))),
                Err(_) => return drop(send.send(None)),
            };
            let mut chunks = std::pin::pin!(asked.try_chunks(ROWS));
            loop {
                let chunk = match timeout(STATEMENT, chunks.try_next()).await {
                    Ok(Ok(Some(chunk))) => Some(Ok(chunk)),
                    Ok(Ok(None)) => return,
                    Ok(Err(error)) => Some(Err(error.1)),
                    Err(_) => None,
                };
                let is_last = !matches!(chunk, Some(Ok(_)));
                // Nobody may want the rest.
                if send.send(chunk).is_err() || is_last {
                    return;
                }
            }
        });
        while let Ok(chunk) = receive.recv() {
            for row in self.answered(chunk)? {
                take(&PostgresRow { row: &row, place: &self.place })?;
            }
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Not waited for: this may be a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

struct PostgresRow<'a> {
    row: &'a tokio_postgres::Row,
    place: &'a str,
}

impl PostgresRow<'_> {
    fn wrong(&self, error: &tokio_postgres::Error) -> StoreError {
        StoreError::BadRow {
            place: self.place.to_owned(),
            row: "a row".to_owned(),
            reason: error.to_string(),
        }
    }
}

impl Row for PostgresRow<'_> {
    fn number(&self, column: usize) -> Result<i64, StoreError> {
        let is_short = self.row.columns().get(column).is_some_and(|column| *column.type_() == Type::INT4);
        if is_short {
            return self.row.try_get::<_, i32>(column).map(i64::from).map_err(|error| self.wrong(&error));
        }
        self.row.try_get(column).map_err(|error| self.wrong(&error))
    }

    fn text(&self, column: usize) -> Result<&str, StoreError> {
        self.row.try_get(column).map_err(|error| self.wrong(&error))
    }

    fn text_or_null(&self, column: usize) -> Result<Option<&str>, StoreError> {
        self.row.try_get(column).map_err(|error| self.wrong(&error))
    }
}
