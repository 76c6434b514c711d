//! Changing jobs. Every change of a status goes through [`change`], which asks the state machine, or through the two set
//! statements of [`Store::claim`], which do for many jobs what the machine says about one. What a worker writes carries
//! its lease and is refused when that is no longer the job's.

use futures::FutureExt;
use sea_orm::Value as SqlValue;
use serde_json::Value;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row, load};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::error::{JobError, truncate};
use crate::domain::filter::search_text;
use crate::domain::job::{Job, JobId, Lane};
use crate::domain::machine::{Effects, Event, Refused, apply};
use crate::domain::status::Status;
use crate::domain::time::from_millis;

/// The right to write about a running job: the job and the epoch of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub id: JobId,
    pub seq: i64,
    pub epoch: u64,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed {
    pub row: JobRow,
    pub effects: Effects,
}

/// What a worker took.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub job: Job,
    pub args: Value,
    pub timeout_s: u64,
    /// Lines that earlier attempts logged.
    pub log_lines: u64,
    /// Failed attempts since a person last granted new ones, this one not counted.
    pub round: u32,
}

/// What a heartbeat learns about a lease that still holds.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub lease: Lease,
    pub cancel_requested: bool,
}

impl Store {
    /// Lets `event` happen to a job on behalf of `by`. `result` and the event's error are kept beside the row.
    pub async fn change(
        &self,
        id: JobId,
        event: Event,
        by: String,
        reason: String,
        result: Option<Value>,
    ) -> Result<Changed, StoreError> {
        self.writer()
            .write(move |tx| async move { change(tx, id, &event, &by, &reason, result).await }.boxed())
            .await
    }

    /// Takes those of `seqs` that are still waiting, in one go, for `worker`, with leases of `lease_ms`.
    pub async fn claim(&self, seqs: Vec<i64>, worker: String, lease_ms: i64) -> Result<Vec<Claimed>, StoreError> {
        self.writer()
            .write(move |tx| async move { claim(tx, &seqs, &worker, lease_ms).await }.boxed())
            .await
    }

    /// Renews leases in one statement and answers with those that still hold.
    pub async fn heartbeat(&self, leases: Vec<Lease>, lease_ms: i64) -> Result<Vec<Beat>, StoreError> {
        let pairs: Vec<(i64, u64)> = leases.iter().map(|l| (l.seq, l.epoch)).collect();
        let pairs = to_json(&pairs)?;
        self.writer()
            .write(move |tx| {
                async move {
                    let stmt = Sql::with(
                        "UPDATE jobs SET lease_until = $1 WHERE status = 'running' AND (seq, epoch) IN \
                         (SELECT value ->> 0, value ->> 1 FROM json_each($2)) \
                         RETURNING seq, id, epoch, cancel_requested",
                        [(tx.now() + lease_ms).into(), pairs.into()],
                    );
                    let rows = tx.all(stmt).await?;
                    rows.iter()
                        .map(|r| {
                            Ok(Beat {
                                lease: Lease {
                                    id: r.get("id")?,
                                    seq: r.get("seq")?,
                                    epoch: r.u64("epoch")?,
                                },
                                cancel_requested: r.flag("cancel_requested")?,
                            })
                        })
                        .collect()
                }
                .boxed()
            })
            .await
    }

