//! Jobs that were started together and are followed as one.

use std::collections::BTreeMap;

use futures::FutureExt;
use sea_orm::QueryResult;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::jobs::status;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::batch::Batch;
use crate::domain::job::JobId;
use crate::domain::status::Status;

/// A batch to be written down with its first jobs.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub id: Uuid,
    pub name: String,
    pub owner: String,
}

pub(super) async fn insert(tx: &Tx<'_>, new: &NewBatch) -> Result<(), StoreError> {
    let text = "INSERT INTO batches (id, name, owner, created_at) VALUES ($1, $2, $3, $4)";
    let values = [
        new.id.into(),
        new.name.clone().into(),
        new.owner.clone().into(),
        tx.now().into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    Ok(())
}

impl Store {
    pub async fn batch(&self, id: Uuid) -> Result<Option<Batch>, StoreError> {
        let text = "SELECT id, name, owner, created_at FROM batches WHERE id = $1";
        match self.one(Sql::with(text, [id.into()])).await? {
            Some(row) => Ok(Some(self.counted(&row).await?)),
            None => Ok(None),
        }
    }

    /// Batches of one owner or all, the newest first, at most `limit`, from behind `before` on.
    pub async fn batches(
        &self,
        owner: Option<&str>,
        before: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Batch>, StoreError> {
        let mut sql = Sql::new("SELECT id, name, owner, created_at FROM batches WHERE 1 = 1");
        if let Some(owner) = owner {
            sql.push(" AND owner = ").bind(owner);
        }
        if let Some(before) = before {
            sql.push(" AND (created_at, id) < (SELECT created_at, id FROM batches WHERE id = ")
                .bind(before)
                .push(")");
        }
        sql.push(&format!(" ORDER BY created_at DESC, id DESC LIMIT {limit}"));
        let mut batches = Vec::new();
        for row in self.all(sql.build()).await? {
            batches.push(self.counted(&row).await?);
        }
        Ok(batches)
    }

    async fn counted(&self, row: &QueryResult) -> Result<Batch, StoreError> {
        let id: Uuid = row.get("id")?;
        let text = "SELECT status, CAST(SUM(n) AS BIGINT) AS n FROM batch_counts WHERE batch = $1 GROUP BY status";
        let mut by_status: BTreeMap<String, u64> = Status::ALL.iter().map(|s| (s.as_str().to_string(), 0)).collect();
        for cell in self.all(Sql::with(text, [id.into()])).await? {
            by_status.insert(status(&cell)?.as_str().into(), cell.u64("n")?);
        }
        Ok(Batch::new(
            id,
            row.get("name")?,
            row.get("owner")?,
            row.time("created_at")?,
            by_status,
        ))
    }

    /// Jobs of the batch that have not ended, at most `limit`, from behind the number `after` on, with their numbers.
    pub async fn unfinished_of(&self, batch: Uuid, after: i64, limit: u32) -> Result<Vec<(i64, JobId)>, StoreError> {
        let text = format!(
            "SELECT seq, id FROM jobs WHERE batch = $1 AND seq > $2 \
             AND status || '' NOT IN ('completed', 'failed', 'dead', 'cancelled') ORDER BY seq LIMIT {limit}"
        );
        let rows = self.all(Sql::with(&text, [batch.into(), after.into()])).await?;
        rows.iter().map(|r| Ok((r.get("seq")?, r.get("id")?))).collect()
    }

    /// Forgets batches without a job that were begun so long ago, and says how many.
    pub async fn forget_batches(&self, older_than_ms: i64, limit: u32) -> Result<usize, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "SELECT id FROM batches WHERE created_at < $1 \
                         AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id) ORDER BY created_at LIMIT {limit}{}",
                        tx.dialect().take_rows()
                    );
                    let gone = tx.all(Sql::with(&text, [(tx.now() - older_than_ms).into()])).await?;
                    for row in &gone {
                        let id: Uuid = row.get("id")?;
                        for text in ["DELETE FROM batch_counts WHERE batch = $1", "DELETE FROM batches WHERE id = $1"] {
                            tx.execute(Sql::with(text, [id.into()])).await?;
                        }
                    }
                    Ok(gone.len())
                }
                .boxed()
            })
            .await
    }
}
