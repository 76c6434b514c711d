//! Schedules: what people may do with them, and what becomes of one that falls due.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::cron::Rule;
use super::{Catalog, Service, require};
use crate::domain::audit::Deed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::{DEFAULT_QUEUE, Job, valid_queue_name};
use crate::domain::queue::valid_name;
use crate::domain::schedule::{Misfire, NewSchedule, Schedule};
use crate::domain::time::from_millis;
use crate::domain::user::{Actor, Want};
use crate::server::queue::{Change, Entry};
use crate::server::store::enqueue::Enqueue;
use crate::server::store::schedules::{ScheduleDraft, ScheduleRow};
use crate::server::store::{Store, StoreError};

/// Bytes of a schedule's name.
const NAME_MAX: usize = 100;
/// A run that is due for longer than this, in milliseconds, was missed: the engine looks every second.
const MISSED_MS: i64 = 60_000;

fn no_schedule(id: Uuid) -> Problem {
    Problem::not_found(format_args!("schedule {id}"))
}

impl Service {
    /// With its description, which is not stored, and without its secrets.
    fn told(&self, row: ScheduleRow) -> Schedule {
        let mut schedule = row.schedule;
        schedule.description = Rule::parse(&schedule.cron, &schedule.time_zone)
            .map(|rule| rule.describe())
            .unwrap_or_default();
        schedule.args = self.masked_args(&schedule.kind, schedule.args);
        schedule
    }

    /// What the audit log says of a schedule: all that people decide about it, without its secrets.
    fn noted(&self, schedule: &Schedule) -> Value {
        json!({
            "name": schedule.name,
            "cron": schedule.cron,
            "time_zone": schedule.time_zone,
            "type": schedule.kind,
            "args": self.masked_args(&schedule.kind, schedule.args.clone()),
            "queue": schedule.queue,
            "priority": schedule.priority,
            "misfire": schedule.misfire,
            "owner": schedule.owner,
            "paused": schedule.paused,
        })
    }

    pub async fn schedules(&self, actor: &Actor) -> Result<Vec<Schedule>, Problem> {
        require(actor, Want::ReadAll)?;
        let rows = self.store.schedules().await?;
        Ok(rows.into_iter().map(|row| self.told(row)).collect())
    }

    pub async fn schedule(&self, actor: &Actor, id: Uuid) -> Result<Schedule, Problem> {
        require(actor, Want::ReadAll)?;
        let row = self.store.schedule(id).await?.ok_or_else(|| no_schedule(id))?;
        Ok(self.told(row))
    }

    /// Makes a schedule, or changes the one with this id to what is given.
    pub async fn put_schedule(&self, actor: &Actor, id: Option<Uuid>, new: NewSchedule) -> Result<Schedule, Problem> {
        require(actor, Want::Schedule { delete: false })?;
        require(actor, Want::Enqueue { kind: &new.kind })?;
        self.know_kinds([new.kind.as_str()].into_iter()).await?;
        let was = match id {
            Some(id) => Some(self.store.schedule(id).await?.ok_or_else(|| no_schedule(id))?.schedule),
            None => None,
        };
        if !valid_name(&new.name, NAME_MAX) {
            let name = &new.name;
            return Err(Problem::invalid(
                "name",
                format!("name \"{name}\" is not one; allowed: 1 to {NAME_MAX} bytes, no control characters"),
            ));
        }
        let rule = Rule::parse(&new.cron, &new.time_zone)?;
        let args = match was.filter(|was| was.kind == new.kind) {
            Some(was) => self.edited_args(&new.kind, new.args, &was.args)?,
            None => self.checked_args(&new.kind, &new.args)?,
        };
        let queue = new.queue.unwrap_or_else(|| DEFAULT_QUEUE.into());
        if !valid_queue_name(&queue) {
            return Err(Problem::invalid(
                "queue",
                format!("queue \"{queue}\" is not a name of a queue"),
            ));
        }
        let now = from_millis(self.store.clock().await?);
        let next = rule.next(now).ok_or_else(|| {
            Problem::invalid(
                "cron",
                format!("cron \"{}\" never falls due; allowed is what does", new.cron),
            )
        })?;
        let draft = ScheduleDraft {
            name: new.name.clone(),
            cron: new.cron,
            time_zone: new.time_zone,
            kind: new.kind,
            args,
            queue,
            lane: new.priority.unwrap_or_default(),
            misfire: new.misfire,
            owner: actor.name.clone(),
            next_at: Some(next.timestamp_millis()),
        };
        let action = if id.is_some() {
            "schedule.change"
        } else {
            "schedule.create"
        };
        let id = id.unwrap_or_else(Uuid::now_v7);
        let deed = Deed::of(actor, action, "schedule", id);
        let service = self.clone();
        let note = move |was: Option<&Schedule>, is: &Schedule| {
            let deed = deed.to(service.noted(is));
            Some(match was {
                Some(was) => deed.from(service.noted(was)),
                None => deed,
            })
        };
        match self.store.put_schedule(id, draft, note).await? {
            Some(row) => Ok(self.told(row)),
            None => Err(Problem::invalid(
                "name",
                format!("name \"{}\" is another schedule's; choose one that none has", new.name),
            )),
        }
    }

