//! Jobs that wait for others.

use std::collections::{BTreeMap, HashMap};

use futures::FutureExt;

use super::Store;
use super::audit::append;
use super::dialect::Ty;
use super::enqueue::{Batch, Enqueue, Enqueued, WAITING, Written, any_new, known, known_keys};
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, UNFINISHED, job_row};
use super::ops::{Changed, change, to_json};
use super::sql::{RowExt, Sql, int};
use super::writer::Tx;
use crate::domain::job::{JobId, JobRef, short_id};
use crate::domain::machine::Event;
use crate::domain::stats::Metric;
use crate::domain::status::Status;

/// A job that another one depends on.
struct Needed {
    seq: i64,
    id: JobId,
    status: Status,
}

/// How an end is noted of a job of which one is noted already: that note is held until this end is committed, or whoever looks
/// at what waits in this moment would remove it and still find the job running.
pub(super) const AGAIN: &str =
    "ON CONFLICT (needs_seq, after_seq) DO UPDATE SET after_seq = excluded.after_seq WHERE false";

/// Jobs are removed, for some of which others wait or waited. One that completed stays so for whoever still waits for another job,
/// too. Any other did not complete, as far as anybody can tell, and that is looked at.
pub(super) async fn removed(tx: &Tx<'_>, rows: &[JobRow]) -> Result<(), StoreError> {
    let mut completed = Vec::new();
    for row in rows.iter().filter(|row| row.dependents) {
        match row.job.status {
            Status::Completed => completed.push(row.seq),
            _ => due(tx, row.seq).await?,
        }
    }
    if completed.is_empty() {
        return Ok(());
    }
    // In one statement and in their order, so that no two transactions wait for each other.
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!(
        "UPDATE job_deps SET met = 1 WHERE (job_seq, needs_seq) IN (SELECT job_seq, needs_seq FROM job_deps \
         WHERE needs_seq IN (SELECT value FROM {list} AS l) AND EXISTS \
         (SELECT 1 FROM jobs WHERE jobs.seq = job_deps.job_seq AND jobs.status || '' = 'blocked') \
         ORDER BY job_seq, needs_seq{})",
        tx.dialect().hold_rows()
    );
    tx.execute(Sql::with(&text, [to_json(&completed)?.into()])).await?;
    Ok(())
}

/// Notes that a job has ended, or is removed, for which others waited.
pub(super) async fn due(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    due_after(tx, seq, 0).await
}

/// Notes that those that waited for it are to be looked at whose number is above `after`.
async fn due_after(tx: &Tx<'_>, seq: i64, after: i64) -> Result<(), StoreError> {
    let text = format!("INSERT INTO deps_due (needs_seq, after_seq) VALUES ($1, $2) {AGAIN}");
    tx.execute(Sql::with(&text, [seq.into(), after.into()])).await?;
    Ok(())
}

/// What a look at jobs that wait for others came to.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Ends that were looked at; those that somebody else has in hand are passed over.
    pub ends: usize,
    pub changed: Vec<Changed>,
}

impl Store {
    /// Writes jobs down of which some depend on others, all or none.
    pub(super) async fn enqueue_chained(&self, batch: Batch) -> Result<Enqueued, StoreError> {
        self.writer()
            .write(move |tx| async move { enqueue(tx, &batch).await }.boxed())
            .await
    }

    /// Whether [`Store::resolve_dependents`] has anything to look at.
    pub async fn dependents_due(&self) -> Result<bool, StoreError> {
        let stmt = Sql::new("SELECT 1 AS one FROM deps_due LIMIT 1").build();
        Ok(self.one(stmt).await?.is_some())
    }

    /// Jobs that one [`Store::resolve_dependents`] looks at, at the most: others write meanwhile, and on SQLite there is one
    /// writer.
    pub const DEPENDENTS_STEP: usize = 250;

    /// Looks at jobs that wait for ones that have ended since: starts or cancels them. What was not looked at stays on record.
    pub async fn resolve_dependents(&self) -> Result<Resolved, StoreError> {
        self.writer().write(|tx| resolve(tx).boxed()).await
    }