    /// Ends the leases that ran out (`all`: every lease, for the start of the only process), at most a hundred.
    pub async fn rescue(&self, all: bool) -> Result<Vec<Changed>, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let until = if all { i64::MAX } else { tx.now() };
                    let stmt = Sql::with(
                        "SELECT id FROM jobs WHERE lease_until < $1 ORDER BY lease_until LIMIT 100",
                        [until.into()],
                    );
                    let mut changed = Vec::new();
                    for row in tx.all(stmt).await? {
                        let reason = "its worker died or lost touch: the lease ran out";
                        changed.push(change(tx, row.get("id")?, &Event::LeaseLost, "system", reason, None).await?);
                    }
                    Ok(changed)
                }
                .boxed()
            })
            .await
    }

    /// Milliseconds until the next scheduled or retrying job falls due; 0 when one is.
    pub async fn next_due(&self) -> Result<Option<u64>, StoreError> {
        use sea_orm::ConnectionTrait;
        let sql = Sql::new(
            "SELECT MIN(run_at) - CAST(unixepoch('subsec') * 1000 AS INTEGER) AS wait FROM jobs \
             WHERE status IN ('scheduled', 'retrying')",
        );
        let wait: Option<i64> = match self.read().query_one_raw(sql.build()).await? {
            Some(row) => row.get("wait")?,
            None => None,
        };
        Ok(wait.map(|w| u64::try_from(w).unwrap_or(0)))
    }

    /// Puts scheduled and retrying jobs whose time has come into their queues, at most five hundred.
    pub async fn promote_due(&self) -> Result<Vec<Changed>, StoreError> {
        self.writer()
            .write(|tx| {
                async move {
                    let stmt = Sql::with(
                        "SELECT id FROM jobs WHERE status IN ('scheduled', 'retrying') AND run_at <= $1 \
                         ORDER BY run_at LIMIT 500",
                        [tx.now().into()],
                    );
                    let mut changed = Vec::new();
                    for row in tx.all(stmt).await? {
                        changed
                            .push(change(tx, row.get("id")?, &Event::Due, "system", "its time has come", None).await?);
                    }
                    Ok(changed)
                }
                .boxed()
            })
            .await
    }

    /// Removes a job with all that belongs to it, in whatever status it is; a running attempt loses its lease by it.
    /// Answers with the row as it was.
    pub async fn delete(&self, id: JobId) -> Result<JobRow, StoreError> {
        let (row, unused) = self
            .writer()
            .write(move |tx| {
                async move {
                    let row = load(tx, id).await?;
                    let unused = super::files::release_upload(tx, row.seq).await?;
                    tx.execute(Sql::with("DELETE FROM jobs WHERE seq = $1", [row.seq.into()]))
                        .await?;
                    Ok((row, unused))
                }
                .boxed()
            })
            .await?;
        self.files().remove_job(id).await;
        if let Some(upload) = unused {
            self.files().remove_upload(&upload).await;
        }
        Ok(row)
    }

    /// Waiting jobs that a rebuilt index has to know, a page at a time, in the order of their numbers.
    pub async fn pending_after(&self, seq: i64, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        use sea_orm::ConnectionTrait;
        let stmt = Sql::with(
            &format!("SELECT {COLUMNS} FROM jobs WHERE status = 'pending' AND seq > $1 ORDER BY seq LIMIT {limit}"),
            [seq.into()],
        );
        self.read().query_all_raw(stmt).await?.iter().map(job_row).collect()
    }
}

