//! Jobs that begin as they are written down: see [`crate::server::service::starters`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Backoff, Shared, executor, worker};
use crate::domain::job::JobId;
use crate::domain::kind::is_external;
use crate::domain::machine::Event;
use crate::server::service::starters::{Offer, Slot, Starter};
use crate::server::store::StoreError;
use crate::server::store::claim::Claimed;
use crate::server::store::enqueue::{Enqueue, Taker};

/// The epoch of a job's first lease.
const FIRST: u64 = 1;

impl Starter for Shared {
    fn offer(self: Arc<Self>, job: &Enqueue) -> Option<Offer> {
        let limits = &self.settings.limits;
        let limited =
            limits.all.is_some() || job.member || job.concurrency_key.is_some() || limits.kinds.contains_key(&job.kind);
        // The store sees to queues that are paused; a time that is not in the future is none.
        let later = job.delay_ms.is_some() || !job.depends_on.is_empty() || is_external(&job.kind);
        if limited || later || !self.rests.load(Ordering::Relaxed) || self.draining.is_cancelled() {
            return None;
        }
        if self.slots.available_permits() <= self.coming.load(Ordering::Relaxed) {
            return None;
        }
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let taker = Taker {
            worker: self.worker.clone(),
            lease_ms: self.settings.lease_ms(),
        };
        let kept = Kept {
            slot,
            token: self.executions.token(),
            shared: self,
        };
        let slot = Box::new(kept);
        Some(Offer { taker, slot })
    }

    fn waits(&self) {
        self.rests.store(false, Ordering::Relaxed);
    }
}

/// A slot that is kept.
struct Kept {
    shared: Arc<Shared>,
    slot: OwnedSemaphorePermit,
    /// A shutdown waits for what becomes of it.
    token: TaskTrackerToken,
}

impl Slot for Kept {
    fn begin(self: Box<Self>, job: Claimed) {
        let Self { shared, slot, token } = *self;
        let executions = shared.executions.clone();
        if shared.draining.is_cancelled() {
            executions.spawn(async move {
                let leases = std::iter::once(job.lease);
                worker::hand_back(&shared, leases, "the worker shut down before it had begun").await;
            });
        } else {
            executions.spawn(executor::run(shared, job, slot, None));
        }
        drop(token);
    }

    fn unsure(self: Box<Self>, id: JobId) {
        let Self { shared, token, .. } = *self;
        // Until the worker has looked again: while the database is in trouble there are not many of these.
        shared.rests.store(false, Ordering::Relaxed);
        let executions = shared.executions.clone();
        executions.spawn(async move { take_back(&shared, id).await });
        drop(token);
    }
}

/// Lets a job wait that may have been written down as this worker's. A commit that was not confirmed may still be on its way: that
/// the job is not there yet says nothing. It is tried for as long as the lease would hold, or until the process ends.
async fn take_back(shared: &Shared, id: JobId) {
    let since = Instant::now();
    let mut backoff = Backoff::default();
    loop {
        let reason = "nobody knew whether it was written down";
        let (event, by) = (Event::HandBack { epoch: FIRST }, shared.worker.clone());
        match shared.service.store.change(id, event, by, reason.into()).await {
            Ok(changed) => return shared.service.settle(&changed).await,
            Err(StoreError::Refused(_)) => return,
            Err(error) => {
                tracing::debug!(%error, job = %id, "a job that may have been written down can't be handed back")
            }
        }
        let (pause, _) = backoff.fail();
        if since.elapsed() + pause > shared.settings.lease {
            return;
        }
        tokio::select! {
            () = shared.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
