//! Reading single jobs: the row, its data, its history.

use sea_orm::{QueryResult, Statement};
use serde_json::Value;

use super::Store;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::error::{ErrorCode, JobError};
use crate::domain::job::{Attempt, Job, JobHistory, JobId, JobRef, Lane, Transition};
use crate::domain::machine::State;
use crate::domain::status::{Outcome, Status};

/// The condition of the index that keeps unique keys apart.
pub(super) const UNFINISHED: &str = "status NOT IN ('completed', 'failed', 'dead', 'cancelled')";

/// The columns that [`job`] and [`state`] read.
pub(super) const COLUMNS: &str = "seq, id, kind, queue, lane, status, owner, parent, created_at, run_at, started_at, \
    completed_at, attempt, max_attempts, attempts_per_round, crashes, epoch, worker, front, cancel_requested, pause_requested, \
    progress, done, total, message, error_code, error, rev, concurrency_key, dependents, holds, \
    batch, fingerprint";

/// A job's row: what people see of it, and what the machine decides over.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// The database's own number of the job, in the order of enqueueing.
    pub seq: i64,
    pub job: Job,
    pub state: State,
    pub parent: Option<JobId>,
    /// Whether any job ever waited for this one.
    pub dependents: bool,
    /// While it runs: the limits that it counts against, as JSON.
    pub holds: Option<String>,
}

/// What lies beside the row.
#[derive(Clone, Debug)]
pub struct JobData {
    pub args: Value,
    pub result: Option<Value>,
    pub error: Option<JobError>,
    pub timeout_s: u64,
    pub log_lines: u64,
}

impl Store {
    /// The job with this id, if there is one.
    pub async fn job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        self.one(by_id(id)).await?.map(|r| job_row(&r)).transpose()
    }

    /// Args, result and error of a job.
    pub async fn job_data(&self, seq: i64) -> Result<Option<JobData>, StoreError> {
        let stmt = Sql::with("SELECT * FROM job_data WHERE job_seq = $1", [seq.into()]);
        self.one(stmt).await?.map(|r| job_data(&r)).transpose()
    }

    /// Attempts and transitions of a job, oldest first.
    pub async fn history(&self, row: &JobRow) -> Result<JobHistory, StoreError> {
        let attempts = Sql::with(
            "SELECT * FROM attempts WHERE job_seq = $1 ORDER BY number",
            [row.seq.into()],
        );
        let attempts = self.all(attempts).await?;
        let transitions = Sql::with(
            "SELECT * FROM transitions WHERE job_seq = $1 ORDER BY seq",
            [row.seq.into()],
        );
        let transitions = self.all(transitions).await?;
        let attempts = attempts.iter().map(attempt).collect::<Result<_, _>>()?;
        let transitions = transitions.iter().map(transition).collect::<Result<_, _>>()?;
        Ok(super::history::whole(row, attempts, transitions))
    }

    /// Jobs that this one enqueued, in order, at most a thousand.
    pub async fn children(&self, id: JobId) -> Result<Vec<(JobRef, String)>, StoreError> {
        let stmt = Sql::with(
            "SELECT id, kind, status, owner FROM jobs WHERE parent = $1 ORDER BY seq LIMIT 1000",
            [id.into()],
        );
        let rows = self.all(stmt).await?;
        rows.iter()
            .map(|r| {
                let reference = JobRef {
                    id: r.get("id")?,
                    kind: r.get("kind")?,
                    status: status(r)?,
                };
                Ok((reference, r.get("owner")?))
            })
            .collect()
    }
}

pub(super) fn by_id(id: JobId) -> Statement {
    Sql::with(&format!("SELECT {COLUMNS} FROM jobs WHERE id = $1"), [id.into()])
}

/// The job's row within a transaction; its absence is an error.
pub(super) async fn load(tx: &Tx<'_>, id: JobId) -> Result<JobRow, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM jobs WHERE id = $1{}", tx.dialect().hold_rows());
    match tx.one(Sql::with(&text, [id.into()])).await? {
        Some(row) => job_row(&row),
        None => Err(StoreError::NoJob(id)),
    }
}

