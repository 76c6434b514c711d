//! Reading jobs and acting on them.

use std::sync::Arc;

use serde_json::json;

use super::bulk::to_go_on;
use super::{Catalog, Service, no_job, require};
use crate::domain::audit::{Deed, checked_reason};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::facets::Found;
use crate::domain::filter::JobFilter;
use crate::domain::job::{ActOptions, Job, JobDetail, JobHistory, JobId, JobRef};
use crate::domain::kind::{KindInfo, Policy};
use crate::domain::log::{LogFilter, LogLine};
use crate::domain::machine::Event;
use crate::domain::page::{LIMIT_DEFAULT, LIMIT_MAX, Page, PageRequest};
use crate::domain::status::{Action, Status};
use crate::domain::time::{Timestamp, from_millis};
use crate::domain::user::{Actor, Want, may};
use crate::server::queue::{Change, Signal, Wish};
use crate::server::store::StoreError;
use crate::server::store::enqueue::Enqueue;
use crate::server::store::jobs::JobRow;
use crate::server::store::list::Cursor;

/// Lines of a log that one answer holds unless told otherwise, and at the most.
pub const LOG_LIMIT_DEFAULT: u32 = 1_000;
pub const LOG_LIMIT_MAX: u32 = 10_000;

/// The longest delay, in seconds: ten years.
pub(super) const DELAY_MAX: u64 = 315_576_000;

/// Refuses a time beyond [`DELAY_MAX`]; answers with milliseconds.
pub(super) fn delay_ms(field: &str, seconds: u64) -> Result<i64, Problem> {
    if seconds > DELAY_MAX {
        return Err(Problem::invalid(
            field,
            format!("{field} {seconds} is longer than {DELAY_MAX} s"),
        ));
    }
    Ok(i64::try_from(seconds * 1_000).unwrap_or(i64::MAX))
}

impl Service {
    /// The kinds that can be enqueued.
    pub fn kinds(&self, actor: &Actor) -> Result<Vec<KindInfo>, Problem> {
        require(actor, Want::ReadSystem)?;
        Ok(self.catalog.infos())
    }

