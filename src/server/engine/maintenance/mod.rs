//! What keeps the engine honest: each loop is safe to run on every node at the same time, backs off on errors, and logs
//! them at a bounded rate.

mod sweeper;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::TaskTracker;

use super::{Backoff, Shared};
use crate::domain::status::Status;
use crate::server::queue::Entry;
use crate::server::store::StoreError;

/// How often leases that ran out are looked for.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often the index is compared with the database.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// How often files whose time has passed are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// Jobs whose search text is renewed in one step, and the wait after there were none.
const INDEX_STEP: u32 = 64;
const INDEX_IDLE: Duration = Duration::from_millis(500);
/// Writes of others between two steps that make it a busy time.
const BUSY_WRITES: u64 = 4;
/// Rows that one page of a walk reads.
const PAGE: u32 = 5_000;

pub(super) fn spawn(shared: &Arc<Shared>, tasks: &TaskTracker) {
    let s = shared.clone();
    tasks.spawn(every(shared.clone(), "rescue", RESCUE_EVERY, move || {
        let s = s.clone();
        async move { rescue(&s, false).await.map(|_| ()) }
    }));
    let s = shared.clone();
    tasks.spawn(every(shared.clone(), "reconcile", RECONCILE_EVERY, move || {
        let s = s.clone();
        async move { reconcile(&s).await }
    }));
    let s = shared.clone();
    tasks.spawn(every(shared.clone(), "sweep", SWEEP_EVERY, move || {
        let s = s.clone();
        async move { sweeper::sweep(&s).await }
    }));
    tasks.spawn(promote(shared.clone()));
    tasks.spawn(index(shared.clone()));
}

async fn every<F, Fut>(shared: Arc<Shared>, name: &'static str, period: Duration, mut work: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), StoreError>>,
{
    let mut backoff = Backoff::default();
    let mut wait = period;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match work().await {
            Ok(()) => {
                backoff.reset();
                period
            }
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, work = name, "maintenance failed");
                }
                pause.max(Duration::from_secs(1))
            }
        };
    }
}

/// Ends leases that ran out (or, `all`, every lease) and says how many.
pub(super) async fn rescue(shared: &Shared, all: bool) -> Result<usize, StoreError> {
    let mut rescued = 0;
    loop {
        let changed = shared.service.store.rescue(all).await?;
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

/// Announces every pending job, page by page. What the index knows already it takes without harm.
pub(super) async fn rebuild(shared: &Shared) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let mut rows = shared.service.store.pending_after(after.as_ref(), PAGE).await?;
        let entries: Vec<Entry> = rows.iter().map(|r| Entry::of(r.seq, &r.job)).collect();
        shared.service.queue.announce(&entries).await;
        let Some(last) = rows.pop() else { return Ok(()) };
        after = Some(last);
    }
}

/// Compares truth and index by their sizes, and announces again what waits when the index knows of fewer.
async fn reconcile(shared: &Shared) -> Result<(), StoreError> {
    let truth = shared.service.store.counts().await?.of(Status::Pending);
    let index = shared.service.queue.waiting().await as u64;
    metrics::gauge!("windlass_jobs_pending").set(truth as f64);
    if index < truth && shared.slots.available_permits() > 0 || index + 1_000 < truth {
        rebuild(shared).await?;
    }
    Ok(())
}

/// Puts due jobs into their queues when their time comes: at the known moment, when told of a new one, and in any case at
/// the poll interval.
async fn promote(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    loop {
        let wait = match shared.service.store.next_due().await {
            Ok(Some(0)) => match shared.service.store.promote_due().await {
                Ok(changed) => {
                    backoff.reset();
                    for change in &changed {
                        shared.service.settle(change).await;
                    }
                    Duration::ZERO
                }
                Err(error) => failed(&mut backoff, &error),
            },
            Ok(Some(ms)) => Duration::from_millis(ms).min(shared.settings.poll),
            Ok(None) => shared.settings.poll,
            Err(error) => failed(&mut backoff, &error),
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = shared.service.queue.due_changed() => {}
        }
    }
}

fn failed(backoff: &mut Backoff, error: &StoreError) -> Duration {
    let (pause, log) = backoff.fail();
    if log {
        tracing::warn!(%error, "due jobs could not be looked for");
    }
    pause
}

/// Keeps the search up to date, in steps so small that no writer waits long behind one; while others write, it takes a
/// twentieth of the time.
async fn index(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut writes = 0;
    loop {
        let store = &shared.service.store;
        let busy = store.writes() > writes + BUSY_WRITES;
        let began = Instant::now();
        let step = async {
            match store.index_lags().await? {
                true => store.index_some(if busy { INDEX_STEP / 4 } else { INDEX_STEP }).await,
                false => Ok(0),
            }
        };
        let wait = match step.await {
            Ok(0) => INDEX_IDLE,
            Ok(_) => {
                backoff.reset();
                began.elapsed() * if busy { 20 } else { 1 }
            }
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, "the search could not be brought up to date");
                }
                pause
            }
        };
        writes = store.writes();
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
