//! Numbers about the whole system, none of them by counting jobs.

use std::collections::HashMap;

use sea_orm::Value;

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::ops::to_json;
use super::rollups::Rolled;
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

/// The rows of one count: whoever writes side by side with others changes rows of its own, and a count is their sum.
pub(super) const SHARDS: i64 = 64;

/// What there is of each status, kind and queue.
const CELLS: &str = "SELECT status, kind, queue, CAST(SUM(n) AS BIGINT) AS n FROM job_counts \
    GROUP BY status, kind, queue HAVING SUM(n) > 0";

/// How the numbers of jobs have changed since the table of counts was last written.
#[derive(Debug, Default)]
pub struct Deltas {
    jobs: HashMap<(Status, String, String), i64>,
    /// Running jobs that count against a limit.
    holds: HashMap<String, i64>,
    pub(super) rolled: Rolled,
}

impl Deltas {
    /// A job that counted against these limits (a JSON array of their names) runs no more.
    pub fn free(&mut self, holds: &str) {
        for hold in serde_json::from_str::<Vec<String>>(holds).unwrap_or_default() {
            *self.holds.entry(hold).or_default() -= 1;
        }
    }

    pub fn add(&mut self, status: Status, kind: &str, queue: &str, n: i64) {
        *self.jobs.entry((status, kind.into(), queue.into())).or_default() += n;
    }

    pub fn merge(&mut self, other: Self) {
        for (key, n) in other.jobs {
            *self.jobs.entry(key).or_default() += n;
        }
        self.rolled.merge(other.rolled);
        for (hold, n) in other.holds {
            *self.holds.entry(hold).or_default() += n;
        }
    }

    /// The change over all kinds and queues.
    pub fn of(&self, statuses: &[Status]) -> i64 {
        let matching = self.jobs.iter().filter(|((status, _, _), _)| statuses.contains(status));
        matching.map(|(_, n)| n).sum()
    }
}

impl Deltas {
    /// Appends the statement that adds what changed about the limits.
    pub(super) fn push_holds(
        &self,
        dialect: Dialect,
        text: &mut String,
        values: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        let mut rows: Vec<(&str, i64)> = self.holds.iter().map(|(hold, n)| (hold.as_str(), *n)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        values.push(to_json(&rows)?.into());
        let rows = dialect.rows(&format!("${}", values.len()), &[("h", Ty::Text), ("k", Ty::Int)]);
        text.push_str(&format!(
            "INSERT INTO running_holds (hold, n) SELECT h, k FROM {rows} AS moved WHERE true \
             ON CONFLICT (hold) DO UPDATE SET n = running_holds.n + excluded.n; "
        ));
        Ok(())
    }

    /// Appends the statement that adds the changes to the table.
    pub(super) fn push(
        &self,
        dialect: Dialect,
        shard: i64,
        text: &mut String,
        values: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        let rows = self.jobs.iter().filter(|(_, n)| **n != 0);
        let mut rows: Vec<(&str, &str, &str, i64)> = rows
            .map(|((status, kind, queue), n)| (status.as_str(), kind.as_str(), queue.as_str(), *n))
            .collect();
        // In one order everywhere, so that no two transactions wait for each other.
        rows.sort_unstable();
        if rows.is_empty() {
            return Ok(());
        }
        values.push(to_json(&rows)?.into());
        let columns = [
            ("status", Ty::Text),
            ("kind", Ty::Text),
            ("queue", Ty::Text),
            ("n", Ty::Int),
        ];
        let rows = dialect.rows(&format!("${}", values.len()), &columns);
        text.push_str(&format!(
            "INSERT INTO job_counts (status, kind, queue, shard, n) \
             SELECT status, kind, queue, {shard}, n FROM {rows} AS moved WHERE true \
             ON CONFLICT (status, kind, queue, shard) DO UPDATE SET n = job_counts.n + excluded.n; "
        ));
        Ok(())
    }
}

impl Store {
    /// Jobs by status, kind and queue.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let rows = self.all(Sql::new(CELLS).build()).await?;
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
             LIMIT 1000) AS found) AS failed, \
             (SELECT MIN((SELECT MIN(run_at) FROM (SELECT run_at FROM jobs WHERE status = 'pending' \
                AND kind = waiting.kind ORDER BY seq LIMIT 20) AS first)) \
              FROM (SELECT kind FROM job_counts WHERE status = 'pending' GROUP BY kind HAVING SUM(n) > 0) AS waiting) AS oldest, \
             (SELECT MAX(heartbeat_at) FROM workers) AS ping, \
             (SELECT CAST(COALESCE(SUM(slots), 0) AS BIGINT) FROM workers WHERE heartbeat_at > $2) AS slots",
            [(now - 3_600_000).into(), (now - 60_000).into()],
        );
        let row = self
            .one(stmt)
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
