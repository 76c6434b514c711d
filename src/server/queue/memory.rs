//! The queue and the bus of a single process: an ordered index in memory, rebuilt from the database at the start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast};

use super::{Bus, Change, Entry, Queue, Signal};
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

/// What waits, by rank.
#[derive(Default)]
pub struct MemoryQueue {
    index: Mutex<Index>,
    arrived: Notify,
    due: Notify,
}

#[derive(Default)]
struct Index {
    order: BTreeSet<(i64, i64)>,
    rank: HashMap<i64, i64>,
}

impl Index {
    fn insert(&mut self, entry: &Entry) {
        if let Some(old) = self.rank.insert(entry.seq, entry.rank) {
            self.order.remove(&(old, entry.seq));
        }
        self.order.insert((entry.rank, entry.seq));
    }

    fn remove(&mut self, seq: i64) {
        if let Some(rank) = self.rank.remove(&seq) {
            self.order.remove(&(rank, seq));
        }
    }

    fn pop(&mut self) -> Option<i64> {
        let (_, seq) = self.order.pop_first()?;
        self.rank.remove(&seq);
        Some(seq)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn announce(&self, entries: &[Entry]) {
        let mut index = lock(&self.index);
        for entry in entries {
            index.insert(entry);
        }
        drop(index);
        self.arrived.notify_one();
    }

    async fn withdraw(&self, seq: i64) {
        lock(&self.index).remove(seq);
    }

    async fn take(&self, max: usize) -> Vec<i64> {
        loop {
            let taken: Vec<i64> = {
                let mut index = lock(&self.index);
                std::iter::from_fn(|| index.pop()).take(max).collect()
            };
            if !taken.is_empty() || max == 0 {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    async fn waiting(&self) -> usize {
        lock(&self.index).order.len()
    }

    fn due_hint(&self) {
        self.due.notify_one();
    }

    async fn due_changed(&self) {
        self.due.notified().await;
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
    use super::*;

    fn entry(seq: i64, rank: i64) -> Entry {
        Entry { seq, rank }
    }

    #[tokio::test]
    async fn jobs_leave_in_order_of_rank_then_number_and_once() {
        let queue = MemoryQueue::default();
        queue.announce(&[entry(3, 10), entry(1, 20), entry(2, 10)]).await;
        queue.announce(&[entry(1, 5), entry(3, 10)]).await;
        assert_eq!(queue.waiting().await, 3);
        assert_eq!(queue.take(2).await, [1, 2]);
        queue.withdraw(2).await;
        assert_eq!(queue.take(9).await, [3]);
        assert_eq!(queue.waiting().await, 0);
    }

    #[tokio::test]
    async fn a_waiting_taker_is_woken() {
        let queue = Arc::new(MemoryQueue::default());
        let taker = tokio::spawn({
            let queue = queue.clone();
            async move { queue.take(1).await }
        });
        tokio::task::yield_now().await;
        queue.announce(&[entry(7, 0)]).await;
        assert_eq!(taker.await.expect("taken"), [7]);
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
