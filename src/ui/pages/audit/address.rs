//! The address of the page: the filter lives there and nowhere else.

use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate};

use crate::domain::audit::AuditFilter;
use crate::domain::error::Problem;
use crate::ui::query::Entry;

/// What the address asks for, or why that can't be understood.
pub type Asked = Result<AuditFilter, Problem>;

/// Reads a query string, with or without its question mark.
pub fn parse(search: &str) -> Asked {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(search.trim_start_matches('?')).unwrap_or_default();
    AuditFilter::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())))
}

/// `path` with the filter as its query string.
pub fn href(path: &str, filter: &AuditFilter) -> String {
    match serde_urlencoded::to_string(filter.pairs()) {
        Ok(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.into(),
    }
}

/// `path` with the filter and the format of a file.
pub fn export_href(path: &str, filter: &AuditFilter, format: &str) -> String {
    let whole = href(path, filter);
    let with = if whole.contains('?') { '&' } else { '?' };
    format!("{whole}{with}format={format}")
}

/// The filter in the address.
pub fn asked() -> Memo<Asked> {
    let search = use_location().search;
    Memo::new(move |_| search.with(|s| parse(s)))
}

/// Reads and changes the address.
#[derive(Clone, Copy)]
pub struct AuditUrl {
    pub asked: Memo<Asked>,
    go: Callback<(String, Entry)>,
    path: Memo<String>,
}

impl AuditUrl {
    pub fn new(asked: Memo<Asked>) -> Self {
        let navigate = use_navigate();
        let go = Callback::new(move |(url, entry): (String, Entry)| {
            let options = NavigateOptions {
                resolve: false,
                replace: entry == Entry::Replaced,
                scroll: false,
                ..Default::default()
            };
            navigate(&url, options);
        });
        let path = use_location().pathname;
        Self { asked, go, path }
    }

    /// The filter; empty when the address can't be understood.
    pub fn filter(self) -> AuditFilter {
        self.asked.get().unwrap_or_default()
    }

    /// A part of the filter, as its control shows it.
    pub fn part(self, part: fn(&AuditFilter) -> Option<String>) -> Signal<String> {
        Signal::derive(move || self.asked.with(|a| a.as_ref().ok().and_then(part).unwrap_or_default()))
    }

    /// Asks for something else.
    pub fn change(self, entry: Entry, f: impl FnOnce(&mut AuditFilter)) {
        let before = self.asked.get_untracked();
        let mut next = before.clone().unwrap_or_default();
        f(&mut next);
        if before.as_ref() != Ok(&next) {
            self.go.run((href(&self.path.get_untracked(), &next), entry));
        }
    }

    pub fn clear(self) {
        self.change(Entry::New, |filter| *filter = AuditFilter::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_survives_the_address() {
        let asked = parse("?actor=ada%40example.org&action=job.cancel&x=1").expect("understood");
        let address = href("/audit-log", &asked);
        assert_eq!(address, "/audit-log?actor=ada%40example.org&action=job.cancel");
        assert_eq!(parse(address.split_once('?').expect("query").1), Ok(asked));
        assert_eq!(href("/audit-log", &AuditFilter::default()), "/audit-log");
        assert!(parse("since=yesterday").is_err());
        assert_eq!(export_href("/x", &AuditFilter::default(), "csv"), "/x?format=csv");
        let asked = parse("action=job.cancel").expect("understood");
        assert_eq!(export_href("/x", &asked, "csv"), "/x?action=job.cancel&format=csv");
    }
}
