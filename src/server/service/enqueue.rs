//! New jobs.

use super::jobs::delay_ms;
use super::{Service, require};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::{DEFAULT_QUEUE, Job, NewJob, valid_queue_name};
use crate::domain::page::bytes;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Want};
use crate::server::queue::{Change, Entry};
use crate::server::store::enqueue as stored;

/// What enqueueing came to.
#[derive(Clone, Debug)]
pub struct Enqueued {
    pub job: Job,
    /// Whether the unique key led to a job that was there before.
    pub existing: bool,
}

/// Bytes of a unique key.
const KEY_MAX: usize = 200;

impl Service {
    /// Checks a wish for a job and writes it down: once this answers, the job survives a power cut.
    pub async fn enqueue(&self, actor: &Actor, new: NewJob) -> Result<Enqueued, Problem> {
        require(actor, Want::Enqueue { kind: &new.kind })?;
        let size = new.args.to_string().len() as u64;
        if size > self.limits.args_max {
            let (size, max) = (bytes(size), bytes(self.limits.args_max));
            let mut problem = Problem::new(
                ProblemCode::TooLarge,
                format!("args take {size}; at most {max} are allowed"),
            );
            problem.field = Some("args".into());
            return Err(problem);
        }
        let args = self.catalog.check(&new.kind, &new.args)?;
        let info = self
            .catalog
            .info(&new.kind)
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
        let enqueue = stored::Enqueue {
            kind: new.kind,
            queue,
            lane: new.priority.unwrap_or_default(),
            owner: actor.name.clone(),
            args,
            max_attempts: info.policy.max_attempts,
            timeout_s: info.policy.timeout_s,
            parent: None,
            unique_key: new.unique_key,
            run_at: new.run_at.map(|t| t.timestamp_millis()),
            delay_ms: new.delay.map(delay_ms).transpose()?,
            reason: "enqueued".into(),
        };
        match self.write(enqueue).await? {
            stored::Enqueued::New(row) => Ok(Enqueued {
                job: row.job,
                existing: false,
            }),
            stored::Enqueued::Existing(row) => {
                // The key may be known to others; the job behind it is only shown to those who may see it.
                let job = self.job(actor, row.job.id).await?;
                Ok(Enqueued { job, existing: true })
            }
            stored::Enqueued::Full { waiting } => Err(full(waiting)),
        }
    }

    /// Writes a job down and tells the queue and the viewers of it.
    pub(super) async fn write(&self, new: stored::Enqueue) -> Result<stored::Enqueued, Problem> {
        let done = self.store.enqueue(new, self.limits.queue_max).await?;
        if let stored::Enqueued::New(row) = &done {
            match row.job.status {
                Status::Pending => self.queue.announce(&[Entry::of(row.seq, &row.job)]).await,
                _ => self.queue.due_hint(),
            }
            self.bus.change(Change::Job(row.job.clone()));
            metrics::counter!("windlass_jobs_enqueued_total", "type" => row.job.kind.clone()).increment(1);
        }
        Ok(done)
    }
}

pub(super) fn full(waiting: u64) -> Problem {
    Problem::new(
        ProblemCode::QueueFull,
        format!("{waiting} jobs wait already; try again when some have run"),
    )
}
