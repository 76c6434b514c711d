//! What running jobs report: log lines and progress, written together, fenced by the lease.

use futures::FutureExt;
use sea_orm::QueryResult;

use super::Store;
use super::dialect::Ty;
use super::error::StoreError;
use super::jobs::{COLUMNS, job_row};
use super::ops::{Lease, to_json};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::job::Job;
use crate::domain::log::{Level, LogFilter, LogLine};
use crate::domain::machine::Refused;

/// What an attempt has to say since it last said something.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Percent, done, total.
    pub progress: Option<(f64, u64, u64)>,
    pub message: Option<String>,
    /// Their numbers follow those stored before.
    pub lines: Vec<LogLine>,
}

impl Store {
    /// Writes what an attempt reports and answers with the job as it is then. Refused once the lease is lost.
    pub async fn report(&self, lease: Lease, reported: Reported) -> Result<Job, StoreError> {
        self.writer()
            .write(move |tx| async move { report(tx, lease, reported).await }.boxed())
            .await
    }

    /// At most `limit` lines of a job's log that match, in order.
    pub async fn log(&self, seq: i64, filter: &LogFilter, limit: u32) -> Result<Vec<LogLine>, StoreError> {
        let LogFilter {
            level,
            since,
            until,
            after,
            q,
        } = filter;
        let mut sql = Sql::new("SELECT n, at, attempt, level, message FROM job_logs WHERE job_seq = ");
        sql.bind(seq).push(" AND n > ").bind(int(*after));
        if let Some(level) = level {
            sql.push(" AND level >= ").bind(level.rank());
        }
        if let Some(t) = since {
            sql.push(" AND at >= ").bind(t.timestamp_millis());
        }
        if let Some(t) = until {
            sql.push(" AND at < ").bind(t.timestamp_millis());
        }
        if let Some(q) = q {
            sql.push(&format!(" AND {}(lower(message), ", self.dialect().position()))
                .bind(q.to_lowercase())
                .push(") > 0");
        }
        sql.push(&format!(" ORDER BY n LIMIT {limit}"));
        self.all(sql.build()).await?.iter().map(line).collect()
    }
}

fn line(r: &QueryResult) -> Result<LogLine, StoreError> {
    Ok(LogLine {
        n: r.u64("n")?,
        at: r.time("at")?,
        attempt: r.u32("attempt")?,
        level: Level::from_rank(r.int("level")?),
        message: r.get("message")?,
    })
}

pub(super) async fn report(tx: &Tx<'_>, lease: Lease, reported: Reported) -> Result<Job, StoreError> {
    let Reported {
        progress,
        message,
        lines,
    } = reported;
    let mut sql = Sql::new("UPDATE jobs SET rev = rev + 1");
    if let Some((percent, done, total)) = progress {
        sql.push(", progress = ")
            .bind(percent)
            .push(", done = ")
            .bind(int(done));
        sql.push(", total = ").bind(int(total));
    }
    if let Some(message) = message {
        sql.push(", message = ").bind(message);
    }
    sql.push(" WHERE seq = ")
        .bind(lease.seq)
        .push(" AND status = 'running' AND epoch = ")
        .bind(int(lease.epoch));
    sql.push(&format!(" RETURNING {COLUMNS}"));
    let Some(row) = tx.one(sql.build()).await? else {
        return Err(stale(tx, lease).await?);
    };
    if let Some(last) = lines.last().map(|l| l.n) {
        let rows: Vec<_> = lines
            .iter()
            .map(|l| (l.n, l.at.timestamp_millis(), l.attempt, l.level.rank(), &l.message))
            .collect();
        let columns = ["n", "at", "attempt", "level"].map(|c| (c, Ty::Int));
        let given = tx
            .dialect()
            .rows("$2", &[&columns[..], &[("message", Ty::Text)]].concat());
        // When the connection broke behind a commit, nobody knows that they are written, and they come again.
        let text = format!(
            "INSERT INTO job_logs (job_seq, n, at, attempt, level, message) \
             SELECT $1, n, at, attempt, level, message FROM {given} AS given WHERE true \
             ON CONFLICT (job_seq, n) DO NOTHING"
        );
        tx.execute(Sql::with(&text, [lease.seq.into(), to_json(&rows)?.into()]))
            .await?;
        let text = "UPDATE job_data SET log_lines = $1 WHERE job_seq = $2";
        tx.execute(Sql::with(text, [int(last).into(), lease.seq.into()]))
            .await?;
    }
    Ok(job_row(&row)?.job)
}

impl Store {
    /// Writes down where a job's next attempt would go on. Refused once the lease is lost.
    pub async fn save_checkpoint(&self, lease: Lease, checkpoint: String) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    fence(tx, lease).await?;
                    save(tx, lease, &checkpoint).await
                }
                .boxed()
            })
            .await
    }
}

/// The checkpoint within a transaction that has made sure of the lease.
pub(super) async fn save(tx: &Tx<'_>, lease: Lease, checkpoint: &str) -> Result<(), StoreError> {
    let text = "UPDATE job_data SET checkpoint = $1 WHERE job_seq = $2";
    tx.execute(Sql::with(text, [checkpoint.into(), lease.seq.into()]))
        .await?;
    Ok(())
}

/// The refusal of a write under a lease that no longer holds.
pub(super) async fn stale(tx: &Tx<'_>, lease: Lease) -> Result<StoreError, StoreError> {
    let row = tx
        .one(Sql::with("SELECT epoch FROM jobs WHERE seq = $1", [lease.seq.into()]))
        .await?;
    Ok(match row {
        Some(row) => StoreError::Refused(Refused::Stale {
            epoch: lease.epoch,
            current: row.u64("epoch")?,
        }),
        None => StoreError::NoJob(lease.id),
    })
}

/// Fails unless the lease holds: for writes about other tables.
pub(super) async fn fence(tx: &Tx<'_>, lease: Lease) -> Result<(), StoreError> {
    let text = format!(
        "SELECT 1 AS held FROM jobs WHERE seq = $1 AND status = 'running' AND epoch = $2{}",
        tx.dialect().hold_rows()
    );
    match tx
        .one(Sql::with(&text, [lease.seq.into(), int(lease.epoch).into()]))
        .await?
    {
        Some(_) => Ok(()),
        None => Err(stale(tx, lease).await?),
    }
}
