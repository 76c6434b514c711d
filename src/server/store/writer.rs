//! The one writer of this process. It collects what callers want written for a moment, or until there are some hundreds
//! of operations, and commits once: an acknowledged operation is on disk. What comes most often, new jobs and the ends of
//! attempts, is written in sets, some statements for all of a commit; everything else runs by itself in a savepoint. A bad
//! operation fails alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult, QueryResult, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};

use super::claim::{self, Claim, Claimed};
use super::counts::{self, Deltas};
use super::enqueue::{self, Batch, Enqueued};
use super::error::StoreError;
use super::finish::{self, Finish, Finished};
use crate::domain::status::Status;

/// Operations of one commit at the most.
const BATCH_MAX: usize = 256;
/// Operations that wait at the most before callers are held back.
const BACKLOG: usize = 4_096;
/// How often a commit is tried again while another process writes.
const BUSY_RETRIES: u32 = 5;

/// The transaction that an operation runs in.
pub struct Tx<'t> {
    conn: &'t DatabaseTransaction,
    now: i64,
    deltas: Mutex<Deltas>,
    /// What operations before this one in the same commit have changed about the counts.
    before: &'t Deltas,
}

impl<'t> Tx<'t> {
    fn new(conn: &'t DatabaseTransaction, now: i64, before: &'t Deltas) -> Self {
        Self {
            conn,
            now,
            deltas: Mutex::default(),
            before,
        }
    }

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

    /// Notes that there are `n` jobs more (or fewer) of this status, kind and queue.
    pub fn count(&self, status: Status, kind: &str, queue: &str, n: i64) {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.add(status, kind, queue, n);
    }

    /// How far the number of jobs in these statuses has moved in this commit, beyond what the table of counts says.
    pub fn moved(&self, statuses: &[Status]) -> i64 {
        let own = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        self.before.of(statuses) + own.of(statuses)
    }

    fn into_deltas(self) -> Deltas {
        self.deltas.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told once whether the commit that carried an operation succeeded.
type Acknowledge = Box<dyn FnOnce(Result<(), Arc<DbErr>>) + Send>;
/// Runs in a savepoint; `None` when the operation failed and has said so to its caller.
type Single = Box<dyn for<'t> FnOnce(&'t Tx<'t>) -> BoxFuture<'t, Option<Acknowledge>> + Send>;
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Operation {
    Single(Single),
    Enqueue(Batch, Reply<Enqueued>),
    Finish(Finish, Reply<Finished>),
    Claim(Claim, Reply<Vec<Claimed>>),
}

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
        F: for<'t> FnOnce(&'t Tx<'t>) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let single: Single = Box::new(move |tx| {
            Box::pin(async move {
                match f(tx).await {
                    Ok(value) => Some(acknowledge(reply, value)),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        None
                    }
                }
            })
        });
        self.ask(Operation::Single(single), answer).await
    }

    pub async fn enqueue(&self, batch: Batch) -> Result<Enqueued, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Operation::Enqueue(batch, reply), answer).await
    }

    pub async fn finish(&self, finish: Finish) -> Result<Finished, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Operation::Finish(finish, reply), answer).await
    }

    pub async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Operation::Claim(claim, reply), answer).await
    }

    async fn ask<T>(
        &self,
        operation: Operation,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.operations.send(operation).await.map_err(|_| StoreError::Closed)?;
        let untold = |_| StoreError::Commit("it broke off, and nothing of it was written".into());
        answer.await.map_err(untold)?
    }
}

fn acknowledge<T: Send + 'static>(reply: Reply<T>, value: T) -> Acknowledge {
    Box::new(move |committed| {
        // The caller may have gone away; the write stands all the same.
        let _ = reply.send(committed.map(|()| value).map_err(|e| StoreError::Commit(e.to_string())));
    })
}

async fn run(conn: DatabaseConnection, mut receiver: mpsc::Receiver<Operation>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    // What came in while the last commit was on its way to the disk forms the next one: under load commits grow by
    // themselves, and an idle system waits for nothing.
    while receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let size = batch.len();
        let started = std::time::Instant::now();
        if let Err(error) = commit(&conn, Work::sort(batch.drain(..))).await {
            // The callers have been told; the cause is logged here, once a commit.
            tracing::error!(%error, operations = size, "a commit failed");
        }
        metrics::histogram!("windlass_commit_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("windlass_commit_operations_total").increment(size as u64);
    }
}

/// The operations of one commit by what they are.
#[derive(Default)]
struct Work {
    finishes: Vec<(Finish, Reply<Finished>)>,
    enqueues: Vec<(Batch, Reply<Enqueued>)>,
    singles: Vec<Single>,
    claims: Vec<(Claim, Reply<Vec<Claimed>>)>,
}

impl Work {
    fn sort(batch: impl Iterator<Item = Operation>) -> Self {
        let mut work = Self::default();
        for operation in batch {
            match operation {
                Operation::Single(single) => work.singles.push(single),
                Operation::Enqueue(batch, reply) => work.enqueues.push((batch, reply)),
                Operation::Finish(finish, reply) => work.finishes.push((finish, reply)),
                Operation::Claim(claim, reply) => work.claims.push((claim, reply)),
            }
        }
        work
    }
}

