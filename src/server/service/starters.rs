//! New jobs that need not wait. Where a worker of this process is at rest with a slot free, or has short jobs to do and this one
//! would be the next to go, a job is taken in the commit that writes it down: it begins one trip to the disk sooner, and no index
//! ever hears of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::domain::job::JobId;
use crate::domain::queue::lane_number;
use crate::server::queue::{Cell, Queue};
use crate::server::store::claim::Claimed;
use crate::server::store::enqueue::{Enqueue, Taker};

/// A worker of this process.
pub(in crate::server) trait Starter: Send + Sync {
    /// A slot for a job, where one is free and nothing else may go; none for a job that is under any limit.
    fn offer(self: Arc<Self>, job: &Enqueue) -> Option<Offer>;

    /// A place among the jobs that were claimed ahead of slots, where slots come free soon; none for a job that is under any limit.
    fn ahead(self: Arc<Self>, job: &Enqueue) -> Option<Offer>;

    /// Something waits: it goes before what comes after it.
    fn waits(&self);
}

/// A slot, or a place ahead of one, that is kept for a job while that is written down.
pub(in crate::server) struct Offer {
    pub taker: Taker,
    pub slot: Box<dyn Slot>,
}

/// Dropping it gives the slot or the place back.
pub(in crate::server) trait Slot: Send {
    /// The job is on disk as the taker's: it begins.
    fn begin(self: Box<Self>, job: Claimed);

    /// Nobody knows whether it is on disk. If so it shall wait like any other: its lease would run out, as if it had crashed.
    fn unsure(self: Box<Self>, id: JobId);
}

/// Those of this process.
#[derive(Default)]
pub(in crate::server) struct Starters(Mutex<Vec<Weak<dyn Starter>>>);

impl Starters {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Starter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, starter: Weak<dyn Starter>) {
        let mut all = self.lock();
        all.retain(|one| one.strong_count() > 0);
        all.push(starter);
    }

    /// Where a new job need not wait: in a slot that is free, or else, if `queue` says that it is the next one to go, ahead of one.
    pub async fn offer(&self, job: &Enqueue, queue: &dyn Queue) -> Option<Offer> {
        if let Some(slot) = self.first(|one| one.offer(job)) {
            return Some(slot);
        }
        let place = self.first(|one| one.ahead(job))?;
        let cell = Cell {
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            owner: job.owner.clone(),
            key: job.concurrency_key.clone(),
        };
        let turn = queue.take_turn(lane_number(job.lane), &cell).await;
        // An index that is away says nothing.
        turn.is_ok_and(|is_its| is_its).then_some(place)
    }

    fn first(&self, offer: impl Fn(Arc<dyn Starter>) -> Option<Offer>) -> Option<Offer> {
        self.lock().iter().filter_map(Weak::upgrade).find_map(offer)
    }

    pub fn waits(&self) {
        self.lock().iter().filter_map(Weak::upgrade).for_each(|one| one.waits());
    }
}
