//! Changing jobs. Every change of a status goes through [`change`], which asks the state machine, or through the set
//! statements of `claim` and `finish`, which do for many jobs what the machine says about one. What a worker writes carries
//! its lease and is refused when that is no longer the job's.

use futures::FutureExt;
use sea_orm::Value as SqlValue;
use serde_json::{Value, json};

use super::Store;
use super::audit::append;
use super::dialect::Ty;
use super::error::StoreError;
use super::errors::fingerprint;
use super::jobs::{COLUMNS, JobRow, UNFINISHED, job_row, load};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::audit::Deed;
use crate::domain::error::{JobError, truncate};
use crate::domain::job::{Job, JobId};
use crate::domain::machine::{Effects, Event, Refused, apply, crashed_out};
use crate::domain::stats::Metric;
use crate::domain::status::Status;
use crate::domain::time::from_millis;

/// The right to write about a running job: the job and the epoch of its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub id: JobId,
    pub seq: i64,
    pub epoch: u64,
}

impl Lease {
    /// What tells the attempt from all others.
    pub fn key(&self) -> (JobId, u64) {
        (self.id, self.epoch)
    }
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed {
    pub row: JobRow,
    pub effects: Effects,
}

impl Changed {
    /// The epoch of the attempt that ran until the change, or still does.
    pub fn epoch(&self) -> u64 {
        // The end of an attempt raises the job's.
        self.row.state.epoch - u64::from(self.effects.ended.is_some())
    }
}

/// What a heartbeat learns about a lease that still holds.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub lease: Lease,
    pub cancel_requested: bool,
    pub pause_requested: bool,
}

impl Store {
    /// Puts a failed or dead job back into its queue, with other args where some are given.
    pub async fn retry(
        &self,
        id: JobId,
        event: Event,
        args: Option<serde_json::Value>,
        deed: Deed,
    ) -> Result<Changed, StoreError> {
        let reason = deed.in_words(match args {
            Some(_) => "Retry with other args",
            None => "Retry",
        });
        let (changed, unused) = self
            .writer()
            .write(move |tx| {
                async move {
                    let other_args = args.is_some();
                    let (was, changed) = act(tx, id, &event, &reason, &deed).await?;
                    let unused = match args {
                        Some(args) => super::files::replace_args(tx, changed.row.seq, &args).await?,
                        None => None,
                    };
                    let mut is = told(&changed.row);
                    is["other_args"] = other_args.into();
                    append(tx, &[deed.from(was).to(is)]).await?;
                    Ok((changed, unused))
                }
                .boxed()
            })
            .await?;
        if let Some(upload) = unused {
            self.files().remove_upload(&upload).await;
        }
        Ok(changed)
    }

    /// Lets `event` happen to a job on behalf of `by`; its error is kept beside the row. How an attempt ends
    /// well is [`Store::finish`]'s.
    pub async fn change(&self, id: JobId, event: Event, by: String, reason: String) -> Result<Changed, StoreError> {
        self.writer()
            .write(move |tx| async move { change(tx, id, &event, &by, &reason).await }.boxed())
            .await
    }