    /// One part of the jobs that match and that the actor may see.
    pub async fn list_jobs(&self, actor: &Actor, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>, Problem> {
        let filter = &self.visible(actor, filter)?;
        let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("limit {limit} is not within 1 to {LIMIT_MAX}"),
            ));
        }
        let cursor = page.cursor.as_deref().map(|c| Cursor::decode(c, filter)).transpose()?;
        if cursor.is_some() && page.offset.is_some_and(|o| o > 0) {
            return Err(Problem::invalid(
                "offset",
                "offset and cursor exclude each other; give one of them",
            ));
        }
        let mut rows = self
            .store
            .list(filter, limit + 1, page.offset.unwrap_or(0), cursor.as_ref())
            .await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|row| Cursor::of(filter, row).encode());
        let (total, capped) = self.store.count(filter).await?;
        let lag = match filter.q {
            Some(_) => self.store.unsearched().await?,
            None => 0,
        };
        // It counts everybody's jobs: who does not see them all learns that some of theirs may be missing, and no number.
        let unsearched = if may(actor, Want::ReadAll) { lag } else { 0 };
        Ok(Page {
            items: rows.into_iter().map(|r| r.job).collect(),
            total,
            total_capped: capped || lag > 0,
            unsearched,
            next_cursor,
        })
    }

    /// [`Service::list_jobs`], and how many of all that match there are of each sort.
    pub async fn search_jobs(&self, actor: &Actor, filter: &JobFilter, page: &PageRequest) -> Result<Found, Problem> {
        let page = self.list_jobs(actor, filter, page).await?;
        let facets = self.store.facets(&self.visible(actor, filter)?).await?;
        Ok(Found { page, facets })
    }

    /// Checks a filter, and narrows it to what the actor may see.
    pub(super) fn visible(&self, actor: &Actor, filter: &JobFilter) -> Result<JobFilter, Problem> {
        require(actor, Want::ReadOwn)?;
        let mut filter = filter.clone().checked()?;
        let forbidden = |detail: String| Err(Problem::new(ProblemCode::Forbidden, detail));
        if actor.sees_own_only() {
            match &filter.owner {
                Some(owner) if *owner != actor.name => return forbidden("Only your own jobs can be listed.".into()),
                _ => filter.owner = Some(actor.name.clone()),
            }
        }
        if let Some(kinds) = actor.sees_kinds() {
            match (&filter.kind, kinds) {
                (None, [only]) => filter.kind = Some(only.clone()),
                (Some(kind), kinds) if kinds.contains(kind) => {}
                _ => {
                    return forbidden(format!(
                        "This token is good for some types: name one of {}.",
                        kinds.join(", ")
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// One job's row, if the actor may see it.
    pub(super) async fn row(&self, actor: &Actor, id: JobId) -> Result<JobRow, Problem> {
        let row = self.store.job(id).await?.ok_or_else(|| no_job(id))?;
        if !may(actor, read(&row.job)) {
            return Err(no_job(id));
        }
        Ok(row)
    }

    /// One job.
    pub async fn job(&self, actor: &Actor, id: JobId) -> Result<Job, Problem> {
        Ok(self.row(actor, id).await?.job)
    }

    /// All of one job.
    pub async fn job_detail(&self, actor: &Actor, id: JobId) -> Result<JobDetail, Problem> {
        let row = self.row(actor, id).await?;
        let data = self.store.job_data(row.seq).await?.ok_or_else(|| no_job(id))?;
        let JobHistory { transitions, attempts } = self.store.history(&row).await?;
        let artifacts = self.store.artifacts(row.seq).await?;
        let parent = match row.parent {
            Some(parent) => self.row(actor, parent).await.ok().map(|p| JobRef {
                id: p.job.id,
                kind: p.job.kind,
                status: p.job.status,
            }),
            None => None,
        };
        let batch_name = match row.job.batch {
            Some(batch) => self.batch(actor, batch).await.ok().map(|batch| batch.name),
            None => None,
        };
        let children = self.store.children(id).await?;
        let (depends_on, dependents) = self.store.chain(row.seq).await?;
        let seen = |related: Vec<(JobRef, String)>| -> Vec<JobRef> {
            let visible = related
                .into_iter()
                .filter(|(job, owner)| may(actor, Want::Read { owner, kind: &job.kind }));
            visible.map(|(reference, _)| reference).collect()
        };
        let info = self.catalog.info(&row.job.kind);
        let policy = info.as_ref().map(|i| i.policy).unwrap_or(Policy {
            max_attempts: row.state.attempts_per_round,
            timeout_s: data.timeout_s,
            ..Policy::DEFAULT
        });
        let checkpoints = info.is_some_and(|i| i.checkpoints);
        let internal = self.catalog.is_internal(&row.job.kind);
        let actions = row.job.status.actions(checkpoints).iter().copied().filter(|action| {
            let (owner, kind) = (&row.job.owner, &row.job.kind);
            let goes_on = || may(actor, to_go_on(actor, Some(&data.args)));
            let allowed = match action {
                _ if !internal => true,
                Action::RunAgain => false,
                Action::RunNow | Action::Resume | Action::Retry => goes_on(),
                _ => true,
            };
            allowed
                && may(
                    actor,
                    Want::Act {
                        action: *action,
                        owner,
                        kind,
                    },
                )
        });
        let actions: Vec<Action> = actions.collect();
        Ok(JobDetail {
            args: self.masked_args(&row.job.kind, data.args),
            result: data.result,
            error: data.error,
            attempts,
            transitions,
            artifacts,
            batch_name,
            parent,
            children: seen(children),
            depends_on: seen(depends_on),
            dependents: seen(dependents),
            policy,
            actions,
            log_lines: data.log_lines,
            epoch: row.state.epoch,
            job: row.job,
        })
    }

    /// Transitions and attempts of one job.
    pub async fn history(&self, actor: &Actor, id: JobId) -> Result<JobHistory, Problem> {
        let row = self.row(actor, id).await?;
        Ok(self.store.history(&row).await?)
    }

    /// Lines of one job's log.
    pub async fn logs(
        &self,
        actor: &Actor,
        id: JobId,
        filter: &LogFilter,
        limit: Option<u32>,
    ) -> Result<Vec<LogLine>, Problem> {
        let limit = limit.unwrap_or(LOG_LIMIT_DEFAULT);
        if !(1..=LOG_LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("limit {limit} is not within 1 to {LOG_LIMIT_MAX}"),
            ));
        }
        let row = self.row(actor, id).await?;
        Ok(self.store.log(row.seq, filter, limit).await?)
    }

    /// Does `action` to one job. Answers with the job as it is then: for Run again the copy, for Delete its last state.
    pub async fn act(&self, actor: &Actor, id: JobId, action: Action, mut options: ActOptions) -> Result<Job, Problem> {
        let reason = checked_reason(options.reason.take())?;
        self.act_because(actor, id, action, options, reason).await
    }

    /// [`Service::act`] for a reason that is not the one in the options.
    pub(super) async fn act_because(
        &self,
        actor: &Actor,
        id: JobId,
        action: Action,
        options: ActOptions,
        reason: String,
    ) -> Result<Job, Problem> {
        let row = self.row(actor, id).await?;
        let (owner, kind) = (&row.job.owner, &row.job.kind);
        self.know_kinds([kind.as_str()].into_iter()).await?;
        require(actor, Want::Act { action, owner, kind })?;
        if matches!(action, Action::RunNow | Action::Resume | Action::Retry) && self.catalog.is_internal(kind) {
            self.may_let_go_on(actor, &row).await?;
        }
        let deed = Deed::of(actor, &deed_name(action), "job", id).because(reason);
        let checkpoints = self.catalog.info(&row.job.kind).is_some_and(|i| i.checkpoints);
        let event = match action {
            Action::RunNow => Event::RunNow,
            Action::Pause => Event::Pause { checkpoints },
            Action::Resume => Event::Resume,
            Action::Cancel => Event::Cancel,
            Action::Abort => Event::Abort,
            Action::Retry => return self.retry(actor, row, options, deed).await,
            Action::RunAgain => return self.run_again(actor, row, deed).await,
            Action::Delete => {
                if !row.job.status.actions(checkpoints).contains(&Action::Delete) {
                    return Err(wrong_status(action, row.job.status));
                }
                return self
                    .remove(&row, |status| status.actions(false).contains(&Action::Delete), deed)
                    .await;
            }
        };
        let words = deed.in_words(action.label());
        let changed = self.store.act(id, event, words, deed).await.map_err(no_lease)?;
        self.settle(&changed).await;
        Ok(changed.row.job)
    }

    async fn retry(&self, actor: &Actor, row: JobRow, options: ActOptions, deed: Deed) -> Result<Job, Problem> {
        let at = self.retry_time(options.delay).await?;
        let args = match options.args {
            Some(args) => {
                // With other args it is as good as a new job.
                require(actor, Want::Enqueue { kind: &row.job.kind })?;
                let was = self.store.job_data(row.seq).await?.ok_or_else(|| no_job(row.job.id))?;
                Some(self.edited_args(&row.job.kind, args, &was.args)?)
            }
            None => None,
        };
        let (id, event) = (row.job.id, Event::Retry { at });
        let changed = self.store.retry(id, event, args, deed).await.map_err(no_lease)?;
        self.settle(&changed).await;
        Ok(changed.row.job)
    }

    async fn retry_time(&self, delay: Option<u64>) -> Result<Timestamp, Problem> {
        let now = self.store.clock().await?;
        let delay = delay.map(|s| delay_ms("delay", s)).transpose()?.unwrap_or(0);
        Ok(from_millis(now.saturating_add(delay)))
    }

    /// `DELETE /api/jobs/{id}`: cancels what waits, aborts what runs, removes what has ended; `purge` removes whatever it is.
    pub async fn delete(&self, actor: &Actor, id: JobId, purge: bool, reason: Option<String>) -> Result<Job, Problem> {
        let reason = checked_reason(reason)?;
        let row = self.row(actor, id).await?;
        let status = row.job.status;
        if !purge && !status.is_finished() {
            let action = if status == Status::Running {
                Action::Abort
            } else {
                Action::Cancel
            };
            let options = ActOptions::default();
            return self.act_because(actor, id, action, options, reason).await;
        }
        let (action, owner, kind) = (Action::Delete, &row.job.owner, &row.job.kind);
        require(actor, Want::Act { action, owner, kind })?;
        let deed = Deed::of(actor, &deed_name(action), "job", id).because(reason);
        let these = if purge { |_| true } else { Status::is_finished };
        self.remove(&row, these, deed).await
    }

    /// Removes a job, if it is in a status of these by then.
    async fn remove(&self, row: &JobRow, these: fn(Status) -> bool, deed: Deed) -> Result<Job, Problem> {
        let gone = self.store.delete_in(row.job.id, these, deed).await?;
        if gone.job.status == Status::Running {
            let (id, epoch, wish) = (gone.job.id, gone.state.epoch, Wish::Abort);
            self.bus.signal(Signal { id, epoch, wish });
            self.release(gone.holds.as_deref()).await;
        }
        self.queue.withdraw(&[gone.seq]).await;
        self.bus.change(Change::Removed(Arc::new(gone.job.clone())));
        Ok(gone.job)
    }

    async fn run_again(&self, actor: &Actor, row: JobRow, deed: Deed) -> Result<Job, Problem> {
        let id = row.job.id;
        require(actor, Want::Enqueue { kind: &row.job.kind })?;
        if !row.job.status.actions(false).contains(&Action::RunAgain) {
            return Err(wrong_status(Action::RunAgain, row.job.status));
        }
        let data = self.store.job_data(row.seq).await?.ok_or_else(|| no_job(id))?;
        let args = self.stored_args(&row.job.kind, &data.args)?;
        let policy = Policy {
            max_attempts: row.state.attempts_per_round,
            timeout_s: data.timeout_s,
            ..Policy::DEFAULT
        };
        let copy = Enqueue {
            queue: row.job.queue,
            lane: row.job.priority,
            concurrency_key: row.job.concurrency_key,
            member: actor.is_limited(),
            reason: Some(format!("Run again of {id}")),
            ..Enqueue::of(&row.job.kind, &actor.name, args, &policy)
        };
        let deed = deed.to(json!({ "job": copy.id }));
        Ok(self.write(copy, deed).await?.into_row().job)
    }
}

fn wrong_status(action: Action, status: Status) -> Problem {
    Problem::new(
        ProblemCode::WrongStatus,
        format!(
            "{} is not possible: the job is {}",
            action.label(),
            status.label().to_lowercase()
        ),
    )
}

/// What it takes to see a job.
pub(super) fn read(job: &Job) -> Want<'_> {
    Want::Read {
        owner: &job.owner,
        kind: &job.kind,
    }
}

/// What the audit log calls an action.
fn deed_name(action: Action) -> String {
    format!("job.{}", action.label().to_lowercase().replace(' ', "_"))
}

/// A person holds no lease: a change that came in between is a matter of status.
fn no_lease(e: StoreError) -> Problem {
    if e.is_stale() {
        Problem::new(
            ProblemCode::WrongStatus,
            "The job changed at the same moment; look at it again.",
        )
    } else {
        e.into()
    }
}
