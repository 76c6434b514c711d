//! One action on many jobs: at once, or by a batch of jobs that do it, a part each.

use futures::future::join_all;
use serde_json::json;
use uuid::Uuid;

use super::jobs::delay_ms;
use super::{Service, require};
use crate::domain::audit::Deed;
use crate::domain::bulk::{
    AT_ONCE, BulkAction, BulkDone, BulkOutcome, BulkPart, BulkWish, KIND, MATCHES_MAX, Target, Wished, other_count,
    too_many,
};
use crate::domain::error::{ErrorCode, JobError, Problem, ProblemCode};
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::job::{ActOptions, JobId, Lane};
use crate::domain::page::{COUNT_CAP, LIMIT_MAX, count_label};
use crate::domain::status::Action;
use crate::domain::user::{Actor, Want, may};
use crate::server::store::batches::NewBatch;
use crate::server::store::enqueue::Enqueue;
use crate::server::store::list::Cursor;

/// Jobs that one job of a batch sees to.
const PART: usize = 1_000;
/// Jobs that are acted on at the same time.
const PAGE: usize = 500;

impl Service {
    /// Does the same to many jobs. Each is asked about by itself: what the actor may not know of is answered as if it were not
    /// there. More than [`AT_ONCE`] become a batch of jobs that go on with the actor's rights for as long as those last.
    pub async fn act_on_many(&self, actor: &Actor, action: BulkAction, wish: BulkWish) -> Result<BulkDone, Problem> {
        let Wished { target, delay, reason } = wish.checked(action)?;
        // Before anything is done; each retry says the same.
        delay.map(|seconds| delay_ms("delay", seconds)).transpose()?;
        // Each job is asked about again; this is for whoever may do it to none.
        require(actor, to_own(actor, action))?;
        let (ids, matched) = match target {
            Target::Ids(ids) => (ids, None),
            Target::Matching { filter, count } => {
                let ids = self.frozen(actor, &filter, count).await?;
                (ids, Some(filter.to_query()))
            }
        };
        let part = BulkPart {
            action,
            ids,
            delay,
            reason,
        };
        match part.ids.len() > AT_ONCE {
            true => self.act_by_batch(actor, part, matched).await,
            false => self.act_at_once(actor, part, matched).await,
        }
    }

    /// The jobs that match, the oldest first, if there are as many as the caller saw.
    async fn frozen(&self, actor: &Actor, filter: &JobFilter, count: u64) -> Result<Vec<JobId>, Problem> {
        let filter = JobFilter {
            sort: Sort::CreatedAt,
            order: Order::Asc,
            ..self.visible(actor, filter)?
        };
        // Where counting stops early, that is what the caller saw.
        let capped = !filter.counted() && count == COUNT_CAP;
        let mut ids = Vec::new();
        let mut after: Option<Cursor> = None;
        loop {
            let rows = self.store.list(&filter, LIMIT_MAX, 0, after.as_ref()).await?;
            ids.extend(rows.iter().map(|row| row.job.id));
            let is = ids.len() as u64;
            if is > MATCHES_MAX {
                return Err(too_many(self.store.count(&filter).await?.0.max(is)));
            }
            match rows.last() {
                Some(last) if rows.len() == LIMIT_MAX as usize && (is <= count || capped) => {
                    after = Some(Cursor::of(&filter, last));
                }
                _ => break,
            }
        }
        let is = ids.len() as u64;
        match is == count || capped && is > count {
            true => Ok(ids),
            // Counted to its end, not to where it was found out.
            false => Err(other_count(
                "the filter matches",
                self.store.count(&filter).await?.0,
                count,
            )),
        }
    }

    async fn act_at_once(&self, actor: &Actor, part: BulkPart, matched: Option<String>) -> Result<BulkDone, Problem> {
        let among = count_label(part.ids.len() as u64, false, "job", "jobs");
        let reason = within(&format!("one of {among}"), &part.reason);
        let mut outcomes: Vec<BulkOutcome> = Vec::with_capacity(part.ids.len());
        for page in part.ids.chunks(PAGE) {
            outcomes.extend(self.act_on_page(actor, &part, page, &reason).await);
            if outcomes.iter().all(|outcome| failed(outcome).is_some())
                && let Some(problem) = outcomes.first().and_then(failed)
            {
                return Err(problem);
            }
        }
        let done = BulkDone::of(outcomes);
        if done.done > 0 {
            let which = matched.unwrap_or(among);
            let deed = Deed::of(actor, &deed_name(part.action), "jobs", which).because(part.reason);
            let told = json!({ "total": done.total, "done": done.done, "refused": done.refused });
            self.store.note(deed.to(told)).await?;
        }
        Ok(done)
    }

