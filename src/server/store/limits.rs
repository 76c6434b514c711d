//! Taking jobs that are under limits: how many run at the same time in all, per kind, per member and per concurrency key, and
//! how many of a kind begin within a time. Whoever claims checks and counts in the same transaction, so no two processes can
//! both take the last place.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::FutureExt;
use sea_orm::QueryResult;

use super::Store;
use super::claim::{self, Claim, Claimed};
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::jobs::COLUMNS;
use super::ops::to_json;
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::kind::{Rate, is_external};
use crate::domain::queue::Hold;

/// The limits of the whole system, the same in every process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Running jobs in all.
    pub all: Option<u32>,
    /// Running jobs of each member.
    pub member: u32,
    /// By kind: running jobs, and beginnings within a time.
    pub kinds: BTreeMap<String, (Option<u32>, Option<Rate>)>,
}

impl Limits {
    /// The kinds whose jobs must be taken with a look at the limits.
    pub fn limited(&self) -> Vec<String> {
        self.kinds.keys().cloned().collect()
    }
}

/// A job that a limit kept from being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub seq: i64,
    pub hold: Hold,
    /// Milliseconds after which another try is worth it, when the end of no other job tells.
    pub wait_ms: i64,
}

/// How long a hold lasts that the end of another job is expected to lift.
pub(in crate::server) const HOLD_MS: i64 = 5_000;

/// How long a paused queue is held back before it is looked at again, should its resuming not be heard.
pub(in crate::server) const PAUSED_MS: i64 = 60_000;

/// How long workers of the binary hold back a kind that workers outside run.
const EXTERNAL_MS: i64 = 600_000;

impl Store {
    /// Takes those that are still waiting, as far as the limits allow, in the order that they are given in. A worker outside of the
    /// binary that is not known (any more) is given none.
    pub async fn claim_limited(
        &self,
        claim: Claim,
        limits: Limits,
    ) -> Result<(Vec<Claimed>, Vec<Refused>), StoreError> {
        self.writer()
            .write(move |tx| async move { take(tx, &claim, &limits).await }.boxed())
            .await
    }
}

/// A waiting job and what it would count against.
struct Wanted {
    seq: i64,
    kind: String,
    /// Its queue, when that is paused.
    paused: Option<String>,
    holds: Vec<(Hold, u32)>,
}

async fn take(tx: &Tx<'_>, claim: &Claim, limits: &Limits) -> Result<(Vec<Claimed>, Vec<Refused>), StoreError> {
    if claim.external && !super::external::is_there(tx, &claim.worker).await? {
        return Ok((Vec::new(), Vec::new()));
    }
    let wanted = wanted(tx, claim, limits).await?;
    let mut free = places(tx, &wanted).await?;
    let begun = begun(tx, &wanted, limits).await?;
    // Whoever waited for a lock began long ago: windows and leases are reckoned from here.
    let now = moment(tx).await?;
    let mut rates = windows(begun, limits, now);
    let (mut taken, mut refused): (Vec<(i64, String)>, Vec<Refused>) = (Vec::new(), Vec::new());
    let mut counted: BTreeMap<String, i64> = BTreeMap::new();
    for job in &wanted {
        if is_external(&job.kind) != claim.external {
            let (hold, wait_ms) = (Hold::Kind(job.kind.clone()), EXTERNAL_MS);
            refused.push(Refused {
                seq: job.seq,
                hold,
                wait_ms,
            });
            continue;
        }
        if let Some(queue) = &job.paused {
            let (hold, wait_ms) = (Hold::Queue(queue.clone()), PAUSED_MS);
            refused.push(Refused {
                seq: job.seq,
                hold,
                wait_ms,
            });
            continue;
        }
        let full = job
            .holds
            .iter()
            .find(|(hold, _)| free.get(&hold.to_string()).is_some_and(|n| *n <= 0));
        if let Some((hold, _)) = full {
            let (hold, wait_ms) = (hold.clone(), HOLD_MS);
            refused.push(Refused {
                seq: job.seq,
                hold,
                wait_ms,
            });
            continue;
        }
        if let Some(window) = rates.get_mut(&job.kind) {
            if window.left == 0 {
                let (hold, wait_ms) = (Hold::Kind(job.kind.clone()), window.ends_in_ms);
                refused.push(Refused {
                    seq: job.seq,
                    hold,
                    wait_ms,
                });
                continue;
            }
            window.left -= 1;
            window.begun += 1;
        }
        let names: Vec<String> = job.holds.iter().map(|(hold, _)| hold.to_string()).collect();
        for name in &names {
            *counted.entry(name.clone()).or_default() += 1;
            *free.entry(name.clone()).or_default() -= 1;
        }
        taken.push((job.seq, to_json(&names)?));
    }
    for (name, n) in &counted {
        let text = "INSERT INTO running_holds (hold, n) VALUES ($1, $2) \
            ON CONFLICT (hold) DO UPDATE SET n = running_holds.n + excluded.n";
        tx.execute(Sql::with(text, [name.clone().into(), (*n).into()])).await?;
    }
    for (kind, window) in rates.iter().filter(|(_, w)| w.begun > 0) {
        let text =
            "UPDATE kind_rates SET n = CASE WHEN starts_at = $2 THEN n ELSE 0 END + $3, starts_at = $2 WHERE kind = $1";
        let values = [kind.clone().into(), window.starts_at.into(), int(window.begun).into()];
        tx.execute(Sql::with(text, values)).await?;
    }
    let claimed = run(tx, claim, &taken, now).await?;
    Ok((claimed, refused))
}

