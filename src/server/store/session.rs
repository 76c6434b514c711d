//! The writer's own connection. Every statement is a message to SQLite's thread and back, which costs more than what most of
//! them do: so this one takes scripts, several statements with the same values, and gives the rows of all of them.

use sea_orm::{DbErr, QueryResult, RuntimeErr, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use tokio::sync::Mutex;

/// One connection, one statement or script at a time.
pub(super) struct Session(Mutex<SqliteConnection>);

impl Session {
    pub fn new(connection: SqliteConnection) -> Self {
        Self(Mutex::new(connection))
    }

    /// Runs a statement or a script and gives the rows of all its statements. In a script every `$n` means the n-th value.
    pub async fn all(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let mut connection = self.0.lock().await;
        let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), values(stmt.values));
        let rows: Vec<SqliteRow> = query.fetch_all(&mut *connection).await.map_err(failed)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    /// Runs a statement and says how many rows it changed.
    pub async fn execute(&self, stmt: Statement) -> Result<u64, DbErr> {
        let mut connection = self.0.lock().await;
        let query = sqlx::query_with(sqlx::AssertSqlSafe(stmt.sql), values(stmt.values));
        let done = query.execute(&mut *connection).await.map_err(failed)?;
        Ok(done.rows_affected())
    }

    /// Runs a statement without values, such as COMMIT.
    pub async fn plain(&self, text: &'static str) -> Result<(), DbErr> {
        let mut connection = self.0.lock().await;
        sqlx::query(text).execute(&mut *connection).await.map_err(failed)?;
        Ok(())
    }

    pub async fn close(self) -> Result<(), DbErr> {
        self.0.into_inner().close().await.map_err(failed)
    }
}

fn values(values: Option<sea_orm::Values>) -> SqlxValues {
    SqlxValues(values.unwrap_or_else(|| sea_orm::Values(Vec::new())))
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}
