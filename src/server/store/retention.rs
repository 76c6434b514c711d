//! Removing jobs whose time has passed, a few hundred at once, and remembering what a sweep did.

use futures::FutureExt;
use sea_orm::Statement;

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::job::JobId;
pub use crate::domain::retention::Rule;
use crate::domain::stats::Sweep;
use crate::domain::time::from_millis;

/// The name of the sweep among the chores.
const SWEEP: &str = "sweep";

impl Store {
    /// Removes at most `limit` jobs that the rule speaks of, and says how many. `but`: kinds that have rules of their own.
    pub async fn expire_jobs(&self, rule: Rule, but: Vec<String>, limit: u32) -> Result<usize, StoreError> {
        let Some(after_ms) = rule.after_ms else { return Ok(0) };
        let (gone, uploads) = self
            .writer()
            .write(move |tx| async move { expire(tx, &rule, &but, after_ms, limit).await }.boxed())
            .await?;
        for id in &gone {
            self.files().remove_job(*id).await;
        }
        for upload in &uploads {
            self.files().remove_upload(upload).await;
        }
        Ok(gone.len())
    }

    /// Whether this process shall sweep now: nobody has since so many milliseconds.
    pub async fn begin_sweep(&self, every_ms: i64) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "INSERT INTO chores (name, ran_at, told) VALUES ($1, $2, '') ON CONFLICT (name) DO UPDATE \
                        SET ran_at = excluded.ran_at WHERE chores.ran_at <= $3";
                    let values = [SWEEP.into(), tx.now().into(), (tx.now() - every_ms).into()];
                    Ok(tx.execute(Sql::with(text, values)).await? > 0)
                }
                .boxed()
            })
            .await
    }

    /// Remembers what the sweep removed.
    pub async fn end_sweep(&self, mut sweep: Sweep) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    sweep.at = from_millis(tx.now());
                    let text = "UPDATE chores SET told = $1 WHERE name = $2";
                    tx.execute(Sql::with(text, [to_json(&sweep)?.into(), SWEEP.into()]))
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// What the last sweep did, once there was one.
    pub async fn last_sweep(&self) -> Result<Option<Sweep>, StoreError> {
        let stmt = Sql::with("SELECT told FROM chores WHERE name = $1", [SWEEP.into()]);
        let Some(row) = self.one(stmt).await? else {
            return Ok(None);
        };
        let told: String = row.get("told")?;
        Ok(serde_json::from_str(&told).ok())
    }
}

/// Jobs that the rule speaks of and that ended before this moment, the oldest first.
pub(super) fn expired(dialect: Dialect, rule: &Rule, but: &[String], before: i64, limit: u32) -> Statement {
    let by = dialect.by("jobs_ended");
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM jobs{by} WHERE completed_at < "));
    sql.bind(before).push(" AND status = ").bind(rule.status.as_str());
    match &rule.kind {
        Some(kind) => {
            sql.push(" AND kind = ").bind(kind.clone());
        }
        None => {
            for kind in but {
                sql.push(" AND kind <> ").bind(kind.clone());
            }
        }
    }
    sql.push(&format!(" ORDER BY completed_at LIMIT {limit}{}", dialect.take_rows()));
    sql.build()
}

async fn expire(
    tx: &Tx<'_>,
    rule: &Rule,
    but: &[String],
    after_ms: i64,
    limit: u32,
) -> Result<(Vec<JobId>, Vec<String>), StoreError> {
    let rows = tx
        .all(expired(tx.dialect(), rule, but, tx.now() - after_ms, limit))
        .await?;
    let rows: Vec<JobRow> = rows.iter().map(job_row).collect::<Result<_, _>>()?;
    let mut uploads = Vec::new();
    for row in &rows {
        uploads.extend(super::files::release_upload(tx, row.seq).await?);
        tx.count(row.job.status, &row.job, -1);
    }
    super::chains::removed(tx, &rows).await?;
    let seqs: Vec<i64> = rows.iter().map(|r| r.seq).collect();
    if !seqs.is_empty() {
        super::search::forget_all(tx, &seqs).await?;
        let list = tx.dialect().list("$1", Ty::Int);
        let text = format!("DELETE FROM jobs WHERE seq IN (SELECT value FROM {list} AS l)");
        tx.execute(Sql::with(&text, [to_json(&seqs)?.into()])).await?;
    }
    Ok((rows.iter().map(|r| r.job.id).collect(), uploads))
}
