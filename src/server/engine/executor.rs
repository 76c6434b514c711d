//! One attempt, from claim to end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::context::{Context, Stop};
use super::cost::Cost;
use super::kind::Halt;
use super::report::{self, Report};
use super::running::Attempt;
use super::{Backoff, Shared, panics};
use crate::domain::error::{ErrorCode, JobError};
use crate::domain::job::Job;
use crate::domain::log::Level;
use crate::domain::machine::{Event, Refused};
use crate::domain::time::duration;
use crate::server::service::outcome::{counted, kept, random, reason};
use crate::server::store::StoreError;
use crate::server::store::claim::Claimed;
use crate::server::store::finish::Finish;
use crate::server::store::ops::{Changed, Lease};

/// Runs the attempt and records how it ended. Holds `slot` until the kind has ended, and `alone`, the right to run a job that
/// may kill its worker, until that is recorded.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut job: Claimed,
    slot: OwnedSemaphorePermit,
    alone: Option<OwnedSemaphorePermit>,
) {
    let lease = job.lease;
    let (kind, attempt) = (job.job.kind.clone(), job.job.attempt);
    let (args, veil) = match shared.service.opened_args(&kind, std::mem::take(&mut job.args)) {
        Ok(opened) => (Ok(opened.args), opened.veil),
        Err(error) => (Err(error), shared.service.veil()),
    };
    let report = Report::new(attempt, job.log_lines, shared.running.reported.clone()).veiled(veil.clone());
    let report = Arc::new(report);
    let stop = Arc::new(Stop::default());
    let cost = Arc::new(Cost::default());
    let ctx = Context::new(&job, shared.service.clone(), report.clone(), stop.clone(), cost.clone());
    if attempt > 1 {
        ctx.info(format!("Attempt {attempt} of at most {}", job.job.max_attempts));
    }
    let started = Instant::now();
    let context = ctx.clone();
    let task = tokio::spawn({
        let (shared, kind, cost, veil) = (shared.clone(), kind.clone(), cost.clone(), veil.clone());
        async move {
            let run = async { shared.registry.run(&ctx, &kind, args?).await };
            let run = cost.meter(panics::veiled(veil, run));
            match AssertUnwindSafe(run).catch_unwind().await {
                Ok(ended) => ended,
                Err(payload) => {
                    let error = JobError::new(ErrorCode::Panic, panics::message(&*payload));
                    Err(error.with_stack(panics::take().unwrap_or_default()).into())
                }
            }
        }
    });
    let (abort, told) = (task.abort_handle(), stop.clone());
    shared.running.insert(Attempt {
        lease,
        stop,
        report: report.clone(),
        task: abort.clone(),
        confirmed: Instant::now(),
        ending: false,
    });
    let limit = Duration::from_secs(job.timeout_s);
    let ended = match tokio::time::timeout(limit, task).await {
        Ok(Ok(ended)) => Some(ended),
        // Aborted: whoever did it has written why.
        Ok(Err(_)) => None,
        Err(_) => {
            abort.abort();
            let limit = duration(limit.as_millis() as i64);
            Some(Err(JobError::new(
                ErrorCode::Timeout,
                format!("the attempt took longer than {limit}"),
            )
            .into()))
        }
    };
    metrics::histogram!("windlass_attempt_seconds", "type" => kind.clone()).record(started.elapsed().as_secs_f64());
    // What is left is the database's work: the slot is free for the next job, unless ends pile up.
    shared.running.ending(lease);
    shared.pace.ended(started.elapsed());
    let since = Instant::now();
    let place = match &ended {
        // Closed never: an error can't happen.
        Some(_) if !told.is_aborted() => shared.ends.acquire().await.ok(),
        _ => None,
    };
    drop(slot);
    match ended {
        Some(Ok(result)) => {
            let result = veil.result(result);
            complete(&shared, job.job, (lease, since), &report, result, cost.millis()).await;
        }
        // It was ended from outside and saw it before its task was gone.
        Some(Err(_)) if told.is_aborted() => {}
        Some(Err(halt)) => {
            let delay_ms = shared.registry.policy(&kind).delay_ms(job.round, random());
            let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX);
            let epoch = lease.epoch;
            let event = match halt {
                Halt::Cancelled => Event::Stopped { epoch },
                Halt::Paused if told.is_paused() => Event::Checkpointed { epoch },
                Halt::Paused => Event::HandBack { epoch },
                Halt::Failed(error) => {
                    let error = veil.error(error);
                    report.log(Level::Error, error.to_string());
                    Event::Fail { epoch, error, delay_ms }
                }
            };
            let otherwise = otherwise(&event, delay_ms);
            let written = end(&shared, (lease, since), &report, [event, otherwise], cost.millis()).await;
            if let Some(changed) = written {
                counted(&kind, changed.row.job.status);
                shared.service.settle(&changed).await;
            }
        }
        None => {}
    }
    shared.running.remove(lease);
    drop((alone, place));
    if context.scratch_made() {
        shared.service.store.files().remove_scratch(lease.id, lease.epoch).await;
    }
}

