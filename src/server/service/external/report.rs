//! What a worker outside says about a job that it runs. Every write carries the lease's epoch, and is refused once that is old.

use std::sync::Arc;

use super::{is_held, no_lease};
use crate::domain::error::{ErrorCode, JobError, Problem, truncate};
use crate::domain::job::{Job, JobId, percent};
use crate::domain::log::Level;
use crate::domain::machine::Event;
use crate::domain::status::{Outcome, Status};
use crate::domain::time::duration;
use crate::domain::user::Actor;
use crate::domain::work::{CheckpointReport, Completion, Ended, Failure, LogReport, ProgressReport, Release, Wishes};
use crate::server::queue::Change;
use crate::server::secrets::Veil;
use crate::server::service::outcome::{counted, kept, random, reason};
use crate::server::service::{Catalog, Service};
use crate::server::store::StoreError;
use crate::server::store::external::leases::Said;
use crate::server::store::finish::Finish;
use crate::server::store::jobs::JobRow;
use crate::server::store::logs::Reported;
use crate::server::store::ops::Lease;

/// A lease of the caller's worker, and the job as it is.
struct Mine<'a> {
    worker: &'a str,
    row: JobRow,
    lease: Lease,
}

impl Mine<'_> {
    fn wishes(job: &Job) -> Wishes {
        Wishes {
            cancel: job.cancel_requested,
            pause: job.pause_requested,
        }
    }

    /// What a refused write is answered with.
    fn refused(&self, error: StoreError) -> Problem {
        match error.is_stale() || matches!(error, StoreError::NoJob(_)) {
            true => no_lease(self.worker, self.lease.id, self.lease.epoch),
            false => error.into(),
        }
    }
}