    /// The jobs that this one waits or waited for, and those that wait or waited for it, each with its owner; at most a
    /// thousand of each.
    pub async fn chain(&self, seq: i64) -> Result<(Vec<(JobRef, String)>, Vec<(JobRef, String)>), StoreError> {
        let read = async |text: &str| -> Result<Vec<(JobRef, String)>, StoreError> {
            let rows = self.all(Sql::with(text, [seq.into()])).await?;
            let told = rows.iter().map(|r| {
                let reference = JobRef {
                    id: r.get("id")?,
                    kind: r.get("kind")?,
                    status: super::jobs::status(r)?,
                };
                Ok((reference, r.get("owner")?))
            });
            told.collect()
        };
        let needs = "SELECT id, kind, status, owner FROM job_deps JOIN jobs ON seq = needs_seq WHERE job_seq = $1 \
            ORDER BY seq LIMIT 1000";
        let needed = "SELECT id, kind, status, owner FROM job_deps JOIN jobs ON seq = job_seq WHERE needs_seq = $1 \
            ORDER BY seq LIMIT 1000";
        Ok((read(needs).await?, read(needed).await?))
    }
}

pub(super) async fn enqueue(tx: &Tx<'_>, batch: &Batch) -> Result<Enqueued, StoreError> {
    let names = WAITING.map(|s| format!("'{s}'")).join(", ");
    let text = format!("SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n FROM job_counts WHERE status IN ({names})");
    let row = tx.one(Sql::new(&text).build()).await?;
    let waiting: i64 = row.map_or(Ok(0), |r| r.get("n"))?;
    let waiting = u64::try_from(waiting + tx.moved(&WAITING)).unwrap_or(0);
    if waiting.saturating_add(batch.jobs.len() as u64) > batch.queue_max {
        return Ok(Enqueued::Full { waiting });
    }
    if let Some(new) = &batch.starts {
        super::batches::insert(tx, new).await?;
    }
    let mut by_key = known_keys(tx, &[batch]).await?;
    let mut written = Vec::with_capacity(batch.jobs.len());
    // A unique key may lead to another job than the one that was to be written: who waits for that one waits for the other.
    let mut others: HashMap<JobId, JobId> = HashMap::new();
    for job in &batch.jobs {
        let known = match known(&by_key, job, tx.now()) {
            Some(row) => Err(row.clone()),
            None => enqueue_one(tx, job, &others).await?,
        };
        written.push(match known {
            Ok(row) => {
                by_key.extend(job.unique_key.clone().map(|key| (key, row.clone())));
                Written::New(row)
            }
            Err(row) => {
                others.insert(job.id, row.job.id);
                Written::Existing(row)
            }
        });
    }
    if let Some(deed) = batch.deed.clone().filter(|_| any_new(&written)) {
        append(tx, &[deed]).await?;
    }
    Ok(Enqueued::Written(written))
}

/// The new job's row, or that of the one that has its unique key.
async fn enqueue_one(
    tx: &Tx<'_>,
    job: &Enqueue,
    others: &HashMap<JobId, JobId>,
) -> Result<Result<JobRow, JobRow>, StoreError> {
    let ids = job.depends_on.iter().map(|id| *others.get(id).unwrap_or(id));
    let needs = needed(tx, ids.collect()).await?;
    let failed = needs
        .iter()
        .find(|n| n.status.is_finished() && n.status != Status::Completed);
    let failed = failed.filter(|_| !job.run_anyway);
    let open = failed.is_some() || needs.iter().any(|n| !n.status.is_finished());
    let Some(row) = place(tx, job, open).await? else {
        // Another process was faster with the same unique key.
        let mut known = known_keys(tx, &[&Batch::of(vec![job.clone()], u64::MAX)]).await?;
        let row = job.unique_key.as_ref().and_then(|key| known.remove(key));
        return row
            .map(Err)
            .ok_or_else(|| StoreError::Commit("a job with the same unique key just ended".into()));
    };
    for need in &needs {
        let text = "INSERT INTO job_deps (job_seq, needs_seq, needs_id) VALUES ($1, $2, $3)";
        tx.execute(Sql::with(text, [row.seq.into(), need.seq.into(), need.id.into()]))
            .await?;
        tx.execute(Sql::with(
            "UPDATE jobs SET dependents = 1 WHERE seq = $1",
            [need.seq.into()],
        ))
        .await?;
    }
    Ok(Ok(match failed {
        Some(need) => change(tx, row.job.id, &Event::Cancel, "system", &why(need)).await?.row,
        None => row,
    }))
}

fn why(need: &Needed) -> String {
    format!("{}, which it depends on, ended {}", short_id(&need.id), need.status)
}

/// The jobs that are named, locked in the order of their ids, so that no two transactions wait for each other.
async fn needed(tx: &Tx<'_>, mut ids: Vec<JobId>) -> Result<Vec<Needed>, StoreError> {
    ids.sort_unstable();
    ids.dedup();
    let text = format!("SELECT seq, status FROM jobs WHERE id = $1{}", tx.dialect().hold_rows());
    let mut needs = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(row) = tx.one(Sql::with(&text, [id.into()])).await? else {
            return Err(StoreError::NoDependency(id));
        };
        needs.push(Needed {
            seq: row.get("seq")?,
            id,
            status: super::jobs::status(&row)?,
        });
    }
    Ok(needs)
}

