//! The text that jobs are found by. Renewing it costs more than all else that a job's life writes, so that is done a moment
//! later, in small steps: until then the job stands in `search_stale`, and a search looks at it itself.

use futures::FutureExt;

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::jobs::{COLUMNS, job_row};
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::filter::search_text;

/// Jobs that the index does not know yet and that one search looks at itself, the newest first.
pub const STALE_MAX: u32 = 20_000;

/// Says that the index no longer knows these jobs as they are.
pub(super) async fn mark(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), StoreError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!(
        "INSERT INTO search_stale (job_seq) SELECT value FROM {list} AS l WHERE true ON CONFLICT (job_seq) DO NOTHING"
    );
    tx.execute(Sql::with(&text, [to_json(seqs)?.into()])).await?;
    Ok(())
}

/// Forgets a job that is removed.
pub(super) async fn forget(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    let key = key(tx.dialect());
    let text = format!("DELETE FROM job_search WHERE {key} = $1");
    tx.execute(Sql::with(&text, [seq.into()])).await?;
    tx.execute(Sql::with("DELETE FROM search_stale WHERE job_seq = $1", [seq.into()]))
        .await?;
    Ok(())
}

/// Forgets jobs that are removed.
pub(super) async fn forget_all(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), StoreError> {
    let list = tx.dialect().list("$1", Ty::Int);
    for (table, key) in [("job_search", key(tx.dialect())), ("search_stale", "job_seq")] {
        let text = format!("DELETE FROM {table} WHERE {key} IN (SELECT value FROM {list} AS l)");
        tx.execute(Sql::with(&text, [to_json(seqs)?.into()])).await?;
    }
    Ok(())
}

/// The column of the index that holds a job's number.
fn key(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "rowid",
        Dialect::Postgres => "job_seq",
    }
}

/// Several processes may renew the index at the same time: each takes rows that no other has.
fn of_stale(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => " FOR UPDATE OF search_stale SKIP LOCKED",
    }
}

impl Store {
    /// Whether the index lags behind.
    pub async fn index_lags(&self) -> Result<bool, StoreError> {
        let stmt = Sql::new("SELECT 1 AS one FROM search_stale LIMIT 1").build();
        Ok(self.one(stmt).await?.is_some())
    }

    /// How many operations the store has been asked for so far.
    pub fn writes(&self) -> u64 {
        self.writer().asked()
    }

    /// How many jobs a search passes over, since the index lags behind by more than it looks at itself. Counting stops at a
    /// million.
    pub async fn unsearched(&self) -> Result<u64, StoreError> {
        let stmt = Sql::new("SELECT COUNT(*) AS n FROM (SELECT 1 FROM search_stale LIMIT 1000000) AS found").build();
        let row = self.one(stmt).await?;
        let lag = row.map(|r| r.u64("n")).transpose()?.unwrap_or(0);
        Ok(lag.saturating_sub(u64::from(STALE_MAX)))
    }

    /// Renews the text of at most `limit` jobs, the oldest first, and says of how many. A job that changes again is marked
    /// again by that change.
    pub async fn index_some(&self, limit: u32) -> Result<usize, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "SELECT job_seq, {COLUMNS} FROM search_stale LEFT JOIN jobs ON seq = job_seq ORDER BY job_seq LIMIT {limit}{}",
                        of_stale(tx.dialect())
                    );
                    let rows = tx.all(Sql::new(&text).build()).await?;
                    let mut texts = Vec::with_capacity(rows.len());
                    let mut done: Vec<i64> = Vec::with_capacity(rows.len());
                    for row in &rows {
                        done.push(row.get("job_seq")?);
                        let seq: Option<i64> = row.get("seq")?;
                        if seq.is_some() {
                            let row = job_row(row)?;
                            texts.push((row.seq, search_text(&row.job)));
                        }
                    }
                    if done.is_empty() {
                        return Ok(0);
                    }
                    let given = tx.dialect().rows("$1", &[("n", Ty::Int), ("t", Ty::Text)]);
                    let text = match tx.dialect() {
                        Dialect::Sqlite => {
                            format!("INSERT OR REPLACE INTO job_search (rowid, text) SELECT n, t FROM {given}")
                        }
                        Dialect::Postgres => format!(
                            "INSERT INTO job_search (job_seq, text) SELECT n, t FROM {given} AS given \
                             ON CONFLICT (job_seq) DO UPDATE SET text = excluded.text"
                        ),
                    };
                    tx.execute(Sql::with(&text, [to_json(&texts)?.into()])).await?;
                    let list = tx.dialect().list("$1", Ty::Int);
                    let text = format!("DELETE FROM search_stale WHERE job_seq IN (SELECT value FROM {list} AS l)");
                    tx.execute(Sql::with(&text, [to_json(&done)?.into()])).await?;
                    Ok(done.len())
                }
                .boxed()
            })
            .await
    }
}
