//! The index over what waits, and the bus that carries live traffic. Neither holds a fact that the database does not hold:
//! both can be emptied at any time.

pub mod index;
pub mod memory;
mod order;
mod places;
pub mod redis;
mod sorted;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::domain::job::{Job, JobId};
use crate::domain::log::LogLine;
pub use crate::domain::queue::{Cell, Entry, FRONT, Hold, SUSPECTS};

/// How long, in milliseconds, a job must have waited to go before a fresh one of the lane above: waiting raises a job.
pub const LANE_MS: i64 = 600_000;
/// The index can't be asked at the moment; the database can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue's index can't be reached")]
pub struct Away;

/// Where workers find what waits. Lane first, ageing with it; in a lane the owners take turns; an owner's jobs go first in,
/// first out, retries before fresh ones.
#[async_trait]
pub trait Queue: Send + Sync {
    /// These wait now; the index may know a moment later. Saying it again changes nothing but their place. What can't be announced
    /// is found again by the reconciler.
    async fn announce(&self, entries: &[Entry]) {
        let _ = self.fill(entries).await;
    }

    /// [`Queue::announce`] for whoever must know whether the index has them now.
    async fn fill(&self, entries: &[Entry]) -> Result<(), Away>;

    /// These do not wait any more.
    async fn withdraw(&self, seqs: &[i64]);

    /// Takes up to `max` jobs, the first ones first; waits until there is one, or until it is worth another look. `suspect`: one
    /// of them may be of the lane [`SUSPECTS`]; otherwise none is. `rests` becomes true when nothing
    /// that may go is left, and false when something may be.
    async fn take(&self, max: usize, suspect: bool, rests: &AtomicBool) -> Result<Vec<i64>, Away>;

    /// Takes its turn for a job of this cell that is about to be written down, if it may go now: nothing is known that is to go
    /// before it, or may be in its way. As if it had been taken, which moves its owner's turn on. Answers soon, or that it can't.
    async fn take_turn(&self, lane: u8, cell: &Cell) -> Result<bool, Away>;

    /// The taken ones have been looked up in the database; the index need not remember them any more.
    async fn settle(&self, seqs: &[i64]);

    /// The taken ones could not be looked up: they wait as before.
    async fn give_back(&self, seqs: &[i64]);

    /// Jobs that share this stay where they are, for at most `ms` milliseconds.
    async fn hold(&self, hold: &Hold, ms: i64);

    /// They may go again: so many `places` of the limit came free, or the queue is not paused any more.
    async fn release(&self, hold: &Hold, places: u32);

    /// How many wait, those on their way to a worker included.
    async fn waiting(&self) -> Result<usize, Away>;

    /// Whether the index must be filled from the database; then says `true` to one of those who ask at the same time.
    async fn must_rebuild(&self) -> Result<bool, Away>;

    /// It has been filled; `false` when it lost something in the meantime, and must be filled anew.
    async fn rebuilt(&self) -> Result<bool, Away>;

    /// Jobs that were taken so long ago that their taker must have died wait again; says how many.
    async fn sweep(&self) -> Result<usize, Away>;

    /// Resolves when the index may have lost something, and a comparison with the database should not wait. `true`: it was away,
    /// and was told nothing meanwhile.
    async fn doubted(&self) -> bool;

    /// Some job has a new due time: whoever waits in [`Queue::due_changed`] looks again.
    fn due_hint(&self);

    /// Resolves after the next [`Queue::due_hint`].
    async fn due_changed(&self);

    /// Lets go of what it holds: the last call of a process.
    async fn close(&self) {}

    /// What people read about it: "embedded", or the Redis and how it fares.
    fn health(&self) -> Result<&'static str, &'static str>;
}

/// What a running attempt is told: the one with this epoch, and no later one at the same job, however late it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub id: JobId,
    pub epoch: u64,
    pub wish: Wish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Stop when you can.
    Cancel,
    /// Stop at the next checkpoint.
    Pause,
    /// Your lease is gone: stop at once.
    Abort,
}

/// A change that live viewers may want to see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Change {
    Job(Arc<Job>),
    Removed(Arc<Job>),
    /// More than can be told one by one, or some were missed: whoever wants to know looks again.
    Many,
    /// The kinds that workers outside run are others than before.
    Kinds,
}

/// Live traffic. Sending never waits and may be lost; whoever needs certainty asks the database.
pub trait Bus: Send + Sync {
    fn change(&self, change: Change);
    fn changes(&self) -> broadcast::Receiver<Change>;
    fn signal(&self, signal: Signal);
    fn signals(&self) -> broadcast::Receiver<Signal>;
    /// Lines that were just stored, in order. None: some may have been missed.
    fn lines(&self, id: JobId, lines: Vec<LogLine>);
    /// Lines of one job as they are stored, from now on.
    fn follow(&self, id: JobId) -> broadcast::Receiver<Arc<Vec<LogLine>>>;
}
