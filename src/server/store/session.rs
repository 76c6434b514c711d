//! A connection of the writer's own. Every statement is a message to the database and back, which costs more than what most
//! of them do: on SQLite this one takes scripts, several statements with the same values, and gives the rows of all of them.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sea_orm::{DbErr, QueryResult, RuntimeErr, Statement, Value, Values};
use sea_query_sqlx::SqlxValues;
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::sync::Mutex;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::dialect::Dialect;

/// How long a statement may take before its connection is given up: beyond what any of ours needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long Postgres lets a transaction of ours wait for its next statement, which comes at once from any process that lives: one
/// that hangs in the middle would keep its locks, and with them every other process waiting.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(5);
/// What it says to a transaction that waited for longer (Postgres, appendix A); its connection has ended.
pub(super) const IDLE_IN_TRANSACTION: &str = "25P03";
/// How long connecting may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// One connection, one statement or script at a time.
pub(super) struct Session {
    kind: Kind,
    /// Which of the rows of the counts this session changes (see `counts.rs`).
    pub shard: i64,
    /// How many jobs waited when this session last looked, and when that was.
    waiting: std::sync::Mutex<Option<(Instant, u64)>>,
}

enum Kind {
    Sqlite(Mutex<SqliteConnection>),
    Postgres(Box<Mutex<Remote>>),
}

struct Remote {
    options: PgConnectOptions,
    /// None after it broke; the next [`Session::ready`] makes a new one.
    connection: Option<PgConnection>,
}

impl Session {
    pub fn sqlite(connection: SqliteConnection) -> Self {
        Self {
            kind: Kind::Sqlite(Mutex::new(connection)),
            shard: 0,
            waiting: std::sync::Mutex::default(),
        }
    }

    pub fn postgres(options: PgConnectOptions, shard: i64) -> Self {
        let connection = None;
        Self {
            kind: Kind::Postgres(Box::new(Mutex::new(Remote { options, connection }))),
            shard,
            waiting: std::sync::Mutex::default(),
        }
    }

    pub fn dialect(&self) -> Dialect {
        match self.kind {
            Kind::Sqlite(_) => Dialect::Sqlite,
            Kind::Postgres(_) => Dialect::Postgres,
        }
    }

    /// How many jobs waited within the last `age`, if this session looked.
    pub fn waiting_within(&self, age: Duration) -> Option<u64> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.filter(|(at, _)| at.elapsed() < age).map(|(_, n)| n)
    }

    /// Notes that so many jobs waited at that moment.
    pub fn waited(&self, at: Instant, n: u64) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, n));
    }

    /// Connects again where the connection broke. Only outside of transactions: within one, what follows a break must fail.
    pub async fn ready(&self) -> Result<(), DbErr> {
        let Kind::Postgres(remote) = &self.kind else {
            return Ok(());
        };
        let mut remote = remote.lock().await;
        if remote.connection.is_none() {
            let connecting = PgConnection::connect_with(&remote.options);
            let connection = match timeout(CONNECT, connecting).await {
                Ok(connected) => connected.map_err(failed)?,
                Err(_) => return Err(DbErr::Custom("connecting to the database took too long".into())),
            };
            remote.connection = Some(connection);
        }
        Ok(())
    }

    /// Runs a statement, or on SQLite a script, and gives the rows of all its statements. In a script every `$n` means the
    /// n-th value.
    pub async fn all(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.kind {
            Kind::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), values(stmt.values));
                let rows: Vec<SqliteRow> = query.fetch_all(&mut *connection).await.map_err(failed)?;
                Ok(rows.into_iter().map(QueryResult::from).collect())
            }
            Kind::Postgres(remote) => {
                let mut remote = remote.lock().await;
                let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), scrubbed(stmt.values));
                let done = timeout(PATIENCE, query.fetch_all(remote.connection()?)).await;
                let rows: Vec<PgRow> = remote.settle(done)?;
                Ok(rows.into_iter().map(QueryResult::from).collect())
            }
        }
    }

    /// Runs a statement and says how many rows it changed.
    pub async fn execute(&self, stmt: Statement) -> Result<u64, DbErr> {
        match &self.kind {
            Kind::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), values(stmt.values));
                let done = query.execute(&mut *connection).await.map_err(failed)?;
                Ok(done.rows_affected())
            }
            Kind::Postgres(remote) => {
                let mut remote = remote.lock().await;
                let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), scrubbed(stmt.values));
                let done = timeout(PATIENCE, query.execute(remote.connection()?)).await;
                Ok(remote.settle(done)?.rows_affected())
            }
        }
    }

    /// Runs a statement without values, such as COMMIT.
    pub async fn plain(&self, text: &'static str) -> Result<(), DbErr> {
        match &self.kind {
            Kind::Sqlite(connection) => {
                let mut connection = connection.lock().await;
                sqlx::query(text).execute(&mut *connection).await.map_err(failed)?;
            }
            Kind::Postgres(remote) => {
                let mut remote = remote.lock().await;
                let done = timeout(PATIENCE, sqlx::raw_sql(text).execute(remote.connection()?)).await;
                remote.settle(done)?;
            }
        }
        Ok(())
    }

    pub async fn close(self) -> Result<(), DbErr> {
        match self.kind {
            Kind::Sqlite(connection) => connection.into_inner().close().await.map_err(failed),
            Kind::Postgres(remote) => match remote.into_inner().connection {
                Some(connection) => connection.close().await.map_err(failed),
                None => Ok(()),
            },
        }
    }
}

