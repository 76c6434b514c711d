//! Takes jobs while there are free slots, and where jobs are short a few ahead of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use tokio::sync::OwnedSemaphorePermit;

use super::ahead::{Ahead, Taken};
use super::pace::AHEAD_MAX;
use super::starter::Arrivals;
use super::{Backoff, Shared, executor};
use crate::domain::machine::Event;
use crate::server::queue::{Change, Hold};
use crate::server::store::StoreError;
use crate::server::store::claim::{Claim, Claimed};
use crate::server::store::dialect::Dialect;
use crate::server::store::limits::{HOLD_MS, Refused};
use crate::server::store::ops::Lease;

/// Jobs that one claim takes ahead of free slots at the most. Postgres writes the ends of those before it beside it; where there is
/// one writer, it had better commit seldom.
fn claim_max(on: Dialect) -> usize {
    match on {
        Dialect::Sqlite => AHEAD_MAX,
        Dialect::Postgres => 256,
    }
}
/// Jobs that go back to the queue at the same time.
const HANDED_BACK: usize = 64;

/// What a look for jobs came to.
enum Fetched {
    Jobs(Vec<Taken>),
    Failed(StoreError),
}

/// Until the engine drains: take ids from the queue, as many as there are free slots and a few more, claim them in one go,
/// and start them as slots are free. `arrivals`: those that were claimed as they were written down.
pub(super) async fn run(shared: Arc<Shared>, mut arrivals: Arrivals) {
    let mut backoff = Backoff::default();
    let mut ahead = Ahead::default();
    let mut fetching: Option<BoxFuture<'static, Fetched>> = None;
    // When claims are tried again that the database could not do.
    let mut not_before: Option<Instant> = None;
    let claim_max = claim_max(shared.service.store.dialect());
    loop {
        start(&shared, &mut ahead);
        shared.late.ahead(ahead.len());
        if fetching.is_none() && not_before.is_none() {
            shared.coming.store(ahead.len(), Ordering::Relaxed);
            let target = shared.pace.ahead(shared.settings.slots);
            let free = shared.slots.available_permits();
            // With nothing ahead, short jobs that are about to end together do so first, and one claim takes for all.
            let short = target.saturating_sub(ahead.taken());
            if free > 0 && ahead.is_empty() || short > (target / 2).min(claim_max) {
                let more = short.min(claim_max);
                fetching = Some(fetch(shared.clone(), free + more, more).boxed());
            }
        }
        let idle = fetching.is_none() && not_before.is_none();
        // While ends wait for the database no slot comes free, and going back is something to be written, too.
        let stranded = ahead.deadline().filter(|_| shared.ends.available_permits() > 0);
        let fetched = tokio::select! {
            biased;
            () = shared.draining.cancelled() => break,
            Some((job, promise)) = arrivals.recv() => {
                ahead.arrive(job, Instant::now());
                shared.late.ahead(ahead.len());
                drop(promise);
                continue;
            }
            // A slot is free: the loop starts what waits for it, or looks for more.
            () = slot(&shared, !ahead.is_empty() || idle) => continue,
            fetched = async {
                match fetching.as_mut() {
                    Some(fetch) => fetch.await,
                    None => std::future::pending().await,
                }
            } => fetched,
            () = at(stranded) => {
                // Nobody else comes ahead meanwhile.
                shared.pace.long();
                let stranded = ahead.stranded(Instant::now());
                give_back(&shared, stranded.into_iter(), "it was claimed ahead of a free slot that did not come").await;
                continue;
            }
            () = at(not_before) => {
                not_before = None;
                continue;
            }
        };
        fetching = None;
        match fetched {
            Fetched::Jobs(jobs) => {
                backoff.reset();
                for job in jobs {
                    shared.service.bus.change(Change::Job(job.0.job.clone()));
                    ahead.push(job, Instant::now());
                }
            }
            Fetched::Failed(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, "jobs could not be claimed");
                }
                not_before = Some(Instant::now() + pause);
            }
        }
    }
    // What is being claimed at this moment must not be left behind: its leases would have to run out.
    if let Some(fetch) = fetching
        && let Ok(Fetched::Jobs(jobs)) = tokio::time::timeout(Duration::from_secs(2), fetch).await
    {
        jobs.into_iter().for_each(|job| ahead.push(job, Instant::now()));
    }
    arrivals.close();
    // Not try_recv: that does not see what is just being sent.
    while let Some((job, _)) = arrivals.recv().await {
        ahead.arrive(job, Instant::now());
    }
    give_back(&shared, ahead.drain(), "the worker shut down before it had a slot").await;
}

