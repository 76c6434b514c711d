//! New jobs: all batches of a commit in one statement.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sea_orm::Value;
use uuid::Uuid;

use super::super::audit;
use super::super::batches::NewBatch;
use super::super::counts::Deltas;
use super::super::dialect::Dialect;
use super::super::enqueue::{Batch, Enqueue, Enqueued, Taker, WAITING, Written, known, known_keys, new_row};
use super::super::error::StoreError;
use super::super::jobs::JobRow;
use super::super::ops::to_json;
use super::super::rollups::rolled_sql;
use super::super::session::Session;
use super::super::sql::{RowExt, Sql, int};
use super::super::writer::Tx;
use super::sets::{clock, counted};
use super::{ints, texts, uuids};
use crate::domain::audit::Deed;
use crate::domain::job::JobId;

/// Of a job without a parent or a batch; of one without a wish for a time.
const NO_ID: Uuid = Uuid::nil();
const NO_TIME: i64 = i64::MIN;

/// `told` are first transitions that say more than that a job was enqueued and waits. The audit log is added to (`noted`) behind
/// the jobs and all that goes with them, where one may have to wait for another process that has the same key or file in hand, and
/// before the counts, as other transactions do: whoever has the lock of the log keeps others waiting.
static INSERT: LazyLock<String> = LazyLock::new(|| insertion(""));

/// [`INSERT`] of jobs with unique keys: of two with the same one is written. To be ready for that costs every row something.
static INSERT_UNIQUE: LazyLock<String> = LazyLock::new(|| {
    insertion(
        "ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL AND status NOT IN ('completed', 'failed', 'dead', 'cancelled') \
         DO NOTHING",
    )
});

fn insertion(unless: &str) -> String {
    let (clock, counted, rolled, noted) = (clock(), counted("$18"), rolled_sql("$18"), audit::call("clock.now", 25));
    format!(
        "WITH {clock}, given AS MATERIALIZED (SELECT nextval('jobs_seq') AS seq, g.*, clock.now AS now, \
            GREATEST(clock.now, CASE WHEN g.delay <> {NO_TIME} THEN clock.now + g.delay WHEN g.at <> {NO_TIME} THEN g.at \
               ELSE clock.now END) AS run_at \
            FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::uuid[], $7::text[], $8::bigint[], \
               $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::text[], $15::text[], $16::bigint[], \
               $17::uuid[], $23::text[], $24::bigint[]) \
            AS g (id, kind, queue, lane, owner, parent, unique_key, at, delay, attempts, args, timeout_s, reason, upload, \
               concurrency_key, member, batch, worker, lease_ms), clock), \
         due AS MATERIALIZED (SELECT given.*, worker <> '' AND run_at <= now AND queue NOT IN (SELECT name FROM paused_queues) AS begins \
            FROM given), \
         begun AS (INSERT INTO batches (id, name, owner, created_at, started_by) \
            SELECT id, name, owner, clock.now, NULLIF(started_by, '') \
            FROM unnest($19::uuid[], $20::text[], $21::text[], $22::text[]) AS b (id, name, owner, started_by), clock), \
         placed AS (INSERT INTO jobs (seq, id, kind, queue, lane, status, owner, parent, unique_key, created_at, run_at, \
               max_attempts, attempts_per_round, concurrency_key, member, batch, attempt, epoch, rev, worker, started_at, lease_until) \
            SELECT seq, id, kind, queue, lane, CASE WHEN begins THEN 'running' WHEN run_at > now THEN 'scheduled' ELSE 'pending' END, owner, \
               NULLIF(parent, '{NO_ID}'), NULLIF(unique_key, ''), now, run_at, attempts, attempts, NULLIF(concurrency_key, ''), member, \
               NULLIF(batch, '{NO_ID}'), begins::int, begins::int, 1 + begins::int, CASE WHEN begins THEN worker END, \
               CASE WHEN begins THEN now END, CASE WHEN begins THEN now + lease_ms END FROM due \
            {unless} RETURNING seq, status, kind, queue, batch), \
         data AS (INSERT INTO job_data (job_seq, args, timeout_s) \
            SELECT seq, args, timeout_s FROM given JOIN placed USING (seq) RETURNING job_seq), \
         stale AS (INSERT INTO search_stale (job_seq) SELECT seq FROM placed RETURNING job_seq), \
         told AS (INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
            SELECT seq, 0, now, NULL, CASE status WHEN 'running' THEN 'pending' ELSE status END, owner, \
               COALESCE(NULLIF(reason, ''), 'enqueued') \
            FROM given JOIN placed USING (seq) WHERE status = 'scheduled' OR reason <> '' RETURNING job_seq), \
         used AS (UPDATE uploads SET uses = uses + u.n FROM \
            (SELECT upload, COUNT(*) AS n FROM given JOIN placed USING (seq) WHERE upload <> '' GROUP BY upload) AS u \
            WHERE uploads.id = u.upload RETURNING uploads.id), \
         noted AS MATERIALIZED (SELECT {noted} AS number FROM clock WHERE cardinality($25::text[]) > 0 \
            AND (SELECT COUNT(*) FROM placed) > 0 AND (SELECT COUNT(*) FROM used) + (SELECT COUNT(*) FROM data) \
            + (SELECT COUNT(*) FROM stale) + (SELECT COUNT(*) FROM told) > 0), \
         moved AS (SELECT status, kind, queue, batch, COUNT(*) AS n FROM placed GROUP BY status, kind, queue, batch), {counted}, \
         happened AS (SELECT clock.now AS now, kind, queue, 'enqueued' AS metric, 0::bigint AS ms FROM placed, clock \
            UNION ALL SELECT clock.now, kind, queue, 'wait', 0 FROM placed, clock WHERE status = 'running'), {rolled} \
         SELECT given.id AS id, given.seq AS seq, given.now AS now, (placed.seq IS NOT NULL)::int AS placed, \
            COALESCE(placed.status = 'running', false)::int AS begun, noted.number, \
            {} AS waiting FROM given LEFT JOIN placed USING (seq) LEFT JOIN noted ON true",
        *BACKLOG
    )
}