impl Service {
    /// The lease that a worker of the caller's names, if it holds.
    async fn mine<'a>(&self, actor: &Actor, worker: &'a str, id: JobId, epoch: u64) -> Result<Mine<'a>, Problem> {
        self.worker(actor, worker).await?;
        let row = self.store.job(id).await?;
        let held = row.filter(|row| is_held(&row.job, worker, epoch, row.state.epoch));
        let row = held.ok_or_else(|| no_lease(worker, id, epoch))?;
        let lease = Lease {
            id,
            seq: row.seq,
            epoch,
        };
        Ok(Mine { worker, row, lease })
    }

    /// What an attempt may not say: the secrets of its args, and whatever looks like one.
    async fn veil_of(&self, mine: &Mine<'_>) -> Result<Veil, Problem> {
        if let Some(veil) = self.workers.veil(mine.lease) {
            return Ok(veil);
        }
        let data = self.store.job_data(mine.lease.seq).await?;
        let data = data.ok_or_else(|| no_lease(mine.worker, mine.lease.id, mine.lease.epoch))?;
        let veil = match self.opened_args(&mine.row.job.kind, data.args) {
            Ok(opened) => opened.veil,
            // It was given none that can't be read.
            Err(_) => self.veil(),
        };
        self.workers.keep(mine.lease, Some(veil.clone()));
        Ok(veil)
    }

    /// How far an attempt is. Answers with what people want of it.
    pub async fn worker_progress(
        &self,
        actor: &Actor,
        worker: &str,
        id: JobId,
        said: ProgressReport,
    ) -> Result<Wishes, Problem> {
        said.checked()?;
        let mine = self.mine(actor, worker, id, said.epoch).await?;
        let message = match said.message {
            Some(text) => {
                // Before it is cut: half a secret would not be known for one.
                let mut text = self.veil_of(&mine).await?.text(text);
                truncate(&mut text, Job::MESSAGE_MAX);
                Some(text)
            }
            None => None,
        };
        let progress = said
            .done
            .zip(said.total)
            .map(|(done, total)| (percent(done, total), done, total));
        let reported = Reported {
            progress,
            message,
            lines: Vec::new(),
        };
        let job = self.store.report(mine.lease, reported).await;
        let job = job.map_err(|error| mine.refused(error))?;
        let wishes = Mine::wishes(&job);
        self.bus.change(Change::Job(Arc::new(job)));
        Ok(wishes)
    }

    /// Lines for a job's log. Answers with what people want of the attempt.
    pub async fn worker_lines(
        &self,
        actor: &Actor,
        worker: &str,
        id: JobId,
        said: LogReport,
    ) -> Result<Wishes, Problem> {
        said.checked()?;
        let mine = self.mine(actor, worker, id, said.epoch).await?;
        let veil = self.veil_of(&mine).await?;
        let lines = said.lines.into_iter().map(|line| Said {
            level: line.level,
            message: veil.text(line.message),
        });
        let job = self.say(&mine, lines.collect()).await?;
        Ok(Mine::wishes(&job))
    }

    async fn say(&self, mine: &Mine<'_>, lines: Vec<Said>) -> Result<Job, Problem> {
        let written = self.store.external_lines(mine.lease, mine.row.job.attempt, lines).await;
        let (job, lines) = written.map_err(|error| mine.refused(error))?;
        if !lines.is_empty() {
            self.bus.lines(mine.lease.id, lines);
        }
        self.bus.change(Change::Job(Arc::new(job.clone())));
        Ok(job)
    }

    /// Where the next attempt would go on. Answers with what people want of the attempt.
    pub async fn worker_checkpoint(
        &self,
        actor: &Actor,
        worker: &str,
        id: JobId,
        said: CheckpointReport,
    ) -> Result<Wishes, Problem> {
        let mine = self.mine(actor, worker, id, said.epoch).await?;
        self.keep_checkpoint(&mine, &said.checkpoint).await?;
        Ok(Mine::wishes(&mine.row.job))
    }

    async fn keep_checkpoint(&self, mine: &Mine<'_>, checkpoint: &serde_json::Value) -> Result<(), Problem> {
        let kind = &mine.row.job.kind;
        if !self.catalog.info(kind).is_some_and(|info| info.checkpoints) {
            let detail =
                format!("{kind} was declared as a kind without checkpoints; declare it with \"checkpoints\": true");
            return Err(Problem::invalid("checkpoint", detail));
        }
        self.checked_size("checkpoint", checkpoint)?;
        let saved = self.store.save_checkpoint(mine.lease, checkpoint.to_string()).await;
        saved.map_err(|error| mine.refused(error))
    }

    /// An attempt ended well. Said again after it was heard, it is answered in the same way.
    pub async fn worker_complete(
        &self,
        actor: &Actor,
        worker: &str,
        id: JobId,
        said: Completion,
    ) -> Result<Ended, Problem> {
        let mine = match self.mine(actor, worker, id, said.epoch).await {
            Ok(mine) => mine,
            Err(problem) => {
                return self
                    .ended_so(worker, id, said.epoch, &[Outcome::Completed], problem)
                    .await;
            }
        };
        let result = self.veil_of(&mine).await?.result(said.result);
        let finish = Finish {
            lease: mine.lease,
            result: kept(result),
            again: mine.row.job.attempt > 1,
            cpu_ms: said.cpu_ms,
        };
        let done = self.store.finish(finish).await.map_err(|error| mine.refused(error))?;
        self.workers.forget(mine.lease);
        self.completed(mine.row.job, done).await;
        Ok(Ended {
            id,
            status: Status::Completed,
            run_at: None,
        })
    }

    /// An attempt failed: the kind's policy and the error say what comes next. Said again after it was heard, it is answered in
    /// the same way.
    pub async fn worker_fail(&self, actor: &Actor, worker: &str, id: JobId, said: Failure) -> Result<Ended, Problem> {
        let error = said.error()?;
        let mine = match self.mine(actor, worker, id, said.epoch).await {
            Ok(mine) => mine,
            Err(problem) => return self.ended_so(worker, id, said.epoch, &[Outcome::Failed], problem).await,
        };
        let error = self.veil_of(&mine).await?.error(error);
        self.failed(&mine, error, said.cpu_ms).await
    }

    async fn failed(&self, mine: &Mine<'_>, error: JobError, cpu_ms: Option<u64>) -> Result<Ended, Problem> {
        let line = Said {
            level: Level::Error,
            message: error.to_string(),
        };
        self.say(mine, vec![line]).await?;
        let JobRow { job, state, .. } = &mine.row;
        // As a claim reckons it: attempts since a person last granted new ones.
        let used = state.max_attempts.saturating_sub(state.attempts_per_round);
        let round = state.attempt.saturating_sub(used).max(1);
        let policy = self.catalog.policy(&job.kind).unwrap_or(self.catalog.default_policy());
        let delay_ms = i64::try_from(policy.delay_ms(round, random())).unwrap_or(i64::MAX);
        let epoch = mine.lease.epoch;
        self.end(mine, &Event::Fail { epoch, error, delay_ms }, cpu_ms).await
    }

    /// An attempt stops without an end of its own: as it was asked to, or else to be gone on with by another worker, which costs
    /// no attempt.
    pub async fn worker_release(
        &self,
        actor: &Actor,
        worker: &str,
        id: JobId,
        said: Release,
    ) -> Result<Ended, Problem> {
        let epoch = said.epoch;
        let mine = match self.mine(actor, worker, id, epoch).await {
            Ok(mine) => mine,
            Err(problem) => {
                let ends = [Outcome::Cancelled, Outcome::Paused, Outcome::HandedBack];
                return self.ended_so(worker, id, epoch, &ends, problem).await;
            }
        };
        if let Some(checkpoint) = &said.checkpoint {
            self.keep_checkpoint(&mine, checkpoint).await?;
        }
        let event = match Mine::wishes(&mine.row.job) {
            Wishes { cancel: true, .. } => Event::Stopped { epoch },
            Wishes { pause: true, .. } => Event::Checkpointed { epoch },
            // Whoever asks at this very moment finds it waiting, or ended.
            Wishes { .. } => Event::HandBack { epoch },
        };
        self.end(&mine, &event, said.cpu_ms).await
    }

    /// The end of an attempt that has run for longer than it may.
    pub(super) async fn time_out(&self, worker: &str, lease: Lease, seconds: u64) -> Result<(), Problem> {
        let Some(row) = self.store.job(lease.id).await? else {
            return Ok(());
        };
        let limit = duration(i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX));
        let error = JobError::new(ErrorCode::Timeout, format!("the attempt took longer than {limit}"));
        match self.failed(&Mine { worker, row, lease }, error, None).await {
            // It ended by itself at the same moment.
            Err(problem) if problem.code != crate::domain::error::ProblemCode::LeaseLost => Err(problem),
            _ => Ok(()),
        }
    }

    async fn end(&self, mine: &Mine<'_>, event: &Event, cpu_ms: Option<u64>) -> Result<Ended, Problem> {
        let (id, by) = (mine.lease.id, mine.worker.to_string());
        let reason = match event {
            Event::HandBack { .. } => "its worker gave it back".into(),
            event => reason(event),
        };
        let changed = self.store.end(id, event.clone(), by, reason, cpu_ms).await;
        let changed = changed.map_err(|error| mine.refused(error))?;
        self.workers.forget(mine.lease);
        let job = &changed.row.job;
        counted(&job.kind, job.status);
        self.settle(&changed).await;
        Ok(Ended {
            id,
            status: job.status,
            run_at: matches!(job.status, Status::Retrying | Status::Pending).then_some(job.run_at),
        })
    }

    /// The answer to an end that is told once more, since the answer got lost: as it was heard, if it was; `problem` otherwise.
    async fn ended_so(
        &self,
        worker: &str,
        id: JobId,
        epoch: u64,
        ends: &[Outcome],
        problem: Problem,
    ) -> Result<Ended, Problem> {
        if problem.code != crate::domain::error::ProblemCode::LeaseLost {
            return Err(problem);
        }
        let outcome = self.store.external_outcome(id, epoch, worker).await?;
        if !outcome.is_some_and(|outcome| ends.contains(&outcome)) {
            return Err(problem);
        }
        let row = self.store.job(id).await?.ok_or(problem)?;
        Ok(Ended {
            id,
            status: row.job.status,
            run_at: matches!(row.job.status, Status::Retrying | Status::Pending).then_some(row.job.run_at),
        })
    }
}
