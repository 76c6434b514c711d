//! Changing jobs. Every change of a status goes through [`change`], which asks the state machine, or through the set
//! statements of `claim` and `finish`, which do for many jobs what the machine says about one. What a worker writes carries
//! its lease and is refused when that is no longer the job's.

use futures::FutureExt;
use sea_orm::Value as SqlValue;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row, load};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::error::{JobError, truncate};
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

/// What a heartbeat learns about a lease that still holds.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub lease: Lease,
    pub cancel_requested: bool,
}

impl Store {
    /// Lets `event` happen to a job on behalf of `by`; its error is kept beside the row. How an attempt ends
    /// well is [`Store::finish`]'s.
    pub async fn change(&self, id: JobId, event: Event, by: String, reason: String) -> Result<Changed, StoreError> {
        self.writer()
            .write(move |tx| async move { change(tx, id, &event, &by, &reason).await }.boxed())
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
                        "SELECT id FROM jobs WHERE status = 'running' AND lease_until < $1 LIMIT 100",
                        [until.into()],
                    );
                    let mut changed = Vec::new();
                    for row in tx.all(stmt).await? {
                        let reason = "its worker died or lost touch: the lease ran out";
                        changed.push(change(tx, row.get("id")?, &Event::LeaseLost, "system", reason).await?);
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
            "SELECT MIN(run_at) - CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS wait FROM jobs \
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
                        changed.push(change(tx, row.get("id")?, &Event::Due, "system", "its time has come").await?);
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
                    tx.count(row.job.status, &row.job.kind, &row.job.queue, -1);
                    super::search::forget(tx, row.seq).await?;
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

    /// Waiting jobs that a rebuilt index has to know, a page at a time, from behind the last one of the page before.
    pub async fn pending_after(&self, after: Option<&JobRow>, limit: u32) -> Result<Vec<JobRow>, StoreError> {
        use sea_orm::ConnectionTrait;
        let (kind, seq) = after.map_or(("", 0), |row| (row.job.kind.as_str(), row.seq));
        let stmt = Sql::with(
            &format!(
                "SELECT {COLUMNS} FROM jobs WHERE status = 'pending' AND (kind, seq) > ($1, $2) \
                 ORDER BY kind, seq LIMIT {limit}"
            ),
            [kind.into(), seq.into()],
        );
        self.read().query_all_raw(stmt).await?.iter().map(job_row).collect()
    }
}

/// Asks the machine and writes what it says: the row, the attempt, the transition, the search text.
async fn change(tx: &Tx<'_>, id: JobId, event: &Event, by: &str, reason: &str) -> Result<Changed, StoreError> {
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
    if let Some(error) = &error {
        sql.push(", error_code = ")
            .bind(error.code.as_str())
            .push(", error = ")
            .bind(error.message.clone());
    }
    if let Some(mut message) = message(event, to, by, error.as_ref()) {
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
        let text = "INSERT INTO attempts (job_seq, number, epoch, worker, started_at, ended_at, outcome, error) \
            SELECT seq, attempt, $1, worker, started_at, $2, $3, $4 FROM jobs WHERE seq = $5";
        let values: [SqlValue; 5] = [
            int(before.state.epoch).into(),
            tx.now().into(),
            outcome.as_str().into(),
            error.clone().into(),
            row.seq.into(),
        ];
        tx.execute(Sql::with(text, values)).await?;
    }
    if error.is_some() {
        let text = "UPDATE job_data SET result = NULL, error = $1 WHERE job_seq = $2";
        tx.execute(Sql::with(text, [error.into(), row.seq.into()])).await?;
    } else if from.is_finished() {
        let text = "UPDATE job_data SET result = NULL, error = NULL WHERE job_seq = $1";
        tx.execute(Sql::with(text, [row.seq.into()])).await?;
    }
    transition(tx, &before, to, by, reason).await?;
    if from != to {
        tx.count(from, &row.job.kind, &row.job.queue, -1);
        tx.count(to, &row.job.kind, &row.job.queue, 1);
    }
    if to != Status::Running {
        super::search::mark(tx, &[row.seq]).await?;
    }
    Ok(Changed { row, effects })
}

/// What the job's message becomes; `None` keeps the last step's.
fn message(event: &Event, to: Status, by: &str, error: Option<&JobError>) -> Option<String> {
    match (event, to) {
        (Event::Abort, _) => Some(format!("Aborted by {by}")),
        (Event::Cancel, Status::Cancelled) => Some(format!("Cancelled by {by}")),
        (_, Status::Cancelled) => Some("Cancelled while it ran".into()),
        (Event::HandBack { .. }, _) => Some("Handed back by a worker that shut down".into()),
        (Event::Retry { .. } | Event::Resume, _) => Some(String::new()),
        _ => error.map(|e| e.message.clone()),
    }
}

/// Writes down a change of status that neither the row nor an attempt tells.
async fn transition(tx: &Tx<'_>, before: &JobRow, to: Status, by: &str, reason: &str) -> Result<(), StoreError> {
    let text = "INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values: [SqlValue; 7] = [
        before.seq.into(),
        i64::from(before.state.attempt).into(),
        tx.now().into(),
        before.state.status.as_str().into(),
        to.as_str().into(),
        by.into(),
        reason.into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    Ok(())
}

pub(super) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::corrupt("value", e))
}
