//! Workers outside of the binary: what they say of themselves and of the kinds that they run, what they are given to do, and
//! what they report. `docs/WORKERS.md` has the protocol.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::{ErrorCode, JobError, Problem, truncate};
use super::job::{Lane, TIMEOUT_MAX};
use super::kind::{Backoff, KIND_NAME_MAX, Policy, Rate, valid_external};
use super::log::Level;
use super::page::bytes;
use super::queue::valid_name;

/// Characters of a worker's name, and bytes of what else it says of itself.
pub const NAME_MAX: usize = 64;
/// Kinds that one worker can run.
pub const KINDS_MAX: usize = 100;
/// Kinds that all workers together can have declared.
pub const DECLARED_MAX: u64 = 1_000;
/// Jobs that one worker may say it has room for.
pub const SLOTS_MAX: u32 = 10_000;
/// Jobs that one fetch can give.
pub const FETCH_MAX: u32 = 100;
/// Seconds that a fetch or a heartbeat can wait for something to tell.
pub const WAIT_MAX: u32 = 25;
/// Leases that one heartbeat can name.
pub const LEASES_MAX: usize = SLOTS_MAX as usize;
/// Lines that one call can add to a log.
pub const LINES_MAX: usize = 1_000;
/// Bytes of a kind's description, and of its schema as JSON.
pub const DESCRIPTION_MAX: usize = 2_000;
pub const SCHEMA_MAX: usize = 64_000;
/// Attempts of one round, the longest wait between two, and the most that can be said of a limit.
const ATTEMPTS_MAX: u32 = 1_000;
const WAIT_MS_MAX: u64 = 30 * 86_400_000;
const LIMIT_MAX: u32 = 1_000_000;

/// A worker that begins: `POST /api/workers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewWorker {
    /// By which people tell it: 1 to 64 of `A-Z a-z 0-9 _ - .`.
    pub name: String,
    /// The machine that it runs on.
    #[serde(default)]
    pub host: String,
    /// Of its code.
    #[serde(default)]
    pub version: String,
    /// Jobs that it runs at the same time, 1 to 10,000.
    #[serde(default = "one")]
    pub slots: u32,
    /// What it runs, 1 to 100.
    pub kinds: Vec<NewKind>,
}

fn one() -> u32 {
    1
}

/// A kind as its worker declares it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewKind {
    /// At least two parts of `a-z 0-9 _`, each beginning with a letter, with dots between them: `images.resize`. The names of
    /// built-in kinds have no dot, so that no later version of Windlass can have a kind of the same name.
    pub name: String,
    /// What it does, in a sentence or two, and what it does about running twice after a crash.
    #[serde(default)]
    pub description: String,
    /// JSON Schema (2020-12 unless it says otherwise) of its args, of type object; references lead to places within it. A field
    /// with `"x-secret": true` is encrypted wherever it is stored, and shown to the worker alone.
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args_schema: Value,
    #[serde(default)]
    pub policy: PolicyWish,
    /// Whether it stores checkpoints, and can be paused.
    #[serde(default)]
    pub checkpoints: bool,
}

