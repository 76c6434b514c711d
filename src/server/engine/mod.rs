//! Runs jobs: takes ids from the queue, claims them in the database, executes them, keeps their leases, and sees to it that
//! nothing is forgotten. `docs/ARCHITECTURE.md` has the picture.

mod ahead;
pub mod context;
mod cost;
mod executor;
pub mod kind;
mod lease;
mod maintenance;
mod pace;
mod panics;
mod report;
mod running;
mod starter;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::service::Service;
use super::service::outcome::random;
use super::store::StoreError;
use super::store::limits::Limits;
use super::store::retention::Rule;
use kind::Registry;
use running::Running;

/// Ends of attempts that may wait for the database while their slots are free for others: as many as two commits take, so that
/// one is filled while the other is on its way. Beyond that jobs would be begun faster than their ends can be written.
const ENDS_MAX: usize = 512;

/// What the engine is told by the settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The limits of the whole system.
    pub limits: Limits,
    /// Jobs that run at the same time.
    pub slots: u32,
    /// How often due jobs are looked for when nobody tells of any.
    pub poll: Duration,
    /// When finished jobs are removed.
    pub retention: Vec<Rule>,
    /// How often what is kept no longer is removed.
    pub sweep_every: Duration,
    /// How long a lease holds. It is renewed three times as often.
    pub lease: Duration,
    /// How long running jobs may go on after a shutdown was asked for.
    pub grace: Duration,
}

/// The engine of this process.
pub struct Engine {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

/// What the engine's tasks share.
struct Shared {
    /// This worker's name; drawn anew at each start, so that nobody can mistake it for an earlier one.
    worker: String,
    service: Service,
    registry: Registry,
    settings: Settings,
    slots: Arc<Semaphore>,
    /// When this worker last looked it took all that might go, and nothing that it knows of has come since.
    rests: AtomicBool,
    /// Jobs that it took and that have not begun yet: slots are kept for them.
    coming: AtomicUsize,
    /// Those that are claimed as they are written down, on their way to the worker.
    late: starter::Late,
    /// Places of ends that are being written.
    ends: Semaphore,
    /// The right to run a job that may kill this process: there is one.
    suspect: Arc<Semaphore>,
    running: Running,
    pace: pace::Pace,
    /// No other process runs jobs of this database.
    alone: bool,
    /// The index knew of fewer jobs than wait when it was last compared.
    missed: AtomicBool,
    /// The index was away, and has not been filled since.
    outdated: AtomicBool,
    /// When the index was last filled in full.
    filled: Mutex<Instant>,
    /// Writes that the search had seen when it last looked.
    writes_seen: AtomicU64,
    /// No new job is taken any more.
    draining: CancellationToken,
    /// All tasks end.
    stop: CancellationToken,
    executions: TaskTracker,
}

impl Settings {
    /// How often leases are renewed: two renewals may fail before one is lost.
    fn renew_every(&self) -> Duration {
        self.lease / 3
    }

    fn lease_ms(&self) -> i64 {
        i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX)
    }
}

impl Engine {
    /// Brings order to what an earlier process left, then starts to take jobs. `alone`: no other process uses this database,
    /// so every lease found in it is a dead one's.
    pub async fn start(
        service: Service,
        registry: Registry,
        settings: Settings,
        alone: bool,
    ) -> Result<Self, StoreError> {
        panics::install();
        let draw = Uuid::new_v4().simple().to_string();
        let worker = format!("{}:{}:{}", host(), std::process::id(), &draw[..6]);
        let (late, arrivals) = starter::Late::new();
        let shared = Arc::new(Shared {
            worker,
            registry,
            slots: Arc::new(Semaphore::new(settings.slots as usize)),
            rests: AtomicBool::new(false),
            coming: AtomicUsize::new(0),
            late,
            ends: Semaphore::new(ENDS_MAX),
            suspect: Arc::new(Semaphore::new(1)),
            settings,
            running: Running::default(),
            pace: pace::Pace::default(),
            alone,
            missed: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            filled: Mutex::new(Instant::now()),
            writes_seen: AtomicU64::new(0),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            executions: TaskTracker::new(),
            service,
        });
        if alone {
            shared.service.store.files().clear_tmp().await;
            // Workers outside may have gone on while no process was there to hear them.
            let lease_ms = shared.settings.lease_ms();
            shared.service.store.external_renew_all(lease_ms).await?;
            let rescued = maintenance::rescue(&shared, true).await?;
            if rescued > 0 {
                tracing::warn!(jobs = rescued, "jobs that an earlier process left running go on");
            }
        }
        maintenance::fill(&shared).await?;
        lease::beat(&shared).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(worker::run(shared.clone(), arrivals));
        tasks.spawn(lease::run(shared.clone()));
        tasks.spawn(lease::listen(shared.clone()));
        tasks.spawn(report::run(shared.clone()));
        maintenance::spawn(&shared, &tasks);
        let starter = Arc::downgrade(&shared);
        shared.service.starters.add(starter);
        tasks.close();
        Ok(Self { shared, tasks })
    }

    /// Takes no new job, lets the running ones finish within the grace period, hands the others back, and ends.
    pub async fn shut_down(self) {
        let shared = &self.shared;
        shared.draining.cancel();
        shared.executions.close();
        shared.running.wind_down();
        let left = shared.running.len();
        if left > 0 {
            tracing::info!(jobs = left, grace = ?shared.settings.grace, "waiting for running jobs");
        }
        if tokio::time::timeout(shared.settings.grace, shared.executions.wait())
            .await
            .is_err()
        {
            let cut_short = shared.running.at_work();
            let flushes = cut_short.iter().map(|a| report::flush(shared, a.lease, &a.report));
            for (attempt, flushed) in cut_short.iter().zip(join_all(flushes).await) {
                if let Err(error) = flushed {
                    tracing::warn!(%error, job = %attempt.lease.id, "its last words could not be written");
                }
                shared.running.abort(attempt.lease.key());
            }
            // Nobody is told that the jobs wait before their attempts here are gone.
            shared.executions.wait().await;
            let leases = cut_short.iter().map(|a| a.lease);
            worker::hand_back(shared, leases, "the worker shut down").await;
        }
        shared.stop.cancel();
        self.tasks.wait().await;
        if let Err(error) = shared.service.store.worker_gone(shared.worker.clone()).await {
            tracing::warn!(%error, "the worker could not sign off");
        }
    }
}

/// This machine's name, for people to find it by.
fn host() -> String {
    std::fs::read_to_string("/etc/hostname")
        .ok()
        .map(|h| h.trim().to_string())
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

/// A wait that doubles with every failure in a row, up to half a minute, with a random part so that processes that failed
/// together don't return together.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait. Says `true` when the failure is worth a line in the log: the first, and then one a wait of full length.
    fn fail(&mut self) -> (Duration, bool) {
        let base = Duration::from_millis(100) * 2u32.pow(self.failures.min(8));
        let log = self.failures == 0 || self.failures >= 8;
        self.failures += 1;
        (base.min(Duration::from_secs(30)).mul_f64(0.75 + 0.5 * random()), log)
    }
}
