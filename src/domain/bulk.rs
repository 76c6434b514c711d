//! One action on many jobs at once: what is wished, on which jobs, and what came of it for each.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::audit::checked_reason;
use super::error::{Problem, ProblemCode};
use super::filter::{FIELDS, JobFilter, choices};
use super::job::JobId;
use super::status::{Action, Status};

/// The kind of the jobs that do a large bulk action, a part of it each.
pub const KIND: &str = "bulk_action";
/// Jobs that one call may name by their ids.
pub const IDS_MAX: usize = 10_000;
/// Jobs that may match the filter of one call.
pub const MATCHES_MAX: u64 = 100_000;
/// Up to so many jobs are seen to before the call answers; more become a batch.
pub const AT_ONCE: usize = 1_000;

/// What can be asked of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum BulkAction {
    Retry,
    Cancel,
    Delete,
}

impl BulkAction {
    pub const ALL: [Self; 3] = [Self::Retry, Self::Cancel, Self::Delete];

    /// What it is for each of the jobs.
    pub fn action(self) -> Action {
        match self {
            Self::Retry => Action::Retry,
            Self::Cancel => Action::Cancel,
            Self::Delete => Action::Delete,
        }
    }

    pub fn label(self) -> &'static str {
        self.action().label()
    }

    /// Whether a job in this status can be done that to.
    pub fn fits(self, status: Status) -> bool {
        status.actions(false).contains(&self.action())
    }

    /// The filter for those of its matches that it can be done to; none: there can be none.
    pub fn narrowed(self, filter: &JobFilter) -> Option<JobFilter> {
        let wanted = |status: &Status| filter.status.is_empty() || filter.status.contains(status);
        let fitting = |status: &Status| wanted(status) && self.fits(*status);
        let status: Vec<Status> = Status::ALL.into_iter().filter(fitting).collect();
        (!status.is_empty()).then(|| JobFilter {
            status,
            ..filter.clone()
        })
    }
}

/// A filter as an object whose fields are the parameters of `GET /api/jobs`: texts, or for `status` a list of them. An unknown
/// one is refused: a filter that was misspelt would match more than was meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching(pub JobFilter);

impl Matching {
    fn read(fields: BTreeMap<String, Value>) -> Result<Self, Problem> {
        let mut pairs = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            if !FIELDS.contains(&name.as_str()) {
                return Err(Problem::invalid("filter", choices("filter's field", &name, FIELDS)));
            }
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                // No status at all would mean every one.
                Value::Array(parts) if name == "status" && !parts.is_empty() && parts.iter().all(Value::is_string) => {
                    parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                }
                _ => {
                    let what = if name == "status" {
                        "text or a list of some"
                    } else {
                        "text"
                    };
                    return Err(Problem::invalid(
                        "filter",
                        format!("the filter's {name} is not a {what}"),
                    ));
                }
            };
            pairs.push((name, text));
        }
        let (filter, _) = JobFilter::from_pairs(pairs.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
        Ok(Self(filter))
    }
}

impl<'de> Deserialize<'de> for Matching {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = BTreeMap::deserialize(deserializer)?;
        Self::read(fields).map_err(|problem| serde::de::Error::custom(problem.detail))
    }
}

impl Serialize for Matching {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.pairs())
    }
}

/// A wish for an action on many jobs: the body of `POST /api/jobs/bulk-cancel`, `bulk-retry` and `bulk-delete`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkWish {
    /// Up to 10,000 jobs; excludes `filter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Vec<Uuid>>))]
    pub ids: Option<Vec<JobId>>,
    /// All jobs that match, at most 100,000: the parameters of `GET /api/jobs` as an object; `{}` means all jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schema(value_type = Option<Object>))]
    pub filter: Option<Matching>,
    /// How many jobs the caller saw: with a filter the list's `total`, which must still be true. (A list counts some filters to
    /// 10,000 only; the refusal then says how many there are.) May be left out with `ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Retry: seconds to wait before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// Why it is done, for the audit log and each job's history: at most 500 bytes, no control characters but line breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which jobs are meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Each once, at least one.
    Ids(Vec<JobId>),
    /// Those that match, which were so many when the caller looked.
    Matching { filter: JobFilter, count: u64 },
}

/// A wish that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Wished {
    pub target: Target,
    /// Seconds.
    pub delay: Option<u64>,
    /// Empty where none is given.
    pub reason: String,
}

