//! The one writer of this process. It collects what callers want written for a moment, or until there are some hundreds
//! of operations, and commits once: an acknowledged operation is on disk. What comes most often, new jobs, claims and the
//! good ends of attempts, is written in sets, two scripts for all of a commit; everything else runs by itself in a
//! savepoint. A bad operation fails alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::{DbErr, QueryResult, Statement, Value};
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::claim::{Claim, Claimed};
use super::counts::Deltas;
use super::enqueue::{Batch, Enqueued, Planned};
use super::error::StoreError;
use super::finish::{Finish, Finished};
use super::session::Session;
use super::sets::{self, Answered, Asked};
use super::sql::Sql;
use crate::domain::status::Status;

/// Operations of one commit at the most.
const BATCH_MAX: usize = 256;
/// Operations that wait at the most before callers are held back.
const BACKLOG: usize = 4_096;
/// How often a commit is tried again while another process writes.
const BUSY_RETRIES: u32 = 5;

/// The transaction that an operation runs in.
pub struct Tx<'t> {
    session: &'t Session,
    now: i64,
    deltas: Mutex<Deltas>,
    /// What operations before this one in the same commit have changed about the counts.
    before: &'t Deltas,
}

impl<'t> Tx<'t> {
    fn new(session: &'t Session, now: i64, before: &'t Deltas) -> Self {
        Self {
            session,
            now,
            deltas: Mutex::default(),
            before,
        }
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
    /// The last one.
    Close(oneshot::Sender<()>),
}

/// The way to the writer. It ends when the last handle is dropped and all that was handed in is written.
#[derive(Clone)]
pub struct Writer {
    operations: mpsc::Sender<Operation>,
    /// Operations handed in so far.
    asked: Arc<AtomicU64>,
}

impl Writer {
    /// On a connection that nobody else uses.
    pub fn start(connection: SqliteConnection) -> Self {
        let (operations, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(run(Session::new(connection), receiver));
        let asked = Arc::default();
        Self { operations, asked }
    }

    /// How many operations were handed in so far: for work that can wait while others write.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until all that was handed in is written, and closes the connection.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.operations.send(Operation::Close(reply)).await.is_ok() {
            // An error means that it is closed already.
            let _ = closed.await;
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
        self.asked.fetch_add(1, Ordering::Relaxed);
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

async fn run(session: Session, mut receiver: mpsc::Receiver<Operation>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut closing = None;
    // What came in while the last commit was on its way to the disk forms the next one: under load commits grow by
    // themselves, and an idle system waits for nothing.
    while closing.is_none() && receiver.recv_many(&mut batch, BATCH_MAX).await > 0 {
        gather(&mut receiver, &mut batch).await;
        let size = batch.len();
        let mut work = Work::sort(batch.drain(..));
        closing = work.closing.take();
        let started = std::time::Instant::now();
        if let Err(error) = commit(&session, work).await {
            // The callers have been told; the cause is logged here, once a commit.
            tracing::error!(%error, operations = size, "a commit failed");
            // An error means that there is nothing to take back.
            let _ = session.plain("ROLLBACK").await;
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

type Waiting<A, T> = Vec<(A, Reply<T>)>;

/// The operations of one commit by what they are.
#[derive(Default)]
struct Work {
    finishes: Waiting<Finish, Finished>,
    enqueues: Waiting<Batch, Enqueued>,
    claims: Waiting<Claim, Vec<Claimed>>,
    singles: Vec<Single>,
    closing: Option<oneshot::Sender<()>>,
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
                Operation::Close(reply) => work.closing = Some(reply),
            }
        }
        work
    }

    fn is_empty(&self) -> bool {
        self.finishes.is_empty() && self.enqueues.is_empty() && self.claims.is_empty() && self.singles.is_empty()
    }

    /// All ends and new jobs, and the first claim; a second one, of another worker in this process, goes by itself.
    fn sets<'a>(
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

/// Writes all of it and acknowledges. Dropping a reply tells its caller that nothing was written.
async fn commit(session: &Session, work: Work) -> Result<(), DbErr> {
    if work.is_empty() {
        return Ok(());
    }
    let Work {
        finishes,
        enqueues,
        mut claims,
        singles,
        closing: _,
    } = work;
    let mut deltas = Deltas::default();
    let mut done: Vec<Acknowledge> = Vec::new();
    let now = super::connect::system_clock();
    // The sets go first, so that when they fail nothing is lost by starting over, one by one.
    let alone = singles.is_empty();
    let asked = Work::sets(&finishes, &enqueues, &claims);
    let written = write_sets(session, now, &asked, alone && claims.len() < 2, &mut deltas).await;
    let open = match written {
        Ok((answered, open)) => {
            if !claims.is_empty() {
                let (_, reply) = claims.remove(0);
                done.push(acknowledge(reply, answered.claimed));
            }
            settle(finishes, answered.finished, &mut done);
            settle(enqueues, answered.enqueued, &mut done);
            open
        }
        Err(error) => {
            tracing::warn!(%error, "a set could not be written; its operations are tried one by one");
            // An error means that there is nothing to take back.
            let _ = session.plain("ROLLBACK").await;
            deltas = Deltas::default();
            begin(session).await?;
            one_by_one(session, now, &mut deltas, finishes, enqueues, &mut done).await?;
            true
        }
    };
    if open {
        for (claim, reply) in claims {
            let asked = Asked {
                claim: Some(&claim),
                ..Asked::default()
            };
            let tx = Tx::new(session, now, &deltas);
            // A claim has no reason to fail but a database that fails.
            let (answered, _) = sets::first(&tx, "", &asked).await.map_err(text)?;
            let changed = tx.into_deltas();
            deltas.merge(changed);
            done.push(acknowledge(reply, answered.claimed));
        }
        for single in singles {
            session.plain("SAVEPOINT one").await?;
            let tx = Tx::new(session, now, &deltas);
            let ended = single(&tx).await;
            let changed = tx.into_deltas();
            match ended {
                Some(acknowledge) => {
                    session.plain("RELEASE one").await?;
                    deltas.merge(changed);
                    done.push(acknowledge);
                }
                None => take_back(session).await?,
            }
        }
        last(session, now, None, &deltas).await.map_err(text)?;
    }
    for acknowledge in done {
        acknowledge(Ok(()));
    }
    Ok(())
}

fn text(error: StoreError) -> DbErr {
    DbErr::Custom(error.to_string())
}

/// Writes the sets. `whole`: commits as well, since nothing else belongs to this commit; says whether it is still open.
async fn write_sets(
    session: &Session,
    now: i64,
    asked: &Asked<'_>,
    whole: bool,
    deltas: &mut Deltas,
) -> Result<(Answered, bool), StoreError> {
    let none = Deltas::default();
    let tx = Tx::new(session, now, &none);
    let mut tries = 0;
    let (answered, planned) = loop {
        match sets::first(&tx, "BEGIN IMMEDIATE; ", asked).await {
            Ok(written) => break written,
            // Another process writes at the moment (the demo command, a backup tool), and nothing has begun here.
            Err(e) if tries < BUSY_RETRIES && e.to_string().contains("locked") => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 << tries)).await;
            }
            Err(e) => return Err(e),
        }
    };
    deltas.merge(tx.into_deltas());
    if whole {
        last(session, now, Some(&planned), deltas).await?;
    } else {
        let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
        planned.push(&mut text, &mut values)?;
        if !text.is_empty() {
            session.all(Sql::with(&text, values)).await?;
        }
    }
    Ok((answered, !whole))
}

/// The last script of a commit.
async fn last(session: &Session, now: i64, planned: Option<&Planned<'_>>, deltas: &Deltas) -> Result<(), StoreError> {
    let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
    if let Some(planned) = planned {
        planned.push(&mut text, &mut values)?;
    }
    deltas.push(&mut text, &mut values)?;
    text.push_str("COMMIT");
    session.all(Sql::with(&text, values)).await?;
    Ok(())
}

async fn begin(session: &Session) -> Result<(), DbErr> {
    session.plain("BEGIN IMMEDIATE").await
}

async fn take_back(session: &Session) -> Result<(), DbErr> {
    session.plain("ROLLBACK TO one").await?;
    session.plain("RELEASE one").await
}

/// Hands each operation of a set its answer: what was refused at once, what was written after the commit.
fn settle<A, T: Send + 'static>(
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

/// The operations of sets that failed, each in a savepoint of its own.
async fn one_by_one(
    session: &Session,
    now: i64,
    deltas: &mut Deltas,
    finishes: Waiting<Finish, Finished>,
    enqueues: Waiting<Batch, Enqueued>,
    done: &mut Vec<Acknowledge>,
) -> Result<(), DbErr> {
    for (finish, reply) in finishes {
        let asked = Asked {
            finishes: vec![&finish],
            ..Asked::default()
        };
        let answer = savepoint(session, now, deltas, &asked).await?;
        let answer = answer.and_then(|mut a| a.finished.pop().unwrap_or(Err(StoreError::Closed)));
        settle(vec![((), reply)], vec![answer], done);
    }
    for (batch, reply) in enqueues {
        let asked = Asked {
            batches: vec![&batch],
            ..Asked::default()
        };
        let answer = savepoint(session, now, deltas, &asked).await?;
        let answer = answer.and_then(|mut a| a.enqueued.pop().unwrap_or(Err(StoreError::Closed)));
        settle(vec![((), reply)], vec![answer], done);
    }
    Ok(())
}

async fn savepoint(
    session: &Session,
    now: i64,
    deltas: &mut Deltas,
    asked: &Asked<'_>,
) -> Result<Result<Answered, StoreError>, DbErr> {
    session.plain("SAVEPOINT one").await?;
    let tx = Tx::new(session, now, deltas);
    let written = async {
        let (answered, planned) = sets::first(&tx, "", asked).await?;
        let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
        planned.push(&mut text, &mut values)?;
        if !text.is_empty() {
            tx.all(Sql::with(&text, values)).await?;
        }
        Ok(answered)
    };
    let written = written.await;
    let changed = tx.into_deltas();
    match &written {
        Ok(_) => {
            session.plain("RELEASE one").await?;
            deltas.merge(changed);
        }
        Err(_) => take_back(session).await?,
    }
    Ok(written)
}
