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

/// By job and epoch: an attempt that lost its lease may still be ending when the next one at the same job begins, and what is
/// meant for one must not reach the other.
#[derive(Default)]
pub(super) struct Running {
    /// Some attempt has said something that is not written yet.
    pub reported: Arc<tokio::sync::Notify>,
    attempts: Mutex<HashMap<Key, Attempt>>,
}

type Key = (JobId, u64);

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, attempt: Attempt) {
        self.lock().insert(attempt.lease.key(), attempt);
    }

    pub fn remove(&self, lease: Lease) {
        self.lock().remove(&lease.key());
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

    /// Those whose kinds are still at work.
    pub fn at_work(&self) -> Vec<Attempt> {
        self.lock().values().filter(|a| !a.ending).cloned().collect()
    }

    pub fn confirm(&self, lease: Lease) {
        if let Some(attempt) = self.lock().get_mut(&lease.key()) {
            attempt.confirmed = Instant::now();
        }
    }

    /// The attempt's end is on its way to the database.
    pub fn ending(&self, lease: Lease) {
        if let Some(attempt) = self.lock().get_mut(&lease.key()) {
            attempt.ending = true;
        }
    }

    /// Whether the attempt still works under this lease.
    pub fn works(&self, lease: Lease) -> bool {
        self.lock().get(&lease.key()).is_some_and(|a| !a.ending)
    }

    pub fn cancel(&self, key: Key) {
        if let Some(attempt) = self.lock().get(&key) {
            attempt.stop.cancel();
        }
    }

    pub fn pause(&self, key: Key) {
        if let Some(attempt) = self.lock().get(&key) {
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
    pub fn abort(&self, key: Key) {
        if let Some(attempt) = self.lock().get(&key) {
            // Blocking parts can't be dropped; they see the wish to stop at their next look.
            attempt.stop.abort();
            attempt.report.close();
            attempt.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told {
        lease: Lease,
        stop: Arc<Stop>,
        task: tokio::task::JoinHandle<()>,
    }

    fn begin(running: &Running, id: JobId, epoch: u64) -> Told {
        let task = tokio::spawn(std::future::pending());
        let (lease, stop) = (Lease { id, seq: 1, epoch }, Arc::new(Stop::default()));
        running.insert(Attempt {
            lease,
            stop: stop.clone(),
            report: Arc::new(Report::new(1, 0, Arc::default())),
            task: task.abort_handle(),
            confirmed: Instant::now(),
            ending: false,
        });
        Told { lease, stop, task }
    }

    #[tokio::test]
    async fn what_is_meant_for_an_attempt_does_not_reach_the_next_one() {
        let (running, id) = (Running::default(), JobId::now_v7());
        let (old, new) = (begin(&running, id, 3), begin(&running, id, 5));
        running.cancel(old.lease.key());
        running.pause(old.lease.key());
        running.abort(old.lease.key());
        assert!(old.stop.is_cancelled() && old.stop.is_paused());
        assert!(old.task.await.expect_err("ended").is_cancelled());
        running.remove(old.lease);
        // What comes later still finds nobody.
        running.cancel(old.lease.key());
        running.abort(old.lease.key());
        assert!(!new.stop.is_cancelled() && !new.stop.is_paused());
        assert!(running.works(new.lease) && !new.task.is_finished());
        assert_eq!(running.leases(), [new.lease]);
        running.abort(new.lease.key());
        assert!(new.task.await.expect_err("ended").is_cancelled());
    }
}
