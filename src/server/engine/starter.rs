//! Jobs that begin as they are written down: see [`crate::server::service::starters`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
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

/// Jobs that were claimed as they were written down, each with the place that was kept for it.
pub(super) type Arrivals = mpsc::UnboundedReceiver<(Claimed, Promise)>;

/// The way of jobs that are claimed ahead of slots as they are written down to the worker, which claims others itself.
pub(super) struct Late {
    jobs: mpsc::UnboundedSender<(Claimed, Promise)>,
    /// Places that are kept for jobs which are being written down, or on their way.
    promised: AtomicUsize,
    /// All jobs that wait for a slot.
    ahead: AtomicUsize,
}

impl Late {
    pub fn new() -> (Self, Arrivals) {
        let (jobs, arrivals) = mpsc::unbounded_channel();
        let late = Self {
            jobs,
            promised: AtomicUsize::new(0),
            ahead: AtomicUsize::new(0),
        };
        (late, arrivals)
    }

    /// So many jobs wait for a slot.
    pub fn ahead(&self, jobs: usize) {
        self.ahead.store(jobs, Ordering::Relaxed);
    }

    /// Jobs that the next slots are for.
    fn before(&self) -> usize {
        self.promised.load(Ordering::Relaxed) + self.ahead.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Whether a job is under no limit and waits for nothing. The store sees to queues that are paused; a time that is not in the
    /// future is none.
    fn may_begin(&self, job: &Enqueue) -> bool {
        let limits = &self.settings.limits;
        let limited =
            limits.all.is_some() || job.member || job.concurrency_key.is_some() || limits.kinds.contains_key(&job.kind);
        let later = job.delay_ms.is_some() || !job.depends_on.is_empty() || is_external(&job.kind);
        !limited && !later && !self.draining.is_cancelled()
    }

    fn taker(&self) -> Taker {
        Taker {
            worker: self.worker.clone(),
            lease_ms: self.settings.lease_ms(),
        }
    }
}

impl Starter for Shared {
    fn offer(self: Arc<Self>, job: &Enqueue) -> Option<Offer> {
        if !self.rests.load(Ordering::Relaxed) || !self.may_begin(job) {
            return None;
        }
        let coming = self.coming.load(Ordering::Relaxed);
        if self.slots.available_permits() <= coming.max(self.late.before()) {
            return None;
        }
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let (taker, token) = (self.taker(), self.executions.token());
        let begins = Begins::In(slot);
        let slot = Box::new(Kept {
            begins,
            token,
            shared: self,
        });
        Some(Offer { taker, slot })
    }

    fn ahead(self: Arc<Self>, job: &Enqueue) -> Option<Offer> {
        // As many again as the worker claims itself, so that there is room for those whose turn comes before the next claim.
        let room = 2 * self.pace.ahead(self.settings.slots);
        // The database alone knows whether a time lies in the past.
        if job.run_at.is_some() || self.late.before() >= room || !self.may_begin(job) {
            return None;
        }
        let (taker, token) = (self.taker(), self.executions.token());
        let begins = Begins::Ahead(Promise::new(self.clone()));
        let slot = Box::new(Kept {
            begins,
            token,
            shared: self,
        });
        Some(Offer { taker, slot })
    }

    fn waits(&self) {
        self.rests.store(false, Ordering::Relaxed);
    }
}

/// A place ahead of slots, for as long as it is kept.
pub(super) struct Promise(Arc<Shared>);

impl Promise {
    fn new(shared: Arc<Shared>) -> Self {
        shared.late.promised.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.late.promised.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a job begins.
enum Begins {
    In(OwnedSemaphorePermit),
    /// With every other slot, among those that were claimed before it.
    Ahead(Promise),
}

/// A slot that is kept, or a place ahead of one.
struct Kept {
    shared: Arc<Shared>,
    begins: Begins,
    /// A shutdown waits for what becomes of it.
    token: TaskTrackerToken,
}

impl Slot for Kept {
    fn begin(self: Box<Self>, job: Claimed) {
        let Self { shared, begins, token } = *self;
        let executions = shared.executions.clone();
        let left = match begins {
            _ if shared.draining.is_cancelled() => Some(job),
            Begins::In(slot) => {
                executions.spawn(executor::run(shared.clone(), job, slot, None));
                None
            }
            // The worker that does not hear of it any more has ended.
            Begins::Ahead(promise) => shared.late.jobs.send((job, promise)).err().map(|unheard| unheard.0.0),
        };
        if let Some(job) = left {
            executions.spawn(async move {
                let leases = std::iter::once(job.lease);
                worker::hand_back(&shared, leases, "the worker shut down before it had begun").await;
            });
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