/// What one job of a batch will be answered with.
enum Answer {
    /// The new job with this id.
    New(JobId),
    Existing(Box<JobRow>),
}

/// Writes what fits, in one statement that is a transaction by itself, and gives one answer for each batch in their order.
pub(in super::super) async fn enqueue(
    session: &Session,
    batches: &[&Batch],
) -> Result<Vec<Result<Enqueued, StoreError>>, StoreError> {
    let none = Deltas::default();
    let tx = Tx::new(session, 0, &none);
    let mut by_key = known_keys(&tx, batches).await?;
    let (now, mut waiting) = match known_backlog(session, batches) {
        // Without keys the moment is of no use.
        Some(waiting) => (0, waiting),
        None => waiting(&tx).await?,
    };
    let mut own_keys: HashMap<&str, JobId> = HashMap::new();
    let mut jobs: Vec<New<'_>> = Vec::new();
    let mut starts: Vec<&NewBatch> = Vec::new();
    let mut planned: Vec<Result<Vec<(Answer, &Enqueue)>, u64>> = Vec::with_capacity(batches.len());
    for batch in batches {
        if waiting.saturating_add(batch.jobs.len() as u64) > batch.queue_max {
            planned.push(Err(waiting));
            continue;
        }
        starts.extend(&batch.starts);
        let mut answers = Vec::with_capacity(batch.jobs.len());
        for job in &batch.jobs {
            let key = job.unique_key.as_deref();
            if let Some(row) = known(&by_key, job, now) {
                answers.push((Answer::Existing(Box::new(row.clone())), job));
            } else if let Some(id) = key.and_then(|k| own_keys.get(k)) {
                answers.push((Answer::New(*id), job));
            } else {
                let id = job.id;
                own_keys.extend(key.map(|k| (k, id)));
                jobs.push((id, job, batch.taker.as_ref()));
                waiting += 1;
                answers.push((Answer::New(id), job));
            }
        }
        planned.push(Ok(answers));
    }
    let placed = insert(session, &jobs, &starts, &deeds(batches, &planned)).await?;
    if placed.values().any(|one| !one.placed) {
        // Another process was faster with the same unique key.
        by_key = known_keys(&tx, batches).await?;
    }
    let mut told = HashMap::new();
    let mut answers = Vec::with_capacity(batches.len());
    for (plan, batch) in planned.into_iter().zip(batches) {
        answers.push(match plan {
            Err(waiting) => Ok(Enqueued::Full { waiting }),
            Ok(plan) => written(plan, batch.taker.as_ref(), &mut told, &placed, &by_key),
        });
    }
    Ok(answers)
}

