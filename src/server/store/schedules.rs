//! Cron rules, and the rows that keep two servers from enqueueing the same run.

use futures::FutureExt;
use sea_orm::QueryResult;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::chains;
use super::enqueue::Enqueue;
use super::error::StoreError;
use super::jobs::JobRow;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::audit::Deed;
use crate::domain::job::Lane;
use crate::domain::schedule::{Misfire, Schedule};

/// A schedule as it is stored; its description and zone are the reader's.
#[derive(Clone, Debug)]
pub struct ScheduleRow {
    pub schedule: Schedule,
    /// Milliseconds since 1970.
    pub next_at: Option<i64>,
}

/// A schedule whose time has come.
#[derive(Debug)]
pub struct DueSchedule {
    pub id: Uuid,
    /// When it fell due, in milliseconds since 1970.
    pub at: i64,
    /// An error when what is stored is not what this version writes.
    pub schedule: Result<Schedule, StoreError>,
}

/// What a schedule is changed to.
#[derive(Clone, Debug)]
pub struct ScheduleDraft {
    pub name: String,
    pub cron: String,
    pub time_zone: String,
    pub kind: String,
    pub args: Value,
    pub queue: String,
    pub lane: Lane,
    pub misfire: Misfire,
    pub owner: String,
    pub next_at: Option<i64>,
}

const COLUMNS: &str = "id, name, cron, time_zone, kind, args, queue, lane, misfire, owner, paused, created_at, next_at, \
    last_at, last_job";

impl Store {
    /// All schedules by name, at most a thousand.
    pub async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM schedules ORDER BY name LIMIT 1000");
        self.all(Sql::new(&text).build()).await?.iter().map(schedule).collect()
    }

    pub async fn schedule(&self, id: Uuid) -> Result<Option<ScheduleRow>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM schedules WHERE id = $1");
        self.one(Sql::with(&text, [id.into()]))
            .await?
            .as_ref()
            .map(schedule)
            .transpose()
    }

    /// Those that were due at `now`, in the order of their times, from behind `after` on: at most [`Store::DUE_PAGE`].
    pub async fn schedules_due(&self, now: i64, after: Option<(i64, Uuid)>) -> Result<Vec<DueSchedule>, StoreError> {
        let (at, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let text = format!(
            "SELECT {COLUMNS} FROM schedules WHERE paused = 0 AND next_at <= $1 AND (next_at, id) > ($2, $3) \
             ORDER BY next_at, id LIMIT {}",
            Self::DUE_PAGE
        );
        let rows = self.all(Sql::with(&text, [now.into(), at.into(), id.into()])).await?;
        let due = rows.iter().map(|r| {
            Ok(DueSchedule {
                id: r.get("id")?,
                at: r.get("next_at")?,
                schedule: schedule(r).map(|row| row.schedule),
            })
        });
        due.collect()
    }

    /// Schedules that one [`Store::schedules_due`] gives at the most.
    pub const DUE_PAGE: usize = 100;

    /// When the next one falls due after `now`.
    pub async fn next_schedule(&self, now: i64) -> Result<Option<i64>, StoreError> {
        let text = "SELECT MIN(next_at) AS next FROM schedules WHERE paused = 0 AND next_at > $1";
        match self.one(Sql::with(text, [now.into()])).await? {
            Some(row) => row.get("next"),
            None => Ok(None),
        }
    }

    /// Writes a schedule down: a new one, or over the one with this id. `None`: its name is another's. `note`: what the audit
    /// log says of it, of the one that was there and the one that is there now.
    pub async fn put_schedule(
        &self,
        id: Uuid,
        draft: ScheduleDraft,
        note: impl FnOnce(Option<&Schedule>, &Schedule) -> Option<Deed> + Send + 'static,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    // Held until the commit: what is noted as it was is what is written over.
                    let text = format!(
                        "SELECT {COLUMNS} FROM schedules WHERE id = $1{}",
                        tx.dialect().hold_rows()
                    );
                    let was = tx.one(Sql::with(&text, [id.into()])).await?;
                    let was = was.as_ref().map(schedule).transpose()?;
                    let written = put(tx, id, &draft).await?;
                    if let Some(is) = &written {
                        let deed = note(was.as_ref().map(|row| &row.schedule), &is.schedule);
                        append(tx, deed.as_slice()).await?;
                    }
                    Ok(written)
                }
                .boxed()
            })
            .await
    }

    /// Pauses, or with the time of the next run resumes. `None`: it is not there.
    pub async fn pause_schedule(
        &self,
        id: Uuid,
        paused: bool,
        next_at: Option<i64>,
        deed: Deed,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let hold = tx.dialect().hold_rows();
                    let text = format!("SELECT {COLUMNS} FROM schedules WHERE id = $1{hold}");
                    let was = tx.one(Sql::with(&text, [id.into()])).await?;
                    let Some(was) = was.as_ref().map(schedule).transpose()? else {
                        return Ok(None);
                    };
                    // One whose next run nobody could tell has none until it is resumed.
                    if was.schedule.paused == paused && (paused || was.next_at.is_some()) {
                        return Ok(Some(was));
                    }
                    let deed = deed
                        .from(json!({ "paused": was.schedule.paused }))
                        .to(json!({ "paused": paused }));
                    let text =
                        format!("UPDATE schedules SET paused = $1, next_at = $2 WHERE id = $3 RETURNING {COLUMNS}");
                    let values = [i64::from(paused).into(), next_at.into(), id.into()];
                    let row = tx.one(Sql::with(&text, values)).await?;
                    append(tx, &[deed]).await?;
                    row.as_ref().map(schedule).transpose()
                }
                .boxed()
            })
            .await
    }

    /// Removes a schedule; its jobs stay. Says whether it was there. `note`: what the audit log says of it.
    pub async fn delete_schedule(
        &self,
        id: Uuid,
        note: impl FnOnce(&Schedule) -> Deed + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = format!("DELETE FROM schedules WHERE id = $1 RETURNING {COLUMNS}");
                    let Some(row) = tx.one(Sql::with(&text, [id.into()])).await? else {
                        return Ok(false);
                    };
                    append(tx, &[note(&schedule(&row)?.schedule)]).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await
    }

    /// Enqueues the run that was due at `due_at`, and moves the schedule on to `next_at`. Nothing, when that run has been
    /// enqueued already, by whomever. Without a job, the run is passed over.
    pub async fn fire(
        &self,
        id: Uuid,
        due_at: i64,
        next_at: Option<i64>,
        job: Option<Enqueue>,
    ) -> Result<Option<JobRow>, StoreError> {
        self.writer()
            .write(move |tx| async move { fire(tx, id, due_at, next_at, job.as_ref()).await }.boxed())
            .await
    }

    /// Forgets on which runs jobs were enqueued longer ago than this: no schedule goes back so far.
    pub async fn forget_runs(&self, older_than_ms: i64) -> Result<u64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM schedule_runs WHERE due_at < $1";
                    Ok(tx.execute(Sql::with(text, [(tx.now() - older_than_ms).into()])).await?)
                }
                .boxed()
            })
            .await
    }
}

