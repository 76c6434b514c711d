//! New jobs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::jobs::{DELAY_MAX, delay_ms, read};
use super::labels::Labels;
use super::starters::Offer;
use super::{Catalog, Service, require};
use crate::domain::audit::Deed;
use crate::domain::batch::NAME_MAX;
use crate::domain::error::{ErrorCode, JobError, Problem, ProblemCode};
use crate::domain::job::{DEFAULT_QUEUE, Job, JobId, NewJob, OnFailure, TIMEOUT_MAX, valid_queue_name};
use crate::domain::page::bytes;
use crate::domain::queue::valid_name;
use crate::domain::status::Status;
use crate::domain::time::{Timestamp, from_millis};
use crate::domain::user::{Actor, Want, may};
use crate::server::queue::{Change, Entry};
use crate::server::store::StoreError;
use crate::server::store::batches::NewBatch;
use crate::server::store::enqueue::{self as stored, Batch, Written};
use crate::server::store::ops::Lease;

/// What enqueueing came to.
#[derive(Clone, Debug)]
pub struct Enqueued {
    pub job: Job,
    /// Whether the unique key led to a job that was there before.
    pub existing: bool,
}

/// What enqueueing many came to.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct BulkEnqueued {
    /// Jobs that are new.
    pub enqueued: usize,
    /// Jobs that a unique key led to.
    pub existing: usize,
    /// One for each job that was given, in their order.
    pub ids: Vec<Uuid>,
    /// The batch that they began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Uuid>,
}

/// Jobs that can be enqueued in one go.
pub const BULK_MAX: usize = 10_000;
/// Bytes of a unique key, and of a concurrency key.
const KEY_MAX: usize = 200;
/// Jobs that one job may wait for.
const DEPENDS_MAX: usize = 100;
/// How far in the past a wished time may lie: clocks differ, and requests take their time.
const PAST_MAX: chrono::TimeDelta = chrono::TimeDelta::minutes(5);

impl Service {
    /// Checks a wish for a job and writes it down: once this answers, the job survives a power cut.
    pub async fn enqueue(&self, actor: &Actor, new: NewJob) -> Result<Enqueued, Problem> {
        self.know_kinds([new.kind.as_str()].into_iter()).await?;
        let now = self.now_for(std::slice::from_ref(&new)).await?;
        let labels = Labels::default();
        let enqueue = self.checked(actor, new, now, &labels)?;
        self.may_belong(actor, &enqueue, &labels).await?;
        let deed = Deed::of(actor, "job.enqueue", "job", enqueue.id);
        let deed = deed.to(json!({ "type": enqueue.kind, "queue": enqueue.queue }));
        match self.write(enqueue, deed).await? {
            Written::New(row) => Ok(Enqueued {
                job: row.job,
                existing: false,
            }),
            Written::Existing(row) => {
                // The key may be known to others; the job behind it is only shown to those who may see it, and to whoever
                // began it and now asks again, be it with a token that reads nothing.
                let job = row.job;
                let theirs = job.owner == actor.name && may(actor, Want::Enqueue { kind: &job.kind });
                match theirs || may(actor, read(&job)) {
                    true => Ok(Enqueued { job, existing: true }),
                    false => Err(Problem::invalid(
                        "unique_key",
                        "this unique_key is that of a job which you may not see; choose another",
                    )),
                }
            }
        }
    }

