//! What a kind is given while it runs: the way to say how far it is, to log, to see a wish to stop, to read and
//! write the sample domain, and to leave files behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::cost::Cost;
use super::kind::Halt;
use super::panics;
use super::report::Report;
use crate::domain::bulk::{BulkOutcome, BulkPart};
use crate::domain::error::{ErrorCode, JobError};
use crate::domain::job::{Artifact, JobId, NewJob};
use crate::domain::log::Level;
use crate::server::service::Service;
use crate::server::store::Store;
use crate::server::store::claim::Claimed;
use crate::server::store::events::EventStore;
use crate::server::store::files::{ArtifactFile, Upload};
use crate::server::store::ops::Lease;

/// One attempt, as its kind sees it. Cheap to clone; clones may be used from blocking threads.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    lease: Lease,
    attempt: u32,
    owner: String,
    batch: Option<Uuid>,
    service: Service,
    store: Store,
    events: EventStore,
    report: Arc<Report>,
    stop: Arc<Stop>,
    scratch: PathBuf,
    scratch_made: AtomicBool,
    /// Where an earlier attempt left off.
    checkpoint: Option<Value>,
    cost: Arc<Cost>,
}

/// The wish to stop, as seen by the attempt.
#[derive(Default)]
pub struct Stop {
    cancel: AtomicBool,
    /// The attempt's task is ended from outside: how it ends is not its own to say any more.
    aborted: AtomicBool,
    pause: AtomicBool,
    /// The worker ends: whoever can go on elsewhere stops at the next checkpoint.
    wind_down: AtomicBool,
    notify: tokio::sync::Notify,
}

impl Stop {
    /// Asks the attempt to stop.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    /// Says that the attempt's task is ended. What runs on a thread of its own is asked to stop.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Release);
        self.cancel();
    }

    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Acquire)
    }

    /// Asks the attempt to stop at its next checkpoint.
    pub fn pause(&self) {
        self.pause.store(true, Ordering::Release);
    }

    pub fn is_paused(&self) -> bool {
        self.pause.load(Ordering::Acquire)
    }

    /// Asks the attempt to stop at its next checkpoint, to go on in another worker.
    pub fn wind_down(&self) {
        self.wind_down.store(true, Ordering::Release);
    }

    fn leaves_at_checkpoint(&self) -> bool {
        self.is_paused() || self.wind_down.load(Ordering::Acquire)
    }
}

impl Context {
    /// The attempt that `job` was claimed for.
    pub(super) fn new(job: &Claimed, service: Service, report: Arc<Report>, stop: Arc<Stop>, cost: Arc<Cost>) -> Self {
        let (lease, store) = (job.lease, service.store.clone());
        let scratch = store.files().scratch_dir(lease.id, lease.epoch);
        Self {
            inner: Arc::new(Inner {
                events: EventStore::fenced(store.clone(), lease),
                lease,
                attempt: job.job.attempt,
                owner: job.job.owner.clone(),
                batch: job.job.batch,
                service,
                store,
                report,
                stop,
                scratch,
                scratch_made: AtomicBool::new(false),
                checkpoint: job.checkpoint.clone(),
                cost,
            }),
        }
    }

    pub fn job_id(&self) -> JobId {
        self.inner.lease.id
    }

    /// Number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// The lease's epoch: hand it on to whatever must refuse a worker that lost its lease.
    pub fn epoch(&self) -> u64 {
        self.inner.lease.epoch
    }

    /// Who started the job.
    pub fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// `done` of `total` items. Call it as often as is handy: it is a store to memory; the database and the dashboard see
    /// the latest value a few times a second.
    pub fn progress(&self, done: u64, total: u64) {
        self.inner.report.progress(done, total);
    }

    /// The current step, in words: the job's message until the next step. Secrets are left out of it, as of log lines.
    pub fn step(&self, text: impl Into<String>) {
        self.inner.report.step(text.into());
    }

    /// Adds a line to the job's log. The values of the args that are secrets, and whatever else looks like a secret, are left out.
    pub fn log(&self, level: Level, message: impl Into<String>) {
        self.inner.report.log(level, message.into());
    }

    pub fn debug(&self, message: impl Into<String>) {
        self.log(Level::Debug, message);
    }

    pub fn info(&self, message: impl Into<String>) {
        self.log(Level::Info, message);
    }

    pub fn warn(&self, message: impl Into<String>) {
        self.log(Level::Warning, message);
    }

    pub fn error(&self, message: impl Into<String>) {
        self.log(Level::Error, message);
    }

    /// Starts another job as this one's child, for the same owner, and gives its id. `name` tells it from the other children:
    /// an attempt that starts one again which an earlier one has started is given that one. Refused once the lease is lost.
    pub async fn child(&self, name: &str, new: NewJob) -> Result<JobId, Halt> {
        let Inner { service, lease, .. } = &*self.inner;
        Ok(service.enqueue_child(*lease, name, new).await?)
    }

