//! Which jobs: the one filter that the list, the live stream, the URL and the API share.

use serde::{Deserialize, Serialize};

use uuid::Uuid;

use super::error::{Problem, is_fingerprint};
use super::job::{Job, JobId};
use super::status::Status;
use super::time::Timestamp;

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    #[default]
    CreatedAt,
    StartedAt,
    CompletedAt,
    Progress,
    JobType,
    Status,
}

impl Sort {
    pub const ALL: [Self; 6] = [
        Self::CreatedAt,
        Self::StartedAt,
        Self::CompletedAt,
        Self::Progress,
        Self::JobType,
        Self::Status,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::StartedAt => "started_at",
            Self::CompletedAt => "completed_at",
            Self::Progress => "progress",
            Self::JobType => "job_type",
            Self::Status => "status",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::CreatedAt => "Created",
            Self::StartedAt => "Started",
            Self::CompletedAt => "Completed",
            Self::Progress => "Progress",
            Self::JobType => "Type",
            Self::Status => "Status",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Order {
    Asc,
    #[default]
    Desc,
}

impl Order {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

/// Longest search text, in characters.
pub const QUERY_MAX: usize = 200;

/// Bytes of a name that is filtered by: no kind, queue or person has a longer one.
pub const NAME_MAX: usize = 300;

/// A name that is filtered by, trimmed; none where nothing is left of it. Not every database takes a zero character.
pub(super) fn name(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match trimmed(field, text)? {
        Some(text) if text.len() > NAME_MAX => Err(Problem::invalid(
            field,
            format!("{field} is longer than {NAME_MAX} bytes"),
        )),
        text => Ok(text),
    }
}

fn trimmed(field: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    let text = text.map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    match text.as_ref().is_some_and(|text| text.contains('\0')) {
        true => Err(Problem::invalid(field, format!("{field} has a zero character"))),
        false => Ok(text),
    }
}

/// The names of a filter's parameters, in query strings and wherever else callers write one.
pub const FIELDS: [&str; 12] = [
    "q",
    "status",
    "type",
    "queue",
    "owner",
    "parent",
    "batch",
    "error",
    "created_after",
    "created_before",
    "sort",
    "order",
];

/// Query parameters.
pub type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// Which jobs, in which order. An empty filter means all, newest first. [`JobFilter::pairs`] and
/// [`JobFilter::from_pairs`] are its form in a query string, the same in the browser's address and in the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobFilter {
    /// Text to find in type, message, id, owner or error.
    #[serde(default)]
    pub q: Option<String>,
    /// Any of these; empty means every status.
    #[serde(default)]
    pub status: Vec<Status>,
    /// The kind's name; `type` in query strings.
    #[serde(default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub queue: Option<String>,
    #[serde(default)]
    pub owner: Option<String>,
    /// Children of this job.
    #[serde(default)]
    pub parent: Option<JobId>,
    /// Jobs of this batch.
    #[serde(default)]
    pub batch: Option<Uuid>,
    /// Jobs whose error has this fingerprint.
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub created_after: Option<Timestamp>,
    #[serde(default)]
    pub created_before: Option<Timestamp>,
    #[serde(default)]
    pub sort: Sort,
    #[serde(default)]
    pub order: Order,
}

impl JobFilter {
    /// Reads query parameters. Those that are not the filter's are left to the caller (`limit`, `cursor`, …) and
    /// returned; a value that can't be taken is a [`Problem`] that names the parameter, the value and what is allowed.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(Self, Pairs<'a>), Problem> {
        let mut filter = Self::default();
        let mut rest = Vec::new();
        for (name, value) in pairs {
            let text = || Some(value.trim().to_string()).filter(|v| !v.is_empty());
            if value.contains('\0') {
                return Err(Problem::invalid(name, format!("{name} has a zero character")));
            }
            match name {
                "q" => filter.q = text(),
                "status" => {
                    for part in value.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                        if part.eq_ignore_ascii_case("all") {
                            continue;
                        }
                        let status = Status::parse(part).ok_or_else(|| {
                            Problem::invalid("status", choices("status", part, Status::ALL.map(Status::as_str)))
                        })?;
                        filter.status.push(status);
                    }
                }
                "type" => filter.kind = text().filter(|t| !t.eq_ignore_ascii_case("all")),
                "queue" => filter.queue = text(),
                "owner" => filter.owner = text(),
                "parent" | "batch" => {
                    let id = text().map(|id| {
                        id.parse()
                            .map_err(|_| Problem::invalid(name, format!("{name} \"{id}\" is not an id (a UUID)")))
                    });
                    match name {
                        "parent" => filter.parent = id.transpose()?,
                        _ => filter.batch = id.transpose()?,
                    }
                }
                "error" => filter.error = text(),
                "created_after" => filter.created_after = time(name, value)?,
                "created_before" => filter.created_before = time(name, value)?,
                "sort" => {
                    filter.sort = match text() {
                        None => Sort::default(),
                        Some(s) => Sort::parse(&s).ok_or_else(|| {
                            Problem::invalid("sort", choices("sort", &s, Sort::ALL.map(Sort::as_str)))
                        })?,
                    };
                }
                "order" => {
                    filter.order = match value.trim() {
                        "asc" => Order::Asc,
                        "desc" | "" => Order::Desc,
                        other => return Err(Problem::invalid("order", choices("order", other, ["asc", "desc"]))),
                    };
                }
                _ => rest.push((name, value)),
            }
        }
        Ok((filter.checked()?, rest))
    }