/// How jobs of a kind are tried again and limited; what is absent is as the server's settings have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PolicyWish {
    /// Attempts in all, 1 to 1,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Milliseconds, at most 30 days; so is `cap_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_ms: Option<u64>,
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u32>,
    /// Seconds, 1 to 72 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// Jobs of the kind that run at the same time, of all workers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Jobs of the kind that begin within a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl PolicyWish {
    /// The policy that it makes of the default one.
    pub fn over(self, default: Policy) -> Policy {
        Policy {
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            backoff: self.backoff.unwrap_or(default.backoff),
            base_ms: self.base_ms.unwrap_or(default.base_ms),
            cap_ms: self.cap_ms.unwrap_or(default.cap_ms),
            jitter_percent: self.jitter_percent.unwrap_or(default.jitter_percent),
            timeout_s: self.timeout_s.unwrap_or(default.timeout_s),
            max_running: self.max_running.or(default.max_running),
            rate: self.rate.or(default.rate),
        }
    }

    /// What is wrong with it, named below `field`.
    fn checked(self, field: &str) -> Result<(), Problem> {
        let rate = self.rate;
        let given = [
            (
                "max_attempts",
                self.max_attempts.map(u64::from),
                1,
                u64::from(ATTEMPTS_MAX),
            ),
            ("base_ms", self.base_ms, 0, WAIT_MS_MAX),
            ("cap_ms", self.cap_ms, 0, WAIT_MS_MAX),
            ("jitter_percent", self.jitter_percent.map(u64::from), 0, 100),
            ("timeout_s", self.timeout_s, 1, TIMEOUT_MAX),
            ("max_running", self.max_running.map(u64::from), 1, u64::from(LIMIT_MAX)),
            ("rate.jobs", rate.map(|r| u64::from(r.jobs)), 1, u64::from(LIMIT_MAX)),
            ("rate.per_ms", rate.map(|r| r.per_ms), 1, WAIT_MS_MAX),
        ];
        for (name, value, least, most) in given {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                let field = format!("{field}.{name}");
                let detail = format!("{field} {value} is not within {least} to {most}");
                return Err(Problem::invalid(field, detail));
            }
        }
        Ok(())
    }
}

impl NewWorker {
    /// What is wrong with it, the schemas left aside.
    pub fn checked(&self) -> Result<(), Problem> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"_-.".contains(&c);
        if !(1..=NAME_MAX).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            let shown = shown(&self.name);
            let detail = format!("name \"{shown}\" is not a worker's; allowed: 1 to {NAME_MAX} of A-Z a-z 0-9 _ - .");
            return Err(Problem::invalid("name", detail));
        }
        for (field, text) in [("host", &self.host), ("version", &self.version)] {
            if !text.is_empty() && !valid_name(text, NAME_MAX) {
                let detail = format!("{field} must have at most {NAME_MAX} bytes and no control characters");
                return Err(Problem::invalid(field, detail));
            }
        }
        within("slots", self.slots.into(), 1, SLOTS_MAX.into())?;
        within("kinds", self.kinds.len() as u64, 1, KINDS_MAX as u64)?;
        for (i, kind) in self.kinds.iter().enumerate() {
            kind.checked(&format!("kinds[{i}]"))?;
            if self.kinds[..i].iter().any(|other| other.name == kind.name) {
                let detail = format!("kinds[{i}].name \"{}\" is there twice", kind.name);
                return Err(Problem::invalid(format!("kinds[{i}].name"), detail));
            }
        }
        Ok(())
    }
}

impl NewKind {
    fn checked(&self, field: &str) -> Result<(), Problem> {
        if !valid_external(&self.name) {
            let name = shown(&self.name);
            let detail = format!(
                "{field}.name \"{name}\" is not a kind's of a worker of your own; allowed: at most {KIND_NAME_MAX} bytes, two parts \
                 or more of a-z 0-9 _ that begin with a letter, with dots between them, like images.resize"
            );
            return Err(Problem::invalid(format!("{field}.name"), detail));
        }
        if self.description.len() > DESCRIPTION_MAX {
            let detail = format!(
                "{field}.description has {} bytes; allowed: at most {DESCRIPTION_MAX}",
                self.description.len()
            );
            return Err(Problem::invalid(format!("{field}.description"), detail));
        }
        let size = self.args_schema.to_string().len();
        if size > SCHEMA_MAX {
            let (size, most) = (bytes(size as u64), bytes(SCHEMA_MAX as u64));
            let detail = format!("{field}.args_schema takes {size}; allowed: at most {most}");
            return Err(Problem::invalid(format!("{field}.args_schema"), detail));
        }
        self.policy.checked(&format!("{field}.policy"))
    }
}

/// Refuses a number that is not within these.
fn within(field: &str, value: u64, least: u64, most: u64) -> Result<(), Problem> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Problem::invalid(
            field,
            format!("{field} {value} is not within {least} to {most}"),
        )),
    }
}