/// One new job without a unique key, with whatever belongs to it.
pub(super) async fn insert(tx: &Tx<'_>, job: &Enqueue, blocked: bool) -> Result<JobRow, StoreError> {
    let row = place(tx, job, blocked).await?;
    row.ok_or_else(|| StoreError::corrupt("row", "a new job gave none"))
}

/// One new job, with whatever belongs to it; `None`: an unfinished one has its unique key.
async fn place(tx: &Tx<'_>, job: &Enqueue, blocked: bool) -> Result<Option<JobRow>, StoreError> {
    let now = tx.now();
    let wanted = job.delay_ms.map(|d| now.saturating_add(d)).or(job.run_at);
    let run_at = wanted.unwrap_or(now).max(now);
    let status = match (blocked, run_at > now) {
        (true, _) => Status::Blocked,
        (false, true) => Status::Scheduled,
        (false, false) => Status::Pending,
    };
    let mut sql = Sql::new(
        "INSERT INTO jobs (id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, max_attempts, \
         attempts_per_round, concurrency_key, member, batch) VALUES (",
    );
    sql.bind(job.id).push(", ").bind(job.kind.clone()).push(", ");
    sql.bind(job.queue.clone()).push(", ").bind(job.lane.rank()).push(", ");
    sql.bind(status.as_str()).push(", ").bind(job.owner.clone()).push(", ");
    sql.bind(job.parent).push(", ").bind(job.unique_key.clone()).push(", ");
    sql.bind(now).push(", ").bind(run_at).push(", ");
    sql.bind(i64::from(job.max_attempts))
        .push(", ")
        .bind(i64::from(job.max_attempts))
        .push(", ");
    sql.bind(job.concurrency_key.clone())
        .push(", ")
        .bind(i64::from(job.member))
        .push(", ")
        .bind(job.batch);
    sql.push(&format!(
        ") ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND {UNFINISHED} DO NOTHING RETURNING {COLUMNS}"
    ));
    let Some(row) = tx.one(sql.build()).await? else {
        return Ok(None);
    };
    let row = job_row(&row)?;
    let text = "INSERT INTO job_data (job_seq, args, timeout_s, run_anyway) VALUES ($1, $2, $3, $4)";
    let values = [
        row.seq.into(),
        to_json(&job.args)?.into(),
        int(job.timeout_s).into(),
        i64::from(job.run_anyway).into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    if status != Status::Pending || job.reason.is_some() {
        let text = "INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
            VALUES ($1, 0, $2, NULL, $3, $4, $5)";
        let reason = job.reason.clone().unwrap_or_else(|| "enqueued".into());
        let values = [
            row.seq.into(),
            now.into(),
            status.as_str().into(),
            job.owner.clone().into(),
            reason.into(),
        ];
        tx.execute(Sql::with(text, values)).await?;
    }
    if let Some(upload) = job.args.get("upload").and_then(serde_json::Value::as_str) {
        let text = "UPDATE uploads SET uses = uses + 1 WHERE id = $1";
        tx.execute(Sql::with(text, [upload.into()])).await?;
    }
    super::search::mark(tx, &[row.seq]).await?;
    tx.count(status, &row.job, 1);
    tx.roll(&job.kind, &job.queue, Metric::Enqueued, 0);
    Ok(Some(row))
}

/// Jobs that have ended and whose dependents one step looks at, at the most.
const ENDED_STEP: u32 = 100;

async fn resolve(tx: &Tx<'_>) -> Result<Resolved, StoreError> {
    // The notes go first, and only then is looked at the jobs: should one that they name end once more meanwhile, that waits
    // for this commit and is noted anew. Notes that others hold, who look at them too or are about to end the job, are passed
    // over.
    let text = format!(
        "WITH ended AS MATERIALIZED \
         (SELECT needs_seq, after_seq FROM deps_due ORDER BY needs_seq, after_seq LIMIT {ENDED_STEP}{}) \
         DELETE FROM deps_due WHERE (needs_seq, after_seq) IN (SELECT needs_seq, after_seq FROM ended) \
         RETURNING needs_seq, after_seq",
        tx.dialect().take_rows()
    );
    let rows = tx.all(Sql::new(&text).build()).await?;
    let due = rows.iter().map(|r| Ok((r.get("needs_seq")?, r.get("after_seq")?)));
    let mut due: Vec<(i64, i64)> = due.collect::<Result<_, StoreError>>()?;
    due.sort_unstable();
    // All notes are taken and written before any job is locked, and those in the order of their numbers, so that no two
    // transactions wait for each other.
    let found = to_look_at(tx, &due).await?;
    let mut resolved = Resolved {
        ends: due.len(),
        changed: Vec::new(),
    };
    if found.is_empty() {
        return Ok(resolved);
    }
    let seqs: Vec<i64> = found.keys().copied().collect();
    let orphans: Vec<i64> = found
        .iter()
        .filter_map(|(seq, why)| why.as_ref().map(|_| *seq))
        .collect();
    let (all, alone) = (tx.dialect().list("$1", Ty::Int), tx.dialect().list("$2", Ty::Int));
    let text = format!(
        "SELECT id, seq, (SELECT run_anyway FROM job_data WHERE job_seq = jobs.seq) AS run_anyway FROM jobs \
         WHERE seq IN (SELECT value FROM {all} AS l) AND {UNFINISHED} \
         AND (status || '' = 'blocked' OR seq IN (SELECT value FROM {alone} AS o)) ORDER BY seq{}",
        tx.dialect().hold_rows()
    );
    for row in tx
        .all(Sql::with(&text, [to_json(&seqs)?.into(), to_json(&orphans)?.into()]))
        .await?
    {
        let (id, seq, anyway): (JobId, i64, bool) = (row.get("id")?, row.get("seq")?, row.flag("run_anyway")?);
        let told = match found.get(&seq).cloned().flatten() {
            Some(reason) => Some((Event::Cancel, reason)),
            None => verdict(tx, seq, anyway).await?,
        };
        if let Some((event, reason)) = told {
            resolved.changed.push(change(tx, id, &event, "system", &reason).await?);
        }
    }
    Ok(resolved)
}

/// What waits, or waited, for these, and children that a cancelled one leaves behind, with the reason why they are cancelled: of
/// each its share, so that one for which very many wait is in nobody's way. The rest is noted again, from behind the last one,
/// whether that still waits or not.
async fn to_look_at(tx: &Tx<'_>, due: &[(i64, i64)]) -> Result<BTreeMap<i64, Option<String>>, StoreError> {
    let mut found = BTreeMap::new();
    let mut left = Store::DEPENDENTS_STEP;
    for (i, (needs, after)) in due.iter().enumerate() {
        let share = (left / (due.len() - i)).max(1);
        let text = format!(
            "SELECT job_seq FROM job_deps WHERE needs_seq = $1 AND job_seq > $2 ORDER BY job_seq LIMIT {share}"
        );
        let rows = tx.all(Sql::with(&text, [(*needs).into(), (*after).into()])).await?;
        let seqs: Vec<i64> = rows.iter().map(|r| r.get("job_seq")).collect::<Result<_, _>>()?;
        let children = super::children::orphans(tx, *needs, share - seqs.len()).await?;
        left = left.saturating_sub(seqs.len() + children.len());
        if seqs.len() + children.len() == share {
            // Children that were cancelled are not found again.
            let last = if seqs.len() == share { seqs.last() } else { None };
            due_after(tx, *needs, *last.unwrap_or(&i64::MAX)).await?;
        }
        for seq in seqs {
            found.entry(seq).or_insert(None);
        }
        for (seq, reason) in children {
            found.insert(seq, Some(reason));
        }
    }
    Ok(found)
}

/// What becomes of a blocked job now, if anything.
async fn verdict(tx: &Tx<'_>, seq: i64, anyway: bool) -> Result<Option<(Event, String)>, StoreError> {
    // A job that is gone did not complete, as far as anybody can tell, unless it had by then.
    let text = "SELECT needs_seq, needs_id, CASE WHEN met = 1 THEN 'completed' ELSE COALESCE(jobs.status, 'gone') END AS status \
        FROM job_deps LEFT JOIN jobs ON jobs.seq = needs_seq WHERE job_seq = $1";
    let mut open = false;
    for row in tx.all(Sql::with(text, [seq.into()])).await? {
        let (id, status): (JobId, String) = (row.get("needs_id")?, row.get("status")?);
        match Status::parse(&status) {
            Some(Status::Completed) => {}
            Some(status) if !status.is_finished() => open = true,
            Some(status) if !anyway => {
                let seq = row.get("needs_seq")?;
                return Ok(Some((Event::Cancel, why(&Needed { seq, id, status }))));
            }
            None if !anyway => {
                let reason = format!("{}, which it depends on, was deleted", short_id(&id));
                return Ok(Some((Event::Cancel, reason)));
            }
            _ => {}
        }
    }
    Ok((!open).then(|| (Event::Unblock, "all that it depends on has ended".to_string())))
}