/// Resolves at that moment, if there is one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Starts claimed jobs while there are free slots.
fn start(shared: &Arc<Shared>, ahead: &mut Ahead) {
    while !ahead.is_empty() {
        let Ok(slot) = shared.slots.clone().try_acquire_owned() else {
            return;
        };
        if let Some((job, alone)) = ahead.pop(Instant::now()) {
            shared.executions.spawn(executor::run(shared.clone(), job, slot, alone));
        }
    }
}

/// Resolves when a slot is free, if that is `wanted`.
async fn slot(shared: &Shared, wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    // Closed never: an error can't happen.
    drop(shared.slots.acquire().await);
}

/// Takes up to `max` ids from the queue and claims them; so many of them `ahead` of free slots.
async fn fetch(shared: Arc<Shared>, max: usize, ahead: usize) -> Fetched {
    // Short jobs end together: whoever is about to give up a slot does so first.
    tokio::task::yield_now().await;
    let queue = &shared.service.queue;
    // Until it has looked: others may have told of something.
    shared.rests.store(false, Ordering::Relaxed);
    // Of jobs that may kill their worker one runs at a time.
    let mut alone = shared.suspect.clone().try_acquire_owned().ok();
    let taken = tokio::select! {
        biased;
        () = shared.draining.cancelled() => return Fetched::Jobs(Vec::new()),
        taken = queue.take(max, alone.is_some(), &shared.rests) => taken,
        // The one that ran has ended, which tells the queue nothing: the next one need not wait until it is looked at again.
        ended = shared.suspect.clone().acquire_owned(), if alone.is_none() => {
            alone = ended.ok();
            tokio::select! {
                biased;
                () = shared.draining.cancelled() => return Fetched::Jobs(Vec::new()),
                taken = queue.take(max, alone.is_some(), &shared.rests) => taken,
            }
        }
    };
    let (mut seqs, indexed) = match taken {
        Ok(seqs) => (seqs, true),
        // The index is away: what the database knows to wait will do, in a rougher order.
        Err(_) => match shared.service.store.waiting_heads(max, &shared.settings.limits).await {
            Ok(seqs) => (seqs, false),
            Err(error) => return Fetched::Failed(error),
        },
    };
    // New jobs may have begun in the meantime, in slots that these were meant for.
    let room = shared.slots.available_permits() + ahead;
    if indexed && seqs.len() > room {
        shared.rests.store(false, Ordering::Relaxed);
        queue.give_back(&seqs.split_off(room)).await;
    }
    shared.coming.store(seqs.len(), Ordering::Relaxed);
    let began = Instant::now();
    let claimed = match seqs.is_empty() {
        true => Ok(Took::default()),
        false => claim(&shared, &seqs).await,
    };
    match claimed {
        Ok(took) if indexed => {
            if !seqs.is_empty() {
                shared.pace.claimed(began.elapsed());
                tell(&shared, &seqs, &took).await;
            }
            Fetched::Jobs(apart(&shared, took.jobs, alone).await)
        }
        Ok(took) => {
            // Nobody tells when there is more, or when what is in the way is gone.
            if took.jobs.is_empty() {
                tokio::select! {
                    () = shared.draining.cancelled() => {}
                    () = tokio::time::sleep(shared.settings.poll) => {}
                }
            }
            Fetched::Jobs(apart(&shared, took.jobs, alone).await)
        }
        Err(error) => {
            if indexed {
                queue.give_back(&seqs).await;
            }
            Fetched::Failed(error)
        }
    }
}

