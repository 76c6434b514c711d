//! What an attempt leaves when it has ended: the same for workers within and without.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Service;
use crate::domain::error::truncate;
use crate::domain::job::Job;
use crate::domain::machine::Event;
use crate::domain::status::Status;
use crate::server::queue::Change;
use crate::server::store::finish::Finished;

/// Bytes of a result as JSON; of a larger one the job keeps the beginning.
const RESULT_MAX: usize = 1_000_000;

impl Service {
    /// Tells of a job that has completed what is beyond the database: limits that it counted against, jobs that wait for it,
    /// viewers. `job` is as it was when the attempt began.
    pub(in crate::server) async fn completed(&self, mut job: Job, done: Finished) {
        counted(&job.kind, Status::Completed);
        self.release(done.holds.as_deref()).await;
        if done.dependents {
            self.dependents.notify_one();
        }
        job.status = Status::Completed;
        job.progress = Some(100.0);
        job.completed_at = Some(done.at);
        job.cancel_requested = false;
        (job.error_code, job.error, job.fingerprint) = (None, None, None);
        (job.done, job.total, job.message, job.rev) = (done.done, done.total, done.message, done.rev);
        self.bus.change(Change::Job(Arc::new(job)));
    }
}

pub(in crate::server) fn counted(kind: &str, status: Status) {
    let (kind, status) = (kind.to_string(), status.as_str());
    metrics::counter!("windlass_attempts_ended_total", "type" => kind, "status" => status).increment(1);
}

/// A result as jobs keep it; none for null.
pub(in crate::server) fn kept(result: Value) -> Option<String> {
    if result.is_null() {
        return None;
    }
    let mut text = result.to_string();
    if text.len() <= RESULT_MAX {
        return Some(text);
    }
    let bytes = text.len();
    truncate(&mut text, 10_000);
    let cut = json!({ "truncated": true, "bytes": bytes, "allowed_bytes": RESULT_MAX, "beginning": text });
    Some(cut.to_string())
}

/// What the transition says.
pub(in crate::server) fn reason(event: &Event) -> String {
    match event {
        Event::Fail { error, .. } => {
            let mut text = error.to_string();
            truncate(&mut text, 300);
            text
        }
        Event::Stopped { .. } => "stopped as asked".into(),
        Event::Checkpointed { .. } => "stopped at a checkpoint, as asked".into(),
        Event::HandBack { .. } => "the worker shut down; it goes on from its checkpoint".into(),
        _ => String::new(),
    }
}

/// 0 to 1, for jitter.
pub(in crate::server) fn random() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_over_long_result_is_cut_with_a_mark() {
        assert_eq!(kept(json!({"a": 1})).as_deref(), Some("{\"a\":1}"));
        assert_eq!(kept(Value::Null), None);
        let long = kept(json!("x".repeat(RESULT_MAX))).expect("a result");
        assert!(long.starts_with('{') && long.contains("\"truncated\":true"));
        assert!(long.len() < 20_000);
    }
}