    /// The filter in the form that the store is asked in, whichever way it came here: each status once and in their order, no
    /// empty texts. Or a [`Problem`] that names the parameter which can't be taken.
    pub fn checked(self) -> Result<Self, Problem> {
        let q = trimmed("q", self.q)?;
        if q.as_ref().is_some_and(|q| q.chars().count() > QUERY_MAX) {
            let detail = format!("q is longer than {QUERY_MAX} characters");
            return Err(Problem::invalid("q", detail));
        }
        let mut status = self.status;
        status.sort_unstable();
        status.dedup();
        let error = name("error", self.error)?;
        if let Some(print) = error.as_ref().filter(|print| !is_fingerprint(print)) {
            let detail = format!("error \"{print}\" is not an error's fingerprint, as GET /api/errors gives it");
            return Err(Problem::invalid("error", detail));
        }
        for (field, time) in [
            ("created_after", self.created_after),
            ("created_before", self.created_before),
        ] {
            // RFC 3339 can't write any other year.
            if let Some(time) = time.filter(|time| !(0..=9_999).contains(&chrono::Datelike::year(time))) {
                let detail = format!("{field} \"{time}\" does not lie in the years 0 to 9999");
                return Err(Problem::invalid(field, detail));
            }
        }
        if let (Some(after), Some(before)) = (self.created_after, self.created_before)
            && after > before
        {
            return Err(Problem::invalid(
                "created_after",
                "created_after is later than created_before: nothing can match",
            ));
        }
        Ok(Self {
            q,
            status,
            kind: name("type", self.kind)?,
            queue: name("queue", self.queue)?,
            owner: name("owner", self.owner)?,
            error,
            ..self
        })
    }

