//! New jobs that need not wait. Where a worker of this process is at rest with a slot free, a job is taken in the commit that writes
//! it down: it begins one trip to the disk sooner, and no index ever hears of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::domain::job::JobId;
use crate::server::store::claim::Claimed;
use crate::server::store::enqueue::{Enqueue, Taker};

/// A worker of this process.
pub(in crate::server) trait Starter: Send + Sync {
    /// A slot for a job, where one is free and nothing else may go; none for a job that is under any limit.
    fn offer(self: Arc<Self>, job: &Enqueue) -> Option<Offer>;

    /// Something waits: it goes before what comes after it.
    fn waits(&self);
}

/// A slot that is kept for a job while that is written down.
pub(in crate::server) struct Offer {
    pub taker: Taker,
    pub slot: Box<dyn Slot>,
}

/// Dropping it gives the slot back.
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

    pub fn offer(&self, job: &Enqueue) -> Option<Offer> {
        self.lock()
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|one| one.offer(job))
    }

    pub fn waits(&self) {
        self.lock().iter().filter_map(Weak::upgrade).for_each(|one| one.waits());
    }
}
