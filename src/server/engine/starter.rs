//! Jobs that begin as they are written down: see [`crate::server::service::starters`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Shared, executor, worker};
use crate::domain::kind::is_external;
use crate::server::service::starters::{Offer, Starter};
use crate::server::store::enqueue::{Enqueue, Taker};

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
        // A shutdown waits for it.
        let token = self.executions.token();
        let begin = Box::new(move |job| {
            let _waited_for = token;
            if self.draining.is_cancelled() {
                let shared = self.clone();
                self.executions
                    .spawn(async move { worker::not_begun(&shared, job).await });
            } else {
                self.executions.spawn(executor::run(self.clone(), job, slot, None));
            }
        });
        Some(Offer { taker, begin })
    }

    fn waits(&self) {
        self.rests.store(false, Ordering::Relaxed);
    }
}
