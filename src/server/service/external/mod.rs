//! Workers outside of the binary: they declare kinds, and run jobs of these under the same leases as workers within. A worker is
//! the token's that began it, and no other can speak for it; what a token says of a job that its worker does not hold is
//! answered in the same words whether there is such a job or not.

mod fetch;
#[cfg(test)]
mod fuzz_tests;
pub mod kinds;
mod report;
mod schema;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::to_string;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Catalog, Service, require};
use crate::domain::audit::Deed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::job::{Job, JobId, Lane};
use crate::domain::kind::is_external;
use crate::domain::machine::Event;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Want};
use crate::domain::work::{Beaten, Heartbeat, Held, LeaseRef, Wishes};
use crate::domain::worker::{DECLARED_MAX, NewKind, NewWorker, WorkerBegun};
use crate::server::queue::Change;
use crate::server::secrets::Veil;
use crate::server::store::external::{Begins, Declared, Forgotten, Known, summary};
use crate::server::store::limits::Limits;
use crate::server::store::ops::{Beat, Lease};
use crate::server::store::{StoreError, WorkerRow};
use kinds::External;

/// How often it is looked whether the kinds have changed, should nobody tell.
const KINDS_EVERY: Duration = Duration::from_secs(5);
/// Workers that are remembered between two calls.
const WORKERS_MAX: usize = 10_000;

/// What the workers outside are given jobs by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The limits of the whole system.
    pub limits: Limits,
    /// How long a lease holds.
    pub lease: Duration,
    /// How often a fetch that waits looks by itself.
    pub poll: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(1),
        }
    }
}

/// What this process knows of the workers that call it. Nothing in it need outlive the process.
#[derive(Default)]
pub(super) struct Workers {
    rules: Rules,
    known: Mutex<HashMap<String, Known>>,
    leases: Mutex<HashMap<(JobId, u64), Here>>,
    /// Whose turn was last, by kind and lane. One fetch looks at a time: two would only find the same jobs.
    turns: tokio::sync::Mutex<HashMap<(String, Lane), String>>,
}

/// A lease that this process gave out or renewed.
#[derive(Clone)]
struct Here {
    lease: Lease,
    confirmed: Instant,
    /// What the attempt may not say; none: it has not been looked up here yet.
    veil: Option<Veil>,
}

impl Workers {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<(JobId, u64), Here>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease holds from now on; `veil` where it was looked up.
    fn keep(&self, lease: Lease, veil: Option<Veil>) {
        let mut leases = self.leases();
        let before = leases.remove(&lease.key());
        let here = Here {
            lease,
            confirmed: Instant::now(),
            veil: veil.or(before.and_then(|here| here.veil)),
        };
        leases.insert(lease.key(), here);
    }

    fn veil(&self, lease: Lease) -> Option<Veil> {
        self.leases().get(&lease.key())?.veil.clone()
    }

    /// Lets go of leases that were not renewed here: they have ended, or are another process's.
    fn tidy(&self) {
        self.leases()
            .retain(|_, here| here.confirmed.elapsed() < self.rules.lease);
    }

    fn forget(&self, lease: Lease) {
        self.leases().remove(&lease.key());
    }