/// What the audit log says of the batches of which any job is new, as far as can be told beforehand.
fn deeds(batches: &[&Batch], planned: &[Result<Vec<(Answer, &Enqueue)>, u64>]) -> Vec<Deed> {
    let new = |plan: &&Result<Vec<(Answer, &Enqueue)>, u64>| {
        plan.as_ref()
            .is_ok_and(|plan| plan.iter().any(|(answer, _)| matches!(answer, Answer::New(_))))
    };
    let both = batches.iter().zip(planned).filter(|(_, plan)| new(plan));
    both.filter_map(|(batch, _)| batch.deed.clone()).collect()
}

/// A job to be written, and who takes it at once.
type New<'a> = (JobId, &'a Enqueue, Option<&'a Taker>);

/// What became of a job that was to be written.
struct Place {
    seq: i64,
    now: i64,
    /// It was written, and not another one with the same key before it.
    placed: bool,
    /// Its taker has it.
    begun: bool,
}

type Placed = HashMap<JobId, Place>;

/// `told` are those that batches before it were told of: with the same key, this one leads to them.
fn written(
    plan: Vec<(Answer, &Enqueue)>,
    taker: Option<&Taker>,
    told: &mut HashMap<JobId, JobRow>,
    placed: &Placed,
    by_key: &HashMap<String, JobRow>,
) -> Result<Enqueued, StoreError> {
    let mut written = Vec::with_capacity(plan.len());
    for (answer, job) in plan {
        written.push(match answer {
            Answer::Existing(row) => Written::Existing(*row),
            Answer::New(id) => match (told.get(&id), placed.get(&id)) {
                (Some(row), _) => Written::Existing(row.clone()),
                (None, Some(place)) if place.placed => {
                    let mut row = new_row(place.seq, job, place.now);
                    if let Some(taker) = taker.filter(|_| place.begun) {
                        row.begin(taker, place.now);
                    }
                    told.insert(id, row.clone());
                    Written::New(row)
                }
                _ => match job.unique_key.as_ref().and_then(|k| by_key.get(k)) {
                    Some(row) => Written::Existing(row.clone()),
                    None => return Err(StoreError::Commit("a job with the same unique key just ended".into())),
                },
            },
        });
    }
    Ok(Enqueued::Written(written))
}

/// How long a number of waiting jobs is good for while it is far from the limit.
const FRESH: Duration = Duration::from_secs(1);

/// How many jobs wait, as far as the last set has told, where that will do: a moment ago it was less than an eighth of what may,
/// these included, and none of them has a key.
fn known_backlog(session: &Session, batches: &[&Batch]) -> Option<u64> {
    let jobs = || batches.iter().flat_map(|batch| &batch.jobs);
    if jobs().any(|job| job.unique_key.is_some()) {
        return None;
    }
    let waiting = session.waiting_within(FRESH)?;
    let room = batches.iter().map(|batch| batch.queue_max).min()? / 8;
    (waiting.saturating_add(jobs().count() as u64) < room).then_some(waiting)
}