pub(super) fn status(r: &QueryResult) -> Result<Status, StoreError> {
    let name: String = r.get("status")?;
    Status::parse(&name).ok_or_else(|| StoreError::corrupt("status", name))
}

pub(super) fn job_row(r: &QueryResult) -> Result<JobRow, StoreError> {
    let status = status(r)?;
    let code: Option<String> = r.get("error_code")?;
    let (attempt, max_attempts, run_at) = (r.u32("attempt")?, r.u32("max_attempts")?, r.time("run_at")?);
    let crashes = r.u32("crashes")?;
    let cancel_requested = r.flag("cancel_requested")?;
    let pause_requested = r.flag("pause_requested")?;
    Ok(JobRow {
        seq: r.get("seq")?,
        parent: r.get("parent")?,
        dependents: r.flag("dependents")?,
        holds: r.get("holds")?,
        state: State {
            status,
            attempt,
            max_attempts,
            attempts_per_round: r.u32("attempts_per_round")?,
            crashes,
            epoch: r.u64("epoch")?,
            run_at,
            cancel_requested,
            pause_requested,
        },
        job: Job {
            id: r.get("id")?,
            kind: r.get("kind")?,
            queue: r.get("queue")?,
            priority: Lane::from_rank(r.int("lane")?),
            status,
            owner: r.get("owner")?,
            message: r.get("message")?,
            progress: r.get("progress")?,
            done: r.opt_u64("done")?,
            total: r.opt_u64("total")?,
            attempt,
            max_attempts,
            crashes,
            created_at: r.time("created_at")?,
            run_at,
            started_at: r.opt_time("started_at")?,
            completed_at: r.opt_time("completed_at")?,
            worker: r.get("worker")?,
            concurrency_key: r.get("concurrency_key")?,
            front: r.flag("front")?,
            cancel_requested,
            pause_requested,
            error_code: code.map(error_code).transpose()?,
            error: r.get("error")?,
            fingerprint: r.get("fingerprint")?,
            batch: r.get("batch")?,
            rev: r.u64("rev")?,
        },
    })
}

pub(super) fn error_code(name: String) -> Result<ErrorCode, StoreError> {
    serde_json::from_value(Value::String(name.clone())).map_err(|_| StoreError::corrupt("error code", name))
}

fn json<T: serde::de::DeserializeOwned>(what: &'static str, text: String) -> Result<T, StoreError> {
    serde_json::from_str(&text).map_err(|_| StoreError::corrupt(what, text))
}

fn job_data(r: &QueryResult) -> Result<JobData, StoreError> {
    let result: Option<String> = r.get("result")?;
    let error: Option<String> = r.get("error")?;
    Ok(JobData {
        args: json("args", r.get("args")?)?,
        result: result.map(|t| json("result", t)).transpose()?,
        error: error.map(|t| json("error", t)).transpose()?,
        timeout_s: r.u64("timeout_s")?,
        log_lines: r.u64("log_lines")?,
    })
}

fn attempt(r: &QueryResult) -> Result<Attempt, StoreError> {
    let outcome: String = r.get("outcome")?;
    let error: Option<String> = r.get("error")?;
    Ok(Attempt {
        number: r.u32("number")?,
        worker: r.get("worker")?,
        started_at: r.time("started_at")?,
        ended_at: r.opt_time("ended_at")?,
        outcome: Some(Outcome::parse(&outcome).ok_or_else(|| StoreError::corrupt("outcome", outcome))?),
        error: error.map(|t| json("error", t)).transpose()?,
        cpu_ms: r.opt_u64("cpu_ms")?,
    })
}

/// With the number of the attempt that ran then, or ran last.
fn transition(r: &QueryResult) -> Result<(u32, Transition), StoreError> {
    let from: Option<String> = r.get("from_status")?;
    let to: String = r.get("to_status")?;
    let parse = |s: String| Status::parse(&s).ok_or_else(|| StoreError::corrupt("status", s));
    let transition = Transition {
        at: r.time("at")?,
        from: from.map(parse).transpose()?,
        to: parse(to)?,
        by: r.get("by")?,
        reason: r.get("reason")?,
    };
    Ok((r.u32("attempt")?, transition))
}