/// Those of the claim that still wait, locked, in the order of the claim.
async fn wanted(tx: &Tx<'_>, claim: &Claim, limits: &Limits) -> Result<Vec<Wanted>, StoreError> {
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!(
        "SELECT seq, kind, queue, owner, member, concurrency_key, \
         CASE WHEN queue IN (SELECT name FROM paused_queues) THEN 1 ELSE 0 END AS paused FROM jobs WHERE seq IN (SELECT value FROM {list} AS l) \
         AND status || '' = 'pending' AND run_at <= $2 ORDER BY seq{}",
        tx.dialect().hold_rows()
    );
    let rows = tx
        .all(Sql::with(&text, [to_json(&claim.seqs)?.into(), tx.now().into()]))
        .await?;
    let mut by_seq: HashMap<i64, Wanted> = HashMap::with_capacity(rows.len());
    for row in &rows {
        let kind: String = row.get("kind")?;
        let key: Option<String> = row.get("concurrency_key")?;
        let mut holds = Vec::new();
        holds.extend(limits.all.map(|max| (Hold::All, max)));
        if let Some((Some(max), _)) = limits.kinds.get(&kind) {
            holds.push((Hold::Kind(kind.clone()), *max));
        }
        if row.flag("member")? {
            holds.push((Hold::Owner(row.get("owner")?), limits.member));
        }
        holds.extend(key.map(|key| (Hold::Key(key), 1)));
        let seq = row.get("seq")?;
        let paused = match row.flag("paused")? {
            true => Some(row.get("queue")?),
            false => None,
        };
        by_seq.insert(
            seq,
            Wanted {
                seq,
                kind,
                paused,
                holds,
            },
        );
    }
    Ok(claim.seqs.iter().filter_map(|seq| by_seq.remove(seq)).collect())
}

/// How many places are left of each limit. Its rows are locked until the transaction ends, so nobody else counts meanwhile.
async fn places(tx: &Tx<'_>, wanted: &[Wanted]) -> Result<HashMap<String, i64>, StoreError> {
    let mut free: BTreeMap<String, i64> = BTreeMap::new();
    for (hold, max) in wanted.iter().flat_map(|w| &w.holds) {
        free.insert(hold.to_string(), i64::from(*max));
    }
    let names: Vec<&String> = free.keys().collect();
    let names = to_json(&names)?;
    let list = tx.dialect().list("$1", Ty::Text);
    // A row that is not there yet can't be locked, and one of which nobody takes a place may be removed at this moment
    // (`zeros.rs`): one that is there is held, though not changed.
    let text = format!(
        "INSERT INTO running_holds (hold, n) SELECT value, 0 FROM {list} AS l WHERE true ORDER BY {} \
         ON CONFLICT (hold) DO UPDATE SET n = running_holds.n WHERE false",
        tx.dialect().bytewise("value")
    );
    tx.execute(Sql::with(&text, [names.clone().into()])).await?;
    let text = format!(
        "SELECT hold, n FROM running_holds WHERE hold IN (SELECT value FROM {list} AS l) ORDER BY hold{}",
        tx.dialect().hold_rows()
    );
    for row in tx.all(Sql::with(&text, [names.into()])).await? {
        let (name, n): (String, i64) = (row.get("hold")?, row.get("n")?);
        *free.entry(name).or_default() -= n;
    }
    Ok(free.into_iter().collect())
}

/// The moment by the database's clock, not that of the beginning of the transaction.
async fn moment(tx: &Tx<'_>) -> Result<i64, StoreError> {
    match tx.dialect() {
        // There is one writer, and it waits for nobody.
        Dialect::Sqlite => Ok(tx.now()),
        Dialect::Postgres => {
            let text = format!("SELECT {} AS now", Dialect::Postgres.now());
            let row = tx.one(Sql::new(&text).build()).await?;
            row.ok_or_else(|| StoreError::corrupt("clock", "it gave no row"))?
                .get("now")
        }
    }
}

