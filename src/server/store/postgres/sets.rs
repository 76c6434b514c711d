//! Claims and good ends of attempts, each a statement and a transaction by itself: what the state machine says about one job,
//! these do for a set, counts included. A test compares the two.

use std::collections::HashMap;
use std::sync::LazyLock;

use sea_orm::Statement;

use super::super::claim::{self, Claim, Claimed};
use super::super::counts::Deltas;
use super::super::dialect::Dialect;
use super::super::error::StoreError;
use super::super::finish::{self, Finish, Finished};
use super::super::jobs::COLUMNS;
use super::super::rollups::rolled_sql;
use super::super::session::Session;
use super::super::sql::{RowExt, Sql};
use super::super::writer::Tx;
use super::super::{chains, search};
use super::{ints, texts};

/// The moment, once for the whole statement.
pub(super) fn clock() -> String {
    format!("clock AS MATERIALIZED (SELECT {} AS now)", Dialect::Postgres.now())
}

/// Adds what `moved` (status, kind, queue, batch, n) holds to the shard `place` of the counts.
pub(super) fn counted(place: &str) -> String {
    format!(
        "counted AS (INSERT INTO job_counts (status, kind, queue, shard, n) \
         SELECT status, kind, queue, {place}::bigint, SUM(n) FROM moved GROUP BY status, kind, queue HAVING SUM(n) <> 0 \
         ORDER BY status, kind, queue \
         ON CONFLICT (status, kind, queue, shard) DO UPDATE SET n = job_counts.n + excluded.n), \
         batched AS (INSERT INTO batch_counts (batch, status, shard, n) \
         SELECT batch, status, {place}::bigint, SUM(n) FROM moved WHERE batch IS NOT NULL GROUP BY batch, status \
         HAVING SUM(n) <> 0 ORDER BY batch, status \
         ON CONFLICT (batch, status, shard) DO UPDATE SET n = batch_counts.n + excluded.n)"
    )
}

/// The CPU time of an attempt of which nobody knows it.
const NOT_MEASURED: i64 = -1;

/// The appended nothings keep the planner from walking all that run or wait instead of looking up the few that are given.
/// Rows are locked in the order of their numbers, as everywhere, so that no two transactions wait for each other. Whoever has a
/// job's row adds to its attempts: one that is there already is looked for, which takes less than to be ready for a conflict.
pub(in super::super) static FINISH: LazyLock<String> = LazyLock::new(|| {
    let (clock, counted, rolled) = (clock(), counted("$4"), rolled_sql("$4"));
    let (stale, due) = (search::AGAIN, chains::AGAIN);
    format!(
        "WITH {clock}, held AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $5::bigint[]) AS h (s, e, r, c)), \
         locked AS MATERIALIZED (SELECT jobs.seq, held.r, held.c FROM jobs JOIN held ON jobs.seq = held.s \
            WHERE jobs.epoch = held.e AND jobs.status || '' = 'running' ORDER BY jobs.seq FOR UPDATE OF jobs), \
         ended AS (UPDATE jobs SET status = 'completed', epoch = epoch + 1, rev = rev + 1, lease_until = NULL, \
            completed_at = clock.now, progress = 100, cancel_requested = 0, pause_requested = 0, error_code = NULL, error = NULL, \
            fingerprint = NULL \
            FROM locked, clock WHERE jobs.seq = locked.seq RETURNING jobs.*, locked.r AS result, locked.c AS cpu), \
         noted AS (INSERT INTO attempts (job_seq, number, epoch, worker, started_at, ended_at, outcome, cpu_ms) \
            SELECT seq, attempt, epoch - 1, worker, started_at, completed_at, 'completed', NULLIF(cpu, {NOT_MEASURED}) FROM ended \
            WHERE (SELECT 1 FROM attempts AS a WHERE a.job_seq = ended.seq AND a.number = ended.attempt) IS NULL), \
         stale AS (INSERT INTO search_stale (job_seq) SELECT seq FROM ended WHERE message <> '' OR attempt > 1 \
            {stale}), \
         results AS (UPDATE job_data SET result = NULLIF(ended.result, ''), error = NULL FROM ended \
            WHERE job_data.job_seq = ended.seq AND (ended.result <> '' OR job_data.error IS NOT NULL)), \
         due AS (INSERT INTO deps_due (needs_seq) SELECT seq FROM ended WHERE dependents = 1 \
            {due}), \
         counts AS MATERIALIZED (SELECT h.value AS hold, COUNT(*) AS k \
            FROM ended, json_array_elements_text(ended.holds::json) AS h (value) GROUP BY h.value), \
         places AS MATERIALIZED (SELECT hold, k FROM running_holds JOIN counts USING (hold) \
            ORDER BY hold FOR UPDATE OF running_holds), \
         freed AS (UPDATE running_holds SET n = running_holds.n - places.k FROM places \
            WHERE running_holds.hold = places.hold), \
         moved AS (SELECT 'running' AS status, kind, queue, batch, -COUNT(*) AS n FROM ended GROUP BY kind, queue, batch \
            UNION ALL SELECT 'completed', kind, queue, batch, COUNT(*) FROM ended GROUP BY kind, queue, batch), {counted}, \
         happened AS (SELECT completed_at AS now, kind, queue, 'completed' AS metric, 0::bigint AS ms FROM ended \
            UNION ALL SELECT completed_at, kind, queue, 'run', completed_at - started_at FROM ended), {rolled} \
         SELECT seq, rev, message, kind, queue, done, total, completed_at, holds, dependents, started_at, attempt, batch FROM ended"
    )
});