impl BulkWish {
    /// The wish as it is carried out, or which field of it can't be taken.
    pub fn checked(self, action: BulkAction) -> Result<Wished, Problem> {
        let reason = checked_reason(self.reason)?;
        if self.delay.is_some() && action != BulkAction::Retry {
            return Err(Problem::invalid("delay", "delay is for retries alone; leave it out"));
        }
        let target = match (self.ids, self.filter, self.count) {
            (Some(_), Some(_), _) => {
                let detail = "ids and filter exclude each other; give one of them";
                return Err(Problem::invalid("filter", detail));
            }
            (None, None, _) => {
                let detail = "ids is missing; give the jobs' ids, or a filter and the count of its matches";
                return Err(Problem::invalid("ids", detail));
            }
            (None, Some(_), None) => {
                let detail = "count is missing; give the total that the list answers for this filter";
                return Err(Problem::invalid("count", detail));
            }
            (None, Some(Matching(filter)), Some(count)) => {
                if count > MATCHES_MAX {
                    return Err(too_many());
                }
                let filter = filter.checked()?;
                Target::Matching { filter, count }
            }
            (Some(ids), None, count) => {
                if !(1..=IDS_MAX).contains(&ids.len()) {
                    let detail = format!("ids has {} ids; allowed are 1 to {IDS_MAX}", ids.len());
                    return Err(Problem::invalid("ids", detail));
                }
                let mut known = HashSet::with_capacity(ids.len());
                let ids: Vec<JobId> = ids.into_iter().filter(|id| known.insert(*id)).collect();
                if let Some(count) = count.filter(|count| *count != ids.len() as u64) {
                    return Err(other_count("ids names", ids.len() as u64, count));
                }
                Target::Ids(ids)
            }
        };
        Ok(Wished {
            target,
            delay: self.delay,
            reason,
        })
    }
}

/// More match than one call may act on.
pub fn too_many() -> Problem {
    let detail =
        format!("the filter matches more than {MATCHES_MAX} jobs, which is what can be acted on in one go: narrow it");
    Problem::invalid("filter", detail)
}

/// The caller saw another number than there is: what they would act on is not what they looked at.
pub fn other_count(what: &str, is: u64, seen: u64) -> Problem {
    let mut problem = Problem::new(
        ProblemCode::CountChanged,
        format!("{what} {is} jobs, not {seen} as count says; nothing was done: look again, and ask with the new count"),
    );
    problem.field = Some("count".into());
    problem
}

/// The jobs that match a filter, as somebody is about to act on them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matched {
    pub total: u64,
    /// There may be more of them: counting stopped.
    pub total_capped: bool,
    /// Those that the action can be done to, all of them counted.
    pub fit: u64,
    /// Their ids, the oldest first, unless they are more than [`IDS_MAX`].
    pub ids: Option<Vec<JobId>>,
}

/// What an action came to for one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct BulkOutcome {
    pub id: Uuid,
    pub done: bool,
    /// What became of the job: `running` is one that was asked to stop. Absent for those that are gone, or were left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Why nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ProblemCode>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl BulkOutcome {
    pub fn done(id: JobId, status: Option<Status>) -> Self {
        Self {
            id,
            done: true,
            status,
            code: None,
            detail: None,
        }
    }

    pub fn refused(id: JobId, problem: Problem) -> Self {
        Self {
            id,
            done: false,
            status: None,
            code: Some(problem.code),
            detail: Some(problem.detail),
        }
    }
}

/// What an action on many jobs came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct BulkDone {
    /// Jobs that were meant.
    pub total: u64,
    /// Those that the action was done to so far.
    pub done: u64,
    /// Those that were left as they are, with the reason in `outcomes`.
    pub refused: u64,
    /// One for each job, in the order in which they were meant; empty when a batch does it.
    pub outcomes: Vec<BulkOutcome>,
    /// The batch that does it, for more than 1,000 jobs: `GET /api/batches/{id}` says how far it is, and the results of its jobs
    /// what was left as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Uuid>,
}

impl BulkDone {
    pub fn of(outcomes: Vec<BulkOutcome>) -> Self {
        let total = outcomes.len() as u64;
        let done = outcomes.iter().filter(|outcome| outcome.done).count() as u64;
        Self {
            total,
            done,
            refused: total - done,
            outcomes,
            batch: None,
        }
    }

    /// Begun, and done by a batch.
    pub fn begun(total: u64, batch: Uuid) -> Self {
        Self {
            total,
            done: 0,
            refused: 0,
            outcomes: Vec::new(),
            batch: Some(batch),
        }
    }
}