/// Asks the machine and writes what it says: the row, the attempt, the transition, the search text.
async fn change(
    tx: &Tx,
    id: JobId,
    event: &Event,
    by: &str,
    reason: &str,
    result: Option<Value>,
) -> Result<Changed, StoreError> {
    let before = load(tx, id).await?;
    let now = from_millis(tx.now());
    let (next, effects) = apply(&before.state, event, now)?;
    let (from, to) = (before.state.status, next.status);
    let error = match event {
        Event::Fail { error, .. } => Some(error.clone()),
        Event::LeaseLost => Some(JobError::new(
            crate::domain::error::ErrorCode::WorkerLost,
            "the worker died, or lost touch with the database, in the middle of the attempt",
        )),
        _ => None,
    };
    let mut sql = Sql::new("UPDATE jobs SET rev = rev + 1, status = ");
    sql.bind(to.as_str()).push(", epoch = ").bind(int(next.epoch));
    sql.push(", attempt = ").bind(i64::from(next.attempt));
    sql.push(", max_attempts = ").bind(i64::from(next.max_attempts));
    sql.push(", crashes = ").bind(i64::from(next.crashes));
    sql.push(", run_at = ").bind(next.run_at.timestamp_millis());
    sql.push(", cancel_requested = ").bind(i64::from(next.cancel_requested));
    sql.push(", pause_requested = ").bind(i64::from(next.pause_requested));
    if effects.to_front {
        sql.push(", lane = ").bind(Lane::Critical.rank());
    }
    if to != Status::Running {
        sql.push(", lease_until = NULL");
    }
    if to.is_finished() {
        sql.push(", completed_at = ").bind(tx.now());
    } else if from.is_finished() {
        sql.push(", completed_at = NULL, progress = NULL, done = NULL, total = NULL, error_code = NULL, error = NULL");
    }
    if to == Status::Completed {
        sql.push(", progress = 100, error_code = NULL, error = NULL");
    }
    if let Some(error) = &error {
        sql.push(", error_code = ")
            .bind(error.code.as_str())
            .push(", error = ")
            .bind(error.message.clone());
    }
    if let Some(mut message) = message(&before, event, to, by, error.as_ref()) {
        truncate(&mut message, Job::MESSAGE_MAX);
        sql.push(", message = ").bind(message);
    }
    sql.push(" WHERE seq = ").bind(before.seq);
    sql.push(" AND status = ")
        .bind(from.as_str())
        .push(" AND epoch = ")
        .bind(int(before.state.epoch));
    sql.push(&format!(" RETURNING {COLUMNS}"));
    let Some(row) = tx.one(sql.build()).await? else {
        // Somebody else changed the row between the reading and the writing.
        return Err(StoreError::Refused(Refused::Stale {
            epoch: before.state.epoch,
            current: before.state.epoch + 1,
        }));
    };
    let row = job_row(&row)?;
    let error = error.map(|e| to_json(&e)).transpose()?;
    if let Some(outcome) = effects.ended {
        let text = "UPDATE attempts SET ended_at = $1, outcome = $2, error = $3 WHERE job_seq = $4 AND number = $5";
        let values: [SqlValue; 5] = [
            tx.now().into(),
            outcome.as_str().into(),
            error.clone().into(),
            row.seq.into(),
            i64::from(before.state.attempt).into(),
        ];
        tx.execute(Sql::with(text, values)).await?;
    }
    if to == Status::Completed || error.is_some() {
        let result = result.map(|r| to_json(&r)).transpose()?;
        let text = "UPDATE job_data SET result = $1, error = $2 WHERE job_seq = $3";
        tx.execute(Sql::with(text, [result.into(), error.into(), row.seq.into()]))
            .await?;
    } else if from.is_finished() {
        let text = "UPDATE job_data SET result = NULL, error = NULL WHERE job_seq = $1";
        tx.execute(Sql::with(text, [row.seq.into()])).await?;
    }
    transition(tx, row.seq, Some(from), to, by, reason).await?;
    if to != Status::Running {
        index(tx, &row).await?;
    }
    Ok(Changed { row, effects })
}

/// What the job's message becomes; `None` keeps the last step's.
fn message(before: &JobRow, event: &Event, to: Status, by: &str, error: Option<&JobError>) -> Option<String> {
    match (event, to) {
        (Event::Abort, _) => Some(format!("Aborted by {by}")),
        (Event::Cancel, Status::Cancelled) => Some(format!("Cancelled by {by}")),
        (_, Status::Cancelled) => Some("Cancelled while it ran".into()),
        (_, Status::Completed) if before.job.message.is_empty() => Some("Completed".into()),
        (Event::HandBack { .. }, _) => Some("Handed back by a worker that shut down".into()),
        (Event::Retry { .. } | Event::Resume, _) => Some(String::new()),
        _ => error.map(|e| e.message.clone()),
    }
}

