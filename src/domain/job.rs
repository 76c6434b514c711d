//! A job and everything known about its life.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::{ErrorCode, JobError};
use super::kind::Policy;
use super::status::{Action, Outcome, Status};
use super::time::Timestamp;

/// A job's name: a UUID of version 7, so that names sort by the moment of enqueueing.
pub type JobId = Uuid;

/// The last six characters of an id: enough to tell jobs apart in a list.
pub fn short_id(id: &JobId) -> String {
    let text = id.simple().to_string();
    text[text.len() - 6..].to_string()
}

/// Who goes first within a queue. Waiting raises a job, so that a low lane is not starved for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    Critical,
    High,
    #[default]
    Normal,
    Low,
}

impl Lane {
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Critical => "Critical",
            Self::High => "High",
            Self::Normal => "Normal",
            Self::Low => "Low",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.as_str() == name)
    }

    /// 0 for critical to 3 for low: the lane as the database stores it.
    pub fn rank(self) -> i64 {
        self as i64
    }

    pub fn from_rank(rank: i64) -> Self {
        Self::ALL
            .get(usize::try_from(rank).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or_default()
    }
}

/// The queue that a job goes to unless told otherwise.
pub const DEFAULT_QUEUE: &str = "default";

/// Checks a queue's name: 1 to 64 of `a-z 0-9 _ - .`, beginning with a letter or digit.
pub fn valid_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
}

/// A job as lists, the live stream and `GET /api/jobs/{id}` show it. Read-only: it changes through the service's
/// actions and the worker's reports alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Job {
    pub id: Uuid,
    /// What the job does. The API calls it `type`.
    #[serde(rename = "type")]
    pub kind: String,
    pub queue: String,
    pub priority: Lane,
    pub status: Status,
    /// Who started it.
    pub owner: String,
    /// The current step, or how the job ended, in words; at most [`Job::MESSAGE_MAX`] bytes.
    pub message: String,
    /// 0 to 100; absent until the job reports any.
    pub progress: Option<f64>,
    /// Items done of `total`.
    pub done: Option<u64>,
    pub total: Option<u64>,
    /// Number of the running or last attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// The highest number that an attempt may have before the job is dead.
    pub max_attempts: u32,
    /// Attempts that ended because their worker died. They count as attempts, too.
    #[serde(default)]
    pub crashes: u32,
    pub created_at: DateTime<Utc>,
    /// Not started before this; for a retrying job the time of its next attempt.
    pub run_at: DateTime<Utc>,
    /// When the running or last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When the job completed, failed, died or was cancelled.
    pub completed_at: Option<DateTime<Utc>>,
    /// The worker that holds the lease, or held it last.
    pub worker: Option<String>,
    /// Of the jobs with this key one runs at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// A person wants it to run before all that waits in its lane; until it has begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub front: bool,
    /// A person asked the running job to stop ("Cancelling…").
    pub cancel_requested: bool,
    /// A person asked the running job to stop at its next checkpoint ("Pausing…").
    #[serde(default)]
    pub pause_requested: bool,
    pub error_code: Option<ErrorCode>,
    /// The last error's message.
    pub error: Option<String>,
    /// What that error has in common with others that count as the same problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The batch that it was enqueued with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Uuid>,
    /// Raised with every change of this record: of two copies, the one with the higher number is newer.
    pub rev: u64,
}

impl Job {
    /// Bytes of a message that are kept.
    pub const MESSAGE_MAX: usize = 500;
    /// So many crashes make a job one that may kill its workers.
    pub const CRASHES_MAX: u32 = 2;

    /// Whether the job may be one that kills its workers: it was there when several died, or has one try left after the first.
    /// A worker runs one such job at a time, so that a job that is to blame takes no other along more than a few times.
    pub fn is_suspect(&self) -> bool {
        let begun = self.attempt - u32::from(self.status == Status::Running).min(self.attempt);
        Self::suspected(self.crashes, begun, self.max_attempts)
    }

    /// The same of a job that waits and has begun so many attempts.
    pub fn suspected(crashes: u32, begun: u32, max_attempts: u32) -> bool {
        crashes >= Self::CRASHES_MAX || crashes > 0 && begun + 1 >= max_attempts
    }

