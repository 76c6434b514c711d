//! The address of the Jobs page: filter, order and selection live there and nowhere else.

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate};

use super::live::Live;
use super::text;
use crate::domain::error::Problem;
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::job::JobId;
use crate::domain::time::{Timestamp, from_millis};

/// When jobs were created. All but the custom span move on with the clock, so they are kept by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    #[default]
    All,
    Hour,
    Today,
    Week,
    Custom,
}

impl Span {
    pub const ALL: [Self; 5] = [Self::All, Self::Hour, Self::Today, Self::Week, Self::Custom];

    /// Its name in the address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Hour => "hour",
            Self::Today => "today",
            Self::Week => "week",
            Self::Custom => "custom",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::All => text::ALL_TIME,
            Self::Hour => "Last hour",
            Self::Today => "Today (UTC)",
            Self::Week => "Last 7 days",
            Self::Custom => "Custom…",
        }
    }

    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|s| s.as_str() == name).unwrap_or_default()
    }

    /// The span's beginning, on a full minute so that it stays the same for a while.
    fn begin(self, now: Timestamp) -> Option<Timestamp> {
        let ms = now.timestamp_millis();
        let floor = |ms: i64, unit: i64| from_millis(ms - ms.rem_euclid(unit));
        match self {
            Self::All | Self::Custom => None,
            Self::Hour => Some(floor(ms - 3_600_000, 60_000)),
            Self::Today => Some(floor(ms, 86_400_000)),
            Self::Week => Some(floor(ms - 7 * 86_400_000, 60_000)),
        }
    }
}

/// What the address asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsQuery {
    /// With the span's times filled in.
    pub filter: JobFilter,
    pub span: Span,
    /// What in the address can't be understood; the filter is then empty.
    pub problem: Option<Problem>,
}

impl JobsQuery {
    /// Reads a query string, with or without its question mark.
    pub fn parse(search: &str, now: Timestamp) -> Self {
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_str(search.trim_start_matches('?')).unwrap_or_default();
        match JobFilter::from_pairs(pairs.iter().map(|(a, b)| (a.as_str(), b.as_str()))) {
            Err(problem) => Self {
                problem: Some(problem),
                ..Self::default()
            },
            Ok((mut filter, rest)) => {
                let named = rest
                    .iter()
                    .rev()
                    .find(|(name, _)| *name == "range")
                    .map(|(_, value)| Span::parse(value));
                let custom = filter.created_after.is_some() || filter.created_before.is_some();
                let span = named.unwrap_or(if custom { Span::Custom } else { Span::All });
                if span != Span::Custom {
                    filter.created_after = span.begin(now);
                    filter.created_before = None;
                }
                Self {
                    filter,
                    span,
                    problem: None,
                }
            }
        }
    }

    /// The query string, without a question mark; empty when there is nothing to say.
    pub fn to_query(&self) -> String {
        let mut filter = self.filter.clone();
        if self.span != Span::Custom {
            filter.created_after = None;
            filter.created_before = None;
        }
        let mut pairs = filter.pairs();
        if self.span != Span::All {
            pairs.push(("range", self.span.as_str().into()));
        }
        serde_urlencoded::to_string(pairs).unwrap_or_default()
    }

    /// Whether anything narrows the list.
    pub fn is_active(&self) -> bool {
        self.filter.is_active() || self.span != Span::All || self.problem.is_some()
    }

    /// The same order, and nothing that narrows the list.
    pub fn cleared(&self) -> Self {
        let JobFilter { sort, order, .. } = self.filter;
        Self {
            filter: JobFilter {
                sort,
                order,
                ..JobFilter::default()
            },
            ..Self::default()
        }
    }
}

/// How a change of the address goes into the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Back leads to the state before.
    New,
    /// Not worth an entry of its own: somebody is typing.
    Replaced,
}

/// The address of the Jobs page. Provided by the page.
#[derive(Clone, Copy)]
pub struct JobsUrl {
    base: &'static str,
    search: Memo<String>,
    path: Memo<String>,
    /// What it asks for.
    pub query: Memo<JobsQuery>,
    go: Callback<(String, Entry)>,
}

