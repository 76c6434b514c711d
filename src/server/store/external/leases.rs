//! Leases of workers outside of the binary, and what they write under them. They can't be trusted to hold what they say: each
//! write looks whether the lease is that worker's.

use std::collections::HashSet;

use futures::FutureExt;
use sea_orm::QueryResult;

use super::super::Store;
use super::super::dialect::Ty;
use super::super::error::StoreError;
use super::super::logs::{self, Reported, fence};
use super::super::ops::{Beat, Lease, to_json};
use super::super::sql::{RowExt, Sql, int};
use super::super::writer::Tx;
use crate::domain::job::{Job, JobId};
use crate::domain::log::{Level, LogLine};
use crate::domain::status::Outcome;

/// What a worker's heartbeat came to.
#[derive(Clone, Debug, Default)]
pub struct Beats {
    pub held: Vec<Beat>,
    /// Those of them that have run for longer than they may, with the limit in seconds.
    pub overdue: Vec<(Lease, u64)>,
    /// Jobs that the worker was given long enough ago and does not know of.
    pub unknown: Vec<Lease>,
}

/// A line that a worker adds to a log.
#[derive(Clone, Debug)]
pub struct Said {
    pub level: Level,
    pub message: String,
}

impl Store {
    /// Renews the leases of a worker that are its own, and says that it lives. `fresh_ms`: a job that it was given so short a
    /// time ago may still be on its way to it. `None`: the worker is not known (any more).
    pub async fn external_beat(
        &self,
        worker: String,
        leases: Vec<(JobId, u64)>,
        lease_ms: i64,
        fresh_ms: i64,
    ) -> Result<Option<Beats>, StoreError> {
        self.writer()
            .write(move |tx| async move { beat(tx, &worker, &leases, lease_ms, fresh_ms).await }.boxed())
            .await
    }

    /// Which of these leases of a worker's still hold, and what people want of them. Changes nothing: only the worker itself says
    /// that it lives.
    pub async fn external_wishes(&self, worker: &str, leases: &[(JobId, u64)]) -> Result<Vec<Beat>, StoreError> {
        let named = named(leases)?;
        let given = self.dialect().rows("$1", &[("i", Ty::Text), ("e", Ty::Int)]);
        let id = self.dialect().uuid("i");
        let text = format!(
            "SELECT seq, id, epoch, cancel_requested, pause_requested FROM jobs \
             WHERE id IN (SELECT {id} FROM {given} AS given) AND (id, epoch) IN (SELECT {id}, e FROM {given} AS given) \
             AND status || '' = 'running' AND worker = $2"
        );
        let rows = self.all(Sql::with(&text, [named.into(), worker.into()])).await?;
        rows.iter().map(held).collect()
    }

    /// The leases that a worker holds, and whether one of them is of a job that may kill it.
    pub async fn external_leases(&self, worker: &str) -> Result<(Vec<Lease>, bool), StoreError> {
        let text =
            "SELECT id, seq, epoch, crashes, attempt, max_attempts FROM jobs WHERE status = 'running' AND worker = $1";
        let rows = self.all(Sql::with(text, [worker.into()])).await?;
        let mut suspect = false;
        let mut leases = Vec::with_capacity(rows.len());
        for row in &rows {
            let begun = row.u32("attempt")?.saturating_sub(1);
            suspect |= Job::suspected(row.u32("crashes")?, begun, row.u32("max_attempts")?);
            leases.push(lease(row)?);
        }
        Ok((leases, suspect))
    }

    /// How an attempt of this worker's ended, if it has.
    pub async fn external_outcome(&self, id: JobId, epoch: u64, worker: &str) -> Result<Option<Outcome>, StoreError> {
        let text = "SELECT attempts.outcome AS outcome FROM attempts JOIN jobs ON jobs.seq = attempts.job_seq \
            WHERE jobs.id = $1 AND attempts.epoch = $2 AND attempts.worker = $3";
        let row = self
            .one(Sql::with(text, [id.into(), int(epoch).into(), worker.into()]))
            .await?;
        let outcome: Option<String> = row.map(|row| row.get("outcome")).transpose()?;
        outcome
            .map(|name| Outcome::parse(&name).ok_or_else(|| StoreError::corrupt("outcome", name)))
            .transpose()
    }

