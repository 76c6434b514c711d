//! Writing new jobs down, many at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sea_orm::{QueryResult, Value as SqlValue};
use serde_json::Value;
use uuid::Uuid;

use super::Store;
use super::audit;
use super::batches::NewBatch;
use super::claim::Claimed;
use super::dialect::Ty;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, UNFINISHED, job_row};
use super::ops::{Lease, to_json};
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::audit::{AuditHead, Deed};
use crate::domain::job::{DEFAULT_QUEUE, Job, JobId, Lane};
use crate::domain::kind::Policy;
use crate::domain::machine::State;
use crate::domain::stats::Metric;
use crate::domain::status::Status;
use crate::domain::time::from_millis;

/// A job to be written down.
#[derive(Clone, Debug)]
pub struct Enqueue {
    pub id: JobId,
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
    /// Milliseconds after its enqueueing for which a finished job with the same unique key counts, too.
    pub unique_for_ms: Option<i64>,
    /// Jobs that must have ended first.
    pub depends_on: Vec<JobId>,
    /// Whether it runs even when one of those does not complete.
    pub run_anyway: bool,
    pub concurrency_key: Option<String>,
    /// Whether the limit of running jobs per member holds for its owner.
    pub member: bool,
    /// The batch that it belongs to.
    pub batch: Option<Uuid>,
    /// What its first transition says, when that is more than that it was enqueued.
    pub reason: Option<String>,
}

impl Enqueue {
    /// A plain job of `kind` for `owner`: at once, in the default queue.
    pub fn of(kind: &str, owner: &str, args: Value, policy: &Policy) -> Self {
        Self {
            id: Uuid::now_v7(),
            kind: kind.into(),
            queue: DEFAULT_QUEUE.into(),
            lane: Lane::default(),
            owner: owner.into(),
            args,
            max_attempts: policy.max_attempts,
            timeout_s: policy.timeout_s,
            parent: None,
            unique_key: None,
            run_at: None,
            delay_ms: None,
            unique_for_ms: None,
            depends_on: Vec::new(),
            run_anyway: false,
            concurrency_key: None,
            member: false,
            batch: None,
            reason: None,
        }
    }
}

/// A worker that takes a job in the commit that writes it down: it has a slot for it, or will have one soon.
#[derive(Clone, Debug)]
pub struct Taker {
    pub worker: String,
    pub lease_ms: i64,
}

/// Jobs that are written all or none.
#[derive(Clone, Debug)]
pub struct Batch {
    pub jobs: Vec<Enqueue>,
    /// Jobs that may wait in the whole system.
    pub queue_max: u64,
    /// A batch that begins with these jobs.
    pub starts: Option<NewBatch>,
    /// What the audit log says of it, unless all of them were there already; none for what the system does by itself.
    pub deed: Option<Deed>,
    /// Who takes those that may run at once, unless their queue is paused; it has seen to it that they are under no limit.
    pub taker: Option<Taker>,
}