/// The args of a job of the kind [`KIND`]: a part of a large bulk action. On whose behalf it acts is the batch's to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BulkPart {
    pub action: BulkAction,
    /// The jobs, as they matched when the action was asked for.
    pub ids: Vec<JobId>,
    /// Retry: seconds to wait before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(value: Value) -> Result<Wished, String> {
        let wish: BulkWish = serde_json::from_value(value).map_err(|e| e.to_string())?;
        wish.checked(BulkAction::Cancel)
            .map_err(|p| p.field.unwrap_or_default())
    }

    #[test]
    fn a_wish_names_jobs_or_what_they_have_in_common() {
        let id = Uuid::from_u128(7);
        let ids = wish(json!({ "ids": [id, id] })).expect("taken");
        assert_eq!(ids.target, Target::Ids(vec![id]));
        let filter = json!({ "status": ["dead", "failed"], "type": "export", "q": null });
        let matching = wish(json!({ "filter": filter, "count": 3 })).expect("taken");
        let Target::Matching { filter, count } = matching.target else {
            panic!("{matching:?}")
        };
        assert_eq!(
            (filter.status.as_slice(), count),
            ([Status::Failed, Status::Dead].as_slice(), 3)
        );
        let words = wish(json!({ "filter": { "status": "canceled, queued" }, "count": 0 })).expect("taken");
        let Target::Matching { filter, .. } = words.target else {
            panic!()
        };
        assert_eq!(filter.status, [Status::Pending, Status::Cancelled]);
    }

    #[test]
    fn what_might_mean_more_than_was_meant_is_refused() {
        let id = Uuid::nil();
        for (field, bad) in [
            ("ids", json!({})),
            ("ids", json!({ "ids": [] })),
            ("count", json!({ "filter": {} })),
            ("filter", json!({ "filter": {}, "ids": [id], "count": 1 })),
            ("count", json!({ "ids": [id], "count": 2 })),
            ("filter", json!({ "filter": {}, "count": MATCHES_MAX + 1 })),
            ("delay", json!({ "ids": [id], "delay": 1 })),
            ("reason", json!({ "ids": [id], "reason": "x".repeat(501) })),
        ] {
            assert_eq!(wish(bad.clone()), Err(field.into()), "{bad}");
        }
        for (word, bad) in [
            ("statuses", json!({ "filter": { "statuses": "dead" }, "count": 1 })),
            ("runing", json!({ "filter": { "status": ["runing"] }, "count": 1 })),
            ("type", json!({ "filter": { "type": ["a"] }, "count": 1 })),
            ("status", json!({ "filter": { "status": [] }, "count": 1 })),
            ("limit", json!({ "filter": { "limit": "1" }, "count": 1 })),
            ("counts", json!({ "filter": {}, "counts": 1 })),
        ] {
            let why = wish(bad).expect_err("refused");
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn a_filter_survives_its_object() {
        let filter = JobFilter {
            q: Some("a&b".into()),
            status: vec![Status::Running, Status::Dead],
            parent: Some(Uuid::max()),
            created_after: Some(super::super::time::from_millis(1_700_000_000_123)),
            ..JobFilter::default()
        };
        let text = serde_json::to_string(&Matching(filter.clone())).expect("json");
        assert_eq!(serde_json::from_str::<Matching>(&text).expect("read"), Matching(filter));
    }

    #[test]
    fn only_statuses_that_fit_are_asked_for() {
        let of = |status: &[Status]| JobFilter {
            status: status.to_vec(),
            ..JobFilter::default()
        };
        let narrowed = |action: BulkAction, status: &[Status]| action.narrowed(&of(status)).map(|filter| filter.status);
        assert_eq!(
            narrowed(BulkAction::Retry, &[]),
            Some(vec![Status::Failed, Status::Dead])
        );
        let some = [Status::Running, Status::Dead];
        assert_eq!(narrowed(BulkAction::Retry, &some), Some(vec![Status::Dead]));
        assert_eq!(narrowed(BulkAction::Cancel, &some), Some(vec![Status::Running]));
        assert_eq!(narrowed(BulkAction::Retry, &[Status::Completed]), None);
    }

    #[test]
    fn actions_fit_where_the_state_machine_lets_them() {
        for status in Status::ALL {
            for action in BulkAction::ALL {
                assert_eq!(action.fits(status), status.actions(true).contains(&action.action()));
            }
        }
    }
}