async fn claim(tx: &Tx, seqs: &[i64], worker: &str, lease_ms: i64) -> Result<Vec<Claimed>, StoreError> {
    let now = tx.now();
    let sql = format!(
        "UPDATE jobs SET status = 'running', epoch = epoch + 1, attempt = attempt + 1, worker = $1, lease_until = $2, \
         started_at = $3, completed_at = NULL, progress = NULL, done = NULL, total = NULL, message = '', rev = rev + 1 \
         WHERE seq IN (SELECT value FROM json_each($4)) AND status = 'pending' AND run_at <= $3 \
         RETURNING {COLUMNS}"
    );
    let values: [SqlValue; 4] = [
        worker.into(),
        (now + lease_ms).into(),
        now.into(),
        to_json(seqs)?.into(),
    ];
    let rows = tx.all(Sql::with(&sql, values)).await?;
    let rows: Vec<JobRow> = rows.iter().map(job_row).collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let taken = to_json(&rows.iter().map(|r| r.seq).collect::<Vec<_>>())?;
    let list = "(SELECT value FROM json_each($1))";
    let attempts = format!(
        "INSERT INTO attempts (job_seq, number, epoch, worker, started_at) \
         SELECT seq, attempt, epoch, worker, started_at FROM jobs WHERE seq IN {list}"
    );
    tx.execute(Sql::with(&attempts, [taken.clone().into()])).await?;
    let transitions = format!(
        "INSERT INTO transitions (job_seq, at, from_status, to_status, by, reason) \
         SELECT seq, started_at, 'pending', 'running', worker, 'attempt ' || attempt FROM jobs WHERE seq IN {list}"
    );
    tx.execute(Sql::with(&transitions, [taken.clone().into()])).await?;
    let data = format!("SELECT job_seq, args, timeout_s, log_lines FROM job_data WHERE job_seq IN {list}");
    let mut data: std::collections::HashMap<i64, (String, u64, u64)> = tx
        .all(Sql::with(&data, [taken.into()]))
        .await?
        .iter()
        .map(|r| {
            Ok((
                r.get("job_seq")?,
                (r.get("args")?, r.u64("timeout_s")?, r.u64("log_lines")?),
            ))
        })
        .collect::<Result<_, StoreError>>()?;
    rows.into_iter()
        .map(|row| {
            let (args, timeout_s, log_lines) = data
                .remove(&row.seq)
                .ok_or_else(|| StoreError::corrupt("job", format!("{} has no data", row.job.id)))?;
            let used = row.state.max_attempts.saturating_sub(row.state.attempts_per_round);
            Ok(Claimed {
                lease: Lease {
                    id: row.job.id,
                    seq: row.seq,
                    epoch: row.state.epoch,
                },
                args: serde_json::from_str(&args).map_err(|_| StoreError::corrupt("args", args))?,
                timeout_s,
                log_lines,
                round: row.state.attempt.saturating_sub(used).max(1),
                job: row.job,
            })
        })
        .collect()
}

pub(super) async fn transition(
    tx: &Tx,
    seq: i64,
    from: Option<Status>,
    to: Status,
    by: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let text =
        "INSERT INTO transitions (job_seq, at, from_status, to_status, by, reason) VALUES ($1, $2, $3, $4, $5, $6)";
    let values: [SqlValue; 6] = [
        seq.into(),
        tx.now().into(),
        from.map(Status::as_str).into(),
        to.as_str().into(),
        by.into(),
        reason.into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    Ok(())
}

/// Renews the text that a search finds the job by.
pub(super) async fn index(tx: &Tx, row: &JobRow) -> Result<(), StoreError> {
    let text = "INSERT OR REPLACE INTO job_search (rowid, text) VALUES ($1, $2)";
    tx.execute(Sql::with(text, [row.seq.into(), search_text(&row.job).into()]))
        .await?;
    Ok(())
}

pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::corrupt("value", e))
}