/// How many jobs wait, as an expression.
static BACKLOG: LazyLock<String> = LazyLock::new(|| {
    let names = WAITING.map(|s| format!("'{s}'")).join(", ");
    format!("(SELECT COALESCE(SUM(n), 0)::bigint FROM job_counts WHERE status IN ({names}))")
});

/// The moment, and how many jobs wait.
async fn waiting(tx: &Tx<'_>) -> Result<(i64, u64), StoreError> {
    let text = format!("SELECT {} AS now, {} AS waiting", Dialect::Postgres.now(), *BACKLOG);
    match tx.one(Sql::new(&text).build()).await? {
        Some(row) => Ok((row.get("now")?, row.u64("waiting")?)),
        None => Err(StoreError::corrupt("row", "the counts gave none")),
    }
}

async fn insert(
    session: &Session,
    jobs: &[New<'_>],
    starts: &[&NewBatch],
    deeds: &[Deed],
) -> Result<Placed, StoreError> {
    if jobs.is_empty() && starts.is_empty() {
        return Ok(Placed::new());
    }
    let each = || jobs.iter().map(|(_, job, _)| *job);
    let args = each().map(|j| to_json(&j.args)).collect::<Result<Vec<_>, _>>()?;
    let upload = |j: &'_ Enqueue| {
        j.args
            .get("upload")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("")
            .to_string()
    };
    let uploads: Vec<String> = each().map(upload).collect();
    let values: [Value; 24] = [
        uuids(jobs.iter().map(|(id, ..)| *id)),
        texts(each().map(|j| j.kind.as_str())),
        texts(each().map(|j| j.queue.as_str())),
        ints(each().map(|j| j.lane.rank())),
        texts(each().map(|j| j.owner.as_str())),
        uuids(each().map(|j| j.parent.unwrap_or(NO_ID))),
        texts(each().map(|j| j.unique_key.as_deref().unwrap_or(""))),
        ints(each().map(|j| j.run_at.unwrap_or(NO_TIME))),
        ints(each().map(|j| j.delay_ms.unwrap_or(NO_TIME))),
        ints(each().map(|j| i64::from(j.max_attempts))),
        texts(args.iter().map(String::as_str)),
        ints(each().map(|j| int(j.timeout_s))),
        texts(each().map(|j| j.reason.as_deref().unwrap_or(""))),
        texts(uploads.iter().map(String::as_str)),
        texts(each().map(|j| j.concurrency_key.as_deref().unwrap_or(""))),
        ints(each().map(|j| i64::from(j.member))),
        uuids(each().map(|j| j.batch.unwrap_or(NO_ID))),
        session.shard.into(),
        uuids(starts.iter().map(|b| b.id)),
        texts(starts.iter().map(|b| b.name.as_str())),
        texts(starts.iter().map(|b| b.owner.as_str())),
        texts(starts.iter().map(|b| b.started_by.as_deref().unwrap_or(""))),
        texts(jobs.iter().map(|(.., taker)| taker.map_or("", |taker| &taker.worker))),
        ints(jobs.iter().map(|(.., taker)| taker.map_or(0, |taker| taker.lease_ms))),
    ];
    let values = values.into_iter().chain(audit::values(deeds)?);
    let began = Instant::now();
    let text = match each().any(|job| job.unique_key.is_some()) {
        true => &INSERT_UNIQUE,
        false => &INSERT,
    };
    let rows = session.all(Sql::with(text, values)).await?;
    if let Some(row) = rows.first() {
        // Before these came, and as if all of them waited.
        session.waited(began, row.u64("waiting")?.saturating_add(jobs.len() as u64));
    }
    let placed = rows.iter().map(|r| {
        let place = Place {
            seq: r.get("seq")?,
            now: r.get("now")?,
            placed: r.flag("placed")?,
            begun: r.flag("begun")?,
        };
        Ok((r.get("id")?, place))
    });
    placed.collect()
}
