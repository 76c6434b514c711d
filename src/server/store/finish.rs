//! Attempts that end well, many at once: what the state machine says about [`Event::Complete`] for one job, these
//! statements do for a set of them. A test compares the two.
//!
//! [`Event::Complete`]: crate::domain::machine::Event::Complete

use std::collections::HashMap;

use sea_orm::QueryResult;

use super::Store;
use super::error::StoreError;
use super::ops::{Lease, to_json};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::machine::Refused;
use crate::domain::stats::Metric;
use crate::domain::status::Status;
use crate::domain::time::{Timestamp, from_millis};

/// An attempt that ended well.
#[derive(Clone, Debug)]
pub struct Finish {
    pub lease: Lease,
    /// As JSON; `None` for a result of null.
    pub result: Option<String>,
    /// Whether an earlier attempt may have left an error beside the job.
    pub again: bool,
    /// Milliseconds of CPU time that the attempt took, where that was measured.
    pub cpu_ms: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Finished {
    pub at: Timestamp,
    pub rev: u64,
    /// The last step's words and numbers, which stay.
    pub message: String,
    pub done: Option<u64>,
    pub total: Option<u64>,
    /// The limits that it counted against, as JSON.
    pub holds: Option<String>,
    /// Whether other jobs wait, or waited, for it.
    pub dependents: bool,
}

impl Store {
    /// Completes the job. Refused when the lease is no longer the job's; [`StoreError::NoJob`] when the job is gone.
    pub async fn finish(&self, finish: Finish) -> Result<Finished, StoreError> {
        self.writer().finish(finish).await
    }
}

/// The statements, for [`super::sets`]: `$1` is the moment, `$2` the leases as triples of number, epoch and CPU time, `$3` the results as
/// triples of number, epoch and JSON. The pluses keep the planner from walking all that run, or have ended, instead of
/// looking up the few that are given.
pub(super) const END: &str = "UPDATE jobs SET status = 'completed', epoch = epoch + 1, rev = rev + 1, lease_until = NULL, \
    completed_at = $1, progress = 100, cancel_requested = 0, pause_requested = 0, error_code = NULL, error = NULL, \
    fingerprint = NULL \
    FROM (SELECT value ->> 0 AS s, value ->> 1 AS e FROM json_each($2)) AS held \
    WHERE jobs.seq = held.s AND jobs.epoch = held.e AND +jobs.status = 'running' \
    RETURNING 'finished' AS what, jobs.seq AS seq, jobs.rev AS rev, jobs.message AS message, jobs.kind AS kind, \
    jobs.queue AS queue, jobs.done AS done, jobs.total AS total, jobs.holds AS holds, jobs.dependents AS dependents, \
    jobs.started_at AS started_at, jobs.attempt AS attempt, jobs.batch AS batch; \
    INSERT INTO attempts (job_seq, number, epoch, worker, started_at, ended_at, outcome, cpu_ms) \
    SELECT jobs.seq, attempt, held.e, worker, started_at, $1, 'completed', held.c \
    FROM (SELECT value ->> 0 AS s, value ->> 1 AS e, value ->> 2 AS c FROM json_each($2)) AS held CROSS JOIN jobs ON jobs.seq = held.s \
    WHERE jobs.epoch = held.e + 1 AND +jobs.status = 'completed' AND +jobs.completed_at = $1 \
    ON CONFLICT (job_seq, number) DO NOTHING; ";
pub(super) const RESULTS: &str = "UPDATE job_data SET result = given.r, error = NULL \
    FROM (SELECT value ->> 0 AS s, value ->> 1 AS e, value ->> 2 AS r FROM json_each($3)) AS given \
    CROSS JOIN jobs ON jobs.seq = given.s \
    WHERE job_data.job_seq = given.s AND jobs.epoch = given.e + 1 AND +jobs.completed_at = $1; ";

/// The leases and, where there are any, the results of a set, as the statements take them.
pub(super) fn values(items: &[&Finish]) -> Result<(String, Option<String>), StoreError> {
    let leases = items.iter().map(|f| (f.lease.seq, f.lease.epoch, f.cpu_ms.map(int)));
    let leases: Vec<(i64, u64, Option<i64>)> = leases.collect();
    let told = items.iter().filter(|f| f.result.is_some() || f.again);
    let results = told.map(|f| (f.lease.seq, f.lease.epoch, f.result.as_deref()));
    let results: Vec<(i64, u64, Option<&str>)> = results.collect();
    let results = (!results.is_empty()).then(|| to_json(&results)).transpose()?;
    Ok((to_json(&leases)?, results))
}

/// What [`END`] says of one job.
pub(super) fn read(tx: &Tx<'_>, row: &QueryResult) -> Result<(i64, Finished), StoreError> {
    let (kind, queue): (String, String) = (row.get("kind")?, row.get("queue")?);
    tx.moves(Status::Running, Status::Completed, &kind, &queue, row.get("batch")?);
    let started: i64 = row.get("started_at")?;
    tx.roll(&kind, &queue, Metric::Completed, 0);
    tx.roll(&kind, &queue, Metric::Run, tx.now() - started);
    let done = Finished {
        at: from_millis(tx.now()),
        rev: row.u64("rev")?,
        message: row.get("message")?,
        done: row.opt_u64("done")?,
        total: row.opt_u64("total")?,
        holds: row.get("holds")?,
        dependents: row.flag("dependents")?,
    };
    let seq = row.get("seq")?;
    tx.free(done.holds.as_deref());
    if done.dependents {
        tx.due(seq);
    }
    if !done.message.is_empty() || row.u32("attempt")? > 1 {
        tx.stale(seq);
    }
    Ok((seq, done))
}

/// One answer for each item, in their order.
pub(super) async fn answers(
    tx: &Tx<'_>,
    items: &[&Finish],
    mut finished: HashMap<i64, Finished>,
) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        answers.push(match finished.remove(&item.lease.seq) {
            Some(done) => Ok(done),
            None => Err(lost(tx, item.lease).await?),
        });
    }
    Ok(answers)
}

/// Why a lease holds no more.
async fn lost(tx: &Tx<'_>, lease: Lease) -> Result<StoreError, StoreError> {
    let stmt = Sql::with("SELECT epoch FROM jobs WHERE seq = $1", [lease.seq.into()]);
    Ok(match tx.one(stmt).await? {
        Some(row) => StoreError::Refused(Refused::Stale {
            epoch: lease.epoch,
            current: row.u64("epoch")?,
        }),
        None => StoreError::NoJob(lease.id),
    })
}
