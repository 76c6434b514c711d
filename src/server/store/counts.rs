//! Numbers about the whole system, none of them by counting jobs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use sea_orm::{QueryResult, Statement, Value};
use uuid::Uuid;

use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::ops::to_json;
use super::rollups::Rolled;
use super::sql::{RowExt, Sql, int};
use super::{Store, chains, search};
use crate::domain::error::JobError;
use crate::domain::stats::{Counts, Metric};
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

/// What a transaction writes at its end: how the numbers of jobs have changed, and what is to be looked at later.
#[derive(Debug, Default)]
pub struct Deltas {
    /// Numbers of jobs that have ended and for which others wait.
    pub(super) due: Vec<i64>,
    /// Numbers of jobs whose newest the search does not know.
    pub(super) stale: Vec<i64>,
    jobs: HashMap<(Status, String, String), i64>,
    batches: HashMap<(Uuid, Status), i64>,
    /// Running jobs that count against a limit.
    holds: HashMap<String, i64>,
    /// By fingerprint and kind.
    errors: BTreeMap<(String, String), Met>,
    rolled: Rolled,
}

/// An error that attempts of this transaction ended with.
#[derive(Debug)]
struct Met {
    code: &'static str,
    message: String,
    at: i64,
    n: i64,
}

/// Appends one statement, or none, that writes some of what changed.
pub(super) type Part = fn(&Deltas, Dialect, i64, &mut String, &mut Vec<Value>) -> Result<(), StoreError>;

/// What a transaction writes of its changes, in this order everywhere.
pub(super) const PARTS: [Part; 7] = [
    |deltas, dialect, _, text, values| {
        push_seqs(
            &deltas.due,
            "deps_due (needs_seq)",
            chains::AGAIN,
            dialect,
            text,
            values,
        )
    },
    |deltas, dialect, _, text, values| {
        push_seqs(
            &deltas.stale,
            "search_stale (job_seq)",
            search::AGAIN,
            dialect,
            text,
            values,
        )
    },
    Deltas::push_jobs,
    Deltas::push_batches,
    Deltas::push_holds,
    Deltas::push_errors,
    |deltas, dialect, shard, text, values| deltas.rolled.push(dialect, shard, text, values),
];

impl Deltas {
    /// A job that counted against these limits (a JSON array of their names) runs no more.
    pub fn free(&mut self, holds: &str) {
        for hold in serde_json::from_str::<Vec<String>>(holds).unwrap_or_default() {
            *self.holds.entry(hold).or_default() -= 1;
        }
    }

    pub fn add(&mut self, status: Status, kind: &str, queue: &str, batch: Option<Uuid>, n: i64) {
        *self.jobs.entry((status, kind.into(), queue.into())).or_default() += n;
        if let Some(batch) = batch {
            *self.batches.entry((batch, status)).or_default() += n;
        }
    }

    pub fn roll(&mut self, now: i64, kind: &str, queue: &str, metric: Metric, ms: i64) {
        self.rolled.add(now, kind, queue, metric, ms);
    }

    /// An attempt ended with an error.
    pub fn met(&mut self, at: i64, kind: &str, fingerprint: &str, error: &JobError) {
        let met = self
            .errors
            .entry((fingerprint.into(), kind.into()))
            .or_insert_with(|| Met {
                code: error.code.as_str(),
                message: String::new(),
                at,
                n: 0,
            });
        met.message.clone_from(&error.message);
        met.n += 1;
    }

    pub fn merge(&mut self, other: Self) {
        self.due.extend(other.due);
        self.stale.extend(other.stale);
        for (key, n) in other.jobs {
            *self.jobs.entry(key).or_default() += n;
        }
        self.rolled.merge(other.rolled);
        for (key, n) in other.batches {
            *self.batches.entry(key).or_default() += n;
        }
        for (hold, n) in other.holds {
            *self.holds.entry(hold).or_default() += n;
        }
        for (key, met) in other.errors {
            match self.errors.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(met);
                }
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    (known.message, known.at, known.n) = (met.message, met.at, known.n + met.n);
                }
            }
        }
    }

    /// The change over all kinds and queues.
    pub fn of(&self, statuses: &[Status]) -> i64 {
        let matching = self.jobs.iter().filter(|((status, _, _), _)| statuses.contains(status));
        matching.map(|(_, n)| n).sum()
    }
}

/// Adds numbers to a set of them, `into` a table and its column; `again`: what becomes of one that is in it.
fn push_seqs(
    seqs: &[i64],
    into: &str,
    again: &str,
    dialect: Dialect,
    text: &mut String,
    values: &mut Vec<Value>,
) -> Result<(), StoreError> {
    if seqs.is_empty() {
        return Ok(());
    }
    values.push(to_json(&seqs)?.into());
    let list = dialect.list(&format!("${}", values.len()), Ty::Int);
    text.push_str(&format!(
        "INSERT INTO {into} SELECT DISTINCT value FROM {list} AS l WHERE true ORDER BY value {again}; "
    ));
    Ok(())
}

