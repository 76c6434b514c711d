//! Writing new jobs down, many at once.

use std::collections::HashMap;

use sea_orm::{QueryResult, Value as SqlValue};
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

/// A job on its way into the tables: the columns of the statements below in their order.
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
pub(super) struct Planned<'a> {
    rows: Vec<Columns<'a>>,
    /// First transitions that say more than that a job was enqueued and waits.
    told: Vec<(i64, &'a str, &'a str, &'a str)>,
    uploads: Vec<&'a str>,
}

/// What [`plan`] needs to know, for [`super::sets`]: the number of the newest job, and how many jobs wait (the statuses are
/// those of [`WAITING`]).
pub(super) const BEFORE: &str = "SELECT 'before' AS what, \
    COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0) AS seq, \
    (SELECT COALESCE(SUM(n), 0) FROM job_counts WHERE status IN ('pending', 'scheduled', 'blocked')) AS waiting; ";

/// What [`BEFORE`] says: the newest number, and the jobs that wait with what this commit has changed about them.
pub(super) fn read(tx: &Tx<'_>, row: &QueryResult) -> Result<(i64, u64), StoreError> {
    let waiting: i64 = row.get("waiting")?;
    let waiting = u64::try_from(waiting + tx.moved(&WAITING)).unwrap_or(0);
    Ok((row.get("seq")?, waiting))
}

/// What is to be written for the batches, from what [`read`] says, and one answer for each of them in their order.
pub(super) async fn plan<'a>(
    tx: &Tx<'_>,
    batches: &[&'a Batch],
    (mut seq, mut waiting): (i64, u64),
) -> Result<(Planned<'a>, Vec<Result<Enqueued, StoreError>>), StoreError> {
    let mut by_key = known_keys(tx, batches).await?;
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
    Ok((planned, answers))
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

impl Planned<'_> {
    /// Appends the statements that write it, with the moment as `$1` and their values from `values` on.
    pub(super) fn push(&self, text: &mut String, values: &mut Vec<SqlValue>) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        values.push(to_json(&self.rows)?.into());
        let rows = values.len();
        text.push_str(&format!(
            "INSERT INTO jobs (seq, id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, \
             max_attempts, attempts_per_round) \
             SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
             unhex(value ->> 7), value ->> 8, $1, value ->> 9, value ->> 10, value ->> 10 FROM json_each(${rows}); \
             INSERT INTO job_data (job_seq, args, timeout_s) \
             SELECT value ->> 0, value ->> 11, value ->> 12 FROM json_each(${rows}); \
             INSERT INTO search_stale (job_seq) SELECT value ->> 0 FROM json_each(${rows}); "
        ));
        if !self.told.is_empty() {
            values.push(to_json(&self.told)?.into());
            text.push_str(&format!(
                "INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
                 SELECT value ->> 0, 0, $1, NULL, value ->> 1, value ->> 2, value ->> 3 FROM json_each(${}); ",
                values.len()
            ));
        }
        if !self.uploads.is_empty() {
            values.push(to_json(&self.uploads)?.into());
            let uploads = values.len();
            text.push_str(&format!(
                "UPDATE uploads SET uses = uses + (SELECT COUNT(*) FROM json_each(${uploads}) WHERE value = uploads.id) \
                 WHERE id IN (SELECT value FROM json_each(${uploads})); "
            ));
        }
        Ok(())
    }
}
