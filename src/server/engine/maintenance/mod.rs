//! What keeps the engine honest: each loop is safe to run on every node at the same time, backs off on errors, and logs
//! them at a bounded rate.

mod sweeper;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;

use super::{Backoff, Shared};
use crate::domain::status::Status;
use crate::server::store::StoreError;

/// How often leases that ran out are looked for, at the least.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often the index is compared with the database.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How often the index is filled in full where it is shared: what it knows too much would hide as many that it lacks. A message
/// that got lost does both.
const FILL_EVERY: Duration = Duration::from_secs(600);
/// When a comparison found some missing that may only be on their way, the next one comes sooner.
const RECONCILE_AGAIN: Duration = Duration::from_secs(2);
/// Jobs that may be on their way to the index when it is compared.
const FEW: u64 = 1_000;
/// How long after its start a process first looks whether it is time to sweep: soon, so that one that is restarted often does.
const SWEEP_FIRST: Duration = Duration::from_secs(5);
/// Jobs whose search text is renewed in one step, and the wait after there were none.
const INDEX_STEP: u32 = 64;
const INDEX_IDLE: Duration = Duration::from_millis(500);
/// Writes of others between two steps that make it a busy time.
const BUSY_WRITES: u64 = 4;
/// Rows that one page of a walk reads.
const PAGE: u32 = 5_000;

/// A task of this module: what it does, which answers with the wait before the next time; and what ends that wait early.
struct Loop {
    name: &'static str,
    /// Before the first time.
    wait: Duration,
    work: fn(Arc<Shared>) -> BoxFuture<'static, Result<Duration, StoreError>>,
    wake: fn(Arc<Shared>) -> BoxFuture<'static, ()>,
}

pub(super) fn spawn(shared: &Arc<Shared>, tasks: &TaskTracker) {
    let often = |s: &Shared| RESCUE_EVERY.min(s.settings.lease / 6);
    let loops = [
        Loop {
            name: "leases that ran out",
            wait: often(shared),
            work: |s| async move { rescue(&s, false).await.map(|_| RESCUE_EVERY.min(s.settings.lease / 6)) }.boxed(),
            wake: |_| std::future::pending().boxed(),
        },
        Loop {
            name: "the queue's index",
            wait: Duration::ZERO,
            work: |s| async move { reconcile(&s).await }.boxed(),
            wake: |s| async move { doubted(&s).await }.boxed(),
        },
        Loop {
            name: "what is kept no longer",
            wait: SWEEP_FIRST.min(shared.settings.sweep_every),
            work: |s| async move { sweeper::sweep(&s).await.map(|()| s.settings.sweep_every) }.boxed(),
            wake: |_| std::future::pending().boxed(),
        },
        Loop {
            name: "schedules",
            wait: Duration::ZERO,
            work: |s| async move { cron(&s).await }.boxed(),
            wake: |_| std::future::pending().boxed(),
        },
        Loop {
            name: "jobs that wait for others",
            wait: Duration::ZERO,
            work: |s| async move { resolve(&s).await }.boxed(),
            wake: |s| async move { s.service.dependents.notified().await }.boxed(),
        },
        Loop {
            name: "due jobs",
            wait: Duration::ZERO,
            work: |s| async move { promote(&s).await }.boxed(),
            wake: |s| async move { s.service.queue.due_changed().await }.boxed(),
        },
        Loop {
            name: "the search",
            wait: INDEX_IDLE,
            work: |s| async move { index(&s).await }.boxed(),
            wake: |_| std::future::pending().boxed(),
        },
    ];
    for one in loops {
        tasks.spawn(keep_at(shared.clone(), one));
    }
}

/// Does the work again and again until the engine stops; after an error it backs off, and logs at a bounded rate.
async fn keep_at(shared: Arc<Shared>, this: Loop) {
    let mut backoff = Backoff::default();
    let mut wait = this.wait;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = (this.wake)(shared.clone()) => {}
        }
        wait = match (this.work)(shared.clone()).await {
            Ok(next) => {
                backoff.reset();
                next
            }
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, about = this.name, "maintenance failed");
                }
                pause
            }
        };
    }
}

/// Ends leases that ran out (or, `all`, every lease) and says how many.
pub(super) async fn rescue(shared: &Shared, all: bool) -> Result<usize, StoreError> {
    let mut rescued = 0;
    loop {
        // Nobody else could have taken over what runs here, and the embedded database's clock is this machine's: when that
        // jumps, no lease has ended.
        let held = match shared.alone {
            true => [shared.running.leases(), shared.service.leases_outside()].concat(),
            false => Vec::new(),
        };
        let changed = shared.service.store.rescue(all, held).await?;
        if changed.is_empty() {
            return Ok(rescued);
        }
        rescued += changed.len();
        metrics::counter!("windlass_leases_expired_total").increment(changed.len() as u64);
        for change in &changed {
            shared.service.settle(change).await;
        }
    }
}

async fn doubted(shared: &Shared) {
    if shared.service.queue.doubted().await {
        shared.outdated.store(true, Ordering::Relaxed);
    }
}

/// Fills an index that has lost what it knew, unless another process is at it.
pub(super) async fn fill(shared: &Shared) -> Result<(), StoreError> {
    let queue = &shared.service.queue;
    if let Ok(true) = queue.must_rebuild().await
        && rebuild(shared).await?
        && let Ok(true) = queue.rebuilt().await
    {
        tracing::info!("the queue's index was filled from the database");
    }
    Ok(())
}