impl Remote {
    fn connection(&mut self) -> Result<&mut PgConnection, DbErr> {
        let broke = || DbErr::Custom("the connection to the database broke".into());
        self.connection.as_mut().ok_or_else(broke)
    }

    /// Gives the connection up when it broke or did not answer.
    fn settle<T>(&mut self, done: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, DbErr> {
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                if is_broken(&error) {
                    self.connection = None;
                }
                Err(failed(error))
            }
            Err(_) => {
                self.connection = None;
                Err(DbErr::Custom(format!(
                    "the database did not answer within {PATIENCE:?}"
                )))
            }
        }
    }
}

/// Whether a connection that met this error is of no use any more.
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        // Class 57: the server ends or refuses connections. The other: it ended this one, see IDLE_MAX.
        sqlx::Error::Database(e) => e
            .code()
            .is_some_and(|c| c.starts_with("57P") || c == IDLE_IN_TRANSACTION),
        sqlx::Error::ColumnNotFound(_) | sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } => false,
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) | sqlx::Error::TypeNotFound { .. } => false,
        _ => true,
    }
}

fn values(values: Option<Values>) -> SqlxValues {
    SqlxValues(values.unwrap_or_else(|| Values(Vec::new())))
}

/// Postgres takes no NUL in a text; those that people send become the mark for what can't be shown.
fn scrubbed(given: Option<Values>) -> SqlxValues {
    let mut values = values(given);
    values.0.0.iter_mut().for_each(scrub);
    values
}

fn scrub(value: &mut Value) {
    match value {
        Value::String(Some(text)) => {
            scrub_text(text);
            // An array of rows, which the database is about to unfold.
            if text.starts_with('[') && text.contains("\\u0000") {
                *text = without_escaped_nul(text);
            }
        }
        Value::Array(_, Some(items)) => {
            for item in items.iter_mut() {
                if let Value::String(Some(text)) = item {
                    scrub_text(text);
                }
            }
        }
        _ => {}
    }
}

fn scrub_text(text: &mut String) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
}

/// JSON text without `\u0000`, which Postgres can't unfold. A backslash that is itself escaped begins no such thing.
fn without_escaped_nul(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("\\u0000") {
            out.push_str("\\ufffd");
            rest = &rest[6..];
        } else {
            let pair = rest.char_indices().nth(2).map_or(rest.len(), |(i, _)| i);
            out.push_str(&rest[..pair]);
            rest = &rest[pair..];
        }
    }
    out.push_str(rest);
    out
}

pub(super) fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_nuls_go_and_all_else_stays() {
        assert_eq!(without_escaped_nul(r#"["a\u0000b"]"#), r#"["a\ufffdb"]"#);
        assert_eq!(
            without_escaped_nul(r#"["a\\u0000b\n\"é\\"]"#),
            r#"["a\\u0000b\n\"é\\"]"#
        );
        assert_eq!(without_escaped_nul(r#"\\\u0000"#), r#"\\\ufffd"#);
    }
}
