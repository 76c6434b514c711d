//! Jobs that were started together and are followed as one.

use std::collections::BTreeMap;

use futures::FutureExt;
use sea_orm::QueryResult;
use uuid::Uuid;

use super::Store;
use super::error::StoreError;
use super::jobs::status;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::batch::Batch;
use crate::domain::job::JobId;
use crate::domain::status::Status;
use crate::domain::user::Actor;

/// A batch to be written down with its first jobs.
#[derive(Clone, Debug)]
pub struct NewBatch {
    pub id: Uuid,
    pub name: String,
    pub owner: String,
    /// With whose rights its jobs act, where they act on other jobs; as JSON, made by [`NewBatch::on_behalf_of`].
    pub(super) started_by: Option<String>,
}

impl NewBatch {
    pub fn new(name: impl Into<String>, owner: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            name: name.into(),
            owner: owner.into(),
            started_by: None,
        }
    }

    /// One whose jobs act on other jobs with this caller's rights.
    pub fn on_behalf_of(self, actor: &Actor) -> Result<Self, StoreError> {
        Ok(Self {
            started_by: Some(to_json(actor)?),
            ..self
        })
    }
}

pub(super) async fn insert(tx: &Tx<'_>, new: &NewBatch) -> Result<(), StoreError> {
    let text = "INSERT INTO batches (id, name, owner, created_at, started_by) VALUES ($1, $2, $3, $4, $5)";
    let values = [
        new.id.into(),
        new.name.clone().into(),
        new.owner.clone().into(),
        tx.now().into(),
        new.started_by.clone().into(),
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

    /// With whose rights the batch's jobs act on others, as that caller was when they asked for it; none: they act on none.
    pub async fn batch_starter(&self, id: Uuid) -> Result<Option<Actor>, StoreError> {
        let text = "SELECT started_by FROM batches WHERE id = $1";
        let Some(row) = self.one(Sql::with(text, [id.into()])).await? else {
            return Ok(None);
        };
        let text: Option<String> = row.get("started_by")?;
        text.map(|text| serde_json::from_str(&text).map_err(|e| StoreError::corrupt("batch's starter", e)))
            .transpose()
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

    /// Forgets batches without a job that were begun so long ago, and says how many. Looks for them beside the writer, `page`
    /// of all batches at once: most still have jobs, and nobody shall wait behind a walk past those.
    pub async fn forget_batches(&self, older_than_ms: i64, page: u32) -> Result<usize, StoreError> {
        let before = self.clock().await? - older_than_ms;
        let text = format!(
            "SELECT id, created_at, CASE WHEN EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id) THEN 1 ELSE 0 END AS used \
             FROM batches WHERE created_at < $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT {page}"
        );
        let (mut last, mut forgotten) = ((i64::MIN, Uuid::nil()), 0);
        loop {
            let values = [before.into(), last.0.into(), last.1.into()];
            let rows = self.all(Sql::with(&text, values)).await?;
            let Some(end) = rows.last() else { return Ok(forgotten) };
            last = (end.get("created_at")?, end.get("id")?);
            let mut empty: Vec<Uuid> = Vec::new();
            for row in &rows {
                if !row.flag("used")? {
                    empty.push(row.get("id")?);
                }
            }
            if !empty.is_empty() {
                forgotten += self
                    .writer()
                    .write(move |tx| async move { forget(tx, &empty).await }.boxed())
                    .await?;
            }
        }
    }
}

/// Forgets those that still have no job.
async fn forget(tx: &Tx<'_>, batches: &[Uuid]) -> Result<usize, StoreError> {
    let text = format!(
        "SELECT id FROM batches WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id){}",
        tx.dialect().take_rows()
    );
    let mut forgotten = 0;
    for id in batches {
        if tx.one(Sql::with(&text, [(*id).into()])).await?.is_none() {
            continue;
        }
        for text in [
            "DELETE FROM batch_counts WHERE batch = $1",
            "DELETE FROM batches WHERE id = $1",
        ] {
            tx.execute(Sql::with(text, [(*id).into()])).await?;
        }
        forgotten += 1;
    }
    Ok(forgotten)
}
