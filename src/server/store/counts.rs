//! Numbers about the whole system, none of them by counting jobs.

use sea_orm::ConnectionTrait;

use super::Store;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use crate::domain::stats::Counts;
use crate::domain::status::Status;

/// What health is worked out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The database's clock, in milliseconds since 1970.
    pub now: i64,
    /// Failed or dead within the last hour; counting stops at a thousand.
    pub failed_last_hour: u64,
    /// Since when the pending job that waits longest could have started.
    pub oldest_pending: Option<i64>,
    /// The latest report of any worker.
    pub last_ping: Option<i64>,
    /// Of the workers that reported within the last minute.
    pub slots: u32,
}

impl Store {
    /// Jobs by status, kind and queue.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let rows = self
            .read()
            .query_all_raw(Sql::new("SELECT status, kind, queue, n FROM job_counts WHERE n > 0").build())
            .await?;
        let mut counts = Counts::default();
        for status in Status::ALL {
            counts.by_status.insert(status.as_str().into(), 0);
        }
        for row in rows {
            let (status, kind, queue): (String, String, String) =
                (row.get("status")?, row.get("kind")?, row.get("queue")?);
            let n = row.u64("n")?;
            counts.total += n;
            *counts
                .by_type
                .entry(kind)
                .or_default()
                .entry(status.clone())
                .or_default() += n;
            *counts
                .by_queue
                .entry(queue)
                .or_default()
                .entry(status.clone())
                .or_default() += n;
            *counts.by_status.entry(status).or_default() += n;
        }
        Ok(counts)
    }

    pub async fn facts(&self) -> Result<Facts, StoreError> {
        let now = self.clock().await?;
        let stmt = Sql::with(
            "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE status IN ('failed', 'dead') AND completed_at > $1 \
             LIMIT 1000)) AS failed, \
             (SELECT MIN(run_at) FROM jobs WHERE status = 'pending') AS oldest, \
             (SELECT MAX(heartbeat_at) FROM workers) AS ping, \
             (SELECT COALESCE(SUM(slots), 0) FROM workers WHERE heartbeat_at > $2) AS slots",
            [(now - 3_600_000).into(), (now - 60_000).into()],
        );
        let row = self
            .read()
            .query_one_raw(stmt)
            .await?
            .ok_or_else(|| StoreError::corrupt("row", "the facts gave no row"))?;
        Ok(Facts {
            now,
            failed_last_hour: row.u64("failed")?,
            oldest_pending: row.get("oldest")?,
            last_ping: row.get("ping")?,
            slots: row.u32("slots")?,
        })
    }
}
