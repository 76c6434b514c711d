//! Writing new jobs down.

use futures::FutureExt;
use serde_json::Value;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::ops::{index, to_json, transition};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::job::{JobId, Lane};
use crate::domain::status::Status;

/// A job to be written down.
#[derive(Clone, Debug)]
pub struct Enqueue {
    pub kind: String,
    pub queue: String,
    pub lane: Lane,
    pub owner: String,
    pub args: Value,
    pub max_attempts: u32,
    pub timeout_s: u64,
    pub parent: Option<JobId>,
    pub unique_key: Option<String>,
    /// Not before this moment, in milliseconds since 1970.
    pub run_at: Option<i64>,
    /// Milliseconds from the database's now; excludes `run_at`.
    pub delay_ms: Option<i64>,
    /// What its first transition says.
    pub reason: String,
}

/// What enqueueing came to.
#[derive(Clone, Debug)]
pub enum Enqueued {
    New(JobRow),
    /// An unfinished job with the same unique key.
    Existing(JobRow),
    /// So many jobs wait already.
    Full {
        waiting: u64,
    },
}

impl Store {
    /// Writes a job down; acknowledged means on disk. `queue_max`: jobs that may wait in the whole system.
    pub async fn enqueue(&self, new: Enqueue, queue_max: u64) -> Result<Enqueued, StoreError> {
        self.writer()
            .write(move |tx| async move { enqueue(tx, new, queue_max).await }.boxed())
            .await
    }
}

async fn enqueue(tx: &Tx, new: Enqueue, queue_max: u64) -> Result<Enqueued, StoreError> {
    if let Some(key) = &new.unique_key {
        let stmt = Sql::with(
            &format!(
                "SELECT {COLUMNS} FROM jobs WHERE unique_key = $1 \
                 AND status NOT IN ('completed', 'failed', 'dead', 'cancelled')"
            ),
            [key.clone().into()],
        );
        if let Some(row) = tx.one(stmt).await? {
            return Ok(Enqueued::Existing(job_row(&row)?));
        }
    }
    let waiting =
        Sql::new("SELECT COALESCE(SUM(n), 0) AS n FROM job_counts WHERE status IN ('pending', 'scheduled', 'blocked')");
    let waiting = match tx.one(waiting.build()).await? {
        Some(row) => row.u64("n")?,
        None => 0,
    };
    if waiting >= queue_max {
        return Ok(Enqueued::Full { waiting });
    }
    let now = tx.now();
    let run_at = new
        .delay_ms
        .map(|d| now.saturating_add(d))
        .or(new.run_at)
        .unwrap_or(now)
        .max(now);
    let status = if run_at > now {
        Status::Scheduled
    } else {
        Status::Pending
    };
    let args = to_json(&new.args)?;
    let mut sql = Sql::new(
        "INSERT INTO jobs (id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, max_attempts, attempts_per_round) VALUES (",
    );
    sql.bind(Uuid::now_v7())
        .push(", ")
        .bind(new.kind)
        .push(", ")
        .bind(new.queue);
    sql.push(", ")
        .bind(new.lane.rank())
        .push(", ")
        .bind(status.as_str())
        .push(", ")
        .bind(new.owner.clone());
    sql.push(", ")
        .bind(new.parent)
        .push(", ")
        .bind(new.unique_key)
        .push(", ")
        .bind(now)
        .push(", ")
        .bind(run_at);
    sql.push(", ")
        .bind(i64::from(new.max_attempts))
        .push(", ")
        .bind(i64::from(new.max_attempts));
    sql.push(&format!(") RETURNING {COLUMNS}"));
    let row = tx
        .one(sql.build())
        .await?
        .ok_or_else(|| StoreError::corrupt("row", "INSERT gave no row"))?;
    let row = job_row(&row)?;
    let data = "INSERT INTO job_data (job_seq, args, timeout_s) VALUES ($1, $2, $3)";
    tx.execute(Sql::with(
        data,
        [row.seq.into(), args.into(), int(new.timeout_s).into()],
    ))
    .await?;
    if let Some(upload) = new.args.get("upload").and_then(Value::as_str) {
        let text = "UPDATE uploads SET uses = uses + 1 WHERE id = $1";
        tx.execute(Sql::with(text, [upload.into()])).await?;
    }
    transition(tx, row.seq, None, status, &new.owner, &new.reason).await?;
    index(tx, &row).await?;
    Ok(Enqueued::New(row))
}