impl Deltas {
    fn push_holds(
        &self,
        dialect: Dialect,
        _shard: i64,
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

    fn push_jobs(
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

    fn push_batches(
        &self,
        dialect: Dialect,
        shard: i64,
        text: &mut String,
        values: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        let rows = self.batches.iter().filter(|(_, n)| **n != 0);
        let mut rows: Vec<(String, &str, i64)> = rows
            .map(|((batch, status), n)| (batch.simple().to_string(), status.as_str(), *n))
            .collect();
        rows.sort_unstable();
        if rows.is_empty() {
            return Ok(());
        }
        values.push(to_json(&rows)?.into());
        let columns = [("batch", Ty::Text), ("status", Ty::Text), ("n", Ty::Int)];
        let rows = dialect.rows(&format!("${}", values.len()), &columns);
        let batch = dialect.uuid("batch");
        text.push_str(&format!(
            "INSERT INTO batch_counts (batch, status, shard, n) SELECT {batch}, status, {shard}, n FROM {rows} AS moved \
             WHERE true ON CONFLICT (batch, status, shard) DO UPDATE SET n = batch_counts.n + excluded.n; "
        ));
        Ok(())
    }

    fn push_errors(
        &self,
        dialect: Dialect,
        _shard: i64,
        text: &mut String,
        values: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let rows = self.errors.iter();
        let rows: Vec<_> = rows
            .map(|((print, kind), met)| (print, kind, met.code, &met.message, met.at, met.n))
            .collect();
        values.push(to_json(&rows)?.into());
        let columns = [
            ("f", Ty::Text),
            ("kind", Ty::Text),
            ("code", Ty::Text),
            ("message", Ty::Text),
            ("at", Ty::Int),
            ("n", Ty::Int),
        ];
        let rows = dialect.rows(&format!("${}", values.len()), &columns);
        text.push_str(&format!(
            "INSERT INTO errors (fingerprint, kind, code, message, first_at, last_at, n) \
             SELECT f, kind, code, message, at, at, n FROM {rows} AS met WHERE true ON CONFLICT (fingerprint, kind) DO UPDATE \
             SET n = errors.n + excluded.n, last_at = excluded.last_at, message = excluded.message; "
        ));
        Ok(())
    }
}

impl Store {
    /// Jobs by status, kind and queue.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        added(&self.all(Sql::new(CELLS).build()).await?)
    }

    /// The same of one owner's newest `cap` jobs, or of these kinds, or both.
    pub async fn counts_of(
        &self,
        owner: Option<&str>,
        kinds: Option<&[String]>,
        cap: u64,
    ) -> Result<Counts, StoreError> {
        let Some(owner) = owner else {
            let mut counts = self.counts().await?;
            if let Some(kinds) = kinds {
                counts = counts.of_kinds(kinds);
            }
            return Ok(counts);
        };
        let text = "SELECT status, kind, queue, COUNT(*) AS n FROM (SELECT status, kind, queue FROM jobs WHERE owner = $1 \
            ORDER BY seq DESC LIMIT $2) AS own GROUP BY status, kind, queue";
        let rows = self.all(Sql::with(text, [owner.into(), int(cap).into()])).await?;
        let counts = added(&rows)?;
        Ok(match kinds {
            Some(kinds) => counts.of_kinds(kinds),
            None => counts,
        })
    }
}

/// Rows of status, kind, queue and number, summed up.
fn added(rows: &[QueryResult]) -> Result<Counts, StoreError> {
    let mut counts = Counts::default();
    for status in Status::ALL {
        counts.by_status.insert(status.as_str().into(), 0);
    }
    for row in rows {
        let (status, kind, queue): (String, String, String) = (row.get("status")?, row.get("kind")?, row.get("queue")?);
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

/// What [`Facts`] are made of.
pub(super) fn facts(dialect: Dialect, now: i64) -> Statement {
    let text = format!(
        "SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM jobs{} WHERE status IN ('failed', 'dead') AND completed_at > $1 \
         LIMIT 1000) AS found) AS failed, \
         (SELECT MIN((SELECT MIN(run_at) FROM (SELECT run_at FROM jobs WHERE status = 'pending' \
            AND kind = waiting.kind ORDER BY seq LIMIT 20) AS first)) \
          FROM (SELECT kind FROM job_counts WHERE status = 'pending' GROUP BY kind HAVING SUM(n) > 0) AS waiting) AS oldest, \
         (SELECT MAX(heartbeat_at) FROM workers WHERE token IS NULL) AS ping, \
         (SELECT CAST(COALESCE(SUM(slots), 0) AS BIGINT) FROM workers WHERE heartbeat_at > $2) AS slots",
        dialect.by("jobs_ended")
    );
    Sql::with(&text, [(now - 3_600_000).into(), (now - 60_000).into()])
}

impl Store {
    pub async fn facts(&self) -> Result<Facts, StoreError> {
        let now = self.clock().await?;
        let row = self
            .one(facts(self.dialect(), now))
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
