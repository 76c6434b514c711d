//! Writing new jobs down, many at once.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::job::{Job, JobId, Lane};
use crate::domain::machine::State;
use crate::domain::status::Status;
use crate::domain::time::from_millis;

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
    /// What its first transition says, when that is more than that it was enqueued.
    pub reason: Option<String>,
}

/// Jobs that are written all or none.
#[derive(Clone, Debug)]
pub struct Batch {
    pub jobs: Vec<Enqueue>,
    /// Jobs that may wait in the whole system.
    pub queue_max: u64,
}

impl AsRef<Batch> for Batch {
    fn as_ref(&self) -> &Batch {
        self
    }
}

/// What enqueueing a batch came to.
#[derive(Clone, Debug)]
pub enum Enqueued {
    /// In the order of the batch.
    Written(Vec<Written>),
    /// So many jobs wait already; nothing was written.
    Full { waiting: u64 },
}

/// What one job of a batch came to.
#[derive(Clone, Debug)]
pub enum Written {
    New(JobRow),
    /// An unfinished job with the same unique key.
    Existing(JobRow),
}

impl Written {
    pub fn into_row(self) -> JobRow {
        match self {
            Self::New(row) | Self::Existing(row) => row,
        }
    }
}

/// Statuses that count towards a full queue.
const WAITING: [Status; 3] = [Status::Pending, Status::Scheduled, Status::Blocked];

impl Store {
    /// Writes jobs down, all or none; acknowledged means on disk.
    pub async fn enqueue(&self, batch: Batch) -> Result<Enqueued, StoreError> {
        self.writer().enqueue(batch).await
    }
}

/// A job on its way into the tables: the columns of [`insert`]'s statements in their order.
type Columns<'a> = (
    i64,
    String,
    &'a str,
    &'a str,
    i64,
    &'a str,
    &'a str,
    Option<String>,
    Option<&'a str>,
    i64,
    u32,
    String,
    u64,
);

/// What a set comes to before it is written.
#[derive(Default)]
struct Planned<'a> {
    rows: Vec<Columns<'a>>,
    /// First transitions that say more than that a job was enqueued and waits.
    told: Vec<(i64, &'a str, &'a str, &'a str)>,
    uploads: Vec<&'a str>,
}

/// One answer for each batch, in their order. An error of the whole means that nothing was written.
pub(super) async fn set<B: AsRef<Batch>>(
    tx: &Tx<'_>,
    batches: &[B],
) -> Result<Vec<Result<Enqueued, StoreError>>, StoreError> {
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let batches: Vec<&Batch> = batches.iter().map(AsRef::as_ref).collect();
    let (mut seq, mut waiting) = begin(tx).await?;
    let mut by_key = known_keys(tx, &batches).await?;
    let mut planned = Planned::default();
    let mut answers = Vec::with_capacity(batches.len());
    for batch in batches {
        if waiting.saturating_add(batch.jobs.len() as u64) > batch.queue_max {
            answers.push(Ok(Enqueued::Full { waiting }));
            continue;
        }
        let mut written = Vec::with_capacity(batch.jobs.len());
        for job in &batch.jobs {
            if let Some(known) = job.unique_key.as_ref().and_then(|key| by_key.get(key)) {
                written.push(Written::Existing(known.clone()));
                continue;
            }
            seq += 1;
            waiting += 1;
            let row = new_row(seq, job, tx.now());
            if let Some(key) = &job.unique_key {
                by_key.insert(key.clone(), row.clone());
            }
            tx.count(row.job.status, &job.kind, &job.queue, 1);
            planned.add(job, &row)?;
            written.push(Written::New(row));
        }
        answers.push(Ok(Enqueued::Written(written)));
    }
    insert(tx, &planned).await?;
    Ok(answers)
}

/// The number of the newest job, and how many jobs wait.
async fn begin(tx: &Tx<'_>) -> Result<(i64, u64), StoreError> {
    // The names are those of WAITING.
    let text = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0) AS seq, \
        (SELECT COALESCE(SUM(n), 0) FROM job_counts WHERE status IN ('pending', 'scheduled', 'blocked')) AS waiting";
    let row = tx
        .one(Sql::new(text).build())
        .await?
        .ok_or_else(|| StoreError::corrupt("row", "the counts gave no row"))?;
    let waiting: i64 = row.get("waiting")?;
    Ok((
        row.get("seq")?,
        u64::try_from(waiting + tx.moved(&WAITING)).unwrap_or(0),
    ))
}