/// The window of time of each kind that has a rate, as it was last written: when it began, and how many jobs have begun in it.
/// Its row is locked until the transaction ends, so nobody else begins one meanwhile.
async fn begun(tx: &Tx<'_>, wanted: &[Wanted], limits: &Limits) -> Result<BTreeMap<String, (i64, u64)>, StoreError> {
    let rated = |job: &&Wanted| matches!(limits.kinds.get(&job.kind), Some((_, Some(_))));
    let kinds: BTreeSet<&String> = wanted.iter().filter(rated).map(|job| &job.kind).collect();
    if kinds.is_empty() {
        return Ok(BTreeMap::new());
    }
    let kinds = to_json(&kinds)?;
    let list = tx.dialect().list("$1", Ty::Text);
    // A row that is not there yet can't be locked.
    let text = format!(
        "INSERT INTO kind_rates (kind, starts_at, n) SELECT value, 0, 0 FROM {list} AS l WHERE true ORDER BY value \
         ON CONFLICT (kind) DO NOTHING"
    );
    tx.execute(Sql::with(&text, [kinds.clone().into()])).await?;
    let text = format!(
        "SELECT kind, starts_at, n FROM kind_rates WHERE kind IN (SELECT value FROM {list} AS l) ORDER BY kind{}",
        tx.dialect().hold_rows()
    );
    let rows = tx.all(Sql::with(&text, [kinds.into()])).await?;
    let window = |r: &QueryResult| Ok((r.get("kind")?, (r.get("starts_at")?, r.u64("n")?)));
    rows.iter().map(window).collect()
}

/// A kind's window of time.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    starts_at: i64,
    left: u64,
    begun: u64,
    ends_in_ms: i64,
}

/// Where each kind stands at this moment.
fn windows(begun: BTreeMap<String, (i64, u64)>, limits: &Limits, now: i64) -> BTreeMap<String, Window> {
    let windows = begun.into_iter().filter_map(|(kind, last)| {
        let (_, rate) = limits.kinds.get(&kind)?;
        Some((kind, window(last, (*rate)?, now)))
    });
    windows.collect()
}

fn window((starts_at, begun): (i64, u64), rate: Rate, now: i64) -> Window {
    let length = int(rate.per_ms).max(1);
    let current = now - now.rem_euclid(length);
    // One that has just begun by a clock that went back since is still counted in; one far ahead tells of a clock that was wrong.
    let counts = (current..=current + length).contains(&starts_at);
    let (starts_at, begun) = if counts { (starts_at, begun) } else { (current, 0) };
    Window {
        starts_at,
        left: u64::from(rate.jobs).saturating_sub(begun),
        begun: 0,
        ends_in_ms: starts_at + length - now,
    }
}

async fn run(tx: &Tx<'_>, claim: &Claim, taken: &[(i64, String)], now: i64) -> Result<Vec<Claimed>, StoreError> {
    if taken.is_empty() {
        return Ok(Vec::new());
    }
    let given = tx.dialect().rows("$1", &[("s", Ty::Int), ("h", Ty::Text)]);
    let text = format!(
        "UPDATE jobs SET status = 'running', epoch = epoch + 1, attempt = attempt + 1, front = 0, worker = $2, lease_until = $3, \
         started_at = $4, completed_at = NULL, progress = NULL, done = NULL, total = NULL, message = '', rev = rev + 1, \
         holds = (SELECT h FROM {given} AS given WHERE s = jobs.seq) \
         WHERE seq IN (SELECT s FROM {given} AS given) RETURNING {COLUMNS}, \
         (SELECT args FROM job_data WHERE job_seq = jobs.seq) AS args, \
         (SELECT timeout_s FROM job_data WHERE job_seq = jobs.seq) AS timeout_s, \
         (SELECT log_lines FROM job_data WHERE job_seq = jobs.seq) AS log_lines, \
         (SELECT checkpoint FROM job_data WHERE job_seq = jobs.seq) AS checkpoint"
    );
    let values = [
        to_json(taken)?.into(),
        claim.worker.clone().into(),
        (now + claim.lease_ms).into(),
        now.into(),
    ];
    let rows = tx.all(Sql::with(&text, values)).await?;
    rows.iter().map(|row| claim::read(tx, row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_until_it_ends_by_whatever_clock() {
        let rate = Rate { jobs: 3, per_ms: 1_000 };
        let at = |last, now| {
            let window = window(last, rate, now);
            (window.starts_at, window.left, window.ends_in_ms)
        };
        assert_eq!(at((0, 0), 50_400), (50_000, 3, 600), "the first one");
        assert_eq!(at((50_000, 2), 50_999), (50_000, 1, 1));
        assert_eq!(at((50_000, 3), 51_000), (51_000, 3, 1_000));
        assert_eq!(
            at((51_000, 3), 50_990),
            (51_000, 0, 1_010),
            "it began a moment ahead of this clock"
        );
        assert_eq!(
            at((3_650_000, 3), 50_500),
            (50_000, 3, 500),
            "a clock that was an hour ahead"
        );
    }
}