/// Gives the right to run alone to the suspect among the jobs; any other suspect waits for its turn.
async fn apart(shared: &Shared, jobs: Vec<Claimed>, mut alone: Option<OwnedSemaphorePermit>) -> Vec<Taken> {
    let mut taken = Vec::with_capacity(jobs.len());
    for job in jobs {
        match (job.job.is_suspect(), alone.is_some()) {
            (false, _) => taken.push((job, None)),
            (true, true) => taken.push((job, alone.take())),
            (true, false) => {
                let reason = "it may kill its worker, and another such job runs there";
                give_back(shared, [(job, None)].into_iter(), reason).await;
            }
        }
    }
    taken
}

/// What became of jobs that were asked for. Those that are nowhere in it wait no more.
#[derive(Default)]
struct Took {
    jobs: Vec<Claimed>,
    refused: Vec<Refused>,
    /// They could not be looked at, and wait as before.
    left: Vec<i64>,
}

/// Claims what is under no limit in one go, and the rest with a look at the limits.
async fn claim(shared: &Shared, seqs: &[i64]) -> Result<Took, StoreError> {
    let limits = &shared.settings.limits;
    let mut claim = Claim {
        seqs: seqs.to_vec(),
        worker: shared.worker.clone(),
        lease_ms: shared.settings.lease_ms(),
        limited: limits.limited(),
        external: false,
    };
    let store = &shared.service.store;
    let mut jobs = match limits.all {
        Some(_) => Vec::new(),
        None => store.claim(claim.clone()).await?,
    };
    let mut took = Took::default();
    if jobs.len() < seqs.len() {
        let known: HashSet<i64> = jobs.iter().map(|j| j.lease.seq).collect();
        claim.seqs.retain(|seq| !known.contains(seq));
        let rest = claim.seqs.clone();
        match store.claim_limited(claim, limits.clone()).await {
            Ok((more, refused)) => {
                jobs.extend(more);
                took.refused = refused;
            }
            // Those that were taken already are not given up for the others' sake.
            Err(error) if !jobs.is_empty() => {
                tracing::warn!(%error, "jobs under limits could not be claimed");
                took.left = rest;
            }
            Err(error) => return Err(error),
        }
    }
    as_taken(&mut jobs, seqs, |job| job.lease.seq);
    took.jobs = jobs;
    Ok(took)
}

/// Sorts what was claimed as it was taken, which is the order to begin in: the database gives rows as it finds them, which is by
/// their numbers, and whoever came last would be the last of all that were claimed together, however high their lane and however
/// long their turn has been due.
fn as_taken<T>(claimed: &mut [T], seqs: &[i64], seq: impl Fn(&T) -> i64) {
    let place: HashMap<i64, usize> = seqs.iter().enumerate().map(|(place, seq)| (*seq, place)).collect();
    claimed.sort_by_key(|one| place.get(&seq(one)).copied());
}

/// Tells the index what became of the jobs that were taken from it: those that a limit refused wait behind a hold, and those that
/// share a key with one that was claimed, which has not begun yet, wait until that ends.
async fn tell(shared: &Shared, seqs: &[i64], took: &Took) {
    let queue = &shared.service.queue;
    let mut held: HashMap<&Hold, i64> = HashMap::new();
    for one in &took.refused {
        let wait = held.entry(&one.hold).or_insert(one.wait_ms);
        *wait = (*wait).min(one.wait_ms);
    }
    let keys = took.jobs.iter().filter_map(|job| job.job.concurrency_key.clone());
    let keys: Vec<Hold> = keys.map(Hold::Key).collect();
    let known = held.iter().map(|(hold, ms)| (*hold, *ms));
    let holds = known.chain(keys.iter().map(|key| (key, HOLD_MS)));
    join_all(holds.map(|(hold, ms)| queue.hold(hold, ms))).await;
    let back: HashSet<i64> = took
        .refused
        .iter()
        .map(|one| one.seq)
        .chain(took.left.iter().copied())
        .collect();
    let (back, done): (Vec<i64>, Vec<i64>) = seqs.iter().partition(|seq| back.contains(seq));
    queue.give_back(&back).await;
    let settling = queue.clone();
    // Jobs begin without waiting for the index to forget them.
    tokio::spawn(async move { settling.settle(&done).await });
    if held.is_empty() {
        return;
    }
    match lifted(shared, held.into_keys()).await {
        Ok(lifted) => {
            for (hold, places) in &lifted {
                queue.release(hold, *places).await;
            }
        }
        // They end by themselves.
        Err(error) => tracing::debug!(%error, "holds could not be looked at again"),
    }
}