    /// Adds lines to a job's log and answers with the job, and the lines as they are stored: those that it has no more room for
    /// are left out. Refused once the lease is lost.
    pub async fn external_lines(
        &self,
        lease: Lease,
        attempt: u32,
        said: Vec<Said>,
    ) -> Result<(Job, Vec<LogLine>), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    fence(tx, lease).await?;
                    let text = "SELECT log_lines FROM job_data WHERE job_seq = $1";
                    let row = tx.one(Sql::with(text, [lease.seq.into()])).await?;
                    let stored = row.map(|row| row.u64("log_lines")).transpose()?.unwrap_or(0);
                    let numbered = said.into_iter().zip(stored + 1..);
                    let lines = numbered.map_while(|(said, n)| LogLine::new(n, attempt, said.level, said.message));
                    let lines: Vec<LogLine> = lines.collect();
                    let reported = Reported {
                        lines: lines.clone(),
                        ..Reported::default()
                    };
                    Ok((logs::report(tx, lease, reported).await?, lines))
                }
                .boxed()
            })
            .await
    }

    /// Begins all leases of workers outside anew. While no server ran they could not do so themselves, and nobody else could take
    /// their jobs.
    pub async fn external_renew_all(&self, lease_ms: i64) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "UPDATE jobs SET lease_until = $1 WHERE status = 'running' AND {}(kind, '.') > 0 AND lease_until < $1",
                        tx.dialect().position()
                    );
                    tx.execute(Sql::with(&text, [(tx.now() + lease_ms).into()])).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// Leases as statements take them.
fn named(leases: &[(JobId, u64)]) -> Result<String, StoreError> {
    let named = leases.iter().map(|(id, epoch)| (id.simple().to_string(), int(*epoch)));
    to_json(&named.collect::<Vec<(String, i64)>>())
}

fn held(row: &QueryResult) -> Result<Beat, StoreError> {
    Ok(Beat {
        lease: lease(row)?,
        cancel_requested: row.flag("cancel_requested")?,
        pause_requested: row.flag("pause_requested")?,
    })
}

fn lease(row: &QueryResult) -> Result<Lease, StoreError> {
    Ok(Lease {
        id: row.get("id")?,
        seq: row.get("seq")?,
        epoch: row.u64("epoch")?,
    })
}

async fn beat(
    tx: &Tx<'_>,
    worker: &str,
    leases: &[(JobId, u64)],
    lease_ms: i64,
    fresh_ms: i64,
) -> Result<Option<Beats>, StoreError> {
    let text = "UPDATE workers SET heartbeat_at = $2, in_use = $3 WHERE id = $1 AND token IS NOT NULL";
    let in_use = int(leases.len() as u64);
    let values = [worker.into(), tx.now().into(), in_use.into()];
    if tx.execute(Sql::with(text, values)).await? == 0 {
        return Ok(None);
    }
    let mut beats = Beats::default();
    if !leases.is_empty() {
        let given = tx.dialect().rows("$2", &[("i", Ty::Text), ("e", Ty::Int)]);
        let (id, hold) = (tx.dialect().uuid("i"), tx.dialect().hold_rows());
        // In the order of their numbers, as everywhere, so that no two transactions wait for each other.
        let text = format!(
            "UPDATE jobs SET lease_until = $1 WHERE status || '' = 'running' AND seq IN (SELECT seq FROM jobs \
             WHERE id IN (SELECT {id} FROM {given} AS given) AND (id, epoch) IN (SELECT {id}, e FROM {given} AS given) \
             AND worker = $3 ORDER BY seq{hold}) \
             RETURNING seq, id, epoch, cancel_requested, pause_requested, started_at, \
             (SELECT timeout_s FROM job_data WHERE job_seq = jobs.seq) AS timeout_s"
        );
        let values = [(tx.now() + lease_ms).into(), named(leases)?.into(), worker.into()];
        for row in &tx.all(Sql::with(&text, values)).await? {
            let lease = lease(row)?;
            let timeout_s = row.u64("timeout_s")?;
            let started: Option<i64> = row.get("started_at")?;
            let limit = int(timeout_s).saturating_mul(1_000);
            if started.is_some_and(|at| tx.now() - at > limit) {
                beats.overdue.push((lease, timeout_s));
            }
            beats.held.push(held(row)?);
        }
    }
    let text =
        "SELECT id, seq, epoch FROM jobs WHERE status = 'running' AND worker = $1 AND started_at < $2 ORDER BY seq";
    let values = [worker.into(), (tx.now() - fresh_ms).into()];
    let known: HashSet<&(JobId, u64)> = leases.iter().collect();
    for row in &tx.all(Sql::with(text, values)).await? {
        let lease = lease(row)?;
        if !known.contains(&lease.key()) {
            beats.unknown.push(lease);
        }
    }
    Ok(Some(beats))
}
