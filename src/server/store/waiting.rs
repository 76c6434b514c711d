//! What waits, as the index of the queue is told of it, and as workers find it while that is away.

use std::collections::HashMap;

use sea_orm::QueryResult;
use uuid::Uuid;

use super::Store;
use super::dialect::Ty;
use super::error::StoreError;
use super::limits::Limits;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use crate::domain::job::{Job, Lane};
use crate::domain::kind::is_external;
use crate::domain::queue::{Cell, Entry, FRONT, Hold};

impl Store {
    /// Numbers of jobs that wait, at most `limit`, for when the queue's index can't be asked (those that crashed again and
    /// again wait for it): the first of each kind, mixed, so that several workers that ask at the same time don't all want
    /// the same. What a limit keeps from running at this moment is left out, so that it hides nothing that could.
    pub async fn waiting_heads(&self, limit: usize, limits: &Limits) -> Result<Vec<i64>, StoreError> {
        let kinds = Sql::new("SELECT DISTINCT kind FROM job_counts WHERE status = 'pending' AND n > 0").build();
        let kinds = self.all(kinds).await?;
        let mut kinds: Vec<String> = kinds.iter().map(|row| row.get("kind")).collect::<Result<_, _>>()?;
        kinds.retain(|kind| !is_external(kind));
        let mut most: Vec<(Hold, u32)> = limits.all.map(|max| (Hold::All, max)).into_iter().collect();
        for kind in &kinds {
            let max = limits.kinds.get(kind).and_then(|(max, _)| *max);
            most.extend(max.map(|max| (Hold::Kind(kind.clone()), max)));
        }
        let holds: Vec<Hold> = most.iter().map(|(hold, _)| hold.clone()).collect();
        let running = self.running_under(&holds).await?;
        for (hold, max) in most {
            match hold {
                _ if running.get(&hold).is_none_or(|n| *n < i64::from(max)) => {}
                Hold::Kind(full) => kinds.retain(|kind| *kind != full),
                _ => kinds.clear(),
            }
        }
        let mut heads: Vec<(i64, i64)> = Vec::new();
        for kind in kinds {
            let text = format!(
                "SELECT seq, lane FROM jobs WHERE status = 'pending' AND kind = $1 \
                 AND crashes < 2 AND queue NOT IN (SELECT name FROM paused_queues) \
                 AND (member = 0 OR COALESCE((SELECT n FROM running_holds WHERE hold = 'o:' || owner), 0) < $2) \
                 AND (concurrency_key IS NULL \
                 OR COALESCE((SELECT n FROM running_holds WHERE hold = 'c:' || concurrency_key), 0) < 1) \
                 ORDER BY seq LIMIT {}",
                limit.saturating_mul(4)
            );
            let values = [kind.into(), i64::from(limits.member).into()];
            for row in self.all(Sql::with(&text, values)).await? {
                heads.push((row.int("lane")?, row.get("seq")?));
            }
        }
        // By lane; within one by a draw.
        heads.sort_by_cached_key(|(lane, _)| (*lane, Uuid::new_v4()));
        heads.truncate(limit);
        Ok(heads.into_iter().map(|(_, seq)| seq).collect())
    }

    /// How many jobs run that count against these; those against which none does may be left out.
    pub async fn running_under(&self, holds: &[Hold]) -> Result<HashMap<Hold, i64>, StoreError> {
        if holds.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<String> = holds.iter().map(Hold::to_string).collect();
        let list = self.dialect().list("$1", Ty::Text);
        let text = format!("SELECT hold, n FROM running_holds WHERE hold IN (SELECT value FROM {list} AS l)");
        let mut running = HashMap::new();
        for row in self.all(Sql::with(&text, [to_json(&names)?.into()])).await? {
            let (name, n): (String, i64) = (row.get("hold")?, row.get("n")?);
            running.extend(Hold::parse(&name).map(|hold| (hold, n)));
        }
        Ok(running)
    }

    /// Waiting jobs that a rebuilt index has to know, kind by kind and a page at a time, from behind the last one of the page
    /// before. Empty at the end only.
    pub async fn pending_after(&self, after: Option<&Entry>, limit: u32) -> Result<Vec<Entry>, StoreError> {
        // One kind a statement: SQLite walks past what comes before a pair of kind and number.
        let page = format!(
            "SELECT seq, lane, run_at, front, attempt, max_attempts, crashes, queue, kind, owner, concurrency_key FROM jobs \
             WHERE status = 'pending' AND kind = $1 AND seq > $2 ORDER BY seq LIMIT {limit}"
        );
        let next = "SELECT kind FROM jobs WHERE status = 'pending' AND kind > $1 ORDER BY kind LIMIT 1";
        let (mut kind, mut seq) = after.map_or((String::new(), 0), |last| (last.cell.kind.clone(), last.seq));
        let rows = loop {
            let rows = self.all(Sql::with(&page, [kind.as_str().into(), seq.into()])).await?;
            if !rows.is_empty() {
                break rows;
            }
            let Some(row) = self.one(Sql::with(next, [kind.into()])).await? else {
                return Ok(Vec::new());
            };
            (kind, seq) = (row.get("kind")?, 0);
        };
        let entry = |row: &QueryResult| {
            let attempt = row.u32("attempt")?;
            let cell = Cell {
                queue: row.get("queue")?,
                kind: row.get("kind")?,
                owner: row.get("owner")?,
                key: row.get("concurrency_key")?,
            };
            let suspect = Job::suspected(row.u32("crashes")?, attempt, row.u32("max_attempts")?);
            let lane = Lane::from_rank(row.int("lane")?);
            let since = if row.flag("front")? { FRONT } else { row.time("run_at")? };
            Ok(Entry::new(row.get("seq")?, lane, suspect, since, attempt, cell))
        };
        rows.iter().map(entry).collect()
    }
}
