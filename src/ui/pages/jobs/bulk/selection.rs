//! Which jobs are selected for an action on many.

use std::collections::HashSet;

use leptos::prelude::*;

use crate::domain::bulk::BulkAction;
use crate::domain::filter::JobFilter;
use crate::domain::job::JobId;
use crate::domain::status::Status;
use crate::ui::pages::jobs::state::ListState;

/// The selection. Made by the page; the rows and the bar share it.
#[derive(Clone, Copy)]
pub struct Selection {
    list: ListState,
    picked: RwSignal<HashSet<JobId>>,
    /// All that match, loaded or not.
    all_matching: RwSignal<bool>,
    /// The row that was picked last: where a range begins.
    last: StoredValue<Option<JobId>>,
    /// What the person may do to many jobs; nothing: there is nothing to select for.
    allowed: RwSignal<Vec<BulkAction>>,
}

impl Selection {
    /// An empty one over `list`, provided to all components below the caller.
    pub fn provide(list: ListState) -> Self {
        let selection = Self {
            list,
            picked: RwSignal::default(),
            all_matching: RwSignal::new(false),
            last: StoredValue::new(None),
            allowed: RwSignal::default(),
        };
        provide_context(selection);
        selection
    }

    pub fn expect() -> Self {
        use_context().unwrap_or_else(|| Self::provide(ListState::new(JobFilter::default())))
    }

    pub fn allow(&self, actions: Vec<BulkAction>) {
        self.allowed.set(actions);
    }

    pub fn allowed(&self) -> Vec<BulkAction> {
        self.allowed.get()
    }

    pub fn is_offered(&self) -> bool {
        self.allowed.with(|actions| !actions.is_empty())
    }

    /// Whether this row's box is ticked.
    pub fn has(&self, id: &JobId) -> bool {
        self.all_matching.get() || self.picked.with(|picked| picked.contains(id))
    }

    pub fn all_matching(&self) -> bool {
        self.all_matching.get()
    }

    /// [`Selection::all_matching`], also when the page may be gone by now.
    pub fn still_all_matching(&self) -> bool {
        self.all_matching.try_get_untracked() == Some(true)
    }

    /// The selected rows that are still in the list, and how those jobs stand.
    pub fn jobs(&self) -> Vec<(JobId, Status)> {
        let all = self.all_matching.get();
        self.picked.with(|picked| {
            self.list.rows.with(|rows| {
                let chosen = rows.iter().filter(|row| all || picked.contains(&row.id));
                chosen.map(|row| (row.id, row.job.with(|job| job.status))).collect()
            })
        })
    }

    /// Whether any of them stands so.
    pub fn any(&self, fits: impl Fn(Status) -> bool) -> bool {
        let all = self.all_matching.get();
        self.picked.with(|picked| {
            self.list.rows.with(|rows| {
                let mut chosen = rows.iter().filter(|row| all || picked.contains(&row.id));
                chosen.any(|row| row.job.with(|job| fits(job.status)))
            })
        })
    }

    /// How many rows are selected, of those that are loaded.
    pub fn count(&self) -> usize {
        if self.all_matching.get() {
            return self.list.rows.with(Vec::len);
        }
        self.picked.with(|picked| match picked.is_empty() {
            true => 0,
            false => self
                .list
                .rows
                .with(|rows| rows.iter().filter(|row| picked.contains(&row.id)).count()),
        })
    }

    /// Ticks or clears a row's box; with `range`, all from the one that was picked last up to it.
    pub fn toggle(&self, id: JobId, range: bool) {
        if self.list.position(id).is_none() {
            return;
        }
        let on = !untrack(|| self.has(&id));
        let from = self
            .last
            .get_value()
            .filter(|_| range)
            .and_then(|last| self.list.position(last));
        let ids: Vec<JobId> = match (from, self.list.position(id)) {
            (Some(from), Some(to)) => {
                let (low, high) = (from.min(to), from.max(to));
                self.list
                    .rows
                    .with_untracked(|rows| rows.iter().take(high + 1).skip(low).map(|row| row.id).collect())
            }
            _ => vec![id],
        };
        self.settle_on_rows();
        self.picked.update(|picked| {
            for id in ids {
                if on {
                    picked.insert(id);
                } else {
                    picked.remove(&id);
                }
            }
        });
        self.last.set_value(Some(id));
    }

    /// All that match becomes all that are loaded: a box is about to be cleared.
    fn settle_on_rows(&self) {
        if self.all_matching.get_untracked() {
            self.pick_loaded();
        }
    }

    /// Selects what is loaded.
    pub fn pick_loaded(&self) {
        let ids = self
            .list
            .rows
            .with_untracked(|rows| rows.iter().map(|row| row.id).collect());
        self.picked.set(ids);
        self.all_matching.set(false);
    }

    pub fn pick_all_matching(&self) {
        self.all_matching.set(true);
    }

    /// Lets go of all; also when the page is going.
    pub fn clear(&self) {
        self.last.try_update_value(|last| *last = None);
        if self.all_matching.try_get_untracked() == Some(true) {
            self.all_matching.try_set(false);
        }
        if self.picked.try_with_untracked(|picked| !picked.is_empty()) == Some(true) {
            self.picked.try_update(HashSet::clear);
        }
    }
}