    /// [`Service::enqueue`] for at most [`BULK_MAX`] jobs, all or none. What is wrong with one of them is said with its place
    /// in the list, from 0.
    /// `batch`: the name of a batch that they begin.
    pub async fn enqueue_bulk(
        &self,
        actor: &Actor,
        jobs: Vec<NewJob>,
        batch: Option<&str>,
    ) -> Result<BulkEnqueued, Problem> {
        if jobs.is_empty() || jobs.len() > BULK_MAX {
            let detail = format!("{} jobs were given; allowed are 1 to {BULK_MAX} in one go", jobs.len());
            return Err(Problem::invalid("jobs", detail));
        }
        self.know_kinds(jobs.iter().map(|job| job.kind.as_str())).await?;
        let now = self.now_for(&jobs).await?;
        let labels = Labels::of(&jobs)?;
        let checked = jobs
            .into_iter()
            .enumerate()
            .map(|(i, new)| self.checked(actor, new, now, &labels).map_err(|p| nth(i, p)));
        let mut checked: Vec<stored::Enqueue> = checked.collect::<Result<_, _>>()?;
        // Their ids in the order that they were given in, each behind what it waits for.
        let ids: Vec<JobId> = labels.ids(&checked);
        for (i, job) in checked.iter_mut().enumerate() {
            job.id = ids[i];
            self.may_belong(actor, job, &labels).await.map_err(|p| nth(i, p))?;
        }
        let order = labels.order(&checked)?;
        let starts = batch.map(|name| new_batch(actor, name)).transpose()?;
        if let Some(batch) = &starts {
            if let Some(i) = checked.iter().position(|job| job.batch.is_some()) {
                let detail = "a batch is given for all of them; this one names another";
                return Err(Problem::invalid(format!("jobs[{i}].batch"), detail));
            }
            checked.iter_mut().for_each(|job| job.batch = Some(batch.id));
        }
        let known = starts.as_ref().map(|batch| batch.id);
        let first = ids.first().map(ToString::to_string).unwrap_or_default();
        let deed = match known {
            Some(batch) => Deed::of(actor, "batch.enqueue", "batch", batch),
            None => Deed::of(actor, "job.enqueue_bulk", "job", first),
        };
        let deed = deed.to(json!({ "jobs": ids.len() }));
        let mut sorted: Vec<Option<stored::Enqueue>> = checked.into_iter().map(Some).collect();
        let sorted = order.iter().filter_map(|i| sorted[*i].take()).collect();
        let mut written: Vec<(usize, Written)> = order
            .into_iter()
            .zip(self.write_all(sorted, starts, Some(deed)).await?)
            .collect();
        written.sort_by_key(|(i, _)| *i);
        let written: Vec<Written> = written.into_iter().map(|(_, written)| written).collect();
        let existing = written.iter().filter(|w| matches!(w, Written::Existing(_))).count();
        Ok(BulkEnqueued {
            enqueued: written.len() - existing,
            existing,
            ids: written.into_iter().map(|w| w.into_row().job.id).collect(),
            batch: known,
        })
    }

    /// A job that the caller may not know of is not there to be waited for, nor a batch to be added to.
    async fn may_belong(&self, actor: &Actor, job: &stored::Enqueue, labels: &Labels) -> Result<(), Problem> {
        for id in job.depends_on.iter().filter(|id| !labels.has(id)) {
            if self.job(actor, *id).await.is_err() {
                return Err(StoreError::NoDependency(*id).into());
            }
        }
        // Those of a batch that begins with them are checked before they are given to it.
        if let Some(batch) = job.batch
            && self.batch(actor, batch).await.is_err()
        {
            return Err(Problem::invalid("batch", format!("batch {batch} does not exist")));
        }
        Ok(())
    }

    /// The args as the kind understands them, their secrets encrypted, or what is wrong with them or their size.
    pub(super) fn checked_args(&self, kind: &str, args: &serde_json::Value) -> Result<serde_json::Value, Problem> {
        self.checked_size("args", args)?;
        self.sealed_args(kind, args)
    }

    /// Refuses args, or whatever else has their limit, that are too large.
    pub(super) fn checked_size(&self, field: &str, value: &serde_json::Value) -> Result<(), Problem> {
        let size = value.to_string().len() as u64;
        if size > self.limits.args_max {
            let (size, max) = (bytes(size), bytes(self.limits.args_max));
            let mut problem = Problem::new(
                ProblemCode::TooLarge,
                format!("{field} takes {size}; at most {max} are allowed"),
            );
            problem.field = Some(field.into());
            return Err(problem);
        }
        Ok(())
    }

    /// The moment that wished times are compared with: the database's, where there are any.
    async fn now_for(&self, jobs: &[NewJob]) -> Result<Timestamp, Problem> {
        match jobs.iter().any(|job| job.run_at.is_some()) {
            true => Ok(from_millis(self.store.clock().await?)),
            false => Ok(Timestamp::UNIX_EPOCH),
        }
    }

