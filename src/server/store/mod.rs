//! The truth: jobs, their logs and files, and the sample domain, in a SQL database. Everything that other layers know
//! about a job was read here; everything that they change goes through the group-committing [`writer`].

pub mod audit;
pub mod batches;
mod chains;
mod children;
pub mod claim;
mod commit;
mod connect;
pub mod counts;
pub mod dialect;
mod due;
pub mod enqueue;
mod error;
pub mod errors;
pub mod events;
pub mod external;
pub mod files;
pub mod finish;
mod history;
pub mod jobs;
pub mod limits;
mod links;
pub mod list;
pub mod logs;
pub mod ops;
#[cfg(test)]
mod plan_tests;
mod postgres;
pub mod queues;
pub mod raw;
pub mod retention;
pub mod rollups;
pub mod room;
pub mod schedules;
pub mod search;
mod session;
pub mod sessions;
mod sets;
mod sql;
pub mod tokens;
mod trouble;
mod uploads;
pub mod users;
pub mod vouched;
mod waiting;
mod workers;
mod writer;
mod zeros;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, QueryResult, Statement};
use tokio_util::sync::CancellationToken;

pub use error::StoreError;
pub use postgres::{create_schema, drop_schema};
pub use workers::WorkerRow;
pub use writer::Tx;

use dialect::Dialect;
use files::Files;
use writer::Writer;

use super::config::Edge;

/// A handle to the database and the files beside it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dialect: Dialect,
    read: DatabaseConnection,
    writer: Writer,
    files: Files,
    artifact_ttl: Duration,
    edge: Edge,
    /// Crashes after which a job is not tried again by itself.
    crashes_max: u32,
    /// Held for as long as this process serves the database.
    lock: Mutex<Option<Lock>>,
}

enum Lock {
    File(std::fs::File),
    Postgres(Arc<postgres::Guard>),
}

impl Store {
    /// Where artifacts, uploads and temporary files lie.
    pub fn files(&self) -> &Files {
        &self.inner.files
    }

    /// The database that it stands on.
    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Ends when another process has taken this one's database over while that was away.
    pub fn lost(&self) -> CancellationToken {
        match &*self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Lock::Postgres(guard)) => guard.lost.clone(),
            _ => CancellationToken::new(),
        }
    }

    /// Waits for what is being written, closes the database and gives its lock back. Whatever is asked afterwards fails.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        if let Err(error) = self.inner.read.close_by_ref().await {
            tracing::warn!(%error, "the database could not be closed");
        }
        let lock = self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        match lock {
            Some(Lock::Postgres(guard)) => guard.release().await,
            Some(Lock::File(file)) => drop(file),
            None => {}
        }
    }

    /// The rows that a question gives. A database that does not answer is an error in bounded time.
    async fn all(&self, stmt: Statement) -> Result<Vec<QueryResult>, StoreError> {
        in_time(self.inner.read.query_all_raw(stmt)).await
    }

    /// The first row that a question gives.
    async fn one(&self, stmt: Statement) -> Result<Option<QueryResult>, StoreError> {
        in_time(self.inner.read.query_one_raw(stmt)).await
    }

    fn writer(&self) -> &Writer {
        &self.inner.writer
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, DbErr>>) -> Result<T, StoreError> {
    match tokio::time::timeout(session::PATIENCE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(DbErr::Custom(format!("the database did not answer within {:?}", session::PATIENCE)).into()),
    }
}