/// Writes all of it and acknowledges. Dropping a reply tells its caller that nothing was written.
async fn commit(conn: &DatabaseConnection, work: Work) -> Result<(), DbErr> {
    let (mut tx, mut now) = begin(conn).await?;
    let mut deltas = Deltas::default();
    let mut done: Vec<Acknowledge> = Vec::new();
    // The sets go first, so that when one of them fails nothing is lost by starting over, one by one.
    let sets = write_sets(&tx, now, &work.finishes, &work.enqueues, &mut deltas).await;
    match sets {
        Ok((finished, enqueued)) => {
            settle(work.finishes, finished, &mut done);
            settle(work.enqueues, enqueued, &mut done);
        }
        Err(error) => {
            tracing::warn!(%error, "a set could not be written; its operations are tried one by one");
            tx.rollback().await?;
            deltas = Deltas::default();
            (tx, now) = begin(conn).await?;
            for (item, reply) in work.finishes {
                let items = std::slice::from_ref(&item);
                alone(&tx, now, &mut deltas, reply, &mut done, async |tx| {
                    finish::set(tx, items).await
                })
                .await?;
            }
            for (item, reply) in work.enqueues {
                let items = std::slice::from_ref(&item);
                alone(&tx, now, &mut deltas, reply, &mut done, async |tx| {
                    enqueue::set(tx, items).await
                })
                .await?;
            }
        }
    }
    for single in work.singles {
        let savepoint = tx.begin().await?;
        let own = Tx::new(&savepoint, now, &deltas);
        let ended = single(&own).await;
        let changed = own.into_deltas();
        match ended {
            Some(acknowledge) => {
                savepoint.commit().await?;
                deltas.merge(changed);
                done.push(acknowledge);
            }
            None => savepoint.rollback().await?,
        }
    }
    for (claim, reply) in work.claims {
        let own = Tx::new(&tx, now, &deltas);
        match claim::claim(&own, &claim).await {
            Ok(claimed) => {
                let changed = own.into_deltas();
                deltas.merge(changed);
                done.push(acknowledge(reply, claimed));
            }
            // A claim has no reason to fail but a database that fails.
            Err(error) => {
                let text = error.to_string();
                let _ = reply.send(Err(error));
                return Err(DbErr::Custom(text));
            }
        }
    }
    counts::write(&tx, &deltas).await?;
    let committed = tx.commit().await.map_err(Arc::new);
    for acknowledge in done {
        acknowledge(committed.clone());
    }
    committed.map_err(|e| DbErr::Custom(e.to_string()))
}

type Answers<T> = Vec<Result<T, StoreError>>;

async fn write_sets(
    conn: &DatabaseTransaction,
    now: i64,
    finishes: &[(Finish, Reply<Finished>)],
    enqueues: &[(Batch, Reply<Enqueued>)],
    deltas: &mut Deltas,
) -> Result<(Answers<Finished>, Answers<Enqueued>), StoreError> {
    let none = Deltas::default();
    let tx = Tx::new(conn, now, &none);
    let finishes: Vec<&Finish> = finishes.iter().map(|(f, _)| f).collect();
    let finished = finish::set(&tx, &finishes).await?;
    let enqueues: Vec<&Batch> = enqueues.iter().map(|(b, _)| b).collect();
    let enqueued = enqueue::set(&tx, &enqueues).await?;
    deltas.merge(tx.into_deltas());
    Ok((finished, enqueued))
}

/// Hands each operation of a set its answer: what was refused at once, what was written after the commit.
fn settle<A, T: Send + 'static>(asked: Vec<(A, Reply<T>)>, answers: Answers<T>, done: &mut Vec<Acknowledge>) {
    for ((_, reply), answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(value) => done.push(acknowledge(reply, value)),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }
}

/// One operation of a set that failed, in a savepoint of its own.
async fn alone<T: Send + 'static>(
    conn: &DatabaseTransaction,
    now: i64,
    deltas: &mut Deltas,
    reply: Reply<T>,
    done: &mut Vec<Acknowledge>,
    write: impl AsyncFnOnce(&Tx<'_>) -> Result<Answers<T>, StoreError>,
) -> Result<(), DbErr> {
    let savepoint = conn.begin().await?;
    let tx = Tx::new(&savepoint, now, deltas);
    let answer = match write(&tx).await {
        Ok(mut answers) => answers.pop().unwrap_or(Err(StoreError::Closed)),
        Err(error) => Err(error),
    };
    let changed = tx.into_deltas();
    match answer {
        Ok(value) => {
            savepoint.commit().await?;
            deltas.merge(changed);
            done.push(acknowledge(reply, value));
        }
        Err(error) => {
            savepoint.rollback().await?;
            let _ = reply.send(Err(error));
        }
    }
    Ok(())
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