    /// The filter as query parameters, defaults left out.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self {
            q,
            status,
            kind,
            queue,
            owner,
            parent,
            batch,
            error,
            created_after,
            created_before,
            sort,
            order,
        } = self;
        let mut pairs = Vec::new();
        let mut text = |name, value: &Option<String>| {
            if let Some(v) = value {
                pairs.push((name, v.clone()));
            }
        };
        text("q", q);
        if !status.is_empty() {
            let names: Vec<_> = status.iter().map(|s| s.as_str()).collect();
            text("status", &Some(names.join(",")));
        }
        text("type", kind);
        text("queue", queue);
        text("owner", owner);
        text("parent", &parent.map(|p| p.to_string()));
        text("batch", &batch.map(|b| b.to_string()));
        text("error", error);
        text("created_after", &created_after.map(|t| rfc3339(&t)));
        text("created_before", &created_before.map(|t| rfc3339(&t)));
        if *sort != Sort::default() {
            text("sort", &Some(sort.as_str().into()));
        }
        if *order != Order::default() {
            text("order", &Some(order.as_str().into()));
        }
        pairs
    }

    /// `?`-less query string of [`JobFilter::pairs`].
    pub fn to_query(&self) -> String {
        serde_urlencoded::to_string(self.pairs()).unwrap_or_default()
    }

    /// Whether anything narrows the list (the order does not).
    pub fn is_active(&self) -> bool {
        *self
            != Self {
                sort: self.sort,
                order: self.order,
                ..Self::default()
            }
    }

    /// Whether the counts per status, kind and queue suffice to count the matches.
    pub fn counted(&self) -> bool {
        let Self {
            q,
            status: _,
            kind: _,
            queue: _,
            owner,
            parent,
            batch,
            error,
            created_after,
            created_before,
            sort: _,
            order: _,
        } = self;
        q.is_none()
            && owner.is_none()
            && parent.is_none()
            && batch.is_none()
            && error.is_none()
            && created_after.is_none()
            && created_before.is_none()
    }

    /// Whether an index of its own finds what matches, or a search: the cells of statuses and kinds are no help then.
    pub fn elsewhere(&self) -> bool {
        self.q.is_some()
            || self.owner.is_some()
            || self.parent.is_some()
            || self.batch.is_some()
            || self.error.is_some()
    }

    /// Whether a job belongs to the list: the same answer as the database's, worked out in the browser for the jobs
    /// that the live stream brings. (A parent is not known there; such lists are refetched.)
    pub fn matches(&self, job: &Job) -> bool {
        let Self {
            q,
            status,
            kind,
            queue,
            owner,
            parent,
            batch,
            error,
            created_after,
            created_before,
            sort: _,
            order: _,
        } = self;
        let is = |want: &Option<String>, have: &str| want.as_deref().is_none_or(|w| w == have);
        parent.is_none()
            && (status.is_empty() || status.contains(&job.status))
            && is(kind, &job.kind)
            && is(queue, &job.queue)
            && is(owner, &job.owner)
            && batch.is_none_or(|b| job.batch == Some(b))
            && error
                .as_ref()
                .is_none_or(|print| job.fingerprint.as_ref() == Some(print))
            && created_after.is_none_or(|t| job.created_at >= t)
            && created_before.is_none_or(|t| job.created_at < t)
            && q.as_deref()
                .is_none_or(|q| search_text(job).contains(&q.to_lowercase()))
    }
}

/// The text that a search looks through, in lower case.
pub fn search_text(job: &Job) -> String {
    let mut text = format!("{} {} {} {}", job.kind, job.id, job.owner, job.message);
    if let Some(code) = job.error_code {
        text.push(' ');
        text.push_str(code.as_str());
    }
    if let Some(error) = &job.error {
        text.push(' ');
        text.push_str(error);
    }
    text.to_lowercase()
}

/// RFC 3339 in UTC with milliseconds when there are any.
pub fn rfc3339(t: &Timestamp) -> String {
    t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

fn time(name: &str, value: &str) -> Result<Option<Timestamp>, Problem> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(None);
    }
    // A "+" of an offset arrives as a space when a client forgot to encode it.
    match chrono::DateTime::parse_from_rfc3339(&value.replace(' ', "+")) {
        Ok(time) => Ok(Some(time.to_utc())),
        Err(_) => Err(Problem::invalid(
            name,
            format!("{name} \"{value}\" is not a time; write RFC 3339, like 2026-03-01T14:05:00Z"),
        )),
    }
}