    /// Does to each of these jobs what the job's batch was begun for, with the rights of whoever began it. Each is asked about
    /// again, and noted in the audit log as theirs. Ends the run when they may not do the same any more, and when the database
    /// is away.
    pub async fn act_on_each(&self, part: &BulkPart, ids: &[JobId]) -> Result<Vec<BulkOutcome>, Halt> {
        let Inner { service, batch, .. } = &*self.inner;
        Ok(service.act_for_batch(*batch, part, ids).await?)
    }

    /// Whether a person asked the job to stop. For blocking code; async code says `ctx.check()?`.
    pub fn cancelled(&self) -> bool {
        self.inner.stop.is_cancelled()
    }

    /// Stops the run here when a person asked for it: put it between the steps.
    pub fn check(&self) -> Result<(), Halt> {
        if self.cancelled() { Err(Halt::Cancelled) } else { Ok(()) }
    }

    /// Where an earlier attempt left off, as it said by [`Context::save`] or beside its rows. Only kinds that checkpoint have one;
    /// what can't be read any more counts as none.
    pub fn checkpoint<T: DeserializeOwned>(&self) -> Option<T> {
        let saved = self.inner.checkpoint.clone()?;
        serde_json::from_value(saved).ok()
    }

    /// Writes down where the next attempt would go on. What it stands for must be on disk by then. It is stored as it is: keep
    /// secrets out of it; the next attempt is given its args again.
    pub async fn save<T: Serialize + Sync>(&self, checkpoint: &T) -> Result<(), Halt> {
        let text = serde_json::to_string(checkpoint)
            .map_err(|e| JobError::caused(ErrorCode::Internal, "the checkpoint can't be written", &e))?;
        Ok(self.inner.store.save_checkpoint(self.inner.lease, text).await?)
    }

    /// Stops the run here when a person asked for a pause, or the worker ends: put it where a checkpoint has just been saved.
    pub fn may_leave(&self) -> Result<(), Halt> {
        match self.inner.stop.leaves_at_checkpoint() {
            true => Err(Halt::Paused),
            false => Ok(()),
        }
    }

    /// Whether the run shall stop at its next checkpoint.
    pub fn leaving(&self) -> bool {
        self.inner.stop.leaves_at_checkpoint()
    }

    /// A folder of the job's own that its next attempt finds as this one leaves it (on the same machine); removed when the
    /// job has completed or is deleted.
    pub async fn workspace(&self) -> Result<PathBuf, JobError> {
        let folder = self.inner.store.files().work_dir(self.inner.lease.id);
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|e| JobError::caused(ErrorCode::IoError, "the job's folder can't be made", &e))?;
        Ok(folder)
    }

    /// Resolves when a person asks the job to stop; for `select!` around long waits.
    pub async fn until_cancelled(&self) {
        loop {
            let notified = self.inner.stop.notify.notified();
            if self.cancelled() {
                return;
            }
            notified.await;
        }
    }

    /// Runs blocking code on a thread of its own; its CPU time counts as the attempt's. An abort does not end it.
    pub fn blocking<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
        let (cost, veil) = (self.inner.cost.clone(), self.inner.report.veil().clone());
        tokio::task::spawn_blocking(move || panics::veiled_here(veil, || cost.measure(f)))
    }

    /// The events of the sample domain. Writes are refused once the lease is lost.
    pub fn events(&self) -> &EventStore {
        &self.inner.events
    }

    /// The file that was uploaded under this id.
    pub async fn upload(&self, id: &str) -> Result<Upload, JobError> {
        self.inner.store.upload(id).await?.ok_or_else(|| {
            JobError::new(
                ErrorCode::NotFound,
                format!("the upload \"{id}\" does not exist (any more)"),
            )
        })
    }

    /// A folder of this attempt's own; removed when the attempt ends.
    pub async fn scratch(&self) -> Result<&Path, JobError> {
        self.inner.scratch_made.store(true, Ordering::Release);
        tokio::fs::create_dir_all(&self.inner.scratch)
            .await
            .map_err(|e| JobError::caused(ErrorCode::IoError, "the attempt's folder can't be made", &e))?;
        Ok(&self.inner.scratch)
    }

    /// Whether the attempt has asked for its folder.
    pub(super) fn scratch_made(&self) -> bool {
        self.inner.scratch_made.load(Ordering::Acquire)
    }

    /// Makes a finished file (in [`Context::scratch`]) one of the job's artifacts: synced to disk, moved to its place,
    /// recorded with size and checksum. Replaces an artifact of the same name. The job's artifacts are all downloadable
    /// from then on.
    pub async fn publish_artifact(&self, name: &str, content_type: &str, file: &Path) -> Result<Artifact, JobError> {
        let stored: ArtifactFile = self
            .inner
            .store
            .files()
            .keep(self.inner.lease, name, content_type, file)
            .await?;
        self.inner
            .store
            .record_artifact(self.inner.lease, stored)
            .await
            .map_err(JobError::from)
    }
}
