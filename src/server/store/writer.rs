//! The one writer of this process. It collects what callers want written for a moment, or until there are some hundreds
//! of operations, and commits once: an acknowledged operation is on disk. What comes most often, new jobs, claims and the
//! good ends of attempts, is written in sets, two scripts for all of a commit; everything else runs by itself in a
//! savepoint. A bad operation fails alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use sea_orm::{DbErr, QueryResult, Statement};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::claim::{Claim, Claimed};
use super::counts::{Deltas, SHARDS};
use super::dialect::Dialect;
use super::enqueue::{Batch, Enqueued};
use super::error::StoreError;
use super::finish::{Finish, Finished};
use super::session::Session;
use super::sets::Asked;
use super::trouble::Trouble;
use super::{commit, postgres};
use crate::domain::error::JobError;
use crate::domain::job::Job;
use crate::domain::stats::Metric;
use crate::domain::status::Status;

/// Operations of one commit at the most.
const BATCH_MAX: usize = 256;
/// Operations that wait at the most before callers are held back.
const BACKLOG: usize = 4_096;
/// On Postgres, writers of operations that are not sets: each of these is a transaction of its own, so that no two
/// transactions can wait for each other's rows.
const SINGLES: usize = 3;

/// The transaction that an operation runs in.
pub struct Tx<'t> {
    session: &'t Session,
    now: i64,
    deltas: Mutex<Deltas>,
    /// What operations before this one in the same commit have changed about the counts.
    before: &'t Deltas,
}

impl<'t> Tx<'t> {
    pub(super) fn new(session: &'t Session, now: i64, before: &'t Deltas) -> Self {
        Self {
            session,
            now,
            deltas: Mutex::default(),
            before,
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.session.dialect()
    }

    /// Milliseconds since 1970 by the database's clock, the same for all of a commit.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Says how many rows the statement changed.
    pub async fn execute(&self, stmt: Statement) -> Result<u64, DbErr> {
        self.session.execute(stmt).await
    }

    pub async fn one(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.session.all(stmt).await?.pop())
    }

    pub async fn all(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.session.all(stmt).await
    }

    /// Notes that there are `n` jobs more (or fewer) like this one in this status.
    pub fn count(&self, status: Status, job: &Job, n: i64) {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.add(status, &job.kind, &job.queue, job.batch, n);
    }

    /// [`Tx::count`] of a job that went from one status to another, told by its parts.
    pub fn moves(&self, from: Status, to: Status, kind: &str, queue: &str, batch: Option<Uuid>) {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.add(from, kind, queue, batch, -1);
        deltas.add(to, kind, queue, batch, 1);
    }

    /// Notes that an attempt ended with an error.
    pub fn met(&self, kind: &str, fingerprint: &str, error: &JobError) {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.met(self.now, kind, fingerprint, error);
    }

    /// Notes that this happened to a job, and how long it took.
    pub fn roll(&self, kind: &str, queue: &str, metric: Metric, ms: i64) {
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.roll(self.now, kind, queue, metric, ms);
    }

    /// Notes that a job that counted against these limits runs no more.
    pub fn free(&self, holds: Option<&str>) {
        if let Some(holds) = holds {
            self.deltas.lock().unwrap_or_else(PoisonError::into_inner).free(holds);
        }
    }