/// "status "x" is not known; allowed: a, b, c".
pub fn choices<const N: usize>(name: &str, value: &str, allowed: [&str; N]) -> String {
    let mut value = value.to_string();
    super::error::truncate(&mut value, 80);
    format!("{name} \"{value}\" is not known; allowed: {}", allowed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_its_query_string() {
        let filter = JobFilter {
            q: Some("a&b=ü".into()),
            status: vec![Status::Running, Status::Dead],
            kind: Some("export".into()),
            queue: Some("default".into()),
            owner: Some("admin".into()),
            parent: Some(uuid::Uuid::nil()),
            batch: Some(uuid::Uuid::max()),
            error: Some("0123456789abcdef".into()),
            created_after: Some(super::super::time::from_millis(1_700_000_000_123)),
            created_before: Some(super::super::time::from_millis(1_800_000_000_000)),
            sort: Sort::Progress,
            order: Order::Asc,
        };
        let query = filter.to_query();
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&query).expect("query");
        let (back, rest) = JobFilter::from_pairs(pairs.iter().map(|(a, b)| (a.as_str(), b.as_str()))).expect("filter");
        assert_eq!(back, filter);
        assert!(rest.is_empty());
        assert_eq!(filter.pairs().iter().map(|(name, _)| *name).collect::<Vec<_>>(), FIELDS);
        assert!(filter.is_active() && !filter.counted());
    }

    #[test]
    fn words_of_other_systems_are_understood() {
        let (f, rest) =
            JobFilter::from_pairs([("status", "queued,Processing,dead_letter,canceled"), ("limit", "5")]).expect("ok");
        assert_eq!(
            f.status,
            [Status::Pending, Status::Running, Status::Dead, Status::Cancelled]
        );
        assert_eq!(rest, [("limit", "5")]);
        assert!(
            !JobFilter::from_pairs([("status", "all"), ("type", "All")])
                .expect("ok")
                .0
                .is_active()
        );
    }

    #[test]
    fn what_did_not_come_as_a_query_string_is_checked_alike() {
        let many = JobFilter {
            status: [Status::Dead, Status::Running].repeat(50_000),
            q: Some("  ".into()),
            kind: Some(" export ".into()),
            ..JobFilter::default()
        };
        let checked = many.checked().expect("taken");
        assert_eq!(checked.status, [Status::Running, Status::Dead]);
        assert_eq!((checked.q.as_deref(), checked.kind.as_deref()), (None, Some("export")));
        assert_eq!(checked.clone().checked(), Ok(checked));
        let of = |field: &str, text: String| {
            let text = Some(text);
            let filter = JobFilter::default();
            match field {
                "q" => JobFilter { q: text, ..filter },
                "type" => JobFilter { kind: text, ..filter },
                "queue" => JobFilter { queue: text, ..filter },
                "owner" => JobFilter { owner: text, ..filter },
                _ => JobFilter { error: text, ..filter },
            }
        };
        for field in ["q", "type", "queue", "owner", "error"] {
            for bad in ["a\0b".to_string(), "x".repeat(NAME_MAX + 1)] {
                let problem = of(field, bad).checked().expect_err("refused");
                assert_eq!(problem.field.as_deref(), Some(field), "{problem}");
            }
        }
        let late = JobFilter {
            created_after: Some(Timestamp::MAX_UTC),
            ..JobFilter::default()
        };
        let problem = late.checked().expect_err("refused");
        assert_eq!(problem.field.as_deref(), Some("created_after"));
    }

    #[test]
    fn a_bad_value_names_the_field_the_value_and_what_is_allowed() {
        let p = JobFilter::from_pairs([("status", "runing")]).expect_err("refused");
        assert_eq!(p.field.as_deref(), Some("status"));
        assert!(p.detail.contains("\"runing\"") && p.detail.contains("retrying"), "{p}");
        for (name, value) in [
            ("sort", "size"),
            ("order", "up"),
            ("created_after", "yesterday"),
            ("parent", "7"),
        ] {
            let p = JobFilter::from_pairs([(name, value)]).expect_err("refused");
            assert_eq!(p.field.as_deref(), Some(name));
        }
    }
}
