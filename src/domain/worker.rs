//! Workers outside of the binary: what they say of themselves and of the kinds that they run. What they are given to do, and what
//! they report, is in [`super::work`]; `docs/WORKERS.md` has the protocol.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Problem, truncate};
use super::job::TIMEOUT_MAX;
use super::kind::{Backoff, KIND_NAME_MAX, Policy, Rate, valid_external};
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

pub(super) fn one() -> u32 {
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
    /// JSON Schema (2020-12) of its args, of type object; references lead to places within it, and not in a circle. A field
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
pub(super) fn within(field: &str, value: u64, least: u64, most: u64) -> Result<(), Problem> {
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
}