    /// Notes that a job has ended for which others wait.
    pub fn due(&self, seq: i64) {
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner).due.push(seq);
    }

    /// Notes that the search does not know the newest of this job.
    pub fn stale(&self, seq: i64) {
        self.deltas
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stale
            .push(seq);
    }

    /// How far the number of jobs in these statuses has moved in this commit, beyond what the table of counts says.
    pub fn moved(&self, statuses: &[Status]) -> i64 {
        let own = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        self.before.of(statuses) + own.of(statuses)
    }

    pub(super) fn into_deltas(self) -> Deltas {
        self.deltas.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told once whether the commit that carried an operation succeeded.
pub(super) type Acknowledge = Box<dyn FnOnce(Result<(), Arc<DbErr>>) + Send>;
/// Runs in a savepoint, or a transaction of its own. An error is what to do once its changes are undone: its caller must not
/// go on while rows are still locked.
pub(super) type Single = Box<dyn for<'t> FnOnce(&'t Tx<'t>) -> BoxFuture<'t, Result<Acknowledge, Refuse>> + Send>;
pub(super) type Refuse = Box<dyn FnOnce() + Send>;
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Operation {
    Single(Single),
    Enqueue(Box<Batch>, Reply<Enqueued>),
    Finish(Finish, Reply<Finished>),
    Claim(Claim, Reply<Vec<Claimed>>),
    /// The last one.
    Close(oneshot::Sender<()>),
}

/// The way to the writer. It ends when the last handle is dropped and all that was handed in is written.
#[derive(Clone)]
pub struct Writer {
    /// Good ends of attempts; on SQLite the same way as the others.
    ends: mpsc::Sender<Operation>,
    claims: mpsc::Sender<Operation>,
    /// New jobs.
    jobs: mpsc::Sender<Operation>,
    singles: mpsc::Sender<Operation>,
    /// Operations handed in so far.
    asked: Arc<AtomicU64>,
}

impl Writer {
    /// On SQLite: one connection writes everything.
    pub fn sqlite(connection: SqliteConnection) -> Self {
        let (operations, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(run(Session::sqlite(connection), Arc::new(receiver.into()), BATCH_MAX));
        Self {
            ends: operations.clone(),
            claims: operations.clone(),
            jobs: operations.clone(),
            singles: operations,
            asked: Arc::default(),
        }
    }

    /// On Postgres several write side by side: one the ends of attempts, one the claims, one the new jobs, some everything else.
    /// Each changes counts of its own, so that none waits for another's commit.
    pub fn postgres(options: &PgConnectOptions) -> Self {
        let shards = usize::try_from(SHARDS).unwrap_or(1);
        let first = Uuid::new_v4().as_u128() as usize % shards;
        let shard = |n: usize| i64::try_from((first + n) % shards).unwrap_or(0);
        let sets = |n: usize| {
            let (operations, receiver) = mpsc::channel(BACKLOG);
            let session = Session::postgres(postgres::for_sets(options.clone()), shard(n));
            tokio::spawn(run(session, Arc::new(receiver.into()), BATCH_MAX));
            operations
        };
        let (ends, claims, jobs) = (sets(0), sets(1), sets(2));
        let (singles, receiver) = mpsc::channel(BACKLOG);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        for n in 0..SINGLES {
            let session = Session::postgres(options.clone(), shard(3 + n));
            tokio::spawn(run(session, receiver.clone(), 1));
        }
        Self {
            ends,
            claims,
            jobs,
            singles,
            asked: Arc::default(),
        }
    }

    /// How many operations were handed in so far: for work that can wait while others write.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until all that was handed in is written, and closes the connection.
    pub async fn close(&self) {
        let ways = [
            (&self.ends, 1),
            (&self.claims, 1),
            (&self.jobs, 1),
            (&self.singles, SINGLES),
        ];
        for (way, writers) in ways {
            for _ in 0..writers {
                let (reply, closed) = oneshot::channel();
                if way.send(Operation::Close(reply)).await.is_ok() {
                    // An error means that it is closed already.
                    let _ = closed.await;
                }
            }
        }
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
                    Ok(value) => Ok(acknowledge(reply, value)),
                    Err(error) => Err(Box::new(move || {
                        // The caller may have gone away.
                        let _ = reply.send(Err(error));
                    }) as Refuse),
                }
            })
        });
        self.ask(&self.singles, Operation::Single(single), answer).await
    }

    pub async fn enqueue(&self, batch: Batch) -> Result<Enqueued, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.jobs, Operation::Enqueue(Box::new(batch), reply), answer)
            .await
    }

    pub async fn finish(&self, finish: Finish) -> Result<Finished, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.ends, Operation::Finish(finish, reply), answer).await
    }

    pub async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(&self.claims, Operation::Claim(claim, reply), answer).await
    }

    async fn ask<T>(
        &self,
        way: &mpsc::Sender<Operation>,
        operation: Operation,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        way.send(operation).await.map_err(|_| StoreError::Closed)?;
        let untold = |_| StoreError::Commit("the database did not confirm it".into());
        answer.await.map_err(untold)?
    }
}

pub(super) fn acknowledge<T: Send + 'static>(reply: Reply<T>, value: T) -> Acknowledge {
    Box::new(move |committed| {
        // The caller may have gone away; the write stands all the same.
        let _ = reply.send(committed.map(|()| value).map_err(|e| StoreError::Commit(e.to_string())));
    })
}

