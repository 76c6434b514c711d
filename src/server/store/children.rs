//! Jobs that running jobs start: their children.

use futures::FutureExt;

use super::Store;
use super::chains;
use super::enqueue::{Batch, Enqueue, Enqueued};
use super::error::StoreError;
use super::jobs::UNFINISHED;
use super::logs::fence;
use super::ops::Lease;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::job::{JobId, short_id};
use crate::domain::status::Status;

impl Store {
    /// Writes a job down on behalf of a running one, for that one's owner. Refused once the lease is lost.
    pub async fn enqueue_child(&self, lease: Lease, child: Enqueue, queue_max: u64) -> Result<Enqueued, StoreError> {
        self.writer()
            .write(move |tx| async move { enqueue(tx, lease, child, queue_max).await }.boxed())
            .await
    }
}

async fn enqueue(tx: &Tx<'_>, lease: Lease, child: Enqueue, queue_max: u64) -> Result<Enqueued, StoreError> {
    fence(tx, lease).await?;
    // Whoever has children is looked at when it ends: they do not outlive a cancelled parent.
    let text = "UPDATE jobs SET dependents = 1 WHERE seq = $1 RETURNING owner, member";
    let parent = tx.one(Sql::with(text, [lease.seq.into()])).await?;
    let parent = parent.ok_or(StoreError::NoJob(lease.id))?;
    let child = Enqueue {
        owner: parent.get("owner")?,
        member: parent.flag("member")?,
        parent: Some(lease.id),
        ..child
    };
    chains::enqueue(tx, &Batch::of(vec![child], queue_max)).await
}

/// Children of a cancelled job that have not ended, at most `limit`, and why they are to be cancelled: those that wait at once,
/// and those that run when they can stop.
pub(super) async fn orphans(tx: &Tx<'_>, parent_seq: i64, limit: usize) -> Result<Vec<(i64, String)>, StoreError> {
    let stmt = Sql::with("SELECT id, status FROM jobs WHERE seq = $1", [parent_seq.into()]);
    let Some(row) = tx.one(stmt).await? else {
        return Ok(Vec::new());
    };
    let parent: JobId = row.get("id")?;
    if super::jobs::status(&row)? != Status::Cancelled {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT seq FROM jobs WHERE parent = $1 AND {UNFINISHED} AND cancel_requested = 0 ORDER BY seq LIMIT {limit}"
    );
    let reason = format!("{}, which started it, was cancelled", short_id(&parent));
    let rows = tx.all(Sql::with(&text, [parent.into()])).await?;
    rows.iter().map(|row| Ok((row.get("seq")?, reason.clone()))).collect()
}