fn shown(text: &str) -> String {
    let mut text = text.to_string();
    truncate(&mut text, 80);
    text
}

/// What a worker that began is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct WorkerBegun {
    /// Its name in all further calls, drawn anew for each that begins.
    pub id: String,
    /// Milliseconds that a lease lasts; each heartbeat begins it anew.
    pub lease_ms: u64,
    /// Milliseconds between two heartbeats, so that two may fail before a lease is lost.
    pub heartbeat_ms: u64,
}

/// A wish for jobs: `POST /api/workers/{worker}/fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FetchWish {
    /// How many at the most, 1 to 100.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
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
    /// It is stored as it is: no secrets belong in it.
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub checkpoint: Value,
}

/// An attempt ended well: `POST /api/workers/{worker}/jobs/{id}/complete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Completion {
    pub epoch: u64,
    #[serde(default)]
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
    pub result: Value,
    /// Milliseconds of CPU time that it took.
    #[serde(default)]
    pub cpu_ms: u64,
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
    /// Milliseconds of CPU time that it took.
    #[serde(default)]
    pub cpu_ms: u64,
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
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
    pub checkpoint: Option<Value>,
    /// Milliseconds of CPU time that it took.
    #[serde(default)]
    pub cpu_ms: u64,
}

/// How a job stands after an attempt at it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Ended {
    pub id: Uuid,
    pub status: super::status::Status,
    /// When the next attempt begins, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker(change: Value) -> Result<(), Problem> {
        let mut told = json!({
            "name": "resizer", "kinds": [{ "name": "images.resize", "args_schema": { "type": "object" } }]
        });
        for (field, value) in change.as_object().expect("fields") {
            told[field] = value.clone();
        }
        let worker: NewWorker = serde_json::from_value(told).expect("a worker");
        worker.checked()
    }

    #[test]
    fn a_worker_says_what_it_is_and_nothing_odd() {
        assert_eq!(worker(json!({})), Ok(()));
        let refused = |change: Value, field: &str| {
            let problem = worker(change).expect_err(field);
            assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
        };
        for name in ["", "a b", "a/b", "a:b", &"x".repeat(NAME_MAX + 1)] {
            refused(json!({ "name": name }), "name");
        }
        refused(json!({ "host": "a\nb" }), "host");
        refused(json!({ "slots": 0 }), "slots");
        refused(json!({ "kinds": [] }), "kinds");
        let kind = |change: Value| {
            let mut kind = json!({ "name": "a.b", "args_schema": {} });
            for (field, value) in change.as_object().expect("fields") {
                kind[field] = value.clone();
            }
            json!({ "kinds": [kind] })
        };
        for name in [
            "export",
            "a.",
            ".a",
            "a..b",
            "A.b",
            "a.1",
            "a.b c",
            &format!("a.{}", "b".repeat(KIND_NAME_MAX)),
        ] {
            refused(kind(json!({ "name": name })), "kinds[0].name");
        }
        refused(
            kind(json!({ "policy": { "max_attempts": 0 } })),
            "kinds[0].policy.max_attempts",
        );
        refused(
            kind(json!({ "policy": { "rate": { "jobs": 1, "per_ms": 0 } } })),
            "kinds[0].policy.rate.per_ms",
        );
        refused(
            kind(json!({ "args_schema": { "title": "x".repeat(SCHEMA_MAX) } })),
            "kinds[0].args_schema",
        );
        refused(
            json!({ "kinds": [{ "name": "a.b", "args_schema": {} }, { "name": "a.b", "args_schema": {} }] }),
            "kinds[1].name",
        );
    }

    #[test]
    fn a_policy_changes_what_it_names() {
        let wish = PolicyWish {
            max_attempts: Some(2),
            max_running: Some(7),
            ..PolicyWish::default()
        };
        let policy = wish.over(Policy::DEFAULT);
        assert_eq!(
            policy,
            Policy {
                max_attempts: 2,
                max_running: Some(7),
                ..Policy::DEFAULT
            }
        );
    }

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
