//! What a worker outside of the binary is given to do, and what it reports. `docs/WORKERS.md` has the protocol.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::{ErrorCode, JobError, Problem};
use super::job::Lane;
use super::log::Level;
use super::status::Status;
use super::worker::{SLOTS_MAX, one, within};

/// Jobs that one fetch can give.
pub const FETCH_MAX: u32 = 100;
/// Seconds that a fetch or a heartbeat can wait for something to tell.
pub const WAIT_MAX: u32 = 25;
/// Leases that one heartbeat can name.
pub const LEASES_MAX: usize = SLOTS_MAX as usize;
/// Lines that one call can add to a log.
pub const LINES_MAX: usize = 1_000;

/// A wish for jobs: `POST /api/workers/{worker}/fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FetchWish {
    /// How many at the most, 1 to 100; never more than the worker has free slots.
    #[serde(default = "one")]
    pub max: u32,
    /// Of these kinds, which the worker must have declared; empty: of all that it has.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Seconds to wait for one, 0 to 25.
    #[serde(default)]
    pub wait: u32,
}

impl FetchWish {
    pub fn checked(&self) -> Result<(), Problem> {
        within("max", self.max.into(), 1, FETCH_MAX.into())?;
        within("wait", self.wait.into(), 0, WAIT_MAX.into())
    }
}

/// The jobs that a worker runs from now on; none: none came while it waited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Fetched {
    pub jobs: Vec<Assigned>,
}

/// One attempt at one job, as its worker is given it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Assigned {
    pub id: Uuid,
    /// The lease's: all that the worker says about the job carries it, and whatever the worker calls can refuse an older one.
    pub epoch: u64,
    #[serde(rename = "type")]
    pub kind: String,
    /// With their secrets.
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args: Value,
    /// From 1.
    pub attempt: u32,
    pub max_attempts: u32,
    pub queue: String,
    pub priority: Lane,
    /// Who started it.
    pub owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    /// Seconds after which the attempt fails with `TIMEOUT`.
    pub timeout_s: u64,
    /// Where an earlier attempt left off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
}

/// A lease: a job, and the epoch that it was given out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LeaseRef {
    pub id: Uuid,
    pub epoch: u64,
}

/// `POST /api/workers/{worker}/heartbeat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// All leases that the worker holds: they begin anew. A job that it was given longer ago than it has between two heartbeats,
    /// and does not name, goes to another worker.
    #[serde(default)]
    pub jobs: Vec<LeaseRef>,
    /// Seconds to wait for a wish about one of them, 0 to 25.
    #[serde(default)]
    pub wait: u32,
}

impl Heartbeat {
    pub fn checked(&self) -> Result<(), Problem> {
        within("jobs", self.jobs.len() as u64, 0, LEASES_MAX as u64)?;
        within("wait", self.wait.into(), 0, WAIT_MAX.into())
    }
}

/// What became of the leases of a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Beaten {
    pub held: Vec<Held>,
    /// Those that hold no more: their attempts end, and nothing that they would still say is taken.
    pub lost: Vec<LeaseRef>,
}

/// A lease that holds, and what people want of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Held {
    pub id: Uuid,
    pub epoch: u64,
    #[serde(flatten)]
    pub wishes: Wishes,
}

/// What people want of a running attempt, which then stops where it can and says so with `release`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Wishes {
    /// It shall stop.
    pub cancel: bool,
    /// It shall stop at its next checkpoint.
    pub pause: bool,
}

/// How far an attempt is: `POST /api/workers/{worker}/jobs/{id}/progress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ProgressReport {
    pub epoch: u64,
    /// Items done of `total`; both or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// The current step, in words; it is cut after 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ProgressReport {
    pub fn checked(&self) -> Result<(), Problem> {
        match (self.done, self.total, &self.message) {
            (None, None, None) => Err(Problem::invalid(
                "body",
                "there is no progress in it; give done and total, message, or all three",
            )),
            (Some(_), None, _) => Err(Problem::invalid("total", "done is of a total; give that, too")),
            (None, Some(_), _) => Err(Problem::invalid("done", "done is missing beside the total")),
            _ => Ok(()),
        }
    }
}

/// Lines for a job's log: `POST /api/workers/{worker}/jobs/{id}/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LogReport {
    pub epoch: u64,
    /// 1 to 1,000, in order.
    pub lines: Vec<NewLine>,
}

impl LogReport {
    pub fn checked(&self) -> Result<(), Problem> {
        within("lines", self.lines.len() as u64, 1, LINES_MAX as u64)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    #[serde(default = "info")]
    pub level: Level,
    /// It is cut after so many bytes as a line of a log may have.
    pub message: String,
}

fn info() -> Level {
    Level::Info
}

/// Where the next attempt would go on: `POST /api/workers/{worker}/jobs/{id}/checkpoint`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CheckpointReport {
    pub epoch: u64,
    /// Any JSON. It is stored as it is: no secrets belong in it.
    pub checkpoint: Value,
}

/// An attempt ended well: `POST /api/workers/{worker}/jobs/{id}/complete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub epoch: u64,
    /// Any JSON.
    #[serde(default)]
    pub result: Value,
    /// Milliseconds of CPU time that it took; absent: nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// An attempt failed: `POST /api/workers/{worker}/jobs/{id}/fail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub epoch: u64,
    #[serde(default = "internal")]
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Whether another try may help; absent: as the code says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// Milliseconds of CPU time that it took; absent: nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

fn internal() -> ErrorCode {
    ErrorCode::Internal
}

impl Failure {
    /// The error as jobs keep it, or what is wrong with it.
    pub fn error(&self) -> Result<JobError, Problem> {
        // The engine's own words.
        if matches!(
            self.code,
            ErrorCode::WorkerLost | ErrorCode::UnknownKind | ErrorCode::SecretUnreadable
        ) {
            let detail = format!(
                "code {} is not for workers to give; INTERNAL stands for anything else",
                self.code
            );
            return Err(Problem::invalid("code", detail));
        }
        if self.message.trim().is_empty() {
            return Err(Problem::invalid("message", "message is empty; say what went wrong"));
        }
        let mut error = JobError {
            retryable: self.retryable.unwrap_or(self.code.retryable()),
            ..JobError::new(self.code, self.message.clone())
        };
        if let Some(stack) = &self.stack {
            error = error.with_stack(stack.clone());
        }
        Ok(error)
    }
}

/// An attempt stops without an end of its own: `POST /api/workers/{worker}/jobs/{id}/release`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub epoch: u64,
    /// Where the next attempt goes on, in place of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
    /// Milliseconds of CPU time that it took; absent: nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
}

/// How a job stands after an attempt at it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Ended {
    pub id: Uuid,
    pub status: Status,
    /// When the next attempt begins, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_is_an_error_of_the_table_and_follows_it() {
        let failure = |code: &str, retryable: Option<bool>| {
            let mut told = json!({ "epoch": 1, "code": code, "message": "no" });
            if let Some(retryable) = retryable {
                told["retryable"] = retryable.into();
            }
            serde_json::from_value::<Failure>(told).expect("a failure").error()
        };
        let retryable = |code, told| failure(code, told).map(|error| error.retryable);
        assert_eq!(retryable("NETWORK_ERROR", None), Ok(true));
        assert_eq!(retryable("NETWORK_ERROR", Some(false)), Ok(false));
        assert_eq!(retryable("INVALID_ARGS", None), Ok(false));
        assert_eq!(
            failure("WORKER_LOST", None).expect_err("refused").field.as_deref(),
            Some("code")
        );
    }
}
