//! Attempts that end well, many at once: what the state machine says about [`Event::Complete`] for one job, these
//! statements do for a set of them. A test compares the two.
//!
//! [`Event::Complete`]: crate::domain::machine::Event::Complete

use std::collections::HashMap;

use super::Store;
use super::error::StoreError;
use super::ops::{Lease, to_json};
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::machine::Refused;
use crate::domain::status::Status;
use crate::domain::time::{Timestamp, from_millis};

/// An attempt that ended well.
#[derive(Clone, Debug)]
pub struct Finish {
    pub lease: Lease,
    /// As JSON; `None` for a result of null.
    pub result: Option<String>,
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
}

impl Store {
    /// Completes the job. Refused when the lease is no longer the job's; [`StoreError::NoJob`] when the job is gone.
    pub async fn finish(&self, finish: Finish) -> Result<Finished, StoreError> {
        self.writer().finish(finish).await
    }
}

/// One answer for each item, in their order. An error of the whole means that nothing was written.
pub(super) async fn set<F: AsRef<Finish>>(
    tx: &Tx<'_>,
    items: &[F],
) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<&Finish> = items.iter().map(AsRef::as_ref).collect();
    let leases: Vec<(i64, u64)> = items.iter().map(|f| (f.lease.seq, f.lease.epoch)).collect();
    let leases = to_json(&leases)?;
    // The pluses keep the planner from walking all that run, or have ended, instead of looking up the few that are given.
    let ended = "UPDATE jobs SET status = 'completed', epoch = epoch + 1, rev = rev + 1, lease_until = NULL, \
        completed_at = $2, progress = 100, cancel_requested = 0, pause_requested = 0, error_code = NULL, error = NULL \
        FROM (SELECT value ->> 0 AS s, value ->> 1 AS e FROM json_each($1)) AS held \
        WHERE jobs.seq = held.s AND jobs.epoch = held.e AND +jobs.status = 'running' \
        RETURNING jobs.seq AS seq, jobs.rev AS rev, jobs.message AS message, jobs.kind AS kind, jobs.queue AS queue, \
        jobs.attempt AS attempt, jobs.done AS done, jobs.total AS total";
    let rows = tx
        .all(Sql::with(ended, [leases.clone().into(), tx.now().into()]))
        .await?;
    let at = from_millis(tx.now());
    let mut finished: HashMap<i64, Finished> = HashMap::with_capacity(rows.len());
    let mut stale = Vec::new();
    for row in &rows {
        let (seq, kind, queue): (i64, String, String) = (row.get("seq")?, row.get("kind")?, row.get("queue")?);
        let message: String = row.get("message")?;
        tx.count(Status::Running, &kind, &queue, -1);
        tx.count(Status::Completed, &kind, &queue, 1);
        // What a search knows from before the attempt is still true of a job that said nothing.
        if !message.is_empty() || row.u32("attempt")? > 1 {
            stale.push(seq);
        }
        let done = Finished {
            at,
            rev: row.u64("rev")?,
            message,
            done: row.opt_u64("done")?,
            total: row.opt_u64("total")?,
        };
        finished.insert(seq, done);
    }
    let attempts = "INSERT INTO attempts (job_seq, number, epoch, worker, started_at, ended_at, outcome) \
        SELECT jobs.seq, attempt, held.e, worker, started_at, $2, 'completed' \
        FROM (SELECT value ->> 0 AS s, value ->> 1 AS e FROM json_each($1)) AS held CROSS JOIN jobs ON jobs.seq = held.s \
        WHERE jobs.epoch = held.e + 1 AND +jobs.status = 'completed' AND +jobs.completed_at = $2 \
        ON CONFLICT (job_seq, number) DO NOTHING";
    tx.execute(Sql::with(attempts, [leases.into(), tx.now().into()]))
        .await?;
    let results: Vec<(i64, &str)> = items
        .iter()
        .filter(|f| finished.contains_key(&f.lease.seq))
        .filter_map(|f| Some((f.lease.seq, f.result.as_deref()?)))
        .collect();
    if !results.is_empty() {
        let text = "UPDATE job_data SET result = given.r, error = NULL \
            FROM (SELECT value ->> 0 AS s, value ->> 1 AS r FROM json_each($1)) AS given WHERE job_seq = given.s";
        tx.execute(Sql::with(text, [to_json(&results)?.into()])).await?;
    }
    super::search::mark(tx, &stale).await?;
    let mut answers = Vec::with_capacity(items.len());
    for item in items {
        let lease = item.lease;
        answers.push(match finished.remove(&lease.seq) {
            Some(done) => Ok(done),
            None => Err(lost(tx, lease).await?),
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

impl AsRef<Finish> for Finish {
    fn as_ref(&self) -> &Finish {
        self
    }
}