    /// What the store is asked to write for a wish, or what is wrong with it.
    fn checked(&self, actor: &Actor, new: NewJob, now: Timestamp, labels: &Labels) -> Result<stored::Enqueue, Problem> {
        require(actor, Want::Enqueue { kind: &new.kind })?;
        let args = self.checked_args(&new.kind, &new.args)?;
        let policy = self
            .catalog
            .policy(&new.kind)
            .ok_or_else(|| Problem::invalid("type", format!("type \"{}\" is not a kind known here", new.kind)))?;
        let queue = new.queue.unwrap_or_else(|| DEFAULT_QUEUE.into());
        if !valid_queue_name(&queue) {
            return Err(Problem::invalid(
                "queue",
                format!(
                    "queue \"{queue}\" is not a name; allowed: 1 to 64 of a-z 0-9 _ - . beginning with a letter or digit"
                ),
            ));
        }
        if new.run_at.is_some() && new.delay.is_some() {
            return Err(Problem::invalid(
                "delay",
                "delay and run_at exclude each other; give one of them",
            ));
        }
        if let Some(key) = &new.unique_key
            && !(1..=KEY_MAX).contains(&key.len())
        {
            return Err(Problem::invalid(
                "unique_key",
                format!("unique_key must have 1 to {KEY_MAX} bytes"),
            ));
        }
        if let Some(key) = &new.concurrency_key
            && !(1..=KEY_MAX).contains(&key.len())
        {
            return Err(Problem::invalid(
                "concurrency_key",
                format!("concurrency_key must have 1 to {KEY_MAX} bytes"),
            ));
        }
        if new.unique_for.is_some() && new.unique_key.is_none() {
            return Err(Problem::invalid(
                "unique_for",
                "unique_for says how long a unique_key counts; give one",
            ));
        }
        if new.depends_on.len() > DEPENDS_MAX {
            return Err(Problem::invalid(
                "depends_on",
                format!(
                    "depends_on names {} jobs; at most {DEPENDS_MAX} are allowed",
                    new.depends_on.len()
                ),
            ));
        }
        if let Some(at) = new.run_at
            && !(now - PAST_MAX..=now + chrono::TimeDelta::seconds(DELAY_MAX as i64)).contains(&at)
        {
            let why = if at < now {
                "in the past"
            } else {
                "more than ten years ahead"
            };
            return Err(Problem::invalid(
                "run_at",
                format!(
                    "run_at {} lies {why}; it is {} now, and allowed is a time from five minutes ago on",
                    at.to_rfc3339(),
                    now.to_rfc3339()
                ),
            ));
        }
        if let Some(timeout) = new.timeout
            && !(1..=TIMEOUT_MAX).contains(&timeout)
        {
            return Err(Problem::invalid(
                "timeout",
                format!("timeout {timeout} is not within 1 to {TIMEOUT_MAX} s (72 hours)"),
            ));
        }
        Ok(stored::Enqueue {
            id: Uuid::now_v7(),
            kind: new.kind,
            queue,
            lane: new.priority.unwrap_or_default(),
            owner: actor.name.clone(),
            args,
            max_attempts: policy.max_attempts,
            timeout_s: new.timeout.unwrap_or(policy.timeout_s),
            parent: None,
            unique_key: new.unique_key.map(|key| own_key(actor, key)),
            run_at: new.run_at.map(|t| t.timestamp_millis()),
            delay_ms: new.delay.map(|s| delay_ms("delay", s)).transpose()?,
            unique_for_ms: new.unique_for.map(|s| delay_ms("unique_for", s)).transpose()?,
            depends_on: labels.resolve(&new.depends_on)?,
            run_anyway: new.on_failure == OnFailure::Run,
            concurrency_key: new.concurrency_key,
            member: actor.is_limited(),
            batch: new.batch,
            reason: None,
        })
    }

    /// Writes a job down and tells the queue and the viewers of it.
    pub(super) async fn write(&self, new: stored::Enqueue, deed: Deed) -> Result<Written, Problem> {
        let mut written = self.write_all(vec![new], None, Some(deed)).await?;
        written
            .pop()
            .ok_or_else(|| Problem::new(ProblemCode::Internal, "The store lost a job."))
    }

    /// Writes jobs down, all or none, and tells the queue and the viewers of them.
    pub(super) async fn write_all(
        &self,
        jobs: Vec<stored::Enqueue>,
        starts: Option<NewBatch>,
        deed: Option<Deed>,
    ) -> Result<Vec<Written>, Problem> {
        self.write_within(self.limits.queue_max, jobs, starts, deed).await
    }

    /// [`Service::write_all`] while fewer jobs wait than so many.
    pub(super) async fn write_within(
        &self,
        queue_max: u64,
        jobs: Vec<stored::Enqueue>,
        starts: Option<NewBatch>,
        deed: Option<Deed>,
    ) -> Result<Vec<Written>, Problem> {
        let batch = Batch {
            jobs,
            queue_max,
            starts,
            deed,
            taker: None,
        };
        let offer = match batch.jobs.as_slice() {
            [job] => self.starters.offer(job, &*self.queue).await,
            _ => None,
        };
        let written = match offer {
            Some(offer) => {
                let service = self.clone();
                // Whoever asked may go away in the middle, and the job would have nobody to run it.
                let writing = self.doing.spawn(async move { service.write_begun(batch, offer).await });
                let broken = |_| Problem::new(ProblemCode::Internal, "The job could not be written.");
                writing.await.map_err(broken)??
            }
            None => {
                let written = self.store.enqueue(batch).await?;
                self.tell_enqueued(&written).await;
                written
            }
        };
        match written {
            stored::Enqueued::Written(written) => Ok(written),
            stored::Enqueued::Full { .. } => Err(full()),
        }
    }