/// An attempt's lease, and when its kind ended.
type Ended = (Lease, Instant);

/// Records that the attempt ended well.
async fn complete(shared: &Shared, job: Arc<Job>, at: Ended, report: &Report, result: Value, cpu_ms: u64) {
    let (lease, result) = (at.0, kept(result));
    let again = job.attempt > 1;
    let written = insist(shared, at, report, || {
        let result = result.clone();
        let finish = Finish {
            lease,
            result,
            again,
            cpu_ms: Some(cpu_ms),
        };
        shared.service.store.finish(finish).boxed()
    });
    if let Some(done) = written.await {
        if shared.registry.checkpoints(&job.kind) {
            shared.service.store.files().remove_work(lease.id).await;
        }
        // The claim's copy may still be on its way to somebody.
        shared.service.completed(Arc::unwrap_or_clone(job), done).await;
    }
}

/// Records any other end: as the first event, or as the second one when nobody has asked for the first.
async fn end(shared: &Shared, at: Ended, report: &Report, events: [Event; 2], cpu_ms: u64) -> Option<Changed> {
    let (lease, store) = (at.0, &shared.service.store);
    let write = async |event: &Event| {
        let by = shared.worker.clone();
        store
            .end(lease.id, event.clone(), by, reason(event), Some(cpu_ms))
            .await
    };
    let written = insist(shared, at, report, || {
        async {
            match write(&events[0]).await {
                Err(StoreError::Refused(Refused::WrongStatus { reason })) => {
                    tracing::warn!(job = %lease.id, reason, "an attempt ended in a way that nobody has asked for");
                    write(&events[1]).await
                }
                written => written,
            }
        }
        .boxed()
    });
    written.await
}

/// How an attempt ends that stopped or paused without having been asked: at a checkpoint it can be handed back and costs
/// nothing; that it stopped elsewhere is its kind's mistake.
fn otherwise(event: &Event, delay_ms: i64) -> Event {
    match event {
        Event::Checkpointed { epoch } => Event::HandBack { epoch: *epoch },
        Event::Stopped { epoch } => Event::Fail {
            epoch: *epoch,
            error: JobError::new(
                ErrorCode::Internal,
                "the kind stopped as if it had been cancelled, and nobody has asked for that",
            ),
            delay_ms,
        },
        event => event.clone(),
    }
}

/// Writes the attempt's last words and then its end. While the database is away, finished work is kept until the lease
/// ends. `None`: the end could not be written, or was not this attempt's to write any more.
async fn insist<'a, T>(
    shared: &'a Shared,
    (lease, since): Ended,
    report: &Report,
    write: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
) -> Option<T> {
    let mut backoff = Backoff::default();
    loop {
        let written = match report::flush(shared, lease, report).await {
            Ok(()) => write().await,
            Err(error) => Err(error),
        };
        match written {
            Ok(done) => return Some(done),
            Err(error) if error.is_stale() => {
                report::stale(shared, lease);
                return None;
            }
            Err(StoreError::NoJob(_)) => return None,
            // No other try would be taken.
            Err(error @ StoreError::Refused(_)) => {
                tracing::error!(%error, job = %lease.id, "the end of an attempt was refused: the job will run again");
                return None;
            }
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, job = %lease.id, "the end of an attempt could not be written");
                }
                if since.elapsed() + pause > shared.settings.lease {
                    tracing::error!(%error, job = %lease.id, "the lease ended first: the job will run again");
                    return None;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_nobody_asked_for_costs_nothing() {
        let back = otherwise(&Event::Checkpointed { epoch: 3 }, 7);
        assert_eq!(back, Event::HandBack { epoch: 3 });
        let Event::Fail { epoch, error, delay_ms } = otherwise(&Event::Stopped { epoch: 3 }, 7) else {
            panic!("it fails");
        };
        assert_eq!((epoch, error.code, delay_ms), (3, ErrorCode::Internal, 7));
    }
}