async fn put(tx: &Tx<'_>, id: Uuid, draft: &ScheduleDraft) -> Result<Option<ScheduleRow>, StoreError> {
    let text = "SELECT 1 AS one FROM schedules WHERE name = $1 AND id <> $2";
    if tx
        .one(Sql::with(text, [draft.name.clone().into(), id.into()]))
        .await?
        .is_some()
    {
        return Ok(None);
    }
    let text = format!(
        "INSERT INTO schedules (id, name, cron, time_zone, kind, args, queue, lane, misfire, owner, created_at, next_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO UPDATE SET \
         name = excluded.name, cron = excluded.cron, time_zone = excluded.time_zone, kind = excluded.kind, \
         args = excluded.args, queue = excluded.queue, lane = excluded.lane, misfire = excluded.misfire, \
         next_at = CASE WHEN schedules.paused = 0 THEN excluded.next_at END RETURNING {COLUMNS}"
    );
    let values = [
        id.into(),
        draft.name.clone().into(),
        draft.cron.clone().into(),
        draft.time_zone.clone().into(),
        draft.kind.clone().into(),
        to_json(&draft.args)?.into(),
        draft.queue.clone().into(),
        draft.lane.rank().into(),
        draft.misfire.as_str().into(),
        draft.owner.clone().into(),
        tx.now().into(),
        draft.next_at.into(),
    ];
    tx.one(Sql::with(&text, values))
        .await?
        .as_ref()
        .map(schedule)
        .transpose()
}

async fn fire(
    tx: &Tx<'_>,
    id: Uuid,
    due_at: i64,
    next_at: Option<i64>,
    job: Option<&Enqueue>,
) -> Result<Option<JobRow>, StoreError> {
    // Whoever moves the schedule on has the run; the row below says so even to one that read the schedule long ago.
    let text = "UPDATE schedules SET next_at = $1, last_at = $2 WHERE id = $3 AND next_at = $2 AND paused = 0";
    let moved = tx
        .execute(Sql::with(text, [next_at.into(), due_at.into(), id.into()]))
        .await?;
    let Some(job) = job.filter(|_| moved > 0) else {
        return Ok(None);
    };
    // It has been there already where the clock was set back since: that run was enqueued, and the schedule goes on.
    let text = "INSERT INTO schedule_runs (schedule, due_at, job) VALUES ($1, $2, $3) ON CONFLICT (schedule, due_at) DO NOTHING";
    let values = [id.into(), due_at.into(), job.id.into()];
    if tx.execute(Sql::with(text, values)).await? == 0 {
        return Ok(None);
    }
    let row = chains::insert(tx, job, false).await?;
    let text = "UPDATE schedules SET last_job = $1 WHERE id = $2";
    tx.execute(Sql::with(text, [row.job.id.into(), id.into()])).await?;
    Ok(Some(row))
}

fn schedule(r: &QueryResult) -> Result<ScheduleRow, StoreError> {
    let (args, misfire): (String, String) = (r.get("args")?, r.get("misfire")?);
    Ok(ScheduleRow {
        next_at: r.get("next_at")?,
        schedule: Schedule {
            id: r.get("id")?,
            name: r.get("name")?,
            cron: r.get("cron")?,
            description: String::new(),
            time_zone: r.get("time_zone")?,
            kind: r.get("kind")?,
            args: serde_json::from_str(&args).map_err(|_| StoreError::corrupt("args", args))?,
            queue: r.get("queue")?,
            priority: Lane::from_rank(r.int("lane")?),
            misfire: Misfire::parse(&misfire).ok_or_else(|| StoreError::corrupt("misfire", misfire))?,
            owner: r.get("owner")?,
            paused: r.flag("paused")?,
            created_at: r.time("created_at")?,
            next_at: r.opt_time("next_at")?,
            last_at: r.opt_time("last_at")?,
            last_job: r.get("last_job")?,
        },
    })
}