    /// Writes a job down as one that a worker here has taken, which begins with it, and tells of it.
    async fn write_begun(&self, mut batch: Batch, offer: Offer) -> Result<stored::Enqueued, StoreError> {
        let given = batch.jobs.first().map(|job| (job.id, job.args.clone(), job.timeout_s));
        batch.taker = Some(offer.taker);
        let written = self.store.enqueue(batch).await;
        match (&written, given) {
            (Ok(stored::Enqueued::Written(written)), Some((_, args, timeout_s))) => {
                if let Some(claimed) = written.first().and_then(|one| one.begun(args, timeout_s)) {
                    // Before its end can be told.
                    self.bus.change(Change::Job(claimed.job.clone()));
                    offer.slot.begin(claimed);
                }
            }
            // Whatever was refused was not written.
            (Err(error), Some((id, ..))) if error.is_away() => offer.slot.unsure(id),
            _ => {}
        }
        let written = written?;
        self.tell_enqueued(&written).await;
        Ok(written)
    }

    async fn tell_enqueued(&self, enqueued: &stored::Enqueued) {
        if let stored::Enqueued::Written(written) = enqueued {
            self.tell_written(written).await;
        }
    }

    /// Tells the queue and the viewers of jobs that were written down.
    async fn tell_written(&self, written: &[Written]) {
        let mut entries = Vec::with_capacity(written.len());
        let mut later = false;
        for one in written {
            let Written::New(row) = one else { continue };
            metrics::counter!("windlass_jobs_enqueued_total", "type" => row.job.kind.clone()).increment(1);
            match row.job.status {
                Status::Pending => entries.push(Entry::of(row.seq, &row.job)),
                // It has begun, and was told of.
                Status::Running => continue,
                _ => later = true,
            }
            self.bus.change(Change::Job(Arc::new(row.job.clone())));
        }
        if !entries.is_empty() {
            self.announce(&entries).await;
        }
        if later {
            self.queue.due_hint();
        }
    }

    /// Checks a wish of a running job for one more, its child, and writes it down for the same owner. `name` tells it from the
    /// job's other children: a later attempt that wishes for it again is given the one that is there.
    pub(in crate::server) async fn enqueue_child(
        &self,
        lease: Lease,
        name: &str,
        new: NewJob,
    ) -> Result<JobId, JobError> {
        if !valid_name(name, NAME_MAX) {
            let detail =
                format!("\"{name}\" is not a child's name; allowed: 1 to {NAME_MAX} bytes, no control characters");
            return Err(JobError::new(ErrorCode::Internal, detail).permanent());
        }
        let refused = |problem: Problem| {
            let code = match problem.code {
                ProblemCode::Unavailable => ErrorCode::DatabaseError,
                _ => ErrorCode::InvalidArgs,
            };
            JobError::new(code, format!("a child can't be started: {}", problem.detail))
        };
        let wish = NewJob {
            unique_key: None,
            unique_for: None,
            batch: None,
            ..new
        };
        let now = self.now_for(std::slice::from_ref(&wish)).await.map_err(refused)?;
        let checked = self.checked(&Actor::machine(), wish, now, &Labels::default());
        let child = stored::Enqueue {
            unique_key: Some(format!("child\n{}\n{name}", lease.id)),
            unique_for_ms: Some(i64::MAX),
            ..checked.map_err(refused)?
        };
        match self.store.enqueue_child(lease, child, self.limits.queue_max).await? {
            stored::Enqueued::Full { .. } => Err(JobError::new(ErrorCode::RateLimit, full().detail)),
            stored::Enqueued::Written(mut written) => {
                self.tell_written(&written).await;
                let one = written.pop().map(|one| one.into_row().job.id);
                one.ok_or_else(|| JobError::new(ErrorCode::Internal, "the store lost a job"))
            }
        }
    }
}

/// Who does not see all jobs shares no keys with others: a key neither tells them of another's job nor keeps them from a job
/// of their own.
fn own_key(actor: &Actor, key: String) -> String {
    match actor.sees_own_only() || actor.sees_kinds().is_some() {
        true => format!("{}\n{key}", actor.name),
        false => key,
    }
}

fn nth(i: usize, mut problem: Problem) -> Problem {
    problem.field = Some(match problem.field {
        Some(field) => format!("jobs[{i}].{field}"),
        None => format!("jobs[{i}]"),
    });
    problem
}

fn new_batch(actor: &Actor, name: &str) -> Result<NewBatch, Problem> {
    if !valid_name(name, NAME_MAX) {
        return Err(Problem::invalid(
            "batch",
            format!("batch \"{name}\" is not a name; allowed: 1 to {NAME_MAX} bytes, no control characters"),
        ));
    }
    Ok(NewBatch::new(name, &actor.name))
}

/// How many wait in all is not everybody's to know.
fn full() -> Problem {
    let detail = "As many jobs wait as QUEUE_MAX allows; try again when some have run";
    Problem::new(ProblemCode::QueueFull, detail)
}
