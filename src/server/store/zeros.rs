//! Rows of counts that have come to nothing: of concurrency keys that were used once, of queues that people named. They are taken
//! away by the sweep, while others count. Whoever counts writes a row that is not there anew, or has one that is there in hand.

use std::collections::BTreeMap;

use futures::FutureExt;

use super::Store;
use super::dialect::Ty;
use super::error::StoreError;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;

/// A row of `job_counts`: status, kind, queue, and which of the rows that make up their count.
type Key = (String, String, String, i64);

impl Store {
    /// Removes the rows of at most `limit` limits that no running job counts against, and says of how many.
    pub async fn forget_free_places(&self, limit: u32) -> Result<usize, StoreError> {
        self.writer()
            .write(move |tx| async move { free_places(tx, limit).await }.boxed())
            .await
    }

    /// Removes rows of at most `limit` counts of jobs that are zero, and says how many rows.
    pub async fn forget_empty_cells(&self, limit: u32) -> Result<usize, StoreError> {
        self.writer()
            .write(move |tx| async move { empty_cells(tx, limit).await }.boxed())
            .await
    }
}

/// Rows that others have in hand, who are about to count, are passed over.
async fn free_places(tx: &Tx<'_>, limit: u32) -> Result<usize, StoreError> {
    let text = format!(
        "WITH free AS MATERIALIZED (SELECT hold FROM running_holds WHERE n = 0 ORDER BY hold LIMIT {limit}{}) \
         DELETE FROM running_holds WHERE hold IN (SELECT hold FROM free)",
        tx.dialect().take_rows()
    );
    let gone = tx.execute(Sql::new(&text).build()).await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

/// A count is the sum of its rows, of which one may be what another is below zero. So rows go together that come to nothing among
/// themselves, whatever others there are that somebody has in hand.
async fn empty_cells(tx: &Tx<'_>, limit: u32) -> Result<usize, StoreError> {
    let text = format!(
        "SELECT status, kind, queue FROM job_counts GROUP BY status, kind, queue HAVING SUM(n) = 0 \
         ORDER BY status, kind, queue LIMIT {limit}"
    );
    let mut empty: Vec<(String, String, String)> = Vec::new();
    for row in tx.all(Sql::new(&text).build()).await? {
        empty.push((row.get("status")?, row.get("kind")?, row.get("queue")?));
    }
    if empty.is_empty() {
        return Ok(0);
    }
    let cells = [("s", Ty::Text), ("k", Ty::Text), ("q", Ty::Text)];
    let text = format!(
        "SELECT status, kind, queue, shard, n FROM job_counts WHERE (status, kind, queue) IN (SELECT s, k, q FROM {} AS cells) \
         ORDER BY status, kind, queue, shard{}",
        tx.dialect().rows("$1", &cells),
        tx.dialect().take_rows()
    );
    let mut held: BTreeMap<(String, String, String), (i64, Vec<i64>)> = BTreeMap::new();
    for row in tx.all(Sql::with(&text, [to_json(&empty)?.into()])).await? {
        let cell = (row.get("status")?, row.get("kind")?, row.get("queue")?);
        let (sum, shards) = held.entry(cell).or_default();
        *sum += row.get::<i64>("n")?;
        shards.push(row.get("shard")?);
    }
    let mut gone: Vec<Key> = Vec::new();
    for ((status, kind, queue), (sum, shards)) in held {
        if sum == 0 {
            gone.extend(
                shards
                    .into_iter()
                    .map(|shard| (status.clone(), kind.clone(), queue.clone(), shard)),
            );
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    let rows = [("s", Ty::Text), ("k", Ty::Text), ("q", Ty::Text), ("h", Ty::Int)];
    let text = format!(
        "DELETE FROM job_counts WHERE (status, kind, queue, shard) IN (SELECT s, k, q, h FROM {} AS rows_of)",
        tx.dialect().rows("$1", &rows)
    );
    tx.execute(Sql::with(&text, [to_json(&gone)?.into()])).await?;
    Ok(gone.len())
}