/// One writer: takes what waits, at most `max` operations at once, and commits it. Several may share a receiver.
async fn run(session: Session, receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Operation>>>, max: usize) {
    let mut batch = Vec::with_capacity(max);
    let mut closing = None;
    let mut trouble = Trouble::new();
    // What came in while the last commit was on its way to the disk forms the next one: under load commits grow by
    // themselves, and an idle system waits for nothing.
    while closing.is_none() {
        {
            let mut receiver = receiver.lock().await;
            if receiver.recv_many(&mut batch, max).await == 0 {
                break;
            }
            if max > 1 {
                gather(&mut receiver, &mut batch).await;
            }
        }
        let size = batch.len();
        let mut work = Work::sort(batch.drain(..));
        closing = work.closing.take();
        let started = std::time::Instant::now();
        if let Err(error) = session.ready().await {
            tell(&mut trouble, &error, size, "the database can't be reached");
            // Whoever waits behind these would wait as long for the same answer.
            drop(work);
            let mut receiver = receiver.lock().await;
            while let Ok(operation) = receiver.try_recv() {
                if let Operation::Close(reply) = operation {
                    closing = Some(reply);
                    break;
                }
            }
            continue;
        }
        let done = match session.dialect() {
            Dialect::Sqlite => commit::commit(&session, work).await,
            Dialect::Postgres => postgres::commit::commit(&session, work).await,
        };
        match done {
            Ok(()) => trouble = Trouble::new(),
            Err(error) => {
                // The callers have been told; the cause is logged here, once a commit.
                tell(&mut trouble, &error, size, "a commit failed");
                // An error means that there is nothing to take back.
                let _ = session.plain("ROLLBACK").await;
            }
        }
        metrics::histogram!("windlass_commit_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("windlass_commit_operations_total").increment(size as u64);
    }
    if let Err(error) = session.close().await {
        tracing::warn!(%error, "the database could not be closed");
    }
    if let Some(reply) = closing {
        let _ = reply.send(());
    }
}

/// Logs commits that fail one after the other, at a bounded rate.
fn tell(trouble: &mut Trouble, error: &DbErr, operations: usize, what: &str) {
    if let Some(more_like_this) = trouble.met(std::time::Instant::now()) {
        tracing::error!(%error, operations, more_like_this, "{what}");
    }
}

/// Lets whoever is about to hand something in do so first, for as long as more comes.
async fn gather(receiver: &mut mpsc::Receiver<Operation>, batch: &mut Vec<Operation>) {
    loop {
        tokio::task::yield_now().await;
        let before = batch.len();
        while batch.len() < BATCH_MAX
            && let Ok(operation) = receiver.try_recv()
        {
            batch.push(operation);
        }
        if batch.len() == before || batch.len() >= BATCH_MAX {
            return;
        }
    }
}

pub(super) type Waiting<A, T> = Vec<(A, Reply<T>)>;

/// The operations of one commit by what they are.
#[derive(Default)]
pub(super) struct Work {
    pub finishes: Waiting<Finish, Finished>,
    pub enqueues: Waiting<Batch, Enqueued>,
    pub claims: Waiting<Claim, Vec<Claimed>>,
    pub singles: Vec<Single>,
    pub closing: Option<oneshot::Sender<()>>,
}

impl Work {
    fn sort(batch: impl Iterator<Item = Operation>) -> Self {
        let mut work = Self::default();
        for operation in batch {
            match operation {
                Operation::Single(single) => work.singles.push(single),
                Operation::Enqueue(batch, reply) => work.enqueues.push((*batch, reply)),
                Operation::Finish(finish, reply) => work.finishes.push((finish, reply)),
                Operation::Claim(claim, reply) => work.claims.push((claim, reply)),
                Operation::Close(reply) => work.closing = Some(reply),
            }
        }
        work
    }

    pub fn is_empty(&self) -> bool {
        self.finishes.is_empty() && self.enqueues.is_empty() && self.claims.is_empty() && self.singles.is_empty()
    }

    /// All ends and new jobs, and the first claim; a second one, of another worker in this process, goes by itself.
    pub fn sets<'a>(
        finishes: &'a [(Finish, Reply<Finished>)],
        enqueues: &'a [(Batch, Reply<Enqueued>)],
        claims: &'a [(Claim, Reply<Vec<Claimed>>)],
    ) -> Asked<'a> {
        Asked {
            finishes: finishes.iter().map(|(f, _)| f).collect(),
            batches: enqueues.iter().map(|(b, _)| b).collect(),
            claim: claims.first().map(|(c, _)| c),
        }
    }
}

/// Hands each operation of a set its answer: what was refused at once, what was written after the commit.
pub(super) fn settle<A, T: Send + 'static>(
    asked: Waiting<A, T>,
    answers: Vec<Result<T, StoreError>>,
    done: &mut Vec<Acknowledge>,
) {
    for ((_, reply), answer) in asked.into_iter().zip(answers) {
        match answer {
            Ok(value) => done.push(acknowledge(reply, value)),
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        }
    }
}
