//! Takes jobs while there are free slots.

use std::sync::Arc;

use super::{Backoff, LEASE, Shared, executor};
use crate::server::queue::{Change, Entry};

/// Until the engine drains: wait for a free slot, take as many ids as there are free slots, claim them in one go, start them.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        let next = async {
            // Closed never: an error can't happen, and would only end the loop.
            let mut permit = shared.slots.clone().acquire_owned().await.ok()?;
            // Short jobs end together: whoever is about to give up a slot does so first, and one claim takes for all.
            tokio::task::yield_now().await;
            let more = shared.slots.available_permits();
            if more > 0
                && let Ok(rest) = shared.slots.clone().try_acquire_many_owned(more as u32)
            {
                permit.merge(rest);
            }
            let seqs = shared.service.queue.take(permit.num_permits()).await;
            Some((permit, seqs))
        };
        let (mut permit, seqs) = tokio::select! {
            biased;
            () = shared.draining.cancelled() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        let lease_ms = LEASE.as_millis() as i64;
        let claimed = match shared
            .service
            .store
            .claim(seqs.clone(), shared.worker.clone(), lease_ms)
            .await
        {
            Ok(claimed) => claimed,
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, "jobs could not be claimed");
                }
                // Who goes first among these matters less than that none is forgotten.
                let entries: Vec<Entry> = seqs.into_iter().map(|seq| Entry { seq, rank: 0 }).collect();
                shared.service.queue.announce(&entries).await;
                drop(permit);
                tokio::select! {
                    () = shared.draining.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                continue;
            }
        };
        backoff.reset();
        for job in claimed {
            let Some(slot) = permit.split(1) else { break };
            shared.service.bus.change(Change::Job(job.job.clone()));
            shared.executions.spawn(executor::run(shared.clone(), job, slot));
        }
    }
}
