//! The attempts that run in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;

use super::context::Stop;
use super::report::Report;
use crate::domain::job::JobId;
use crate::server::store::ops::Lease;

/// One of them.
#[derive(Clone)]
pub(super) struct Attempt {
    pub lease: Lease,
    pub stop: Arc<Stop>,
    pub report: Arc<Report>,
    /// Ends the kind's task.
    pub task: AbortHandle,
    /// When the database last confirmed the lease.
    pub confirmed: Instant,
    /// The kind has ended; what is left is to write that down, after which the lease is gone.
    pub ending: bool,
}

#[derive(Default)]
pub(super) struct Running {
    /// Some attempt has said something that is not written yet.
    pub reported: Arc<tokio::sync::Notify>,
    attempts: Mutex<HashMap<JobId, Attempt>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, attempt: Attempt) {
        self.lock().insert(attempt.lease.id, attempt);
    }

    /// Forgets the attempt with this lease; a later attempt at the same job stays.
    pub fn remove(&self, lease: Lease) {
        let mut attempts = self.lock();
        if attempts.get(&lease.id).is_some_and(|a| a.lease == lease) {
            attempts.remove(&lease.id);
        }
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn all(&self) -> Vec<Attempt> {
        self.lock().values().cloned().collect()
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.lock().values().map(|a| a.lease).collect()
    }

    pub fn confirm(&self, lease: Lease) {
        if let Some(attempt) = self.lock().get_mut(&lease.id).filter(|a| a.lease == lease) {
            attempt.confirmed = Instant::now();
        }
    }

    /// The attempt's end is on its way to the database.
    pub fn ending(&self, lease: Lease) {
        if let Some(attempt) = self.lock().get_mut(&lease.id).filter(|a| a.lease == lease) {
            attempt.ending = true;
        }
    }

    /// Whether the attempt still works under this lease.
    pub fn works(&self, lease: Lease) -> bool {
        self.lock()
            .get(&lease.id)
            .is_some_and(|a| a.lease == lease && !a.ending)
    }

    pub fn cancel(&self, id: JobId) {
        if let Some(attempt) = self.lock().get(&id) {
            attempt.stop.cancel();
        }
    }

    pub fn pause(&self, id: JobId) {
        if let Some(attempt) = self.lock().get(&id) {
            attempt.stop.pause();
        }
    }

    /// The worker ends: attempts that can go on elsewhere stop at their next checkpoint.
    pub fn wind_down(&self) {
        for attempt in self.lock().values() {
            attempt.stop.wind_down();
        }
    }

    /// Ends the task of an attempt. It writes nothing any more.
    pub fn abort(&self, id: JobId) {
        if let Some(attempt) = self.lock().get(&id) {
            // Blocking parts can't be dropped; they see the wish to stop at their next look.
            attempt.stop.cancel();
            attempt.report.close();
            attempt.task.abort();
        }
    }
}