/// Unfinished jobs by those unique keys that the batches use.
async fn known_keys(tx: &Tx<'_>, batches: &[&Batch]) -> Result<HashMap<String, JobRow>, StoreError> {
    let keys: Vec<&str> = batches
        .iter()
        .flat_map(|b| &b.jobs)
        .filter_map(|j| j.unique_key.as_deref())
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let text = format!(
        "SELECT unique_key, {COLUMNS} FROM jobs WHERE unique_key IN (SELECT value FROM json_each($1)) \
         AND status NOT IN ('completed', 'failed', 'dead', 'cancelled')"
    );
    let rows = tx.all(Sql::with(&text, [to_json(&keys)?.into()])).await?;
    rows.iter().map(|r| Ok((r.get("unique_key")?, job_row(r)?))).collect()
}

fn new_row(seq: i64, new: &Enqueue, now: i64) -> JobRow {
    let wanted = new.delay_ms.map(|d| now.saturating_add(d)).or(new.run_at);
    let run_at = wanted.unwrap_or(now).max(now);
    let status = if run_at > now {
        Status::Scheduled
    } else {
        Status::Pending
    };
    let (created_at, run_at) = (from_millis(now), from_millis(run_at));
    JobRow {
        seq,
        parent: new.parent,
        state: State {
            status,
            attempt: 0,
            max_attempts: new.max_attempts,
            attempts_per_round: new.max_attempts,
            crashes: 0,
            epoch: 0,
            run_at,
            cancel_requested: false,
            pause_requested: false,
        },
        job: Job {
            id: Uuid::now_v7(),
            kind: new.kind.clone(),
            queue: new.queue.clone(),
            priority: new.lane,
            status,
            owner: new.owner.clone(),
            message: String::new(),
            progress: None,
            done: None,
            total: None,
            attempt: 0,
            max_attempts: new.max_attempts,
            created_at,
            run_at,
            started_at: None,
            completed_at: None,
            worker: None,
            cancel_requested: false,
            error_code: None,
            error: None,
            rev: 1,
        },
    }
}

impl<'a> Planned<'a> {
    fn add(&mut self, new: &'a Enqueue, row: &JobRow) -> Result<(), StoreError> {
        let status = row.job.status.as_str();
        self.rows.push((
            row.seq,
            row.job.id.simple().to_string(),
            &new.kind,
            &new.queue,
            new.lane.rank(),
            status,
            &new.owner,
            new.parent.map(|p| p.simple().to_string()),
            new.unique_key.as_deref(),
            row.job.run_at.timestamp_millis(),
            new.max_attempts,
            to_json(&new.args)?,
            new.timeout_s,
        ));
        if row.job.status != Status::Pending || new.reason.is_some() {
            let reason = new.reason.as_deref().unwrap_or("enqueued");
            self.told.push((row.seq, status, &new.owner, reason));
        }
        self.uploads.extend(new.args.get("upload").and_then(Value::as_str));
        Ok(())
    }
}

async fn insert(tx: &Tx<'_>, planned: &Planned<'_>) -> Result<(), StoreError> {
    if planned.rows.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    let rows = to_json(&planned.rows)?;
    let jobs = "INSERT INTO jobs (seq, id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, \
        max_attempts, attempts_per_round) \
        SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
        unhex(value ->> 7), value ->> 8, $2, value ->> 9, value ->> 10, value ->> 10 FROM json_each($1)";
    tx.execute(Sql::with(jobs, [rows.clone().into(), now.into()])).await?;
    let data = "INSERT INTO job_data (job_seq, args, timeout_s) \
        SELECT value ->> 0, value ->> 11, value ->> 12 FROM json_each($1)";
    tx.execute(Sql::with(data, [rows.clone().into()])).await?;
    let stale = "INSERT INTO search_stale (job_seq) SELECT value ->> 0 FROM json_each($1)";
    tx.execute(Sql::with(stale, [rows.into()])).await?;
    if !planned.told.is_empty() {
        let text = "INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
            SELECT value ->> 0, 0, $2, NULL, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1)";
        tx.execute(Sql::with(text, [to_json(&planned.told)?.into(), now.into()]))
            .await?;
    }
    for upload in &planned.uploads {
        let text = "UPDATE uploads SET uses = uses + 1 WHERE id = $1";
        tx.execute(Sql::with(text, [(*upload).into()])).await?;
    }
    Ok(())
}