    /// [`Store::change`] for a person or a token, with an entry in the audit log.
    pub async fn act(&self, id: JobId, event: Event, reason: String, deed: Deed) -> Result<Changed, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let (was, changed) = act(tx, id, &event, &reason, &deed).await?;
                    let is = told(&changed.row);
                    append(tx, &[deed.from(was).to(is)]).await?;
                    Ok(changed)
                }
                .boxed()
            })
            .await
    }

    /// [`Store::change`] for the end of an attempt, with the milliseconds of CPU time that it took, where they were measured.
    pub async fn end(
        &self,
        id: JobId,
        event: Event,
        by: String,
        reason: String,
        cpu_ms: Option<u64>,
    ) -> Result<Changed, StoreError> {
        self.writer()
            .write(move |tx| async move { change_at_cost(tx, id, &event, &by, &reason, cpu_ms).await }.boxed())
            .await
    }

    /// Renews leases in one statement and answers with those that still hold.
    pub async fn heartbeat(&self, leases: Vec<Lease>, lease_ms: i64) -> Result<Vec<Beat>, StoreError> {
        let pairs: Vec<(i64, u64)> = leases.iter().map(|l| (l.seq, l.epoch)).collect();
        let pairs = to_json(&pairs)?;
        self.writer()
            .write(move |tx| {
                async move {
                    let held = tx.dialect().rows("$2", &[("s", Ty::Int), ("e", Ty::Int)]);
                    let hold = tx.dialect().hold_rows();
                    // In the order of their numbers, as everywhere, so that no two transactions wait for each other.
                    let text = format!(
                        "UPDATE jobs SET lease_until = $1 WHERE status || '' = 'running' AND seq IN \
                         (SELECT seq FROM jobs WHERE (seq, epoch) IN (SELECT s, e FROM {held} AS held) ORDER BY seq{hold}) \
                         RETURNING seq, id, epoch, cancel_requested, pause_requested"
                    );
                    let stmt = Sql::with(&text, [(tx.now() + lease_ms).into(), pairs.into()]);
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
                                pause_requested: r.flag("pause_requested")?,
                            })
                        })
                        .collect()
                }
                .boxed()
            })
            .await
    }

    /// Ends the leases that ran out (`all`: every lease of a worker of the binary, for the start of the only process), at most a
    /// hundred. `held`: those that this process knows to be alive, whatever the clock says.
    pub async fn rescue(&self, all: bool, held: Vec<Lease>) -> Result<Vec<Changed>, StoreError> {
        let held: Vec<(i64, u64)> = held.iter().map(|l| (l.seq, l.epoch)).collect();
        let held = to_json(&held)?;
        let event = Event::LeaseLost {
            crashes_max: self.inner.crashes_max,
        };
        self.writer()
            .write(move |tx| {
                async move {
                    let (until, outside) = match all {
                        true => (i64::MAX, format!(" AND {}(kind, '.') = 0", tx.dialect().position())),
                        false => (tx.now(), String::new()),
                    };
                    let take = tx.dialect().take_rows();
                    let held_rows = tx.dialect().rows("$2", &[("s", Ty::Int), ("e", Ty::Int)]);
                    let text = format!(
                        "SELECT id FROM jobs WHERE status = 'running' AND lease_until < $1{outside} \
                         AND (seq, epoch) NOT IN (SELECT s, e FROM {held_rows} AS held) ORDER BY seq LIMIT 100{take}"
                    );
                    let stmt = Sql::with(&text, [until.into(), held.into()]);
                    let mut changed = Vec::new();
                    for row in tx.all(stmt).await? {
                        let reason = "its worker died or lost touch: the lease ran out";
                        changed.push(change(tx, row.get("id")?, &event, "system", reason).await?);
                    }
                    Ok(changed)
                }
                .boxed()
            })
            .await
    }

    /// Removes a job with all that belongs to it, in whatever status it is; a running attempt loses its lease by it.
    /// Answers with the row as it was.
    pub async fn delete(&self, id: JobId, deed: Deed) -> Result<JobRow, StoreError> {
        self.delete_in(id, |_| true, deed).await
    }

    /// [`Store::delete`] while the job is in a status of these; it may have changed since the caller looked.
    pub async fn delete_in(&self, id: JobId, these: fn(Status) -> bool, deed: Deed) -> Result<JobRow, StoreError> {
        let (row, unused) = self
            .writer()
            .write(move |tx| {
                async move {
                    let row = load(tx, id).await?;
                    if !these(row.job.status) {
                        let reason = format!("Delete is not possible: the job is {}", row.job.status);
                        return Err(StoreError::Refused(Refused::WrongStatus { reason }));
                    }
                    let unused = super::files::release_upload(tx, row.seq).await?;
                    tx.count(row.job.status, &row.job, -1);
                    if row.job.status == Status::Running {
                        tx.free(row.holds.as_deref());
                    }
                    super::chains::removed(tx, std::slice::from_ref(&row)).await?;
                    super::search::forget(tx, row.seq).await?;
                    tx.execute(Sql::with("DELETE FROM jobs WHERE seq = $1", [row.seq.into()]))
                        .await?;
                    let was = json!({ "status": row.job.status, "type": row.job.kind, "owner": row.job.owner });
                    append(tx, &[deed.from(was)]).await?;
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
}

/// Lets a person's event happen; also says how the job was, for the audit log.
async fn act(tx: &Tx<'_>, id: JobId, event: &Event, reason: &str, deed: &Deed) -> Result<(Value, Changed), StoreError> {
    let was = told(&load(tx, id).await?);
    Ok((was, change(tx, id, event, &deed.actor, reason).await?))
}

/// What the audit log says of a job.
fn told(row: &JobRow) -> Value {
    let JobRow { job, state, .. } = row;
    json!({
        "status": job.status,
        "attempt": job.attempt,
        "cancel_requested": state.cancel_requested,
        "pause_requested": state.pause_requested,
    })
}

/// Asks the machine and writes what it says: the row, the attempt, the transition, the search text.
pub(super) async fn change(
    tx: &Tx<'_>,
    id: JobId,
    event: &Event,
    by: &str,
    reason: &str,
) -> Result<Changed, StoreError> {
    change_at_cost(tx, id, event, by, reason, None).await
}

async fn change_at_cost(
    tx: &Tx<'_>,
    id: JobId,
    event: &Event,
    by: &str,
    reason: &str,
    cpu_ms: Option<u64>,
) -> Result<Changed, StoreError> {
    let before = load(tx, id).await?;
    let now = from_millis(tx.now());
    let (next, effects) = apply(&before.state, event, now)?;
    let (from, to) = (before.state.status, next.status);
    if from.is_finished() && !to.is_finished() {
        key_is_free(tx, before.seq).await?;
    }
    let error = match event {
        Event::Fail { error, .. } => Some(error.clone()),
        Event::LeaseLost { crashes_max } => Some(JobError::new(
            crate::domain::error::ErrorCode::WorkerLost,
            match to == Status::Dead && crashed_out(next.crashes, *crashes_max) {
                true => format!(
                    "its worker died {} times in the middle of an attempt: it is not tried again by itself (JOB_MAX_CRASHES)",
                    next.crashes
                ),
                false => "the worker died, or lost touch with the database, in the middle of the attempt".into(),
            },
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
        sql.push(", front = 1");
    }
    if to != Status::Running {
        sql.push(", lease_until = NULL");
    }
    if to.is_finished() {
        sql.push(", completed_at = ").bind(tx.now());
    } else if from.is_finished() {
        sql.push(", completed_at = NULL, progress = NULL, done = NULL, total = NULL, error_code = NULL, error = NULL, fingerprint = NULL");
    }
    if let Some(error) = &error {
        sql.push(", error_code = ")
            .bind(error.code.as_str())
            .push(", error = ")
            .bind(error.message.clone());
        let print = fingerprint(error);
        tx.met(&before.job.kind, &print, error);
        sql.push(", fingerprint = ").bind(print);
    }
    if let Some(mut message) = message(event, to, by, reason, error.as_ref()) {
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
        let text = "INSERT INTO attempts (job_seq, number, epoch, worker, started_at, ended_at, outcome, error, cpu_ms) \
            SELECT seq, attempt, $1, worker, started_at, $2, $3, $4, $6 FROM jobs WHERE seq = $5";
        let values: [SqlValue; 6] = [
            int(before.state.epoch).into(),
            tx.now().into(),
            outcome.as_str().into(),
            error.clone().into(),
            row.seq.into(),
            cpu_ms.map(int).into(),
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
    if effects.ended.is_some() {
        tx.free(before.holds.as_deref());
        let started = before.job.started_at.map_or(tx.now(), |t| t.timestamp_millis());
        tx.roll(&row.job.kind, &row.job.queue, Metric::Run, tx.now() - started);
    }
    let became = match to {
        _ if from == to => None,
        Status::Completed => Some(Metric::Completed),
        Status::Failed => Some(Metric::Failed),
        Status::Dead => Some(Metric::Dead),
        Status::Cancelled => Some(Metric::Cancelled),
        Status::Retrying => Some(Metric::Retried),
        _ => None,
    };
    if let Some(metric) = became {
        tx.roll(&row.job.kind, &row.job.queue, metric, 0);
    }
    if to.is_finished() && before.dependents {
        super::chains::due(tx, row.seq).await?;
    }
    if from != to {
        tx.moves(from, to, &row.job.kind, &row.job.queue, row.job.batch);
    }
    if to != Status::Running {
        super::search::mark(tx, &[row.seq]).await?;
    }
    Ok(Changed { row, effects })
}

/// Refuses to let a job go on whose unique key another one holds that has not finished.
async fn key_is_free(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    let text = format!(
        "SELECT id FROM jobs WHERE unique_key = (SELECT unique_key FROM jobs WHERE seq = $1) AND {UNFINISHED} AND seq <> $1"
    );
    let Some(row) = tx.one(Sql::with(&text, [seq.into()])).await? else {
        return Ok(());
    };
    let other: JobId = row.get("id")?;
    Err(StoreError::Refused(Refused::WrongStatus {
        reason: format!("job {other} has the same unique key and has not finished"),
    }))
}

/// What the job's message becomes; `None` keeps the last step's.
fn message(event: &Event, to: Status, by: &str, reason: &str, error: Option<&JobError>) -> Option<String> {
    match (event, to) {
        (Event::Abort, _) => Some(format!("Aborted by {by}")),
        (Event::Cancel, Status::Cancelled) => Some(format!("Cancelled by {by}")),
        (_, Status::Cancelled) => Some("Cancelled while it ran".into()),
        (Event::HandBack { .. }, _) => Some(format!("Handed back: {reason}")),
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
