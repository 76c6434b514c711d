//! One action on many jobs: at once, or by a batch of jobs that do it, a part each.

use futures::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::jobs::delay_ms;
use super::{Catalog, Service, broken, require};
use crate::domain::audit::Deed;
use crate::domain::bulk::{
    AT_ONCE, BulkAction, BulkDone, BulkOutcome, BulkPart, BulkWish, IDS_MAX, KIND, MATCHES_MAX, Matched, Target,
    Wished, other_count, too_many,
};
use crate::domain::error::{ErrorCode, JobError, Problem, ProblemCode};
use crate::domain::filter::JobFilter;
use crate::domain::job::{ActOptions, JobId, Lane};
use crate::domain::machine::Event;
use crate::domain::page::count_label;
use crate::domain::status::Action;
use crate::domain::user::{Actor, Want, may};
use crate::server::store::StoreError;
use crate::server::store::batches::NewBatch;
use crate::server::store::enqueue::{Enqueue, Written};
use crate::server::store::jobs::JobRow;

/// The queue of the jobs that do it: pausing others stops none of them.
const QUEUE: &str = "bulk";
/// Why they go before others.
const AHEAD: &str = "what it acts on is not to run first";
/// Jobs that one job of a batch sees to.
const PART: usize = 1_000;
/// Jobs that are acted on at the same time.
const PAGE: usize = 500;