/// Announces every pending job, page by page, and says whether the index took them all. What it knows already it takes
/// without harm.
async fn rebuild(shared: &Shared) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let mut entries = shared.service.store.pending_after(after.as_ref(), PAGE).await?;
        if shared.service.queue.fill(&entries).await.is_err() {
            return Ok(false);
        }
        let Some(last) = entries.pop() else { break };
        after = Some(last);
    }
    shared.outdated.store(false, Ordering::Relaxed);
    *shared.filled.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    Ok(true)
}

/// Compares truth and index by their sizes, and announces again what waits when the index knows of fewer; and whatever their
/// sizes when it was away, and now and then. Answers with the wait until the next time.
async fn reconcile(shared: &Shared) -> Result<Duration, StoreError> {
    fill(shared).await?;
    let queue = &shared.service.queue;
    // While the index is away there is nothing to compare; its return is told.
    let (Ok(_), Ok(before)) = (queue.sweep().await, queue.waiting().await) else {
        return Ok(RECONCILE_EVERY);
    };
    let truth = shared.service.store.counts().await?.of(Status::Pending);
    let Ok(after) = queue.waiting().await else {
        return Ok(RECONCILE_EVERY);
    };
    metrics::gauge!("windlass_jobs_pending").set(truth as f64);
    // By the larger one: jobs come and go between the looks.
    let missing = truth.saturating_sub(before.max(after) as u64);
    let again = shared.missed.swap(missing > 0, Ordering::Relaxed);
    let lacks = lacks(missing, shared.slots.available_permits() > 0, again);
    if (lacks || unsure(shared)) && rebuild(shared).await? {
        shared.missed.store(false, Ordering::Relaxed);
        return Ok(RECONCILE_EVERY);
    }
    Ok(match missing > 0 && !lacks {
        true => RECONCILE_AGAIN,
        false => RECONCILE_EVERY,
    })
}

/// Whether sizes alone say too little of the index. That of a single process hears of everything.
fn unsure(shared: &Shared) -> bool {
    let filled = *shared.filled.lock().unwrap_or_else(PoisonError::into_inner);
    shared.outdated.load(Ordering::Relaxed) || !shared.alone && filled.elapsed() >= FILL_EVERY
}

/// Whether an index that knows of so many jobs fewer than wait has lost some. A few may be on their way to it: that is found
/// out by another look (`again`: the last one found some missing, too), unless this worker has nothing to do.
fn lacks(missing: u64, idle: bool, again: bool) -> bool {
    missing > 0 && (idle || again || missing > FEW)
}

/// Puts due jobs into their queues when their time comes: at the known moment, when told of a new one, and in any case at
/// the poll interval.
async fn promote(shared: &Shared) -> Result<Duration, StoreError> {
    match shared.service.store.next_due().await? {
        Some(0) => {
            let promoted = shared.service.store.promote_due().await?;
            for change in &promoted {
                shared.service.settle(change).await;
            }
            Ok(next_look(promoted.len(), shared.settings.poll))
        }
        Some(ms) => Ok(Duration::from_millis(ms).min(shared.settings.poll)),
        None => Ok(shared.settings.poll),
    }
}

/// Enqueues the runs of schedules when they fall due. Every node does; each run is enqueued once.
async fn cron(shared: &Shared) -> Result<Duration, StoreError> {
    let next = shared.service.fire_due().await?;
    let next = next.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
    Ok(next.map_or(shared.settings.poll, |next| next.min(shared.settings.poll)))
}

/// Looks at jobs that wait for others when told that one of those has ended, and in any case at the poll interval: what ended
/// is on record until it was looked at.
async fn resolve(shared: &Shared) -> Result<Duration, StoreError> {
    if !shared.service.store.dependents_due().await? {
        return Ok(shared.settings.poll);
    }
    let resolved = shared.service.store.resolve_dependents().await?;
    for change in &resolved.changed {
        shared.service.settle(change).await;
    }
    Ok(next_look(resolved.ends, shared.settings.poll))
}

/// The wait before the next look at what is due, when so much of it was done: there may be more. When none was, others have it in
/// hand, for as long as they like, and whoever looked again at once would do nothing else.
fn next_look(done: usize, poll: Duration) -> Duration {
    match done {
        0 => poll,
        _ => Duration::ZERO,
    }
}

/// Keeps the search up to date, in steps so small that no writer waits long behind one; while others write, it takes a
/// twentieth of the time.
async fn index(shared: &Shared) -> Result<Duration, StoreError> {
    let store = &shared.service.store;
    let before = shared.writes_seen.swap(store.writes(), Ordering::Relaxed);
    let busy = store.writes() > before + BUSY_WRITES;
    if !store.index_lags().await? {
        return Ok(INDEX_IDLE);
    }
    let began = Instant::now();
    let renewed = store.index_some(if busy { INDEX_STEP / 4 } else { INDEX_STEP }).await?;
    shared.writes_seen.store(store.writes(), Ordering::Relaxed);
    Ok(match renewed {
        0 => INDEX_IDLE,
        _ => began.elapsed() * if busy { 20 } else { 1 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_in_hand_is_not_asked_for_all_the_time() {
        let poll = Duration::from_secs(1);
        assert_eq!(next_look(0, poll), poll);
        assert_eq!(next_look(1, poll), Duration::ZERO);
    }

    #[test]
    fn what_the_index_lost_is_announced_again_by_a_busy_worker_too() {
        assert!(!lacks(0, true, true));
        assert!(lacks(1, true, false) && lacks(FEW + 1, false, false));
        assert!(!lacks(1, false, false), "it may be on its way");
        assert!(lacks(1, false, true), "it was not");
    }
}