impl JobsUrl {
    /// For the page at `base`; to be called within the router.
    pub fn provide(base: &'static str) -> Self {
        let live = Live::expect();
        let location = use_location();
        let (search, path) = (location.search, location.pathname);
        let navigate = use_navigate();
        let go = Callback::new(move |(url, entry): (String, Entry)| {
            let replace = entry == Entry::Replaced;
            navigate(
                &url,
                NavigateOptions {
                    resolve: false,
                    replace,
                    scroll: false,
                    ..Default::default()
                },
            );
        });
        let query = Memo::new(move |_| search.with(|s| JobsQuery::parse(s, live.now.get_untracked())));
        let url = Self {
            base,
            search,
            path,
            query,
            go,
        };
        provide_context(url);
        url
    }

    /// The page's.
    pub fn expect() -> Self {
        use_context().unwrap_or_else(|| Self::provide("/jobs"))
    }

    /// The selected job.
    pub fn selected(&self) -> Option<JobId> {
        self.path
            .with(|p| p.strip_prefix(self.base)?.trim_matches('/').parse().ok())
    }

    /// Whether a job is selected, or what is taken for one.
    pub fn has_selection(&self) -> bool {
        self.path.with(|p| {
            p.strip_prefix(self.base)
                .is_some_and(|r| !r.trim_matches('/').is_empty())
        })
    }

    /// The address of a job, with the list as it is now beside it; of the list alone without one.
    pub fn href(&self, id: Option<JobId>) -> String {
        let path = id.map_or_else(|| self.base.to_string(), |id| format!("{}/{id}", self.base));
        self.search.with(|s| with_query(path, s))
    }

    /// Asks for something else. A change of what is listed clears the selection, a change of the order doesn't.
    pub fn change(&self, entry: Entry, f: impl FnOnce(&mut JobsQuery)) {
        let mut next = self.query.get_untracked();
        let before = next.clone();
        f(&mut next);
        if next == before {
            return;
        }
        let reordered = JobsQuery {
            filter: JobFilter {
                sort: next.filter.sort,
                order: next.filter.order,
                ..before.filter.clone()
            },
            ..before
        } == next;
        let path = if reordered {
            self.path.get_untracked()
        } else {
            self.base.to_string()
        };
        self.go.run((with_query(path, &next.to_query()), entry));
    }

    pub fn clear(&self) {
        self.change(Entry::New, |q| *q = q.cleared());
    }

    pub fn set_order(&self, sort: Sort, order: Order) {
        self.change(Entry::New, |q| {
            q.filter.sort = sort;
            q.filter.order = order;
        });
    }
}

fn with_query(path: String, query: &str) -> String {
    match query.trim_start_matches('?') {
        "" => path,
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::Status;

    fn now() -> Timestamp {
        from_millis(1_800_000_012_345)
    }

    #[test]
    fn a_query_survives_its_string() {
        let query = JobsQuery::parse("?q=a%26b&status=failed,dead&range=week&sort=progress&order=asc", now());
        assert_eq!(query.filter.q.as_deref(), Some("a&b"));
        assert_eq!(query.filter.status, [Status::Failed, Status::Dead]);
        assert_eq!(query.span, Span::Week);
        assert_eq!(JobsQuery::parse(&query.to_query(), now()), query);
    }

    #[test]
    fn named_spans_move_with_the_clock_and_custom_ones_stay() {
        let hour = JobsQuery::parse("range=hour", now());
        assert_eq!(hour.filter.created_after, Some(from_millis(1_799_996_400_000)));
        assert_eq!(hour.to_query(), "range=hour");
        let custom = JobsQuery::parse("created_after=2026-03-01T00:00:00Z", now());
        assert_eq!(custom.span, Span::Custom);
        assert_eq!(JobsQuery::parse(&custom.to_query(), now()), custom);
    }

    #[test]
    fn clearing_keeps_the_order() {
        let query = JobsQuery::parse("q=x&sort=status&range=today", now());
        assert!(query.is_active());
        let cleared = query.cleared();
        assert!(!cleared.is_active());
        assert_eq!(cleared.to_query(), "sort=status");
        assert!(JobsQuery::parse("status=nonsense", now()).problem.is_some());
    }
}