    /// Writes down jobs that do it, and with whose rights.
    async fn act_by_batch(&self, actor: &Actor, part: BulkPart, matched: Option<String>) -> Result<BulkDone, Problem> {
        let internal = |what: &str| {
            tracing::error!("a bulk action could not be begun: {what}");
            Problem::new(ProblemCode::Internal, "The server met an error; its log says more.")
        };
        let policy = self
            .catalog
            .policy(KIND)
            .ok_or_else(|| internal("its kind is not known"))?;
        let total = part.ids.len() as u64;
        let name = format!("{} {}", part.action.label(), count_label(total, false, "job", "jobs"));
        let batch = NewBatch::new(name, &actor.name).on_behalf_of(actor)?;
        let id = batch.id;
        let each = part.ids.chunks(PART).map(|ids| {
            let args = serde_json::to_value(BulkPart {
                ids: ids.to_vec(),
                ..part.clone()
            });
            Ok(Enqueue {
                lane: Lane::Low,
                member: actor.is_limited(),
                batch: Some(id),
                ..Enqueue::of(KIND, &actor.name, args.map_err(|e| internal(&e.to_string()))?, &policy)
            })
        });
        let jobs = each.collect::<Result<Vec<_>, Problem>>()?;
        let deed = Deed::of(actor, &deed_name(part.action), "batch", id).because(part.reason);
        let deed = deed.to(json!({ "jobs": total, "filter": matched }));
        self.write_all(jobs, Some(batch), Some(deed)).await?;
        Ok(BulkDone::begun(total, id))
    }

    /// What a batch of jobs was begun for, done to some of them on behalf of whoever began it. An error says that nothing can be
    /// done for now (it may be tried again), or that nothing may be done any more.
    pub(in crate::server) async fn act_for_batch(
        &self,
        batch: Option<Uuid>,
        part: &BulkPart,
        ids: &[JobId],
    ) -> Result<Vec<BulkOutcome>, JobError> {
        let starter = match batch {
            Some(batch) => self.store.batch_starter(batch).await?,
            None => None,
        };
        let (Some(actor), Some(batch)) = (starter, batch) else {
            let detail = "the job belongs to no bulk action: nobody has asked for what it would do";
            return Err(JobError::new(ErrorCode::AuthError, detail));
        };
        let away = |problem: Problem| JobError::new(ErrorCode::DatabaseError, problem.detail);
        if !self.stands(&actor).await.map_err(away)? {
            let detail = format!(
                "what {} may do has changed since this was asked for: the rest is left as it is",
                actor.name
            );
            return Err(JobError::new(ErrorCode::AuthError, detail));
        }
        let reason = within(&format!("with batch {batch}"), &part.reason);
        let outcomes = self.act_on_page(&actor, part, ids, &reason).await;
        match outcomes.iter().find_map(failed) {
            Some(problem) => Err(away(problem)),
            None => Ok(outcomes),
        }
    }

    /// Each is done, and noted, in a transaction of its own.
    async fn act_on_page(&self, actor: &Actor, part: &BulkPart, ids: &[JobId], reason: &str) -> Vec<BulkOutcome> {
        let action = part.action.action();
        let acts = ids.iter().map(|id| async move {
            let options = ActOptions {
                delay: part.delay,
                ..ActOptions::default()
            };
            match self.act_because(actor, *id, action, options, reason.into()).await {
                Ok(job) => BulkOutcome::done(*id, (action != Action::Delete).then_some(job.status)),
                Err(problem) => BulkOutcome::refused(*id, problem),
            }
        });
        join_all(acts).await
    }
}

/// What the actor may do to many jobs, if only their own.
pub(super) fn allowed(actor: &Actor) -> impl Iterator<Item = BulkAction> {
    BulkAction::ALL
        .into_iter()
        .filter(|action| may(actor, to_own(actor, *action)))
}

/// The same as is done to many jobs, done to one of the actor's own.
fn to_own(actor: &Actor, action: BulkAction) -> Want<'_> {
    let kind = actor.sees_kinds().and_then(<[String]>::first);
    Want::Act {
        action: action.action(),
        owner: &actor.name,
        kind: kind.map_or("", String::as_str),
    }
}

/// Why nothing was done to a job, when that says nothing about the job.
fn failed(outcome: &BulkOutcome) -> Option<Problem> {
    let code = outcome
        .code
        .filter(|code| matches!(code, ProblemCode::Unavailable | ProblemCode::Internal))?;
    Some(Problem::new(code, outcome.detail.clone().unwrap_or_default()))
}

/// A job's own entry says what it belongs to: the one about the whole is written when all is done.
fn within(what: &str, reason: &str) -> String {
    match reason {
        "" => what.into(),
        reason => format!("{what}: {reason}"),
    }
}

fn deed_name(action: BulkAction) -> String {
    format!("job.bulk_{}", action.label().to_lowercase())
}