    /// How long the running or last attempt has taken by `now`, in milliseconds.
    pub fn duration_ms(&self, now: Timestamp) -> Option<i64> {
        let started = self.started_at?;
        let end = match self.status {
            Status::Running => now,
            _ => self.completed_at?,
        };
        Some((end - started).num_milliseconds().max(0))
    }

    /// Items a second so far, when the job reports items and has begun with the first of them: a later attempt may go on in the
    /// middle, and nothing says where.
    pub fn throughput(&self, now: Timestamp) -> Option<f64> {
        if self.attempt > 1 {
            return None;
        }
        let seconds = self.duration_ms(now)? as f64 / 1_000.0;
        let done = self.done? as f64;
        (seconds >= 0.5 && done > 0.0).then(|| done / seconds)
    }

    /// Milliseconds until a running job ends, if it goes on as it did from its beginning; see [`Job::throughput`].
    pub fn remaining_ms(&self, now: Timestamp) -> Option<i64> {
        if self.status != Status::Running || self.attempt > 1 {
            return None;
        }
        let percent = self.progress.filter(|p| *p >= 1.0 && *p < 100.0)?;
        let elapsed = self.duration_ms(now)? as f64;
        Some((elapsed * (100.0 - percent) / percent) as i64)
    }
}

/// So many items of a total as percent. A tenth of a percent is more than a bar can show; equal numbers make for quieter streams.
pub fn percent(done: u64, total: u64) -> f64 {
    let percent = match total {
        0 => 100.0,
        _ => (done.min(total) as f64 / total as f64) * 100.0,
    };
    (percent * 10.0).floor() / 10.0
}

/// One execution of a job by one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Attempt {
    pub number: u32,
    pub worker: String,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// Absent while it runs.
    pub outcome: Option<Outcome>,
    pub error: Option<JobError>,
    /// Milliseconds of CPU time that it took, its blocking parts included; absent while it runs, where its worker died, and
    /// where a worker outside did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// One recorded change of a job's status, or a person's wish about it (then `from` equals `to`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Transition {
    pub at: DateTime<Utc>,
    /// Absent for the enqueueing.
    pub from: Option<Status>,
    pub to: Status,
    /// A user, or `system`, or a worker.
    pub by: String,
    pub reason: String,
}

/// A file that a job left behind. Removed by retention after `expires_at`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Artifact {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub content_type: String,
    /// SHA-256 of the file in lower-case hex.
    pub sha256: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// A related job, by name only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct JobRef {
    pub id: Uuid,
    #[serde(rename = "type")]
    pub kind: String,
    pub status: Status,
}

/// All of a job: `GET /api/jobs/{id}/detail`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct JobDetail {
    pub job: Job,
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args: Value,
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
    pub result: Option<Value>,
    pub error: Option<JobError>,
    pub attempts: Vec<Attempt>,
    pub transitions: Vec<Transition>,
    pub artifacts: Vec<Artifact>,
    /// What the batch that it belongs to is called.
    #[serde(default)]
    pub batch_name: Option<String>,
    /// The job that enqueued this one.
    pub parent: Option<JobRef>,
    /// Jobs that this one enqueued.
    pub children: Vec<JobRef>,
    /// Jobs that this one waits for, or waited for.
    pub depends_on: Vec<JobRef>,
    /// Jobs that wait for this one, or waited for it.
    pub dependents: Vec<JobRef>,
    pub policy: Policy,
    /// What the caller may ask of the job now.
    pub actions: Vec<Action>,
    /// Log lines stored so far.
    pub log_lines: u64,
    /// Raised whenever the right to write about the job changes hands.
    pub epoch: u64,
}

/// `GET /api/jobs/{id}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct JobHistory {
    /// Oldest first.
    pub transitions: Vec<Transition>,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
}

