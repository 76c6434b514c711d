//! Takes jobs while there are free slots, and where jobs are short a few ahead of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::{Backoff, Shared, executor};
use crate::domain::machine::Event;
use crate::server::queue::{Change, Hold};
use crate::server::store::StoreError;
use crate::server::store::claim::{Claim, Claimed};
use crate::server::store::limits::Refused;
use crate::server::store::ops::Lease;

/// Jobs that are claimed ahead of free slots at the most.
const AHEAD_MAX: usize = 256;
/// Attempts longer than this are not short: while there are such, nothing is claimed ahead.
const SHORT: Duration = Duration::from_millis(10);
/// A job that was claimed ahead and finds no slot for this long goes back to its queue.
const STRANDED: Duration = Duration::from_millis(500);

/// How long attempts and claims take of late, which says how many jobs are worth claiming ahead.
#[derive(Default)]
pub(super) struct Pace(Mutex<Times>);

#[derive(Default)]
struct Times {
    /// Seconds, as averages that forget: of an attempt, and of a claim.
    attempt: Option<f64>,
    claim: Option<f64>,
    /// When an attempt last took longer than [`SHORT`].
    long: Option<Instant>,
}

/// The share of the newest value in an average.
const NEWEST: f64 = 1.0 / 16.0;
/// What starting and ending an attempt costs at the least, in seconds.
const LEAST: f64 = 10e-6;

fn average(before: Option<f64>, newest: f64) -> Option<f64> {
    Some(before.map_or(newest, |before| before + (newest - before) * NEWEST))
}

impl Pace {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt ended after so long.
    pub fn ended(&self, took: Duration) {
        let mut times = self.times();
        times.attempt = average(times.attempt, took.as_secs_f64());
        if took > SHORT {
            times.long = Some(Instant::now());
        }
    }

    fn claimed(&self, took: Duration) {
        let mut times = self.times();
        times.claim = average(times.claim, took.as_secs_f64());
    }

    /// How many jobs so many slots get done while one claim is under way: so many are claimed ahead, and none when that is
    /// hardly any. A job that comes later waits behind them for about as long as a claim takes.
    fn ahead(&self, slots: u32) -> usize {
        let times = self.times();
        let (Some(attempt), Some(claim)) = (times.attempt, times.claim) else {
            return 0;
        };
        if times.long.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return 0;
        }
        let jobs = f64::from(slots) * claim / attempt.max(LEAST);
        match jobs < f64::from(slots) / 2.0 {
            true => 0,
            false => (jobs as usize).min(AHEAD_MAX),
        }
    }
}

/// A job that was taken, and where it may kill its worker the right to run such a job.
type Taken = (Claimed, Option<OwnedSemaphorePermit>);

/// What a look for jobs came to.
enum Fetched {
    Jobs(Vec<Taken>),
    Failed(StoreError),
}

