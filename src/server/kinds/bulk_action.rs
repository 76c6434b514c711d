//! A part of a large bulk action: the same is done to each of these jobs, as the dashboard or `POST /api/jobs/bulk-…` asked.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::bulk::{BulkOutcome, BulkPart, KIND};
use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind};

/// Jobs between two checkpoints.
const PAGE: usize = 100;

pub struct BulkAction;

/// How far an attempt has come.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    jobs: usize,
    done: u64,
    refused: Vec<BulkOutcome>,
}

#[async_trait]
impl Kind for BulkAction {
    type Args = BulkPart;

    fn name(&self) -> &'static str {
        KIND
    }

    fn description(&self) -> &'static str {
        "Retries, cancels or deletes many jobs with the rights of whoever asked for it; its result says which were left as they \
         are, and why. After a crash it goes on from its last checkpoint: the jobs that it had seen to since then, at most 100, \
         are seen to again, and most of them then count as left as they are."
    }

    fn checkpoints(&self) -> bool {
        true
    }

    fn is_internal(&self) -> bool {
        true
    }

    async fn run(&self, ctx: &Context, part: BulkPart) -> Result<Value, Halt> {
        let total = part.ids.len();
        let mut seen: Seen = ctx.checkpoint().unwrap_or_default();
        ctx.step(format!("{} {total} jobs", part.action.label()));
        ctx.progress(seen.jobs as u64, total as u64);
        while let Some(page) = part.ids.get(seen.jobs..).filter(|rest| !rest.is_empty()) {
            ctx.check()?;
            let page = &page[..page.len().min(PAGE)];
            let outcomes = ctx.act_on_each(&part, page).await?;
            for outcome in outcomes {
                if outcome.done {
                    seen.done += 1;
                    continue;
                }
                let why = outcome.detail.as_deref().unwrap_or_default();
                ctx.warn(format!("{} was left as it is: {why}", outcome.id));
                seen.refused.push(outcome);
            }
            seen.jobs += page.len();
            ctx.save(&seen).await?;
            ctx.progress(seen.jobs as u64, total as u64);
            if seen.jobs < total {
                ctx.may_leave()?;
            }
        }
        Ok(json!({ "total": total, "done": seen.done, "refused": seen.refused.len(), "outcomes": seen.refused }))
    }
}