    pub async fn delete_schedule(&self, actor: &Actor, id: Uuid) -> Result<(), Problem> {
        require(actor, Want::Schedule { delete: true })?;
        let (deed, service) = (Deed::of(actor, "schedule.delete", "schedule", id), self.clone());
        let note = move |was: &Schedule| deed.from(service.noted(was));
        match self.store.delete_schedule(id, note).await? {
            true => Ok(()),
            false => Err(no_schedule(id)),
        }
    }

    /// A paused schedule falls due no more; a resumed one goes on with its next run, and makes up for none.
    pub async fn pause_schedule(&self, actor: &Actor, id: Uuid, paused: bool) -> Result<Schedule, Problem> {
        require(actor, Want::Schedule { delete: false })?;
        let row = self.store.schedule(id).await?.ok_or_else(|| no_schedule(id))?;
        let next = match paused {
            true => None,
            false => {
                let rule = Rule::parse(&row.schedule.cron, &row.schedule.time_zone)?;
                let now = from_millis(self.store.clock().await?);
                rule.next(now).map(|at| at.timestamp_millis())
            }
        };
        let action = if paused { "schedule.pause" } else { "schedule.resume" };
        let deed = Deed::of(actor, action, "schedule", id);
        let row = self.store.pause_schedule(id, paused, next, deed).await?;
        Ok(self.told(row.ok_or_else(|| no_schedule(id))?))
    }

    /// Enqueues a run now, besides those that fall due.
    pub async fn run_schedule(&self, actor: &Actor, id: Uuid) -> Result<Job, Problem> {
        require(actor, Want::Schedule { delete: false })?;
        let row = self.store.schedule(id).await?.ok_or_else(|| no_schedule(id))?;
        require(
            actor,
            Want::Enqueue {
                kind: &row.schedule.kind,
            },
        )?;
        let reason = format!("schedule {}, run by {}", row.schedule.name, actor.name);
        let job = self.run_of(&row.schedule, actor.name.clone(), reason)?;
        let deed = Deed::of(actor, "schedule.run_now", "schedule", id).to(json!({ "job": job.id }));
        Ok(self.write(job, deed).await?.into_row().job)
    }

    /// The job of a run; its args are checked again, since kinds change.
    fn run_of(&self, schedule: &Schedule, owner: String, reason: String) -> Result<Enqueue, Problem> {
        let unknown = || {
            Problem::new(
                ProblemCode::Internal,
                format!("the kind {} is not known here", schedule.kind),
            )
        };
        let policy = self.catalog.policy(&schedule.kind).ok_or_else(unknown)?;
        let args = self.scheduled_args(&schedule.kind, &schedule.args)?;
        Ok(Enqueue {
            queue: schedule.queue.clone(),
            lane: schedule.priority,
            reason: Some(reason),
            ..Enqueue::of(&schedule.kind, &owner, args, &policy)
        })
    }

