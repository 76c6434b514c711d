//! Numbers about the whole system, none of them by counting jobs.

use std::collections::HashMap;

use sea_orm::{ConnectionTrait, Value};

use super::Store;
use super::error::StoreError;
use super::ops::to_json;
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
    /// Since when the pending job that waits longest could have started; looked for among the first enqueued of each kind.
    pub oldest_pending: Option<i64>,
    /// The latest report of any worker.
    pub last_ping: Option<i64>,
    /// Of the workers that reported within the last minute.
    pub slots: u32,
}

/// How the numbers of jobs have changed since the table of counts was last written.
#[derive(Debug, Default)]
pub struct Deltas(HashMap<(Status, String, String), i64>);

impl Deltas {
    pub fn add(&mut self, status: Status, kind: &str, queue: &str, n: i64) {
        *self.0.entry((status, kind.into(), queue.into())).or_default() += n;
    }

    pub fn merge(&mut self, other: Self) {
        for (key, n) in other.0 {
            *self.0.entry(key).or_default() += n;
        }
    }

    /// The change over all kinds and queues.
    pub fn of(&self, statuses: &[Status]) -> i64 {
        let matching = self.0.iter().filter(|((status, _, _), _)| statuses.contains(status));
        matching.map(|(_, n)| n).sum()
    }
}

impl Deltas {
    /// Appends the statement that adds the changes to the table.
    pub(super) fn push(&self, text: &mut String, values: &mut Vec<Value>) -> Result<(), StoreError> {
        let rows = self.0.iter().filter(|(_, n)| **n != 0);
        let rows: Vec<(&str, &str, &str, i64)> = rows
            .map(|((status, kind, queue), n)| (status.as_str(), kind.as_str(), queue.as_str(), *n))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        values.push(to_json(&rows)?.into());
        text.push_str(&format!(
            "INSERT INTO job_counts (status, kind, queue, n) \
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(${}) WHERE true \
             ON CONFLICT (status, kind, queue) DO UPDATE SET n = n + excluded.n; ",
            values.len()
        ));
        Ok(())
    }
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
             (SELECT MIN((SELECT MIN(run_at) FROM (SELECT run_at FROM jobs WHERE status = 'pending' \
                AND kind = waiting.kind ORDER BY seq LIMIT 20))) \
              FROM (SELECT DISTINCT kind FROM job_counts WHERE status = 'pending' AND n > 0) AS waiting) AS oldest, \
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
