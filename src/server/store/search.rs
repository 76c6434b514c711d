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

/// How a job is marked that has a mark already: that one is held until the change is committed, or whoever renews the index in
/// this moment would remove it and still read the job as it was.
pub(super) const AGAIN: &str = "ON CONFLICT (job_seq) DO UPDATE SET job_seq = excluded.job_seq WHERE false";

/// Says that the index no longer knows these jobs as they are.
pub(super) async fn mark(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), StoreError> {
    if seqs.is_empty() {
        return Ok(());
    }
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!("INSERT INTO search_stale (job_seq) SELECT value FROM {list} AS l WHERE true {AGAIN}");
    tx.execute(Sql::with(&text, [to_json(seqs)?.into()])).await?;
    Ok(())
}

/// Forgets a job that is removed.
pub(super) async fn forget(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    forget_all(tx, &[seq]).await
}

/// Forgets jobs that are removed. In the order of [`Store::index_some`]: whoever renews the text of one of them at this moment
/// is waited for, and what that wrote goes too.
pub(super) async fn forget_all(tx: &Tx<'_>, seqs: &[i64]) -> Result<(), StoreError> {
    let list = tx.dialect().list("$1", Ty::Int);
    for (table, key) in [("search_stale", "job_seq"), ("job_search", key(tx.dialect()))] {
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
        self.writer().write(move |tx| index(tx, limit).boxed()).await
    }
}

async fn index(tx: &Tx<'_>, limit: u32) -> Result<usize, StoreError> {
    // The marks go first, and only then is looked at the jobs: whoever marks one of them meanwhile waits for this commit and
    // marks it anew. Marks that others hold, who renew the index too or are about to change the job, are passed over.
    let text = format!(
        "WITH marked AS MATERIALIZED (SELECT job_seq FROM search_stale ORDER BY job_seq LIMIT {limit}{}) \
         DELETE FROM search_stale WHERE job_seq IN (SELECT job_seq FROM marked) RETURNING job_seq",
        tx.dialect().take_rows()
    );
    let marks = tx.all(Sql::new(&text).build()).await?;
    let marks: Vec<i64> = marks.iter().map(|r| r.get("job_seq")).collect::<Result<_, _>>()?;
    if marks.is_empty() {
        return Ok(0);
    }
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!("SELECT {COLUMNS} FROM jobs WHERE seq IN (SELECT value FROM {list} AS l) ORDER BY seq");
    let mut texts = Vec::with_capacity(marks.len());
    for row in &tx.all(Sql::with(&text, [to_json(&marks)?.into()])).await? {
        let row = job_row(row)?;
        texts.push((row.seq, search_text(&row.job)));
    }
    let given = tx.dialect().rows("$1", &[("n", Ty::Int), ("t", Ty::Text)]);
    let text = match tx.dialect() {
        Dialect::Sqlite => format!("INSERT OR REPLACE INTO job_search (rowid, text) SELECT n, t FROM {given}"),
        Dialect::Postgres => format!(
            "INSERT INTO job_search (job_seq, text) SELECT n, t FROM {given} AS given \
             ON CONFLICT (job_seq) DO UPDATE SET text = excluded.text"
        ),
    };
    tx.execute(Sql::with(&text, [to_json(&texts)?.into()])).await?;
    Ok(marks.len())
}