/// A wish for a new job: the body of `POST /api/jobs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// The kind's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind's schema asks for; see `GET /api/jobs/types`.
    #[serde(default = "empty_object")]
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// Seconds to wait; excludes `run_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// While a job with this key is unfinished, enqueueing again answers with that job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// For so many seconds after it was enqueued, the job with this key is answered with even when it has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_for: Option<u64>,
    /// Seconds that an attempt may take, instead of what its kind says; at most [`TIMEOUT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// What the other jobs of the same call name it by in their `depends_on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Jobs that must have ended before this one starts: ids, or `@` and the label of another job of the same call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "ssr", schema(value_type = Vec<String>))]
    pub depends_on: Vec<Needs>,
    /// What becomes of it when one of those ends otherwise than completed.
    #[serde(default, skip_serializing_if = "OnFailure::is_cancel")]
    pub on_failure: OnFailure,
    /// Of the jobs with this key one runs at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// A batch that is there already, to which it is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Uuid>,
}

/// What an action may be told besides its name: the body of `POST /api/jobs/{id}/retry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ActOptions {
    /// Retry: seconds to wait before the next attempt.
    #[serde(default)]
    pub delay: Option<u64>,
    /// Retry: other args than those that the job had.
    #[serde(default)]
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
    pub args: Option<Value>,
    /// Why it is done, for the audit log and the job's history: at most 500 bytes, no control characters but line breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A job that another one waits for, as a wish names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Needs {
    Job(JobId),
    /// Another job of the same call.
    Label(String),
}

impl TryFrom<String> for Needs {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(label) => Ok(Self::Label(label.into())),
            None => text.parse().map(Self::Job).map_err(|_| {
                let mut text = text;
                super::error::truncate(&mut text, 80);
                format!("\"{text}\" is neither a job's id nor @ and the label of another job of this call")
            }),
        }
    }
}

impl From<Needs> for String {
    fn from(needs: Needs) -> Self {
        match needs {
            Needs::Job(id) => id.to_string(),
            Needs::Label(label) => format!("@{label}"),
        }
    }
}

/// The longest that an attempt may be allowed to take, in seconds: 72 hours.
pub const TIMEOUT_MAX: u64 = 72 * 3_600;

/// What becomes of a job when one that it depends on is cancelled, fails or dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is cancelled, too.
    #[default]
    Cancel,
    /// It runs all the same, once all of them have ended.
    Run,
}

impl OnFailure {
    fn is_cancel(&self) -> bool {
        *self == Self::Cancel
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl NewJob {
    pub fn of(kind: &str, args: Value) -> Self {
        Self {
            kind: kind.into(),
            args,
            queue: None,
            priority: None,
            run_at: None,
            delay: None,
            unique_key: None,
            unique_for: None,
            timeout: None,
            label: None,
            depends_on: Vec::new(),
            on_failure: OnFailure::Cancel,
            concurrency_key: None,
            batch: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_checked() {
        for good in ["default", "a", "mail-2.high_x"] {
            assert!(valid_queue_name(good), "{good}");
        }
        for bad in ["", "-x", "Über", "a b", &"x".repeat(65)] {
            assert!(!valid_queue_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_pace_is_that_of_an_attempt_which_began_with_the_first_item() {
        let at = crate::domain::time::from_millis;
        let told = serde_json::json!({
            "id": Uuid::nil(), "type": "a", "queue": "default", "priority": "normal", "status": "running", "owner": "", "message": "",
            "progress": 50.0, "done": 50, "total": 100, "attempt": 1, "max_attempts": 3, "crashes": 0, "created_at": at(0),
            "run_at": at(0), "started_at": at(0), "rev": 1, "cancel_requested": false, "pause_requested": false
        });
        let mut job: Job = serde_json::from_value(told).expect("a job");
        assert_eq!(
            (job.throughput(at(10_000)), job.remaining_ms(at(10_000))),
            (Some(5.0), Some(10_000))
        );
        job.attempt = 2;
        assert_eq!((job.throughput(at(10_000)), job.remaining_ms(at(10_000))), (None, None));
    }

    #[test]
    fn lanes_survive_their_rank() {
        for lane in Lane::ALL {
            assert_eq!(Lane::from_rank(lane.rank()), lane);
            assert_eq!(Lane::parse(lane.as_str()), Some(lane));
        }
    }
}
