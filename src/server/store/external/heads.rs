//! Waiting jobs for workers outside of the binary. The index of the queue is for those within, which are many and short; these
//! come by HTTP, and look them up in an index of the database: by kind, lane and owner, so that neither a lower lane nor a
//! noisy owner hides what waits behind them, however much that is. What hides an owner's own jobs is ten thousand of theirs in
//! the same lane that a paused queue or a concurrency key holds back.

use std::collections::HashMap;

use sea_orm::{QueryResult, Statement, Value};

use super::super::Store;
use super::super::dialect::Dialect;
use super::super::error::StoreError;
use super::super::limits::Limits;
use super::super::sql::{RowExt, Sql};
use super::waits_outside;
use crate::domain::job::{Job, Lane};
use crate::domain::queue::Hold;

/// What limits the choice beside kinds and lanes.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// Running jobs of a member at the most.
    pub member_max: u32,
    /// Whether jobs that may kill their worker are among them.
    pub suspects: bool,
}

/// A job that could go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub owner: String,
    /// Since when it could have started, in milliseconds since 1970.
    pub run_at: i64,
    /// Whether it may kill its worker.
    pub suspect: bool,
}

/// Owners of one lane that are looked at in one go, and how often more are where something holds back those of all of them: who
/// comes after them comes next.
const OWNERS: usize = 16;
const PAGES: usize = 16;
/// Jobs of one owner that are looked at for one that nothing holds back.
const DEEP: u32 = 10_000;

impl Store {
    /// Of these kinds those that have waiting jobs, and of which one may run at this moment.
    pub async fn external_waiting(&self, kinds: &[String], limits: &Limits) -> Result<Vec<String>, StoreError> {
        let text = "SELECT DISTINCT kind FROM job_counts WHERE status = 'pending' AND n > 0";
        let rows = self.all(Sql::new(text).build()).await?;
        let waiting: Vec<String> = rows.iter().map(|row| row.get("kind")).collect::<Result<_, _>>()?;
        let mut waiting: Vec<String> = waiting.into_iter().filter(|kind| kinds.contains(kind)).collect();
        if waiting.is_empty() {
            return Ok(waiting);
        }
        let most = |kind: &String| limits.kinds.get(kind).and_then(|(max, _)| *max);
        let mut holds: HashMap<Hold, u32> = limits.all.map(|max| (Hold::All, max)).into_iter().collect();
        holds.extend(
            waiting
                .iter()
                .filter_map(|kind| Some((Hold::Kind(kind.clone()), most(kind)?))),
        );
        let names: Vec<Hold> = holds.keys().cloned().collect();
        let running = self.running_under(&names).await?;
        let full = |hold: &Hold| {
            holds
                .get(hold)
                .is_some_and(|max| running.get(hold).is_some_and(|n| *n >= i64::from(*max)))
        };
        if full(&Hold::All) {
            return Ok(Vec::new());
        }
        waiting.retain(|kind| !full(&Hold::Kind(kind.clone())));
        Ok(waiting)
    }

    /// Jobs of a kind that go before all others of it, at most `limit`.
    pub async fn external_front(&self, kind: &str, limit: usize, narrow: Narrow) -> Result<Vec<Head>, StoreError> {
        let rows = self.all(front(self.dialect(), kind, limit, narrow)).await?;
        rows.iter().map(head).collect()
    }

    /// The next jobs of a kind in one lane, of each owner at most `each`: of the owners behind `after`, and then of the first ones
    /// again, in that order, until there are enough. Also says which owner was looked at last.
    pub async fn external_heads(
        &self,
        kind: &str,
        lane: Lane,
        after: &str,
        each: usize,
        narrow: Narrow,
    ) -> Result<(Vec<Vec<Head>>, Option<String>), StoreError> {
        let mut heads = Vec::new();
        let mut last: Option<String> = None;
        let (mut behind, mut again) = (after.to_string(), after.is_empty());
        for _ in 0..PAGES {
            let mut found = self.owners_behind(kind, lane, &behind).await?;
            if again && !after.is_empty() {
                found.retain(|owner| owner.as_str() <= after);
            }
            let more = found.len() == OWNERS;
            if let Some(owner) = found.last() {
                last = Some(owner.clone());
                let mut page: Vec<Vec<Head>> = vec![Vec::new(); found.len()];
                for row in self
                    .all(lines(self.dialect(), kind, lane, &found, each, narrow))
                    .await?
                {
                    let place = usize::try_from(row.int("place")?).unwrap_or(0);
                    page[place].push(head(&row)?);
                }
                page.iter_mut().for_each(|jobs| jobs.sort_by_key(|head| head.seq));
                heads.extend(page.into_iter().filter(|jobs| !jobs.is_empty()));
            }
            match (more, again) {
                _ if heads.len() >= OWNERS.max(each) => break,
                (true, _) => behind = last.clone().unwrap_or_default(),
                (false, true) => break,
                (false, false) => (behind, again) = (String::new(), true),
            }
        }
        Ok((heads, last))
    }