impl Service {
    /// The jobs that match and that the action can be done to: what somebody is shown before they ask for it.
    pub async fn matched(&self, actor: &Actor, action: BulkAction, filter: &JobFilter) -> Result<Matched, Problem> {
        require(actor, to_own(actor, action))?;
        let filter = self.visible(actor, filter)?;
        let (total, total_capped) = self.store.count(&filter).await?;
        let ids = match action.narrowed(&filter) {
            Some(narrowed) => self.all_of(&narrowed).await?,
            None => Vec::new(),
        };
        Ok(Matched {
            total,
            total_capped,
            fit: ids.len() as u64,
            ids: (ids.len() <= IDS_MAX).then_some(ids),
        })
    }

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
                let visible = self.visible(actor, &filter)?;
                let ids = self.all_of(&visible).await?;
                let is = ids.len() as u64;
                if is != count {
                    return Err(other_count("the filter matches", is, count));
                }
                (ids, Some(filter.to_query()))
            }
        };
        let part = BulkPart {
            action,
            ids,
            delay,
            reason,
        };
        let (service, actor) = (self.clone(), actor.clone());
        // Whoever asked may go away meanwhile: what was begun is brought to its end.
        let doing = self.doing.spawn(async move {
            match part.ids.len() > AT_ONCE {
                true => service.act_by_batch(&actor, part, matched).await,
                false => service.act_at_once(&actor, part, matched).await,
            }
        });
        doing.await.unwrap_or_else(|error| Err(broken(&error)))
    }

    /// The ids of all jobs that match, if they are not too many.
    async fn all_of(&self, visible: &JobFilter) -> Result<Vec<JobId>, Problem> {
        let most = u32::try_from(MATCHES_MAX).unwrap_or(u32::MAX);
        let ids = self.store.matching(visible, most.saturating_add(1)).await?;
        match ids.len() as u64 > MATCHES_MAX {
            true => Err(too_many()),
            false => Ok(ids),
        }
    }

    async fn act_at_once(&self, actor: &Actor, part: BulkPart, matched: Option<String>) -> Result<BulkDone, Problem> {
        let among = count_label(part.ids.len() as u64, false, "job", "jobs");
        let reason = within(&format!("one of {among}"), &part.reason);
        let mut outcomes: Vec<BulkOutcome> = Vec::with_capacity(part.ids.len());
        for page in part.ids.chunks(PAGE) {
            outcomes.extend(self.act_on_page(actor, &part, page, &reason).await);
            if outcomes.iter().all(|outcome| away(outcome).is_some())
                && let Some(problem) = outcomes.first().and_then(away)
            {
                return Err(problem);
            }
        }
        let done = BulkDone::of(outcomes);
        if done.done > 0 {
            let which = match matched {
                Some(query) if query.is_empty() => "all jobs".into(),
                Some(query) => query,
                None => among,
            };
            let deed = Deed::of(actor, &deed_name(part.action), "jobs", which).because(part.reason);
            let told = json!({ "total": done.total, "done": done.done, "refused": done.refused });
            // What was done is done, and each of them is noted: the answer does not hang on the sum.
            if let Err(error) = self.store.note(deed.to(told)).await {
                tracing::error!(%error, "the sum of an action on many jobs could not be noted");
            }
        }
        Ok(done)
    }

    /// Writes down jobs that do it, and with whose rights.
    async fn act_by_batch(&self, actor: &Actor, part: BulkPart, matched: Option<String>) -> Result<BulkDone, Problem> {
        if actor.sees_kinds().is_some() {
            // Batches, and the jobs that do it, are none of their kinds: they could not follow what they began.
            let detail = format!("A token for some types can act on {AT_ONCE} jobs in one go.");
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        let policy = self.catalog.policy(KIND);
        let policy = policy.ok_or_else(|| broken(&"the kind of its parts is not known"))?;
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
                queue: QUEUE.into(),
                // One that is handed back, or fails for now, has lost its place in front.
                lane: match part.action {
                    BulkAction::Retry => Lane::Low,
                    BulkAction::Cancel | BulkAction::Delete => Lane::Critical,
                },
                member: actor.is_limited(),
                batch: Some(id),
                ..Enqueue::of(KIND, &actor.name, args.map_err(|e| broken(&e))?, &policy)
            })
        });
        let jobs = each.collect::<Result<Vec<_>, Problem>>()?;
        let deed = Deed::of(actor, &deed_name(part.action), "batch", id).because(part.reason);
        let deed = deed.to(json!({ "jobs": total, "filter": matched }));
        // A full queue is no reason to keep what is in it; whoever has limits keeps to them.
        let queue_max = match part.action {
            BulkAction::Cancel | BulkAction::Delete if !actor.is_limited() => u64::MAX,
            _ => self.limits.queue_max,
        };
        let written = self.write_within(queue_max, jobs, Some(batch), Some(deed)).await?;
        if part.action != BulkAction::Retry {
            // What cancels a backlog does not wait behind it.
            for row in written.into_iter().map(Written::into_row) {
                let ahead = self
                    .store
                    .change(row.job.id, Event::RunNow, "system".into(), AHEAD.into());
                match ahead.await {
                    Ok(changed) => self.settle(&changed).await,
                    // It runs already.
                    Err(StoreError::Refused(_)) => {}
                    Err(error) => tracing::warn!(%error, "a part of a bulk action waits for its turn"),
                }
            }
        }
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
        let later = |problem: Problem| JobError::new(ErrorCode::DatabaseError, problem.detail);
        if !self.stands(&actor).await.map_err(later)? {
            let detail = format!(
                "what {} may do has changed since this was asked for: the rest is left as it is",
                actor.name
            );
            return Err(JobError::new(ErrorCode::AuthError, detail));
        }
        let reason = within(&format!("with batch {batch}"), &part.reason);
        let outcomes = self.act_on_page(&actor, part, ids, &reason).await;
        match outcomes.iter().find_map(away) {
            Some(problem) => Err(later(problem)),
            None => Ok(outcomes),
        }
    }

    /// Whether the actor may let a part of a bulk action go on: what it does is done with the rights of whoever asked for it, so it
    /// takes the right to do the same.
    pub(super) async fn may_let_go_on(&self, actor: &Actor, row: &JobRow) -> Result<(), Problem> {
        let data = self.store.job_data(row.seq).await?;
        require(actor, to_go_on(actor, data.map(|data| data.args).as_ref()))
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

/// What it takes to let the part of a bulk action with these args go on. Args that can't be read are good for the strongest.
pub(super) fn to_go_on<'a>(actor: &'a Actor, args: Option<&Value>) -> Want<'a> {
    let action = args.and_then(|args| BulkAction::deserialize(args.get("action")?).ok());
    to_own(actor, action.unwrap_or(BulkAction::Delete))
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

/// Why nothing was done to a job, when that says nothing about the job: the database is away.
fn away(outcome: &BulkOutcome) -> Option<Problem> {
    let code = outcome.code.filter(|code| *code == ProblemCode::Unavailable)?;
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
