//! What happened in each minute, per kind and queue: added up in the transaction that did it, and read for the statistics.

use std::collections::HashMap;

use futures::FutureExt;
use sea_orm::Value;

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use crate::domain::stats::Metric;

/// Milliseconds of a minute.
const MINUTE: i64 = 60_000;
/// The last bucket holds all that is longer, too: 2^27 ms are a day and a half.
pub(super) const BUCKETS: u32 = 28;

/// The bucket of so many milliseconds: 0 under one, then one for each power of two.
pub(super) fn bucket(ms: i64) -> u32 {
    match u64::try_from(ms) {
        Ok(ms) if ms > 0 => (ms.ilog2() + 1).min(BUCKETS - 1),
        _ => 0,
    }
}

/// [`bucket`] in Postgres' words.
pub(super) fn bucket_sql(ms: &str) -> String {
    let edges: Vec<String> = (0..BUCKETS - 1).map(|b| (1_i64 << b).to_string()).collect();
    format!("width_bucket(({ms})::bigint, '{{{}}}'::bigint[])", edges.join(","))
}

/// What a transaction adds to the minutes.
#[derive(Debug, Default)]
pub struct Rolled(HashMap<(i64, String, String, Metric, u32), i64>);

impl Rolled {
    pub fn add(&mut self, now: i64, kind: &str, queue: &str, metric: Metric, ms: i64) {
        let key = (now / MINUTE, kind.to_string(), queue.to_string(), metric, bucket(ms));
        *self.0.entry(key).or_default() += 1;
    }

    pub fn merge(&mut self, other: Self) {
        for (key, n) in other.0 {
            *self.0.entry(key).or_default() += n;
        }
    }

    /// Appends the statement that adds it to the table.
    pub(super) fn push(
        &self,
        dialect: Dialect,
        shard: i64,
        text: &mut String,
        values: &mut Vec<Value>,
    ) -> Result<(), StoreError> {
        let rows = self.0.iter().map(|((minute, kind, queue, metric, bucket), n)| {
            (*minute, kind.as_str(), queue.as_str(), metric.as_str(), *bucket, *n)
        });
        let mut rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        // In one order everywhere, so that no two transactions wait for each other.
        rows.sort_unstable();
        values.push(to_json(&rows)?.into());
        let columns = [
            ("minute", Ty::Int),
            ("kind", Ty::Text),
            ("queue", Ty::Text),
            ("metric", Ty::Text),
            ("bucket", Ty::Int),
            ("n", Ty::Int),
        ];
        let rows = dialect.rows(&format!("${}", values.len()), &columns);
        text.push_str(&format!(
            "INSERT INTO rollups (minute, kind, queue, metric, bucket, shard, n) \
             SELECT minute, kind, queue, metric, bucket, {shard}, n FROM {rows} AS moved WHERE true \
             ON CONFLICT (minute, kind, queue, metric, bucket, shard) DO UPDATE SET n = rollups.n + excluded.n; "
        ));
        Ok(())
    }
}

/// For Postgres' sets: adds what `happened` (now, kind, queue, metric, ms) holds to the shard `place` of the minutes.
pub(super) fn rolled_sql(place: &str) -> String {
    let bucket = bucket_sql("ms");
    format!(
        "rolled AS (INSERT INTO rollups (minute, kind, queue, metric, bucket, shard, n) \
         SELECT now / {MINUTE}, kind, queue, metric, {bucket}, {place}::bigint, COUNT(*) FROM happened \
         GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 \
         ON CONFLICT (minute, kind, queue, metric, bucket, shard) DO UPDATE SET n = rollups.n + excluded.n)"
    )
}

/// How often something happened in a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Minutes since 1970.
    pub minute: i64,
    pub kind: String,
    pub metric: Metric,
    pub bucket: u32,
    pub n: u64,
}

impl Store {
    /// What happened from one minute on and before another, over all queues or one, all kinds or one.
    pub async fn happened(
        &self,
        from: i64,
        until: i64,
        kind: Option<&str>,
        queue: Option<&str>,
    ) -> Result<Vec<Happened>, StoreError> {
        let mut sql =
            Sql::new("SELECT minute, kind, metric, bucket, CAST(SUM(n) AS BIGINT) AS n FROM rollups WHERE minute >= ");
        sql.bind(from).push(" AND minute < ").bind(until);
        if let Some(kind) = kind {
            sql.push(" AND kind = ").bind(kind);
        }
        if let Some(queue) = queue {
            sql.push(" AND queue = ").bind(queue);
        }
        sql.push(" GROUP BY minute, kind, metric, bucket ORDER BY minute");
        let rows = self.all(sql.build()).await?;
        rows.iter()
            .map(|r| {
                let metric: String = r.get("metric")?;
                Ok(Happened {
                    minute: r.get("minute")?,
                    kind: r.get("kind")?,
                    metric: Metric::parse(&metric).ok_or_else(|| StoreError::corrupt("metric", metric))?,
                    bucket: r.u32("bucket")?,
                    n: r.u64("n")?,
                })
            })
            .collect()
    }

    /// Forgets minutes that are older than this.
    pub async fn forget_minutes(&self, older_than_ms: i64) -> Result<u64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM rollups WHERE minute < $1";
                    let before = (tx.now() - older_than_ms) / MINUTE;
                    Ok(tx.execute(Sql::with(text, [before.into()])).await?)
                }
                .boxed()
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_two() {
        let found: Vec<u32> = [-5, 0, 1, 2, 3, 4, 1_000, 1_024, i64::MAX]
            .into_iter()
            .map(bucket)
            .collect();
        assert_eq!(found, [0, 0, 1, 2, 2, 3, 10, 11, BUCKETS - 1]);
        assert!(bucket_sql("x").contains("{1,2,4,8,"));
    }
}