    fn lease_ms(&self) -> i64 {
        i64::try_from(self.rules.lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// A job that a worker was given so short a time ago, in milliseconds, may still be on its way to it.
    fn fresh_ms(&self) -> i64 {
        self.lease_ms() / 3
    }
}

impl Service {
    /// Begins a worker, and takes over what it says of its kinds.
    pub async fn begin_worker(&self, actor: &Actor, new: NewWorker) -> Result<WorkerBegun, Problem> {
        require(actor, Want::Work { kind: None })?;
        let token = token_of(actor)?;
        new.checked()?;
        let mut kinds = Vec::with_capacity(new.kinds.len());
        for (i, kind) in new.kinds.iter().enumerate() {
            require(actor, Want::Work { kind: Some(&kind.name) }).map_err(|problem| Problem {
                detail: format!("This token is not for jobs of the kind {}.", kind.name),
                field: Some(format!("kinds[{i}].name")),
                ..problem
            })?;
            kinds.push(self.declared(kind).map_err(|detail| {
                let field = format!("kinds[{i}].args_schema");
                Problem::invalid(field.clone(), format!("{field} of {} {detail}", kind.name))
            })?);
        }
        kinds.sort_by(|a, b| a.name.cmp(&b.name));
        let names = kinds.iter().map(|kind| kind.name.clone()).collect();
        let draw = Uuid::new_v4().simple().to_string();
        let id = format!("{}:{}", new.name, &draw[..12]);
        let begins = Begins {
            row: WorkerRow {
                id: id.clone(),
                host: new.host,
                pid: 0,
                version: new.version,
                slots: new.slots,
                in_use: 0,
            },
            token,
            kinds,
            deed: Deed::of(actor, "worker.begin", "worker", &id),
        };
        if !self.store.begin_worker(begins, DECLARED_MAX).await? {
            let detail = format!(
                "{DECLARED_MAX} kinds are declared, as many as are allowed; remove one that is not needed any more \
                 (DELETE /api/jobs/types/KIND)"
            );
            return Err(Problem::new(ProblemCode::WrongStatus, detail));
        }
        let slots = new.slots;
        self.remember(
            &id,
            Known {
                token,
                kinds: names,
                slots,
            },
        );
        self.refresh_kinds().await?;
        self.bus.change(Change::Kinds);
        let lease_ms = u64::try_from(self.workers.lease_ms()).unwrap_or(u64::MAX);
        Ok(WorkerBegun {
            id,
            lease_ms,
            heartbeat_ms: lease_ms / 3,
        })
    }

    /// A kind as it is stored, or what is wrong with its schema.
    fn declared(&self, kind: &NewKind) -> Result<Declared, String> {
        let told = to_string(kind).map_err(|e| e.to_string())?;
        let read = External::new(kind, told.clone(), self.catalog.default_policy())?;
        if read.has_secrets() && !self.secrets.can_seal() {
            return Err("has secrets, and the server has no key to encrypt them with (SECRET_KEY)".into());
        }
        let value = serde_json::from_str(&told).map_err(|e| e.to_string())?;
        Ok(Declared {
            name: kind.name.clone(),
            summary: summary(&value),
            told,
        })
    }

    /// Ends a worker: the jobs that it holds wait again, which costs them nothing.
    pub async fn end_worker(&self, actor: &Actor, id: &str) -> Result<(), Problem> {
        self.worker(actor, id).await?;
        let deed = Deed::of(actor, "worker.end", "worker", id);
        let ended = self.store.end_worker(id.to_string(), deed).await?;
        self.forget_worker(id);
        if !ended {
            return Err(no_worker(id));
        }
        let (leases, _) = self.store.external_leases(id).await?;
        self.hand_back(id, &leases, "its worker ended").await;
        Ok(())
    }

    /// Removes a declared kind of which nothing is left to run.
    pub async fn forget_kind(&self, actor: &Actor, name: &str) -> Result<(), Problem> {
        require(actor, Want::ForgetKind { kind: name })?;
        if !is_external(name) && self.catalog.info(name).is_some() {
            let detail = format!("{name} is built in; allowed: kinds that a worker outside has declared");
            return Err(Problem::new(ProblemCode::WrongStatus, detail));
        }
        let deed = Deed::of(actor, "kind.forget", "kind", name);
        match self.store.forget_kind(name.to_string(), deed).await? {
            Forgotten::Done => {
                self.refresh_kinds().await?;
                self.bus.change(Change::Kinds);
                Ok(())
            }
            Forgotten::NotThere => Err(Problem::not_found(format_args!("kind {name}"))),
            Forgotten::InUse { jobs, schedules } => Err(Problem::new(
                ProblemCode::WrongStatus,
                format!("{name} is in use: {jobs} jobs of it have not ended, and {schedules} schedules start some"),
            )),
        }
    }

    /// Renews the leases that a worker names, ends attempts that have taken too long, and gives jobs back that it does not name.
    /// Waits for a wish about one of them, if it is told to, until the server begins to stop.
    pub async fn heartbeat(
        &self,
        actor: &Actor,
        id: &str,
        beat: Heartbeat,
        closing: &CancellationToken,
    ) -> Result<Beaten, Problem> {
        beat.checked()?;
        self.worker(actor, id).await?;
        // Before the look at the wishes: none can fall between.
        let mut signals = self.bus.signals();
        let beaten = self.beat(id, &beat.jobs).await?;
        let wished = |held: &Held| held.wishes != Wishes::default();
        if beat.wait == 0 || !beaten.lost.is_empty() || beaten.held.iter().any(wished) {
            return Ok(beaten);
        }
        let named: HashSet<(JobId, u64)> = beat.jobs.iter().map(|lease| (lease.id, lease.epoch)).collect();
        let meant = async {
            loop {
                match signals.recv().await {
                    Ok(signal) if named.contains(&(signal.id, signal.epoch)) => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = closing.cancelled() => return Ok(beaten),
            () = tokio::time::sleep(Duration::from_secs(beat.wait.into())) => return Ok(beaten),
            () = meant => {}
        }
        // Only a look: it is long ago that the worker said that it lives, and what it holds.
        let leases: Vec<(JobId, u64)> = named.into_iter().collect();
        let held = self.store.external_wishes(id, &leases).await?;
        Ok(told(&beat.jobs, held.iter()))
    }

    async fn beat(&self, id: &str, jobs: &[LeaseRef]) -> Result<Beaten, Problem> {
        let leases: Vec<(JobId, u64)> = jobs.iter().map(|lease| (lease.id, lease.epoch)).collect();
        let beats = self
            .store
            .external_beat(id.to_string(), leases, self.workers.lease_ms(), self.workers.fresh_ms())
            .await?;
        let Some(beats) = beats else {
            self.forget_worker(id);
            return Err(no_worker(id));
        };
        for (lease, seconds) in &beats.overdue {
            self.time_out(id, *lease, *seconds).await?;
        }
        if !beats.unknown.is_empty() {
            let reason = "its worker does not know of it: the answer that gave it must have got lost";
            self.hand_back(id, &beats.unknown, reason).await;
        }
        self.workers.tidy();
        let overdue: HashSet<Lease> = beats.overdue.iter().map(|(lease, _)| *lease).collect();
        let held = beats.held.iter().filter(|one| !overdue.contains(&one.lease));
        for one in held.clone() {
            self.workers.keep(one.lease, None);
        }
        Ok(told(jobs, held))
    }

    /// Ends leases whose jobs go on elsewhere, or later. What has ended otherwise meanwhile has.
    async fn hand_back(&self, worker: &str, leases: &[Lease], reason: &str) {
        for lease in leases {
            let event = Event::HandBack { epoch: lease.epoch };
            self.workers.forget(*lease);
            match self.store.change(lease.id, event, worker.into(), reason.into()).await {
                Ok(changed) => self.settle(&changed).await,
                Err(error) if error.is_stale() => {}
                Err(error) => tracing::warn!(%error, job = %lease.id, "a job could not be handed back"),
            }
        }
    }

    /// The leases of workers outside that this process knows to hold, whatever the clock says.
    pub(in crate::server) fn leases_outside(&self) -> Vec<Lease> {
        let leases = self.workers.leases();
        let holds = leases
            .values()
            .filter(|here| here.confirmed.elapsed() < self.workers.rules.lease);
        holds.map(|here| here.lease).collect()
    }

    /// The worker of this name, if it is the caller's.
    async fn worker(&self, actor: &Actor, id: &str) -> Result<Known, Problem> {
        require(actor, Want::Work { kind: None })?;
        let token = token_of(actor)?;
        let here = self
            .workers
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        let known = match here {
            Some(known) => known,
            None => {
                let known = self.store.external_worker(id).await?.ok_or_else(|| no_worker(id))?;
                self.remember(id, known.clone());
                known
            }
        };
        match known.token == token {
            true => Ok(known),
            false => Err(no_worker(id)),
        }
    }

    fn remember(&self, id: &str, worker: Known) {
        let mut known = self.workers.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= WORKERS_MAX {
            known.clear();
        }
        known.insert(id.into(), worker);
    }

    fn forget_worker(&self, id: &str) {
        let mut known = self.workers.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(id);
    }

    /// Reads the declared kinds anew, if they have changed.
    pub(in crate::server) async fn refresh_kinds(&self) -> Result<(), StoreError> {
        let mark = self.store.external_kinds_mark().await?;
        if !self.catalog.are_of(mark) {
            self.catalog.replace(mark, self.store.external_kinds().await?);
        }
        Ok(())
    }

    /// Reads them anew where one is named that is not known: another process may have heard of it a moment ago.
    pub(super) async fn know_kinds<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
        if names.any(|name| is_external(name) && self.catalog.policy(name).is_none()) {
            self.refresh_kinds().await?;
        }
        Ok(())
    }

    /// Keeps the declared kinds up to date until the process ends.
    pub(in crate::server) fn keep_kinds(&self) {
        let (service, mut changes) = (self.clone(), self.bus.changes());
        tokio::spawn(async move {
            loop {
                let told = async {
                    loop {
                        match changes.recv().await {
                            Ok(Change::Kinds) | Err(RecvError::Lagged(_)) => return,
                            Ok(_) => {}
                            Err(RecvError::Closed) => std::future::pending().await,
                        }
                    }
                };
                tokio::select! {
                    () = service.hub.stopping() => return,
                    () = told => {}
                    () = tokio::time::sleep(KINDS_EVERY) => {}
                }
                if let Err(error) = service.refresh_kinds().await {
                    tracing::debug!(%error, "the declared kinds could not be read");
                }
            }
        });
    }
}

/// What a worker is told of the leases that it named: those that hold, and those that do not.
fn told<'a>(named: &[LeaseRef], held: impl Iterator<Item = &'a Beat>) -> Beaten {
    let held: Vec<Held> = held
        .map(|one| Held {
            id: one.lease.id,
            epoch: one.lease.epoch,
            wishes: Wishes {
                cancel: one.cancel_requested,
                pause: one.pause_requested,
            },
        })
        .collect();
    let holds: HashSet<(JobId, u64)> = held.iter().map(|one| (one.id, one.epoch)).collect();
    let is_lost = |lease: &&LeaseRef| !holds.contains(&(lease.id, lease.epoch));
    let lost = named.iter().filter(is_lost).copied().collect();
    Beaten { held, lost }
}

/// Whose workers the caller's are.
fn token_of(actor: &Actor) -> Result<Uuid, Problem> {
    let none = || Problem::new(ProblemCode::Forbidden, "Workers come with a token of the scope worker.");
    actor.token.as_ref().map(|token| token.id).ok_or_else(none)
}

fn no_worker(id: &str) -> Problem {
    let mut problem = Problem::not_found(format_args!("worker {id}"));
    problem.detail.push_str(" (any more); begin one with POST /api/workers");
    problem
}

/// The same words whether there is such a job or not.
fn no_lease(worker: &str, id: JobId, epoch: u64) -> Problem {
    metrics::counter!("windlass_stale_writes_total").increment(1);
    Problem::new(
        ProblemCode::LeaseLost,
        format!("worker {worker} does not hold the lease {epoch} of job {id} (any more): its attempt is over"),
    )
}

/// Whether this job is one that runs under that lease of the worker's.
fn is_held(job: &Job, worker: &str, epoch: u64, current: u64) -> bool {
    job.status == Status::Running && job.worker.as_deref() == Some(worker) && epoch == current
}
