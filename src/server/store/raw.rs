//! The statements of the hot path by themselves, on a connection of their own: without the writer, the engine and the queue, and
//! each commit on disk as ours are. `windlass bench` measures the engine by it; nothing else uses it.

use sea_orm::Value;

use super::claim::TAKE;
use super::commit::last;
use super::connect::{sqlite_writer, system_clock};
use super::counts::{Deltas, PARTS};
use super::dialect::Dialect;
use super::enqueue::{Batch, Enqueued};
use super::error::StoreError;
use super::finish::END;
use super::ops::to_json;
use super::postgres::{self, ints, texts};
use super::session::Session;
use super::sets::{self, Asked};
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::stats::Metric;
use crate::domain::status::Status;
use crate::server::config::{Config, Database, PostgresUrl};

const WORKER: &str = "raw";
const LEASE_MS: i64 = 600_000;
/// The counts that it adds to.
const SHARD: i64 = 0;
/// Jobs whose dates are written in one commit.
const SPREAD_AT_ONCE: usize = 50_000;

/// A job that was taken: its number and the epoch of its lease.
pub type Taken = (i64, i64);

/// The connection.
pub struct Raw {
    session: Session,
}

impl Raw {
    /// Opens a database that a system has made, and that none uses at the moment.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        let session = match &config.database {
            Database::Sqlite(_) => Session::sqlite(sqlite_writer(&config.database_path()).await?),
            Database::Postgres(url) => {
                let (options, read) = postgres::open(url).await?;
                read.close().await;
                Session::postgres(postgres::for_sets(options), SHARD)
            }
        };
        session.ready().await?;
        Ok(Self { session })
    }

    /// The numbers of all jobs that wait, in their order.
    pub async fn pending(&self) -> Result<Vec<i64>, StoreError> {
        let text = "SELECT seq FROM jobs WHERE status = 'pending' ORDER BY seq";
        let rows = self.session.all(Sql::new(text).build()).await?;
        rows.iter().map(|row| row.get("seq")).collect()
    }

    /// Ends these attempts and takes these jobs, all of which are of one kind and in one queue: one commit on SQLite, one for each
    /// of the two on Postgres. Whatever it could not end or take is an error.
    pub async fn round(
        &self,
        ended: &[Taken],
        next: &[i64],
        kind: &str,
        queue: &str,
    ) -> Result<Vec<Taken>, StoreError> {
        let (finished, taken) = match self.session.dialect() {
            Dialect::Sqlite => self.sqlite_round(ended, next, kind, queue).await?,
            Dialect::Postgres => self.postgres_round(ended, next).await?,
        };
        match finished == ended.len() && taken.len() == next.len() {
            true => Ok(taken),
            false => Err(StoreError::Commit(format!(
                "{finished} of {} attempts ended, {} of {} jobs taken",
                ended.len(),
                taken.len(),
                next.len()
            ))),
        }
    }

    async fn sqlite_round(
        &self,
        ended: &[Taken],
        next: &[i64],
        kind: &str,
        queue: &str,
    ) -> Result<(usize, Vec<Taken>), StoreError> {
        let now = system_clock();
        let mut deltas = Deltas::default();
        let mut text = String::from("BEGIN IMMEDIATE; ");
        if !ended.is_empty() {
            text.push_str(END);
        }
        if !next.is_empty() {
            text.push_str(&TAKE);
        }
        for (items, from, to) in [
            (ended.len(), Status::Running, Status::Completed),
            (next.len(), Status::Pending, Status::Running),
        ] {
            for _ in 0..items {
                deltas.add(from, kind, queue, None, -1);
                deltas.add(to, kind, queue, None, 1);
                match to {
                    Status::Completed => {
                        deltas.roll(now, kind, queue, Metric::Completed, 0);
                        deltas.roll(now, kind, queue, Metric::Run, 0);
                    }
                    _ => deltas.roll(now, kind, queue, Metric::Wait, 0),
                }
            }
        }
        let leases: Vec<_> = ended.iter().map(|(seq, epoch)| (seq, epoch, 0)).collect();
        // The places are those of `sets.rs`.
        let mut values: Vec<Value> = vec![
            now.into(),
            to_json(&leases)?.into(),
            None::<String>.into(),
            to_json(&next)?.into(),
            WORKER.into(),
            (now + LEASE_MS).into(),
            "[]".into(),
        ];
        for part in PARTS {
            part(&deltas, Dialect::Sqlite, SHARD, &mut text, &mut values)?;
        }
        text.push_str("COMMIT");
        let rows = self.session.all(Sql::with(&text, values)).await?;
        let mut taken = Vec::with_capacity(next.len());
        let mut finished = 0;
        for row in &rows {
            match row.get::<String>("what")?.as_str() {
                "claimed" => taken.push((row.get("seq")?, row.get("epoch")?)),
                _ => finished += 1,
            }
        }
        Ok((finished, taken))
    }

    async fn postgres_round(&self, ended: &[Taken], next: &[i64]) -> Result<(usize, Vec<Taken>), StoreError> {
        let mut finished = 0;
        if !ended.is_empty() {
            let values = [
                ints(ended.iter().map(|(seq, _)| *seq)),
                ints(ended.iter().map(|(_, epoch)| *epoch)),
                texts(ended.iter().map(|_| "")),
                SHARD.into(),
                ints(ended.iter().map(|_| 0)),
            ];
            let rows = self.session.all(Sql::with(&postgres::sets::FINISH, values)).await?;
            finished = rows.len();
        }
        let mut taken = Vec::with_capacity(next.len());
        if !next.is_empty() {
            let values = [
                ints(next.iter().copied()),
                WORKER.into(),
                LEASE_MS.into(),
                SHARD.into(),
                texts(std::iter::empty()),
            ];
            for row in &self.session.all(Sql::with(&postgres::sets::CLAIM, values)).await? {
                taken.push((row.get("seq")?, row.get("epoch")?));
            }
        }
        Ok((finished, taken))
    }

    /// Writes new jobs in one commit.
    pub async fn insert(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut answers = match self.session.dialect() {
            Dialect::Sqlite => {
                let (now, none) = (system_clock(), Deltas::default());
                let tx = Tx::new(&self.session, now, &none);
                let asked = Asked {
                    batches: vec![batch],
                    ..Asked::default()
                };
                let (answered, planned) = sets::first(&tx, "BEGIN IMMEDIATE; ", &asked).await?;
                last(&self.session, now, Some(&planned), &tx.into_deltas()).await?;
                answered.enqueued
            }
            Dialect::Postgres => postgres::enqueue::enqueue(&self.session, &[batch]).await?,
        };
        match answers.pop() {
            Some(Ok(Enqueued::Written(written))) if written.len() == batch.jobs.len() => Ok(()),
            Some(Err(error)) => Err(error),
            _ => Err(StoreError::Commit("not all jobs were written".into())),
        }
    }

    /// Gives the jobs there are the dates of a system that has run for `span_ms`, in the order of their numbers: the last keeps its
    /// own, the others lie evenly before it. Filling enqueues in seconds what comes in a month.
    pub async fn spread(&self, span_ms: i64) -> Result<(), StoreError> {
        let ends = "SELECT MIN(seq) AS first, MAX(seq) AS last, MAX(created_at) AS at FROM jobs HAVING COUNT(*) > 1";
        let ends = self.session.all(Sql::new(ends).build()).await?;
        let Some(ends) = ends.first() else { return Ok(()) };
        let (first, last, at): (i64, i64, i64) = (ends.get("first")?, ends.get("last")?, ends.get("at")?);
        for from in (first..=last).step_by(SPREAD_AT_ONCE) {
            let until = from.saturating_add(SPREAD_AT_ONCE as i64);
            let update = Sql::with(
                "UPDATE jobs SET created_at = $1 - ($2 - seq) * $3 / $4 WHERE seq >= $5 AND seq < $6",
                [at, last, span_ms, last - first, from, until].map(Value::from),
            );
            self.session.execute(update).await?;
        }
        if self.session.dialect() == Dialect::Postgres {
            self.session.plain("VACUUM (ANALYZE) jobs").await?;
        }
        Ok(())
    }

    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.session.close().await?)
    }
}

/// The settings with which a Postgres acknowledges what a power cut would take away again, as `fsync = off`.
pub async fn not_durable(url: &PostgresUrl) -> Result<Vec<String>, StoreError> {
    let session = Session::postgres(url.options().clone(), SHARD);
    session.ready().await?;
    let text = "SELECT name || ' = ' || setting AS told FROM pg_settings \
        WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name";
    let rows = session.all(Sql::new(text).build()).await?;
    let told = rows.iter().map(|row| row.get("told")).collect::<Result<_, _>>()?;
    session.close().await?;
    Ok(told)
}
