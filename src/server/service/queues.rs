//! Queues, and problems that jobs share.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Service, require};
use crate::domain::audit::{Deed, checked_reason};
use crate::domain::error::{ErrorGroup, Problem};
use crate::domain::job::valid_queue_name;
use crate::domain::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::domain::queue::{Hold, Paused, QueueInfo};
use crate::domain::user::{Actor, Want};
use crate::server::store::limits::PAUSED_MS;

impl Service {
    /// Queues that have jobs, or are paused, by name.
    pub async fn queues(&self, actor: &Actor) -> Result<Vec<QueueInfo>, Problem> {
        require(actor, Want::ReadAll)?;
        self.all_queues().await
    }

    async fn all_queues(&self) -> Result<Vec<QueueInfo>, Problem> {
        let mut paused: BTreeMap<String, Paused> = self.store.paused_queues().await?.into_iter().collect();
        let mut queues = self.store.counts().await?.by_queue;
        for name in paused.keys() {
            queues.entry(name.clone()).or_default();
        }
        let queues = queues.into_iter().map(|(name, by_status)| QueueInfo {
            paused: paused.remove(&name),
            by_status,
            name,
        });
        Ok(queues.collect())
    }

    /// Stops a queue, or lets it go on. What runs goes on running.
    pub async fn pause_queue(
        &self,
        actor: &Actor,
        name: &str,
        pause: bool,
        reason: Option<String>,
    ) -> Result<QueueInfo, Problem> {
        require(actor, Want::PauseQueue)?;
        let reason = checked_reason(reason)?;
        if !valid_queue_name(name) {
            return Err(Problem::not_found(format_args!("queue {name}")));
        }
        let hold = Hold::Queue(name.into());
        // The database decides; the index is told so that nobody looks in vain.
        match pause {
            true => {
                let deed = turned(Deed::of(actor, "queue.pause", "queue", name).because(reason), true);
                self.store.pause_queue(name.into(), deed).await?;
                self.queue.hold(&hold, PAUSED_MS).await;
            }
            false => {
                let deed = turned(Deed::of(actor, "queue.resume", "queue", name).because(reason), false);
                self.store.resume_queue(name.into(), deed).await?;
                self.queue.release(&hold, 1).await;
            }
        }
        tracing::info!(queue = name, by = actor.name, pause, "a queue was paused or resumed");
        // Who may pause it may see what became of it.
        let known = self.all_queues().await?.into_iter().find(|q| q.name == name);
        Ok(known.unwrap_or_else(|| QueueInfo {
            name: name.into(),
            by_status: BTreeMap::new(),
            paused: None,
        }))
    }

    /// Problems that jobs failed with, the last seen first.
    pub async fn errors(&self, actor: &Actor, limit: Option<u32>) -> Result<Vec<ErrorGroup>, Problem> {
        require(actor, Want::ReadAll)?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("limit {limit} is not within 1 to {LIMIT_MAX}"),
            ));
        }
        Ok(self.store.errors(limit).await?)
    }
}

/// A queue that is paused from now on, or no more. It is noted only where it was otherwise.
fn turned(deed: Deed, paused: bool) -> Deed {
    deed.from(json!({ "paused": !paused })).to(json!({ "paused": paused }))
}
