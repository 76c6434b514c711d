//! The one writer of this process. It collects what callers want written for a moment, or until there are some hundreds
//! of operations, runs each in a savepoint of one transaction, and commits once: a bad operation fails alone, and an
//! acknowledged one is on disk.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult, QueryResult, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};

use super::error::StoreError;

/// Operations of one commit at the most.
const BATCH_MAX: usize = 256;
/// Operations that wait at the most before callers are held back.
const BACKLOG: usize = 4_096;
/// How long a commit may hold the readers' newest state back in a row of retries while another process writes.
const BUSY_RETRIES: u32 = 5;

/// The transaction that an operation runs in, and the database's clock in it.
pub struct Tx {
    conn: DatabaseTransaction,
    now: i64,
}

impl Tx {
    /// Milliseconds since 1970 by the database's clock, the same for all of a commit.
    pub fn now(&self) -> i64 {
        self.now
    }

    pub async fn execute(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        self.conn.execute_raw(stmt).await
    }

    pub async fn one(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.conn.query_one_raw(stmt).await
    }

    pub async fn all(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.conn.query_all_raw(stmt).await
    }
}

/// Told once whether the commit that carried an operation succeeded.
type Acknowledge = Box<dyn FnOnce(Result<(), Arc<DbErr>>) + Send>;
/// Runs in a savepoint; `None` when the operation failed and has said so to its caller.
type Operation = Box<dyn for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Option<Acknowledge>> + Send>;

/// The way to the writer. It ends when the last handle is dropped and all that was handed in is written.
#[derive(Clone)]
pub struct Writer {
    operations: mpsc::Sender<Operation>,
}

impl Writer {
    /// `conn` must be a pool of one connection that nobody else uses.
    pub fn start(conn: DatabaseConnection) -> Self {
        let (operations, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(run(conn, receiver));
        Self { operations }
    }

    /// Runs `f` in the next commit and answers once that is on disk. `f` may run in a transaction with other
    /// operations; if it fails, its changes alone are undone.
    pub async fn write<T, F>(&self, f: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let operation: Operation = Box::new(move |tx| {
            Box::pin(async move {
                match f(tx).await {
                    Ok(value) => Some(Box::new(move |committed: Result<(), Arc<DbErr>>| {
                        // The caller may have gone away; the write stands all the same.
                        let _ = reply.send(committed.map(|()| value).map_err(|e| StoreError::Commit(e.to_string())));
                    }) as Acknowledge),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        None
                    }
                }
            })
        });
        self.operations.send(operation).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

async fn run(conn: DatabaseConnection, mut receiver: mpsc::Receiver<Operation>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    // What came in while the last commit was on its way to the disk forms the next one: under load commits grow by
    // themselves, and an idle system waits for nothing.
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let size = batch.len();
        let started = std::time::Instant::now();
        commit(&conn, batch.drain(..)).await;
        metrics::histogram!("windlass_commit_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("windlass_commit_operations_total").increment(size as u64);
    }
}

async fn commit(conn: &DatabaseConnection, batch: impl Iterator<Item = Operation>) {
    let (tx, now) = match begin(conn).await {
        Ok(begun) => begun,
        Err(error) => {
            // Dropping the operations tells their callers; the error itself is logged here, once a batch.
            tracing::error!(%error, "no transaction could be begun");
            return;
        }
    };
    let mut acknowledge = Vec::new();
    for operation in batch {
        let savepoint = match tx.begin().await {
            Ok(savepoint) => Tx { conn: savepoint, now },
            Err(error) => {
                tracing::error!(%error, "no savepoint could be made");
                continue;
            }
        };
        let done = operation(&savepoint).await;
        let ended = match &done {
            Some(_) => savepoint.conn.commit().await,
            None => savepoint.conn.rollback().await,
        };
        match (ended, done) {
            (Ok(()), Some(done)) => acknowledge.push(done),
            (Ok(()), None) => {}
            (Err(error), done) => {
                if let Some(done) = done {
                    done(Err(Arc::new(error)));
                }
            }
        }
    }
    let committed = tx.commit().await.map_err(Arc::new);
    if let Err(error) = &committed {
        tracing::error!(%error, "a commit failed");
    }
    for done in acknowledge {
        done(committed.clone());
    }
}

async fn begin(conn: &DatabaseConnection) -> Result<(DatabaseTransaction, i64), DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    let mut tries = 0;
    let tx = loop {
        match conn.begin_with_options(options).await {
            Ok(tx) => break tx,
            // Another process writes at the moment (the demo command, a backup tool).
            Err(e) if tries < BUSY_RETRIES && e.to_string().contains("locked") => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 << tries)).await;
            }
            Err(e) => return Err(e),
        }
    };
    let now = super::connect::clock(&tx).await?;
    Ok((tx, now))
}