impl Batch {
    pub fn of(jobs: Vec<Enqueue>, queue_max: u64) -> Self {
        Self {
            jobs,
            queue_max,
            starts: None,
            deed: None,
            taker: None,
        }
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

    /// A new job that its [`Taker`] has; `args` and `timeout_s` are the job's.
    pub fn begun(&self, args: Value, timeout_s: u64) -> Option<Claimed> {
        match self {
            Self::New(row) if row.job.status == Status::Running => Some(Claimed {
                lease: Lease {
                    id: row.job.id,
                    seq: row.seq,
                    epoch: row.state.epoch,
                },
                job: Arc::new(row.job.clone()),
                args,
                timeout_s,
                checkpoint: None,
                log_lines: 0,
                round: row.state.attempt,
            }),
            _ => None,
        }
    }
}

/// Statuses that count towards a full queue.
pub(super) const WAITING: [Status; 3] = [Status::Pending, Status::Scheduled, Status::Blocked];

impl Store {
    /// Writes jobs down, all or none; acknowledged means on disk.
    pub async fn enqueue(&self, batch: Batch) -> Result<Enqueued, StoreError> {
        if batch.jobs.iter().any(|j| !j.depends_on.is_empty()) {
            return self.enqueue_chained(batch).await;
        }
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
    Option<&'a str>,
    bool,
    Option<String>,
);

/// What a set comes to before it is written.
#[derive(Default)]
pub(super) struct Planned<'a> {
    rows: Vec<Columns<'a>>,
    /// First transitions that say more than that a job was enqueued and waits.
    told: Vec<(i64, &'a str, &'a str, &'a str)>,
    /// Those that are taken at once: number, worker, end of the lease.
    begun: Vec<(i64, &'a str, i64)>,
    uploads: Vec<&'a str>,
    starts: Vec<&'a NewBatch>,
    deeds: Vec<&'a Deed>,
    /// Where the audit log ends.
    head: Option<AuditHead>,
}

/// What [`plan`] needs to know, for [`super::sets`]: the number of the newest job, and how many jobs wait (the statuses are
/// those of [`WAITING`]).
pub(super) const BEFORE: &str = "SELECT 'before' AS what, \
    COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'jobs'), 0) AS seq, \
    (SELECT COALESCE(SUM(n), 0) FROM job_counts WHERE status IN ('pending', 'scheduled', 'blocked')) AS waiting, \
    (SELECT json_group_array(name) FROM paused_queues) AS paused, (SELECT MAX(seq) FROM audit) AS audit_seq, (SELECT hash FROM audit ORDER BY seq DESC LIMIT 1) AS audit_hash; ";

/// What [`plan`] goes by: the number of the newest job, the jobs that wait, the queues that are paused, and where the audit log ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    seq: i64,
    waiting: u64,
    paused: HashSet<String>,
    head: Option<AuditHead>,
}

/// What [`BEFORE`] says; the jobs that wait with what this commit has changed about them.
pub(super) fn read(tx: &Tx<'_>, row: &QueryResult) -> Result<Before, StoreError> {
    let waiting: i64 = row.get("waiting")?;
    let (seq, hash): (Option<i64>, Option<String>) = (row.get("audit_seq")?, row.get("audit_hash")?);
    let head = seq.zip(hash).map(|(seq, hash)| AuditHead {
        seq: u64::try_from(seq).unwrap_or(0),
        hash,
    });
    Ok(Before {
        seq: row.get("seq")?,
        waiting: u64::try_from(waiting + tx.moved(&WAITING)).unwrap_or(0),
        paused: serde_json::from_str(&row.get::<String>("paused")?).map_err(|e| StoreError::corrupt("queues", e))?,
        head,
    })
}

/// What is to be written for the batches, from what [`read`] says, and one answer for each of them in their order.
pub(super) async fn plan<'a>(
    tx: &Tx<'_>,
    batches: &[&'a Batch],
    before: Before,
) -> Result<(Planned<'a>, Vec<Result<Enqueued, StoreError>>), StoreError> {
    let Before {
        mut seq,
        mut waiting,
        paused,
        head,
    } = before;
    let mut by_key = known_keys(tx, batches).await?;
    let mut planned = Planned {
        head,
        ..Planned::default()
    };
    let mut answers = Vec::with_capacity(batches.len());
    for batch in batches {
        if waiting.saturating_add(batch.jobs.len() as u64) > batch.queue_max {
            answers.push(Ok(Enqueued::Full { waiting }));
            continue;
        }
        planned.starts.extend(&batch.starts);
        let mut written = Vec::with_capacity(batch.jobs.len());
        for job in &batch.jobs {
            if let Some(known) = known(&by_key, job, tx.now()) {
                written.push(Written::Existing(known.clone()));
                continue;
            }
            seq += 1;
            waiting += 1;
            let mut row = new_row(seq, job, tx.now());
            planned.add(job, &row)?;
            if let Some(taker) = &batch.taker
                && row.job.status == Status::Pending
                && !paused.contains(&job.queue)
            {
                planned.begun.push((seq, &taker.worker, tx.now() + taker.lease_ms));
                row.begin(taker, tx.now());
                tx.roll(&job.kind, &job.queue, Metric::Wait, 0);
            }
            if let Some(key) = &job.unique_key {
                by_key.insert(key.clone(), row.clone());
            }
            tx.count(row.job.status, &row.job, 1);
            tx.roll(&job.kind, &job.queue, Metric::Enqueued, 0);
            written.push(Written::New(row));
        }
        planned.deeds.extend(batch.deed.iter().filter(|_| any_new(&written)));
        answers.push(Ok(Enqueued::Written(written)));
    }
    Ok((planned, answers))
}

/// Whether a job was written at all.
pub(super) fn any_new(written: &[Written]) -> bool {
    written.iter().any(|one| matches!(one, Written::New(_)))
}

/// The job that a wish leads to instead of a new one, if there is one.
pub(super) fn known<'a>(by_key: &'a HashMap<String, JobRow>, job: &Enqueue, now: i64) -> Option<&'a JobRow> {
    let row = by_key.get(job.unique_key.as_ref()?)?;
    let until = job
        .unique_for_ms
        .map(|ms| row.job.created_at.timestamp_millis().saturating_add(ms));
    (!row.job.status.is_finished() || until.is_some_and(|until| now < until)).then_some(row)
}