    async fn owners_behind(&self, kind: &str, lane: Lane, after: &str) -> Result<Vec<String>, StoreError> {
        let rows = self.all(owners(self.dialect(), kind, lane, after)).await?;
        rows.iter().map(|row| row.get("owner")).collect()
    }
}

fn front(dialect: Dialect, kind: &str, limit: usize, narrow: Narrow) -> Statement {
    let (waits, free) = (waits_outside(dialect), free("$2", narrow));
    let text = format!(
        "SELECT seq, owner, run_at, crashes, attempt, max_attempts FROM jobs{} \
         WHERE {waits} AND kind = $1 AND front = 1 AND {free} ORDER BY lane, owner, seq LIMIT {limit}",
        dialect.by("jobs_external")
    );
    Sql::with(&text, [kind.into(), i64::from(narrow.member_max).into()])
}

/// Jobs of these owners in a lane, each with the place of its owner among them.
pub(in crate::server::store) fn lines(
    dialect: Dialect,
    kind: &str,
    lane: Lane,
    owners: &[String],
    each: usize,
    narrow: Narrow,
) -> Statement {
    let (waits, free, by) = (waits_outside(dialect), free("$3", narrow), dialect.by("jobs_external"));
    let mut values: Vec<Value> = vec![kind.into(), lane.rank().into(), i64::from(narrow.member_max).into()];
    let mut parts = Vec::with_capacity(owners.len());
    for (i, owner) in owners.iter().enumerate() {
        values.push(owner.as_str().into());
        let place = values.len();
        parts.push(format!(
            "SELECT * FROM (SELECT {i} AS place, seq, owner, run_at, crashes, attempt, max_attempts FROM \
             (SELECT seq, owner, run_at, crashes, attempt, max_attempts, queue, member, concurrency_key FROM jobs{by} \
             WHERE {waits} AND kind = $1 AND front = 0 AND lane = $2 AND owner = ${place} ORDER BY seq LIMIT {DEEP}) AS deep{i} \
             WHERE {free} ORDER BY seq LIMIT {each}) AS part{i}"
        ));
    }
    Sql::with(&parts.join(" UNION ALL "), values)
}

/// Owners of waiting jobs in a lane, in the order of their names from behind one on; each is a step in the index, however many jobs
/// of theirs wait.
pub(in crate::server::store) fn owners(dialect: Dialect, kind: &str, lane: Lane, after: &str) -> Statement {
    let next = |behind: &str| {
        format!(
            "(SELECT MIN(owner) FROM jobs{} WHERE {} AND kind = $1 AND front = 0 AND lane = $2 AND owner > {behind})",
            dialect.by("jobs_external"),
            waits_outside(dialect)
        )
    };
    let text = format!(
        "WITH RECURSIVE owners (owner, n) AS (SELECT {}, 1 UNION ALL \
         SELECT {}, n + 1 FROM owners WHERE owner IS NOT NULL AND n < {OWNERS}) \
         SELECT owner FROM owners WHERE owner IS NOT NULL",
        next("$3"),
        next("owners.owner")
    );
    Sql::with(&text, [kind.into(), lane.rank().into(), after.into()])
}

/// Whether nothing holds a job back but its kind and the whole: `place` is that of the most that run of a member. Which jobs may
/// kill their worker is said by `Job::suspected`, here in SQL.
fn free(place: &str, narrow: Narrow) -> String {
    let suspects = match narrow.suspects {
        true => String::new(),
        false => format!(
            "NOT (crashes >= {} OR crashes > 0 AND attempt + 1 >= max_attempts) AND ",
            Job::CRASHES_MAX
        ),
    };
    format!(
        "{suspects}queue NOT IN (SELECT name FROM paused_queues) \
         AND (member = 0 OR COALESCE((SELECT n FROM running_holds WHERE hold = 'o:' || owner), 0) < {place}) \
         AND (concurrency_key IS NULL OR COALESCE((SELECT n FROM running_holds WHERE hold = 'c:' || concurrency_key), 0) < 1)"
    )
}

fn head(row: &QueryResult) -> Result<Head, StoreError> {
    Ok(Head {
        seq: row.get("seq")?,
        owner: row.get("owner")?,
        run_at: row.get("run_at")?,
        suspect: Job::suspected(row.u32("crashes")?, row.u32("attempt")?, row.u32("max_attempts")?),
    })
}