/// Holds that came too late: between the refusal and the hold the place was given up, or the queue resumed, and whoever did so
/// found nothing to lift. What does so from now on finds it. With each, how many places of it are free.
async fn lifted(shared: &Shared, held: impl Iterator<Item = &Hold>) -> Result<Vec<(Hold, u32)>, StoreError> {
    let (store, limits) = (&shared.service.store, &shared.settings.limits);
    let (queues, places): (Vec<&Hold>, Vec<&Hold>) = held.partition(|hold| matches!(hold, Hold::Queue(_)));
    let mut lifted = Vec::new();
    if !queues.is_empty() {
        let paused = store.paused_queues().await?;
        let goes = |hold: &Hold| !paused.iter().any(|(name, _)| *hold == Hold::Queue(name.clone()));
        let going = queues.into_iter().filter(|hold| goes(hold));
        lifted.extend(going.map(|hold| (hold.clone(), 1)));
    }
    let most = |hold: &Hold| match hold {
        Hold::All => limits.all,
        Hold::Owner(_) => Some(limits.member),
        Hold::Key(_) => Some(1),
        // Where there is a rate it may be that which holds, and no place lifts it.
        Hold::Kind(kind) => limits
            .kinds
            .get(kind)
            .and_then(|(max, rate)| max.filter(|_| rate.is_none())),
        Hold::Queue(_) => None,
    };
    let places: Vec<(Hold, u32)> = places
        .into_iter()
        .filter_map(|hold| Some((hold.clone(), most(hold)?)))
        .collect();
    let names: Vec<Hold> = places.iter().map(|(hold, _)| hold.clone()).collect();
    let running = store.running_under(&names).await?;
    let free = places.into_iter().map(|(hold, max)| {
        let n = running.get(&hold).copied().unwrap_or(0);
        (hold, u32::try_from(i64::from(max) - n).unwrap_or(0))
    });
    lifted.extend(free.filter(|(_, places)| *places > 0));
    Ok(lifted)
}

/// Gives jobs back that were claimed and not begun. It costs them no attempt.
async fn give_back(shared: &Shared, jobs: impl Iterator<Item = Taken>, reason: &str) {
    let leases = jobs.map(|(job, _)| job.lease);
    hand_back(shared, leases, reason).await;
}

/// Ends leases whose jobs go on elsewhere, or later. What has ended otherwise meanwhile has.
pub(super) async fn hand_back(shared: &Shared, leases: impl Iterator<Item = Lease>, reason: &str) {
    let one = async |lease: Lease| {
        let event = Event::HandBack { epoch: lease.epoch };
        let store = &shared.service.store;
        let by = shared.worker.clone();
        match store.change(lease.id, event, by, reason.to_string()).await {
            Ok(changed) => shared.service.settle(&changed).await,
            Err(error) if error.is_stale() => {}
            Err(error) => tracing::warn!(%error, job = %lease.id, "a job could not be handed back"),
        }
    };
    // Many in one commit, where the store can.
    let leases: Vec<Lease> = leases.collect();
    for some in leases.chunks(HANDED_BACK) {
        join_all(some.iter().map(|lease| one(*lease))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_claimed_together_begins_as_it_was_taken() {
        let mut claimed = vec![("low", 1), ("low", 2), ("critical", 8), ("quiet", 9)];
        as_taken(&mut claimed, &[8, 9, 3, 2, 1], |one| one.1);
        assert_eq!(claimed.iter().map(|one| one.1).collect::<Vec<_>>(), [8, 9, 2, 1]);
    }
}
