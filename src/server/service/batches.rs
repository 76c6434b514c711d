//! Batches: followed and cancelled as one.

use serde_json::json;
use uuid::Uuid;

use super::{Service, broken, require};
use crate::domain::audit::{Deed, checked_reason};
use crate::domain::batch::{Batch, BatchCancelled};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::ActOptions;
use crate::domain::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::domain::status::{Action, Status};
use crate::domain::user::{Actor, Want, may};

/// Jobs of a batch that one call cancels at the most: as many as one call can enqueue.
const CANCEL_MAX: u64 = 10_000;
/// Jobs that are looked up at once.
const PAGE: u32 = 500;

impl Service {
    /// Batches that the actor may see, the newest first, at most `limit`, from behind `before` on.
    pub async fn batches(
        &self,
        actor: &Actor,
        before: Option<Uuid>,
        limit: Option<u32>,
    ) -> Result<Vec<Batch>, Problem> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("limit {limit} is not within 1 to {LIMIT_MAX}"),
            ));
        }
        require(actor, Want::ReadOwn)?;
        if actor.sees_kinds().is_some() {
            // Batches are of any kinds, and so are their counts: there are none for whoever sees some kinds only.
            return Ok(Vec::new());
        }
        let own = (!may(actor, Want::ReadAll)).then_some(actor.name.as_str());
        Ok(self.store.batches(own, before, limit).await?)
    }

    /// One batch.
    pub async fn batch(&self, actor: &Actor, id: Uuid) -> Result<Batch, Problem> {
        let batch = self.store.batch(id).await?;
        batch
            .filter(|batch| {
                may(
                    actor,
                    Want::Read {
                        owner: &batch.owner,
                        kind: "",
                    },
                )
            })
            .ok_or_else(|| Problem::not_found(format_args!("batch {id}")))
    }

    /// Cancels what waits of a batch, and asks what runs to stop. Each job is cancelled, and noted, in a transaction of its own;
    /// one more entry says of the whole what came of it.
    pub async fn cancel_batch(
        &self,
        actor: &Actor,
        id: Uuid,
        reason: Option<String>,
    ) -> Result<BatchCancelled, Problem> {
        let reason = checked_reason(reason)?;
        let batch = self.batch(actor, id).await?;
        // Each job is asked about again; this is for whoever may cancel none, however few are left of it.
        let (action, owner) = (Action::Cancel, batch.owner.as_str());
        let kind = "";
        require(actor, Want::Act { action, owner, kind })?;
        let (service, actor) = (self.clone(), actor.clone());
        // Whoever asked may go away meanwhile: what was begun is brought to its end.
        let doing = self.doing.spawn(async move {
            let mut done = BatchCancelled::default();
            let cancelled = service.cancel_jobs_of(&actor, id, &reason, &mut done).await;
            // What was done until something went wrong is done.
            if done.cancelled + done.asked > 0 {
                let deed = Deed::of(&actor, "batch.cancel", "batch", id).because(reason);
                service.store.note(deed.to(json!(done))).await?;
            }
            cancelled.map(|()| done)
        });
        doing.await.unwrap_or_else(|error| Err(broken(&error)))
    }

    /// Cancels the jobs of a batch, and counts them in `done`.
    async fn cancel_jobs_of(
        &self,
        actor: &Actor,
        id: Uuid,
        reason: &str,
        done: &mut BatchCancelled,
    ) -> Result<(), Problem> {
        // Each job's own entry says what it belongs to, should this process end before the batch's is written.
        let reason = match reason {
            "" => format!("with batch {id}"),
            reason => format!("with batch {id}: {reason}"),
        };
        let mut after = 0;
        loop {
            let page = self.store.unfinished_of(id, after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = *last;
            if done.cancelled + done.asked >= CANCEL_MAX {
                let batch = self.batch(actor, id).await?;
                done.left = batch.total - batch.finished;
                break;
            }
            let acts = page.iter().map(|(_, job)| {
                let options = ActOptions::default();
                self.act_because(actor, *job, Action::Cancel, options, reason.clone())
            });
            let mut failed = None;
            for outcome in futures::future::join_all(acts).await {
                match outcome {
                    Ok(job) if job.status == Status::Cancelled => done.cancelled += 1,
                    Ok(_) => done.asked += 1,
                    // It ended, or was removed, in between.
                    Err(problem) if matches!(problem.code, ProblemCode::WrongStatus | ProblemCode::NotFound) => {}
                    Err(problem) => failed = Some(problem),
                }
            }
            if let Some(problem) = failed {
                return Err(problem);
            }
        }
        Ok(())
    }
}
