//! The audit log: what people and tokens did. Each entry's hash covers the entry and the hash before it, so that a change,
//! a removal or another order shows.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::Problem;
use super::filter::name;
use super::user::{Actor, TokenRef, Via};

/// One thing that somebody did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub seq: u64,
    pub at: DateTime<Utc>,
    #[serde(flatten)]
    pub deed: Deed,
    /// SHA-256 in hexadecimal, over the hash before it and this entry.
    pub hash: String,
}

/// Who did what to which, as it is hashed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Deed {
    /// A person's e-mail, or `token:NAME`.
    pub actor: String,
    pub via: Via,
    /// Which token it was done with; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenRef>,
    /// Where the request came from; empty for this machine itself.
    pub address: String,
    /// Like `job.cancel`.
    pub action: String,
    /// What it was done to: job, jobs (many), batch, schedule, queue, user, token, session, worker, kind, audit.
    pub object: String,
    /// Which one: an id, or a name; of many jobs the filter that they matched, or how many they were.
    pub name: String,
    /// What of it changed, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The same, as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Bytes of the reason that somebody gives for what they do.
pub const REASON_MAX: usize = 500;

/// What may be said about an action: the body of calls that take nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why it is done, for the audit log and the job's history: at most 500 bytes, no control characters but line breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A reason as it is kept, empty where none is given; or what is wrong with it.
pub fn checked_reason(reason: Option<String>) -> Result<String, Problem> {
    let reason = reason.unwrap_or_default();
    let reason = reason.trim();
    let odd = |c: char| c.is_control() && c != '\n';
    match reason.len() <= REASON_MAX && !reason.contains(odd) {
        true => Ok(reason.into()),
        false => Err(Problem::invalid(
            "reason",
            format!(
                "reason has {} bytes; allowed: at most {REASON_MAX}, no control characters but line breaks",
                reason.len()
            ),
        )),
    }
}

impl Deed {
    /// What `actor` does; what it changes is said by the others.
    pub fn of(actor: &Actor, action: &str, object: &str, name: impl std::fmt::Display) -> Self {
        Self {
            actor: actor.name.clone(),
            via: actor.via,
            token: actor.token.clone(),
            address: actor.address.clone(),
            action: action.into(),
            object: object.into(),
            name: name.to_string(),
            before: None,
            after: None,
            reason: String::new(),
        }
    }

    #[must_use]
    pub fn because(self, reason: String) -> Self {
        Self { reason, ..self }
    }

    /// Like "Cancel by ada@example.org: it takes too long", as a job's history has it.
    pub fn in_words(&self, what: &str) -> String {
        match self.reason.as_str() {
            "" => format!("{what} by {}", self.actor),
            reason => format!("{what} by {}: {reason}", self.actor),
        }
    }

    #[must_use]
    pub fn from(self, before: Value) -> Self {
        Self {
            before: Some(before),
            ..self
        }
    }

    #[must_use]
    pub fn to(self, after: Value) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub object: Option<String>,
    /// Which one, like a job's id.
    pub name: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// The names of a filter's fields in query strings.
pub const FIELDS: [&str; 6] = ["actor", "action", "object", "name", "since", "until"];

impl AuditFilter {
    /// Reads the fields that it knows; the others are the caller's.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Problem> {
        let mut filter = Self::default();
        let time = |field: &str, value: &str| {
            let parsed = DateTime::parse_from_rfc3339(value).map(|t| t.with_timezone(&Utc));
            parsed.map(Some).map_err(|_| {
                Problem::invalid(
                    field,
                    format!("{field} \"{value}\" is not a time like 2026-03-01T10:00:00Z"),
                )
            })
        };
        for (key, value) in pairs {
            if value.is_empty() {
                continue;
            }
            match key {
                "actor" => filter.actor = Some(value.into()),
                "action" => filter.action = Some(value.into()),
                "object" => filter.object = Some(value.into()),
                "name" => filter.name = Some(value.into()),
                "since" => filter.since = time("since", value)?,
                "until" => filter.until = time("until", value)?,
                _ => {}
            }
        }
        filter.checked()
    }

    /// The filter in the form that the store is asked in, whichever way it came here, or what is wrong with it.
    pub fn checked(self) -> Result<Self, Problem> {
        Ok(Self {
            actor: name("actor", self.actor)?,
            action: name("action", self.action)?,
            object: name("object", self.object)?,
            name: name("name", self.name)?,
            ..self
        })
    }

    /// Its fields as they stand in a query string.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self {
            actor,
            action,
            object,
            name,
            since,
            until,
        } = self;
        let time = |t: &Option<DateTime<Utc>>| t.map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        let fields = [
            ("actor", actor.clone()),
            ("action", action.clone()),
            ("object", object.clone()),
            ("name", name.clone()),
            ("since", time(since)),
            ("until", time(until)),
        ];
        fields.into_iter().filter_map(|(k, v)| Some((k, v?))).collect()
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The last entry's number and hash: whoever keeps it elsewhere notices when entries are cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct AuditHead {
    /// 0: there is none yet.
    pub seq: u64,
    pub hash: String,
}

impl AuditHead {
    /// Before the first entry.
    pub fn before_all() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.into(),
        }
    }
}

/// Entries, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct AuditPage {
    pub items: Vec<AuditEntry>,
    /// Hand it in as `before` for the next part; absent at the end.
    pub next: Option<u64>,
    pub head: AuditHead,
}

/// The hash that stands before the first entry's.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_short_texts_and_said_where_there_are_any() {
        let kept = |text: &str| checked_reason(Some(text.into()));
        assert_eq!(checked_reason(None), Ok(String::new()));
        assert_eq!(
            kept(" too slow,\nand too large "),
            Ok("too slow,\nand too large".into())
        );
        for bad in ["a\0b", "a\u{1b}[31m", "a\rb", &"x".repeat(REASON_MAX + 1)] {
            assert_eq!(
                kept(bad).expect_err("refused").field.as_deref(),
                Some("reason"),
                "{bad:?}"
            );
        }
        let deed = Deed::of(&Actor::machine(), "job.cancel", "job", 1);
        assert_eq!(deed.in_words("Cancel"), "Cancel by machine");
        assert_eq!(deed.because("why".into()).in_words("Cancel"), "Cancel by machine: why");
    }

    #[test]
    fn a_filter_survives_its_query_string() {
        let filter = AuditFilter {
            actor: Some("ada@example.org".into()),
            action: Some("job.cancel".into()),
            since: Some("2026-03-01T10:00:00Z".parse().expect("time")),
            ..AuditFilter::default()
        };
        let pairs = filter.pairs();
        let again = AuditFilter::from_pairs(pairs.iter().map(|(k, v)| (*k, v.as_str())));
        assert_eq!(again, Ok(filter));
        assert!(AuditFilter::from_pairs([("since", "yesterday")]).is_err());
        for bad in ["a\0b".to_string(), "x".repeat(1_000)] {
            let filter = AuditFilter {
                name: Some(bad),
                ..AuditFilter::default()
            };
            let problem = filter.checked().expect_err("refused");
            assert_eq!(problem.field.as_deref(), Some("name"));
        }
        assert!(AuditFilter::from_pairs([("actor", "")]).is_ok_and(|f| f.is_empty()));
    }
}
