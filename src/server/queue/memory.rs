//! The queue and the bus of a single process: an ordered index in memory, rebuilt from the database at the start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::index::{Index, Taken};
use super::{Away, Bus, Cell, Change, Entry, Hold, Queue, Signal};
use crate::domain::job::JobId;
use crate::domain::log::LogLine;

/// Messages that a slow listener may be behind before it misses some.
const CHANGES: usize = 8_192;
const SIGNALS: usize = 1_024;
const LINES: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded code can't panic half-way; a poisoned lock would only mean that some other thread died.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What waits, in the process's memory.
pub struct MemoryQueue {
    /// What its moments are counted from. Holds last for as long as they were meant to, whatever the machine's clock is set to.
    began: Instant,
    index: Mutex<Shared>,
    arrived: Notify,
    due: Notify,
}

#[derive(Default)]
struct Shared {
    index: Index,
    /// On their way to a worker.
    taken: HashMap<i64, Taken>,
    filled: bool,
}

/// Held jobs come back by themselves after a while, so now and then a look is worth it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Default for MemoryQueue {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            index: Mutex::default(),
            arrived: Notify::default(),
            due: Notify::default(),
        }
    }
}

impl MemoryQueue {
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn fill(&self, entries: &[Entry]) -> Result<(), Away> {
        let mut shared = lock(&self.index);
        for entry in entries {
            shared.taken.remove(&entry.seq);
            shared.index.insert(entry);
        }
        drop(shared);
        self.arrived.notify_one();
        Ok(())
    }

    async fn withdraw(&self, seqs: &[i64]) {
        let mut shared = lock(&self.index);
        seqs.iter().for_each(|seq| shared.index.remove(*seq));
    }

    async fn take(&self, max: usize, suspect: bool, rests: &AtomicBool) -> Result<Vec<i64>, Away> {
        let look = || {
            let mut shared = lock(&self.index);
            let taken = shared.index.take(max, self.now(), suspect);
            let seqs: Vec<i64> = taken.iter().map(|one| one.entry.seq).collect();
            shared.taken.extend(taken.into_iter().map(|one| (one.entry.seq, one)));
            rests.store(seqs.len() < max && !shared.index.is_thawing(), Ordering::Relaxed);
            (seqs, !shared.index.is_empty())
        };
        let mut found = look();
        if found.0.is_empty() && max > 0 {
            // Something arrived, or it is time to look whether a hold has ended.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.arrived.notified()).await;
            found = look();
        }
        let (seqs, more) = found;
        if more && !seqs.is_empty() {
            // Another worker may wait for what is left.
            self.arrived.notify_one();
        }
        Ok(seqs)
    }

    async fn take_turn(&self, lane: u8, cell: &Cell) -> Result<bool, Away> {
        let mut shared = lock(&self.index);
        // Those that are on their way to a worker are older.
        let older = |taken: &Taken| taken.entry.lane == lane && taken.entry.cell == *cell;
        if !shared.filled || shared.taken.values().any(older) {
            return Ok(false);
        }
        Ok(shared.index.take_turn(lane, cell, Utc::now().timestamp_millis()))
    }

    async fn settle(&self, seqs: &[i64]) {
        let mut shared = lock(&self.index);
        for seq in seqs {
            shared.taken.remove(seq);
        }
    }

    async fn give_back(&self, seqs: &[i64]) {
        let mut shared = lock(&self.index);
        let back: Vec<Taken> = seqs.iter().filter_map(|seq| shared.taken.remove(seq)).collect();
        shared.index.give_back(&back);
    }

    async fn hold(&self, hold: &Hold, ms: i64) {
        lock(&self.index).index.hold(hold, self.now().saturating_add(ms));
    }

    async fn release(&self, hold: &Hold, places: u32) {
        if lock(&self.index).index.release(hold, places) {
            self.arrived.notify_one();
        }
    }

    async fn waiting(&self) -> Result<usize, Away> {
        let shared = lock(&self.index);
        Ok(shared.index.len() + shared.taken.len())
    }

    async fn must_rebuild(&self) -> Result<bool, Away> {
        Ok(!lock(&self.index).filled)
    }

    async fn rebuilt(&self) -> Result<bool, Away> {
        lock(&self.index).filled = true;
        Ok(true)
    }

    async fn sweep(&self) -> Result<usize, Away> {
        // Takers die with this process, and the index with them.
        Ok(0)
    }

    async fn doubted(&self) -> bool {
        std::future::pending().await
    }

    fn due_hint(&self) {
        self.due.notify_one();
    }

    async fn due_changed(&self) {
        self.due.notified().await;
    }

    fn health(&self) -> Result<&'static str, &'static str> {
        Ok("embedded")
    }
}

