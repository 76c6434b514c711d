//! Taking jobs, many at once: what the state machine says about [`Event::Claim`] for one job, this statement does for a set.
//!
//! [`Event::Claim`]: crate::domain::machine::Event::Claim

use std::sync::{Arc, LazyLock};

use sea_orm::QueryResult;
use serde_json::Value;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::ops::Lease;
use super::sql::RowExt;
use super::writer::Tx;
use crate::domain::job::Job;
use crate::domain::stats::Metric;
use crate::domain::status::Status;

/// Who wants which jobs.
#[derive(Clone, Debug)]
pub struct Claim {
    pub seqs: Vec<i64>,
    pub worker: String,
    pub lease_ms: i64,
    /// Kinds that have a limit: their jobs are not taken here, nor those with a concurrency key, of members or in paused
    /// queues.
    pub limited: Vec<String>,
    /// For a worker outside of the binary, whose kinds no worker within takes.
    pub external: bool,
}

/// What a worker took.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub lease: Lease,
    pub job: Arc<Job>,
    pub args: Value,
    pub timeout_s: u64,
    /// Where an earlier attempt left off.
    pub checkpoint: Option<Value>,
    /// Lines that earlier attempts logged.
    pub log_lines: u64,
    /// Failed attempts since a person last granted new ones, this one not counted.
    pub round: u32,
}

impl Store {
    /// Takes those that are still waiting and are under no limit, in one go.
    pub async fn claim(&self, claim: Claim) -> Result<Vec<Claimed>, StoreError> {
        self.writer().claim(claim).await
    }
}

/// The statement, for [`super::sets`]: `$1` is the moment, `$4` the numbers, `$5` the worker, `$6` the end of the leases, `$7` the kinds
/// that have a limit. The plus keeps the planner from walking all that wait instead of looking up the few that are asked for.
/// Before its second attempt a job has neither log nor checkpoint, and nobody looks for them.
pub(super) static TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE jobs SET status = 'running', epoch = epoch + 1, attempt = attempt + 1, front = 0, worker = $5, lease_until = $6, \
         started_at = $1, completed_at = NULL, progress = NULL, done = NULL, total = NULL, message = '', holds = NULL, rev = rev + 1 \
         WHERE seq IN (SELECT value FROM json_each($4)) AND +status = 'pending' AND run_at <= $1 \
         AND concurrency_key IS NULL AND member = 0 AND kind NOT IN (SELECT value FROM json_each($7)) AND instr(kind, '.') = 0 \
         AND queue NOT IN (SELECT name FROM paused_queues) \
         RETURNING 'claimed' AS what, {COLUMNS}, (SELECT args FROM job_data WHERE job_seq = jobs.seq) AS args, \
         (SELECT timeout_s FROM job_data WHERE job_seq = jobs.seq) AS timeout_s, \
         CASE WHEN attempt > 1 THEN (SELECT log_lines FROM job_data WHERE job_seq = jobs.seq) ELSE 0 END AS log_lines, \
         CASE WHEN attempt > 1 THEN (SELECT checkpoint FROM job_data WHERE job_seq = jobs.seq) END AS checkpoint; "
    )
});

/// What [`TAKE`] says of one job.
pub(super) fn read(tx: &Tx<'_>, r: &QueryResult) -> Result<Claimed, StoreError> {
    let JobRow { seq, job, state, .. } = job_row(r)?;
    let used = state.max_attempts.saturating_sub(state.attempts_per_round);
    let args: String = r.get("args")?;
    let checkpoint: Option<String> = r.get("checkpoint")?;
    tx.moves(Status::Pending, Status::Running, &job.kind, &job.queue, job.batch);
    tx.roll(
        &job.kind,
        &job.queue,
        Metric::Wait,
        tx.now() - job.run_at.timestamp_millis(),
    );
    Ok(Claimed {
        lease: Lease {
            id: job.id,
            seq,
            epoch: state.epoch,
        },
        // What can't be read fails as invalid args, and holds up nobody else.
        args: serde_json::from_str(&args).unwrap_or_default(),
        timeout_s: r.u64("timeout_s")?,
        log_lines: r.u64("log_lines")?,
        checkpoint: checkpoint.and_then(|text| serde_json::from_str(&text).ok()),
        round: state.attempt.saturating_sub(used).max(1),
        job: Arc::new(job),
    })
}
