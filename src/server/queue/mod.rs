//! The index over what waits, and the bus that carries live traffic. Neither holds a fact that the database does not hold:
//! both can be emptied at any time.

pub mod memory;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::domain::job::{Job, JobId};
use crate::domain::log::LogLine;

/// How long, in milliseconds, a job must have waited to go before a fresh one of the lane above: waiting raises a job.
const LANE_MS: i64 = 600_000;
/// In a lane, retries go before fresh jobs that have not waited this much longer.
const RETRY_MS: i64 = 300_000;

/// A waiting job as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The database's number of the job.
    pub seq: i64,
    /// Lower goes first.
    pub rank: i64,
}

impl Entry {
    /// Lane first, in a lane retries before fresh jobs, then first in, first out; each of these by a head start in time.
    pub fn of(seq: i64, job: &Job) -> Self {
        let retry = if job.attempt > 0 { RETRY_MS } else { 0 };
        Self {
            seq,
            rank: job.run_at.timestamp_millis() + job.priority.rank() * LANE_MS - retry,
        }
    }
}

/// Where workers find what waits.
#[async_trait]
pub trait Queue: Send + Sync {
    /// These wait now. Saying it again changes nothing but the rank.
    async fn announce(&self, entries: &[Entry]);

    /// This one does not wait any more.
    async fn withdraw(&self, seq: i64);

    /// Takes up to `max` jobs, the first ones first; waits until there is one.
    async fn take(&self, max: usize) -> Vec<i64>;

    /// How many wait.
    async fn waiting(&self) -> usize;

    /// Some job has a new due time: whoever waits in [`Queue::due_changed`] looks again.
    fn due_hint(&self);

    /// Resolves after the next [`Queue::due_hint`].
    async fn due_changed(&self);
}

/// What a running attempt is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Stop when you can.
    Cancel(JobId),
    /// Your lease is gone: stop at once.
    Abort(JobId),
}

/// A change that live viewers may want to see.
#[derive(Clone, Debug)]
pub enum Change {
    Job(Job),
    Removed(Job),
}

/// Live traffic. Sending never waits and may be lost; whoever needs certainty asks the database.
pub trait Bus: Send + Sync {
    fn change(&self, change: Change);
    fn changes(&self) -> broadcast::Receiver<Change>;
    fn signal(&self, signal: Signal);
    fn signals(&self) -> broadcast::Receiver<Signal>;
    /// Lines that were just stored, in order.
    fn lines(&self, id: JobId, lines: Vec<LogLine>);
    /// Lines of one job as they are stored, from now on.
    fn follow(&self, id: JobId) -> broadcast::Receiver<Arc<Vec<LogLine>>>;
}