/// Broadcasts within the process.
pub struct MemoryBus {
    changes: broadcast::Sender<Change>,
    signals: broadcast::Sender<Signal>,
    followers: Mutex<HashMap<JobId, broadcast::Sender<Arc<Vec<LogLine>>>>>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self {
            changes: broadcast::Sender::new(CHANGES),
            signals: broadcast::Sender::new(SIGNALS),
            followers: Mutex::default(),
        }
    }
}

impl MemoryBus {
    /// Whether anybody here follows the job's lines.
    pub fn is_followed(&self, id: JobId) -> bool {
        lock(&self.followers)
            .get(&id)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }
}

impl Bus for MemoryBus {
    fn change(&self, change: Change) {
        // An error means that nobody listens.
        let _ = self.changes.send(change);
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn signal(&self, signal: Signal) {
        let _ = self.signals.send(signal);
    }

    fn signals(&self) -> broadcast::Receiver<Signal> {
        self.signals.subscribe()
    }

    fn lines(&self, id: JobId, lines: Vec<LogLine>) {
        let mut followers = lock(&self.followers);
        if let Some(sender) = followers.get(&id)
            && sender.send(Arc::new(lines)).is_err()
        {
            followers.remove(&id);
        }
    }

    fn follow(&self, id: JobId) -> broadcast::Receiver<Arc<Vec<LogLine>>> {
        let mut followers = lock(&self.followers);
        followers.retain(|_, sender| sender.receiver_count() > 0);
        followers
            .entry(id)
            .or_insert_with(|| broadcast::Sender::new(LINES))
            .subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cell;
    use super::*;

    fn entry(seq: i64) -> Entry {
        let cell = Cell {
            queue: "default".into(),
            kind: "echo".into(),
            owner: "me".into(),
            key: None,
        };
        Entry {
            seq,
            lane: 2,
            since: seq,
            cell,
        }
    }

    #[tokio::test]
    async fn a_waiting_taker_is_woken_and_what_it_can_not_use_goes_back() {
        let queue = Arc::new(MemoryQueue::default());
        let taker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take(1, true, &AtomicBool::default()).await }
        });
        tokio::task::yield_now().await;
        queue.announce(&[entry(7), entry(8)]).await;
        assert_eq!(taker.await.expect("taken"), Ok(vec![7]));
        assert_eq!(queue.waiting().await, Ok(2));
        queue.give_back(&[7]).await;
        assert_eq!(queue.take(5, true, &AtomicBool::default()).await, Ok(vec![7, 8]));
        queue.settle(&[7, 8]).await;
        assert_eq!(queue.waiting().await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_rests_when_it_left_nothing_that_may_go() {
        let (queue, rests) = (MemoryQueue::default(), AtomicBool::default());
        queue.announce(&[entry(7), entry(8), entry(9)]).await;
        assert_eq!(queue.take(2, true, &rests).await, Ok(vec![7, 8]));
        assert!(!rests.load(Ordering::Relaxed), "one is left");
        assert_eq!(queue.take(2, true, &rests).await, Ok(vec![9]));
        assert!(rests.load(Ordering::Relaxed));
        let hold = Hold::Kind("echo".into());
        queue.hold(&hold, 60_000).await;
        queue.announce(&[entry(10), entry(11), entry(12)]).await;
        assert_eq!(queue.take(5, true, &rests).await, Ok(Vec::new()));
        assert!(rests.load(Ordering::Relaxed), "what is left may not go");
        queue.release(&hold, 1).await;
        assert_eq!(queue.take(5, true, &rests).await, Ok(vec![10]));
        assert!(!rests.load(Ordering::Relaxed), "another one may try");
    }

    /// By the time that passes, which is not what the machine's clock says: that may be set back by an hour in the meantime.
    #[tokio::test(start_paused = true)]
    async fn a_hold_lasts_for_as_long_as_was_said() {
        let queue = MemoryQueue::default();
        queue.announce(&[entry(7)]).await;
        queue.hold(&Hold::Kind("echo".into()), 3_600_000).await;
        assert_eq!(queue.take(1, true, &AtomicBool::default()).await, Ok(Vec::new()));
        tokio::time::advance(Duration::from_secs(3_000)).await;
        assert_eq!(queue.take(1, true, &AtomicBool::default()).await, Ok(Vec::new()));
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(queue.take(1, true, &AtomicBool::default()).await, Ok(vec![7]));
    }

    #[tokio::test]
    async fn only_followers_of_a_job_hear_its_lines() {
        let bus = MemoryBus::default();
        let (a, b) = (JobId::now_v7(), JobId::now_v7());
        let mut ears = bus.follow(a);
        bus.lines(b, Vec::new());
        bus.lines(a, Vec::new());
        assert!(ears.recv().await.expect("lines").is_empty());
        assert!(ears.try_recv().is_err());
    }
}
