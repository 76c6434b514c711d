//! One attempt, from claim to end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::context::{Context, Stop};
use super::kind::Halt;
use super::report::{self, Report};
use super::running::Attempt;
use super::{Backoff, LEASE, Shared, panics, random};
use crate::domain::error::{ErrorCode, JobError, truncate};
use crate::domain::log::Level;
use crate::domain::machine::Event;
use crate::domain::time::duration;
use crate::server::store::ops::Claimed;

/// Bytes of a result as JSON; of a larger one the job keeps the beginning.
const RESULT_MAX: usize = 1_000_000;

/// Runs the attempt and records how it ended. Holds `slot` until then.
pub(super) async fn run(shared: Arc<Shared>, job: Claimed, slot: OwnedSemaphorePermit) {
    let lease = job.lease;
    let (kind, attempt) = (job.job.kind.clone(), job.job.attempt);
    let report = Arc::new(Report::new(attempt, job.log_lines, shared.running.reported.clone()));
    let stop = Arc::new(Stop::default());
    let store = shared.service.store.clone();
    let ctx = Context::new(
        lease,
        attempt,
        job.job.owner.clone(),
        store,
        report.clone(),
        stop.clone(),
    );
    if attempt > 1 {
        ctx.info(format!("Attempt {attempt} of at most {}", job.job.max_attempts));
    }
    let started = Instant::now();
    let task = tokio::spawn({
        let (shared, kind, args) = (shared.clone(), kind.clone(), job.args);
        async move {
            let run = shared.registry.run(&ctx, &kind, args);
            match AssertUnwindSafe(run).catch_unwind().await {
                Ok(ended) => ended,
                Err(payload) => {
                    let error = JobError::new(ErrorCode::Panic, panics::message(&*payload));
                    Err(error.with_stack(panics::take().unwrap_or_default()).into())
                }
            }
        }
    });
    let abort = task.abort_handle();
    shared.running.insert(Attempt {
        lease,
        stop,
        report: report.clone(),
        task: abort.clone(),
        confirmed: Instant::now(),
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
    if let Some(ended) = ended {
        let policy = shared.registry.policy(&kind);
        let (event, result) = match ended {
            Ok(result) => (Event::Complete { epoch: lease.epoch }, Some(cut(result))),
            Err(Halt::Cancelled) => (Event::Stopped { epoch: lease.epoch }, None),
            Err(Halt::Failed(error)) => {
                report.log(Level::Error, error.to_string());
                let delay_ms = i64::try_from(policy.delay_ms(job.round, random())).unwrap_or(i64::MAX);
                let epoch = lease.epoch;
                (Event::Fail { epoch, error, delay_ms }, None)
            }
        };
        record(&shared, &job.lease, &report, event, result).await;
    }
    shared.running.remove(lease);
    shared.service.store.files().remove_scratch(lease.id, lease.epoch).await;
    metrics::histogram!("windlass_attempt_seconds", "type" => kind).record(started.elapsed().as_secs_f64());
    drop(slot);
}

/// Writes the attempt's last words and its end. While the database is away, finished work is kept until the lease ends.
async fn record(
    shared: &Shared,
    lease: &crate::server::store::ops::Lease,
    report: &Report,
    event: Event,
    result: Option<Value>,
) {
    let mut backoff = Backoff::default();
    let since = Instant::now();
    loop {
        let written = async {
            report::flush(shared, *lease, report).await?;
            let by = shared.worker.clone();
            let store = &shared.service.store;
            store
                .change(lease.id, event.clone(), by, reason(&event), result.clone())
                .await
        };
        match written.await {
            Ok(changed) => {
                let status = changed.row.job.status.as_str();
                let kind = changed.row.job.kind.clone();
                metrics::counter!("windlass_attempts_ended_total", "type" => kind, "status" => status).increment(1);
                shared.service.settle(&changed).await;
                return;
            }
            Err(error) if error.is_stale() => {
                report::stale(shared, *lease);
                return;
            }
            Err(crate::server::store::StoreError::NoJob(_)) => return,
            Err(error) => {
                let (pause, log) = backoff.fail();
                if log {
                    tracing::warn!(%error, job = %lease.id, "the end of an attempt could not be written");
                }
                if since.elapsed() + pause > LEASE {
                    tracing::error!(%error, job = %lease.id, "the lease ended first: the job will run again");
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What the transition says.
fn reason(event: &Event) -> String {
    match event {
        Event::Fail { error, .. } => {
            let mut text = error.to_string();
            truncate(&mut text, 300);
            text
        }
        Event::Stopped { .. } => "stopped as asked".into(),
        _ => String::new(),
    }
}

fn cut(result: Value) -> Value {
    let mut text = result.to_string();
    if text.len() <= RESULT_MAX {
        return result;
    }
    let bytes = text.len();
    truncate(&mut text, 10_000);
    json!({ "truncated": true, "bytes": bytes, "allowed_bytes": RESULT_MAX, "beginning": text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_over_long_result_is_cut_with_a_mark() {
        assert_eq!(cut(json!({"a": 1})), json!({"a": 1}));
        let long = cut(json!("x".repeat(RESULT_MAX)));
        assert_eq!(long["truncated"], true);
        assert!(long.to_string().len() < 20_000);
    }
}