/// The jobs of those unique keys that the batches use: of each the unfinished one, or else the newest.
pub(super) async fn known_keys(tx: &Tx<'_>, batches: &[&Batch]) -> Result<HashMap<String, JobRow>, StoreError> {
    let keys: Vec<&str> = batches
        .iter()
        .flat_map(|b| &b.jobs)
        .filter_map(|j| j.unique_key.as_deref())
        .collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let list = tx.dialect().list("$1", Ty::Text);
    let text = format!(
        "SELECT unique_key, {COLUMNS} FROM jobs WHERE seq IN (SELECT COALESCE(\
         (SELECT seq FROM jobs WHERE unique_key = l.value AND {UNFINISHED}), \
         (SELECT MAX(seq) FROM jobs WHERE unique_key = l.value)) FROM {list} AS l)"
    );
    let rows = tx.all(Sql::with(&text, [to_json(&keys)?.into()])).await?;
    rows.iter().map(|r| Ok((r.get("unique_key")?, job_row(r)?))).collect()
}

pub(super) fn new_row(seq: i64, new: &Enqueue, now: i64) -> JobRow {
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
        dependents: false,
        holds: None,
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
            id: new.id,
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
            crashes: 0,
            created_at,
            run_at,
            started_at: None,
            completed_at: None,
            worker: None,
            concurrency_key: new.concurrency_key.clone(),
            front: false,
            cancel_requested: false,
            pause_requested: false,
            error_code: None,
            error: None,
            fingerprint: None,
            batch: new.batch,
            rev: 1,
        },
    }
}

impl JobRow {
    /// What [`Event::Claim`] makes of a new job.
    ///
    /// [`Event::Claim`]: crate::domain::machine::Event::Claim
    pub(super) fn begin(&mut self, taker: &Taker, now: i64) {
        (self.state.status, self.state.attempt, self.state.epoch) = (Status::Running, 1, 1);
        let job = &mut self.job;
        (job.status, job.attempt, job.rev) = (Status::Running, 1, job.rev + 1);
        (job.started_at, job.worker) = (Some(from_millis(now)), Some(taker.worker.clone()));
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
            new.concurrency_key.as_deref(),
            new.member,
            new.batch.map(|b| b.simple().to_string()),
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
    pub(super) fn push(&self, now: i64, text: &mut String, values: &mut Vec<SqlValue>) -> Result<(), StoreError> {
        if !self.deeds.is_empty() {
            let head = self.head.clone().unwrap_or_else(AuditHead::before_all);
            let rows = audit::rows(head, now, self.deeds.iter().copied())?;
            values.push(to_json(&rows)?.into());
            text.push_str(&audit::insert(&format!("${}", values.len())));
            text.push_str("; ");
        }
        if !self.starts.is_empty() {
            let rows = self
                .starts
                .iter()
                .map(|b| (b.id.simple().to_string(), &b.name, &b.owner, b.started_by.as_deref()));
            values.push(to_json(&rows.collect::<Vec<_>>())?.into());
            text.push_str(&format!(
                "INSERT INTO batches (id, name, owner, created_at, started_by) \
                 SELECT unhex(value ->> 0), value ->> 1, value ->> 2, $1, value ->> 3 FROM json_each(${}); ",
                values.len()
            ));
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        values.push(to_json(&self.rows)?.into());
        let rows = values.len();
        text.push_str(&format!(
            "INSERT INTO jobs (seq, id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, \
             max_attempts, attempts_per_round, concurrency_key, member, batch) \
             SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
             unhex(value ->> 7), value ->> 8, $1, value ->> 9, value ->> 10, value ->> 10, value ->> 13, value ->> 14, \
             unhex(value ->> 15) FROM json_each(${rows}); \
             INSERT INTO job_data (job_seq, args, timeout_s) \
             SELECT value ->> 0, value ->> 11, value ->> 12 FROM json_each(${rows}); \
             INSERT INTO search_stale (job_seq) SELECT value ->> 0 FROM json_each(${rows}); "
        ));
        if !self.begun.is_empty() {
            values.push(to_json(&self.begun)?.into());
            text.push_str(&format!(
                "UPDATE jobs SET status = 'running', epoch = 1, attempt = 1, worker = g.value ->> 1, \
                 lease_until = g.value ->> 2, started_at = $1, rev = rev + 1 FROM json_each(${}) AS g WHERE jobs.seq = g.value ->> 0; ",
                values.len()
            ));
        }
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