    /// Enqueues the runs that are due, each once whoever else does the same, and says how long the engine may wait, in
    /// milliseconds, when nothing else is told. A schedule that can't be fired here stays due, and is in no other's way.
    pub(in crate::server) async fn fire_due(&self) -> Result<Option<i64>, StoreError> {
        self.fire_due_by(self.store.clock().await?).await
    }

    /// What the engine does when the database's clock shows `now`: whoever gives other moments sees what comes of years.
    pub async fn fire_due_by(&self, now: i64) -> Result<Option<i64>, StoreError> {
        let mut after = None;
        loop {
            let page = self.store.schedules_due(now, after).await?;
            after = page.last().map(|last| (last.at, last.id));
            let more = page.len() >= Store::DUE_PAGE;
            for due in page {
                let (id, at) = (due.id, due.at);
                let fired = match due.schedule {
                    Ok(schedule) => self.fire(&schedule, at, now).await,
                    Err(error) => Err(error),
                };
                match fired {
                    Err(error) if error.is_away() => return Err(error),
                    Err(error) if self.faults.worth_telling(id) => {
                        tracing::error!(schedule = %id, %error, "a schedule could not be fired; it stays due");
                    }
                    _ => {}
                }
            }
            if !more {
                return Ok(self.store.next_schedule(now).await?.map(|next| next - now));
            }
        }
    }

    async fn fire(&self, schedule: &Schedule, due: i64, now: i64) -> Result<(), StoreError> {
        let tell = || self.faults.worth_telling(schedule.id);
        if self.catalog.policy(&schedule.kind).is_none() {
            // While versions change there may be other processes that know it.
            if tell() {
                let (schedule, kind) = (&schedule.name, &schedule.kind);
                tracing::warn!(%schedule, %kind, "a run is due of a kind that this process does not know; it waits for one that does");
            }
            return Ok(());
        }
        let Ok(rule) = Rule::parse(&schedule.cron, &schedule.time_zone) else {
            tracing::error!(schedule = %schedule.name, "a schedule can't be read any more; it is passed over");
            self.store.fire(schedule.id, due, None, None).await?;
            return Ok(());
        };
        // However many runs were missed, the next one lies in the future.
        let next = rule.next(from_millis(now)).map(|at| at.timestamp_millis());
        let missed = now - due > MISSED_MS;
        let job = match (missed, schedule.misfire) {
            (true, Misfire::Skip) => None,
            _ => match self.run_of(schedule, schedule.owner.clone(), format!("schedule {}", schedule.name)) {
                Ok(job) => Some(job),
                Err(problem) => {
                    if tell() {
                        tracing::error!(schedule = %schedule.name, %problem, "a run can't be enqueued; it is passed over");
                    }
                    None
                }
            },
        };
        if let Some(row) = self.store.fire(schedule.id, due, next, job).await? {
            metrics::counter!("windlass_schedule_runs_total").increment(1);
            self.announce(&[Entry::of(row.seq, &row.job)]).await;
            self.bus.change(Change::Job(Arc::new(row.job)));
        }
        Ok(())
    }
}

/// How often the trouble with a schedule is logged while it lasts, and of how many within that time.
const TELL_EVERY: Duration = Duration::from_secs(60);
const TELL_MAX: usize = 20;

/// Schedules whose trouble was logged of late: those that stay due are met again and again.
#[derive(Default)]
pub(super) struct Faults(Mutex<HashMap<Uuid, Instant>>);

impl Faults {
    fn worth_telling(&self, id: Uuid) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < TELL_EVERY);
        let worth = told.len() < TELL_MAX && !told.contains_key(&id);
        if worth {
            told.insert(id, Instant::now());
        }
        worth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_lasting_trouble_is_bounded() {
        let (faults, one) = (Faults::default(), Uuid::now_v7());
        assert!(faults.worth_telling(one));
        assert!(!faults.worth_telling(one), "again");
        let told = (0..1_000).filter(|_| faults.worth_telling(Uuid::now_v7())).count();
        assert_eq!(told, TELL_MAX - 1);
    }
}