pub(in super::super) static CLAIM: LazyLock<String> = LazyLock::new(|| {
    let (clock, counted, rolled) = (clock(), counted("$4"), rolled_sql("$4"));
    let columns = COLUMNS.split(", ").map(|c| format!("taken.{}", c.trim()));
    let columns = columns.collect::<Vec<_>>().join(", ");
    format!(
        "WITH {clock}, wanted AS MATERIALIZED (SELECT jobs.seq FROM jobs, clock WHERE jobs.seq = ANY($1::bigint[]) \
            AND jobs.status || '' = 'pending' AND jobs.run_at <= clock.now AND jobs.concurrency_key IS NULL AND jobs.member = 0 \
            AND jobs.kind <> ALL($5::text[]) AND strpos(jobs.kind, '.') = 0 AND jobs.queue NOT IN (SELECT name FROM paused_queues) ORDER BY jobs.seq FOR UPDATE OF jobs), \
         taken AS (UPDATE jobs SET status = 'running', epoch = epoch + 1, attempt = attempt + 1, front = 0, worker = $2, \
            lease_until = clock.now + $3, started_at = clock.now, completed_at = NULL, progress = NULL, done = NULL, \
            total = NULL, message = '', holds = NULL, rev = rev + 1 \
            FROM wanted, clock WHERE jobs.seq = wanted.seq RETURNING jobs.*), \
         moved AS (SELECT 'pending' AS status, kind, queue, batch, -COUNT(*) AS n FROM taken GROUP BY kind, queue, batch \
            UNION ALL SELECT 'running', kind, queue, batch, COUNT(*) FROM taken GROUP BY kind, queue, batch), {counted}, \
         happened AS (SELECT started_at AS now, kind, queue, 'wait' AS metric, started_at - run_at AS ms FROM taken), {rolled} \
         SELECT {columns}, job_data.args AS args, job_data.timeout_s AS timeout_s, job_data.log_lines AS log_lines, \
         job_data.checkpoint AS checkpoint \
         FROM taken JOIN job_data ON job_data.job_seq = taken.seq"
    )
});

/// Ends attempts, and gives one answer for each.
pub(super) async fn finish(
    session: &Session,
    items: &[&Finish],
) -> Result<Vec<Result<Finished, StoreError>>, StoreError> {
    let values = [
        ints(items.iter().map(|f| f.lease.seq)),
        ints(items.iter().map(|f| super::super::sql::int(f.lease.epoch))),
        texts(items.iter().map(|f| f.result.as_deref().unwrap_or(""))),
        session.shard.into(),
        ints(
            items
                .iter()
                .map(|f| f.cpu_ms.map_or(NOT_MEASURED, super::super::sql::int)),
        ),
    ];
    let rows = session.all(Sql::with(&FINISH, values)).await?;
    let none = Deltas::default();
    let mut finished = HashMap::with_capacity(rows.len());
    let mut now = 0;
    for row in &rows {
        now = row.get("completed_at")?;
        // The statement has counted; what `read` counts goes nowhere.
        let (seq, done) = finish::read(&Tx::new(session, now, &none), row)?;
        finished.insert(seq, done);
    }
    finish::answers(&Tx::new(session, now, &none), items, finished).await
}

/// Takes jobs.
pub(super) async fn claim(session: &Session, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
    let values = [
        ints(claim.seqs.iter().copied()),
        claim.worker.as_str().into(),
        claim.lease_ms.into(),
        session.shard.into(),
        texts(claim.limited.iter().map(String::as_str)),
    ];
    let statement: Statement = Sql::with(&CLAIM, values);
    let rows = session.all(statement).await?;
    let none = Deltas::default();
    let tx = Tx::new(session, 0, &none);
    rows.iter().map(|row| claim::read(&tx, row)).collect()
}
