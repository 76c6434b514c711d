//! Removes what is kept no longer: old jobs with their logs and files, expired artifacts, uploads that nobody used.

use std::future::Future;
use std::time::Duration;

use super::super::Shared;
use crate::domain::stats::Sweep;
use crate::domain::status::Status;
use crate::server::queue::Change;
use crate::server::store::StoreError;
use crate::server::store::jobs::JobRow;
use crate::server::store::retention::Rule;

/// Files that go at once.
const CHUNK: u32 = 100;
/// Jobs that go at once: few enough that no other write waits long behind them.
const JOBS: u32 = 250;
/// Batches that are looked at, and limits that are forgotten, at once.
const PAGE: u32 = 500;
/// Milliseconds that an upload is kept for a job to be made of it: a day.
const UPLOAD_UNUSED_MS: i64 = 86_400_000;
/// How long an upload that is still coming in may stand still.
const UPLOAD_STALLED: Duration = Duration::from_secs(3_600);
/// Milliseconds that is remembered which runs of schedules were enqueued: a week.
const RUNS_MS: i64 = 7 * 86_400_000;

/// Milliseconds that statistics by the minute are kept: a month.
const MINUTES_MS: i64 = 31 * 86_400_000;

/// Milliseconds that a problem is remembered since it was last seen: as long as failed jobs are kept unless told otherwise.
const ERRORS_MS: i64 = 90 * 86_400_000;
/// Milliseconds that a batch is kept of which no job is left: an hour.
const BATCHES_MS: i64 = 3_600_000;

/// Sweeps, unless another process has done so of late, and remembers what was removed.
pub(super) async fn sweep(shared: &Shared) -> Result<(), StoreError> {
    let store = &shared.service.store;
    // A tenth early, so that one node's clock does not always come just before the other's turn.
    let every = i64::try_from(shared.settings.sweep_every.as_millis()).unwrap_or(i64::MAX);
    if !store.begin_sweep(every - every / 10).await? {
        return Ok(());
    }
    let mut jobs = 0;
    for rule in &shared.settings.retention {
        let own = |other: &&Rule| other.status == rule.status;
        let but: Vec<String> = match rule.kind {
            Some(_) => Vec::new(),
            None => shared
                .settings
                .retention
                .iter()
                .filter(own)
                .filter_map(|r| r.kind.clone())
                .collect(),
        };
        jobs += all(|| store.expire_jobs(rule.clone(), but.clone(), JOBS)).await?;
    }
    let artifacts = all(|| store.expire_artifacts(CHUNK)).await?;
    let uploads = all(|| store.expire_uploads(UPLOAD_UNUSED_MS, CHUNK)).await?;
    store.forget_runs(RUNS_MS).await?;
    store.forget_minutes(MINUTES_MS).await?;
    store.forget_errors(ERRORS_MS).await?;
    store.forget_batches(BATCHES_MS, PAGE).await?;
    all(|| store.forget_free_places(PAGE)).await?;
    all(|| store.forget_empty_cells(CHUNK)).await?;
    if let Err(problem) = shared.service.sweep_identity().await {
        tracing::warn!(%problem, "sessions and links that hold no more could not be removed");
    }
    forget_works(shared).await?;
    forget_scratches(shared).await?;
    let sweep = Sweep {
        at: chrono::Utc::now(),
        jobs: jobs as u64,
        artifacts: artifacts as u64,
        uploads: uploads as u64,
    };
    store.end_sweep(sweep).await?;
    if jobs + artifacts + uploads > 0 {
        tracing::info!(jobs, artifacts, uploads, "what is kept no longer was removed");
        shared.service.bus.change(Change::Many);
    }
    Ok(())
}

/// Removes folders of jobs that are gone, or have ended so that nothing goes on from there.
async fn forget_works(shared: &Shared) -> Result<(), StoreError> {
    let store = &shared.service.store;
    for id in store.files().works().await {
        let over = match store.job(id).await? {
            Some(row) => matches!(row.job.status, Status::Completed | Status::Cancelled),
            None => true,
        };
        if over {
            store.files().remove_work(id).await;
        }
    }
    Ok(())
}

/// Removes the folders of attempts whose worker was killed, and uploads whose sender went away in the middle.
async fn forget_scratches(shared: &Shared) -> Result<(), StoreError> {
    let store = &shared.service.store;
    for (id, epoch) in store.files().scratches().await {
        let row = store.job(id).await?;
        let runs = |row: JobRow| row.job.status == Status::Running && row.state.epoch == epoch;
        if !row.is_some_and(runs) {
            store.files().remove_scratch(id, epoch).await;
        }
    }
    store.files().remove_unfinished(UPLOAD_STALLED).await;
    Ok(())
}

/// Removes chunk after chunk until nothing is left, and says how much went.
async fn all<F: Future<Output = Result<usize, StoreError>>>(mut chunk: impl FnMut() -> F) -> Result<usize, StoreError> {
    let mut removed = 0;
    loop {
        match chunk().await? {
            0 => return Ok(removed),
            n => removed += n,
        }
    }
}