/// Until the engine drains: take ids from the queue, as many as there are free slots and a few more, claim them in one go,
/// and start them as slots are free.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut ahead: VecDeque<Taken> = VecDeque::new();
    let mut since = Instant::now();
    let mut fetching: Option<BoxFuture<'static, Fetched>> = None;
    let mut target = 0;
    loop {
        start(&shared, &mut ahead);
        if fetching.is_none() {
            let free = shared.slots.available_permits();
            // With nothing ahead, short jobs that are about to end together do so first, and one claim takes for all.
            if free > 0 && ahead.is_empty() || ahead.len() < target / 2 {
                let want = (free + target).saturating_sub(ahead.len());
                fetching = Some(fetch(shared.clone(), want).boxed());
            }
        }
        let waits = !ahead.is_empty();
        let fetched = tokio::select! {
            biased;
            () = shared.draining.cancelled() => break,
            // A slot is free: the loop starts what waits for it, or looks for more.
            () = slot(&shared, waits || fetching.is_none()) => continue,
            fetched = async {
                match fetching.as_mut() {
                    Some(fetch) => fetch.await,
                    None => std::future::pending().await,
                }
            } => fetched,
            () = tokio::time::sleep(STRANDED.saturating_sub(since.elapsed())), if waits => {
                give_back(&shared, ahead.drain(..)).await;
                target = 0;
                continue;
            }
        };
        fetching = None;
        match fetched {
            Fetched::Jobs(jobs) => {
                backoff.reset();
                target = shared.pace.ahead(shared.settings.slots);
                since = Instant::now();
                for job in jobs {
                    shared.service.bus.change(Change::Job(job.0.job.clone()));
                    ahead.push_back(job);
                }
            }
            Fetched::Failed(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, "jobs could not be claimed");
                }
                tokio::select! {
                    () = shared.draining.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
    // What is being claimed at this moment must not be left behind: its leases would have to run out.
    if let Some(fetch) = fetching
        && let Ok(Fetched::Jobs(jobs)) = tokio::time::timeout(Duration::from_secs(2), fetch).await
    {
        ahead.extend(jobs);
    }
    give_back(&shared, ahead.drain(..)).await;
}

/// Starts claimed jobs while there are free slots.
fn start(shared: &Arc<Shared>, ahead: &mut VecDeque<Taken>) {
    while !ahead.is_empty() {
        let Ok(slot) = shared.slots.clone().try_acquire_owned() else {
            return;
        };
        if let Some((job, alone)) = ahead.pop_front() {
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

/// Takes up to `max` ids from the queue and claims them.
async fn fetch(shared: Arc<Shared>, max: usize) -> Fetched {
    // Short jobs end together: whoever is about to give up a slot does so first.
    tokio::task::yield_now().await;
    let queue = &shared.service.queue;
    // Of jobs that may kill their worker one runs at a time.
    let alone = shared.suspect.clone().try_acquire_owned().ok();
    let taken = tokio::select! {
        biased;
        () = shared.draining.cancelled() => return Fetched::Jobs(Vec::new()),
        taken = queue.take(max, alone.is_some()) => taken,
    };
    let (seqs, indexed) = match taken {
        Ok(seqs) => (seqs, true),
        // The index is away: what the database knows to wait will do, in a rougher order.
        Err(_) => match shared.service.store.waiting_heads(max).await {
            Ok(seqs) if seqs.is_empty() => {
                tokio::time::sleep(shared.settings.poll).await;
                return Fetched::Jobs(Vec::new());
            }
            Ok(seqs) => (seqs, false),
            Err(error) => return Fetched::Failed(error),
        },
    };
    if seqs.is_empty() {
        return Fetched::Jobs(Vec::new());
    }
    let began = Instant::now();
    match claim(&shared, &seqs).await {
        Ok((jobs, refused)) => {
            shared.pace.claimed(began.elapsed());
            if indexed {
                hold(&shared, &seqs, &refused).await;
            }
            Fetched::Jobs(apart(&shared, jobs, alone).await)
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
            (true, false) => give_back(shared, [(job, None)].into_iter()).await,
        }
    }
    taken
}

/// Claims what is under no limit in one go, and the rest with a look at the limits.
async fn claim(shared: &Shared, seqs: &[i64]) -> Result<(Vec<Claimed>, Vec<Refused>), StoreError> {
    let limits = &shared.settings.limits;
    let mut claim = Claim {
        seqs: seqs.to_vec(),
        worker: shared.worker.clone(),
        lease_ms: shared.settings.lease_ms(),
        limited: limits.limited(),
    };
    let store = &shared.service.store;
    let mut jobs = match limits.all {
        Some(_) => Vec::new(),
        None => store.claim(claim.clone()).await?,
    };
    if jobs.len() == seqs.len() {
        return Ok((jobs, Vec::new()));
    }
    let known: HashSet<i64> = jobs.iter().map(|j| j.lease.seq).collect();
    claim.seqs.retain(|seq| !known.contains(seq));
    match store.claim_limited(claim, limits.clone()).await {
        Ok((more, refused)) => {
            jobs.extend(more);
            Ok((jobs, refused))
        }
        // Those that were taken already are not given up for the others' sake; the others are found again.
        Err(error) if !jobs.is_empty() => {
            tracing::warn!(%error, "jobs under limits could not be claimed");
            Ok((jobs, Vec::new()))
        }
        Err(error) => Err(error),
    }
}

/// Tells the index what became of the jobs that were taken from it: those that a limit refused wait behind a hold.
async fn hold(shared: &Shared, seqs: &[i64], refused: &[Refused]) {
    let queue = &shared.service.queue;
    let mut held: HashMap<&Hold, i64> = HashMap::new();
    for one in refused {
        let wait = held.entry(&one.hold).or_insert(one.wait_ms);
        *wait = (*wait).min(one.wait_ms);
    }
    for (hold, ms) in held {
        queue.hold(hold, ms).await;
    }
    let back: HashSet<i64> = refused.iter().map(|one| one.seq).collect();
    let (back, done): (Vec<i64>, Vec<i64>) = seqs.iter().partition(|seq| back.contains(seq));
    queue.give_back(&back).await;
    queue.settle(&done).await;
}

/// Gives jobs back that were claimed and not begun. It costs them no attempt.
async fn give_back(shared: &Shared, jobs: impl Iterator<Item = Taken>) {
    let leases = jobs.map(|(job, _)| job.lease);
    hand_back(shared, leases, "claimed ahead of a free slot that did not come").await;
}

/// Ends leases whose jobs go on elsewhere, or later. What has ended otherwise meanwhile has.
pub(super) async fn hand_back(shared: &Shared, leases: impl Iterator<Item = Lease>, reason: &str) {
    for lease in leases {
        let event = Event::HandBack { epoch: lease.epoch };
        let store = &shared.service.store;
        let by = shared.worker.clone();
        match store.change(lease.id, event, by, reason.to_string()).await {
            Ok(changed) => shared.service.settle(&changed).await,
            Err(error) if error.is_stale() => {}
            Err(error) => tracing::warn!(%error, job = %lease.id, "a job could not be handed back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_claimed_ahead_as_run_meanwhile() {
        let pace = Pace::default();
        assert_eq!(pace.ahead(10), 0);
        for _ in 0..100 {
            pace.ended(Duration::from_micros(100));
            pace.claimed(Duration::from_millis(2));
        }
        assert_eq!(pace.ahead(10), 200);
        assert_eq!(pace.ahead(100), AHEAD_MAX);
        for _ in 0..200 {
            pace.ended(Duration::from_millis(5));
        }
        assert_eq!(pace.ahead(10), 0, "they take longer than a claim");
        pace.ended(Duration::from_millis(11));
        assert_eq!(pace.ahead(1_000), 0, "a long one is among them");
    }
}
