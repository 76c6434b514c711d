//! How the list follows the live stream.

use std::collections::HashSet;

use leptos::prelude::*;

use super::{ListState, REORDER_MS, ROW, Row};
use crate::browser;
use crate::domain::filter::{Order, Sort};
use crate::domain::job::{Job, JobId};
use crate::domain::live::LiveEvent;

impl ListState {
    /// Takes what the live stream brings.
    pub fn hear(&self, event: &LiveEvent) {
        let busy = self.loading.get_untracked();
        match event {
            LiveEvent::Jobs(jobs) => {
                if busy {
                    self.meanwhile
                        .update_value(|m| m.jobs.extend(jobs.iter().map(|j| (j.id, j.clone()))));
                }
                if !self.outdated.get_untracked() {
                    self.keeping_place(|| jobs.iter().for_each(|j| self.put(j.clone(), None)));
                }
            }
            LiveEvent::Removed(ids) => {
                if busy {
                    self.meanwhile.update_value(|m| m.removed.extend(ids));
                }
                self.keeping_place(|| self.remove(&ids.iter().copied().collect()));
            }
            LiveEvent::Stale => self.refresh(),
            LiveEvent::Overview(_) => {}
        }
    }

    /// `before` showed the job until it was taken out of the list, a moment ago.
    pub(super) fn put(&self, job: Job, before: Option<Row>) {
        let place = self
            .rows
            .with_untracked(|rows| rows.iter().position(|r| r.id == job.id));
        let (matches, sort, order) = self.filter.with_value(|f| (f.matches(&job), f.sort, f.order));
        match (place, matches) {
            (Some(at), true) => {
                let changed = self
                    .rows
                    .with_untracked(|rows| rows.get(at).is_some_and(|r| patch(r, job)));
                if changed && sort != Sort::CreatedAt {
                    self.reorder_soon();
                }
            }
            (Some(at), false) => {
                let newer = self
                    .rows
                    .with_untracked(|rows| rows.get(at).is_some_and(|r| newer(r, &job)));
                if newer {
                    self.rows.update(|rows| drop(rows.remove(at)));
                    self.total.update(|(n, _)| *n = n.saturating_sub(1));
                }
            }
            (None, true) if sort == Sort::CreatedAt => self.insert(Row::of(job, before), order),
            (None, true) => self.reorder_soon(),
            (None, false) => {}
        }
    }

    /// Puts a row where it belongs in the order of creation, unless that is beyond what is loaded.
    fn insert(&self, row: Row, order: Order) {
        let key = row.key();
        let at = self.rows.with_untracked(|rows| {
            rows.partition_point(|r| match order {
                Order::Desc => r.key() > key,
                Order::Asc => r.key() < key,
            })
        });
        let end = self.rows.with_untracked(Vec::len);
        if at == end && self.cursor.with_untracked(Option::is_some) {
            return;
        }
        self.rows.update(|rows| rows.insert(at, row));
        self.total.update(|(n, capped)| *n += u64::from(!*capped));
    }

    pub(super) fn remove(&self, ids: &HashSet<JobId>) {
        let before = self.rows.with_untracked(Vec::len);
        if self
            .rows
            .with_untracked(|rows| rows.iter().any(|r| ids.contains(&r.id)))
        {
            self.rows.update(|rows| rows.retain(|r| !ids.contains(&r.id)));
        }
        let gone = before - self.rows.with_untracked(Vec::len);
        if gone > 0 {
            self.total.update(|(n, _)| *n = n.saturating_sub(gone as u64));
        }
    }

    fn reorder_soon(&self) {
        let state = *self;
        if self.reorder.with_value(Option::is_some) {
            return;
        }
        let timer = browser::after(REORDER_MS, move || {
            state.reorder.set_value(None);
            state.refresh();
        });
        self.reorder.set_value(Some(timer));
    }

    /// Changes the rows so that those in view stay where they are, unless the list is scrolled to its top.
    pub(super) fn keeping_place(&self, change: impl FnOnce()) {
        let (first, rest) = self.window.anchor();
        let anchored = first > 0 || rest > 0.0;
        let seen: Vec<JobId> = if anchored {
            self.rows
                .with_untracked(|rows| rows.iter().skip(first).take(20).map(|r| r.id).collect())
        } else {
            Vec::new()
        };
        change();
        // The first row in view that is still there keeps its place.
        let place = self.rows.with_untracked(|rows| {
            seen.iter()
                .enumerate()
                .find_map(|(n, id)| Some((n, rows.iter().position(|r| r.id == *id)?)))
        });
        if let Some((n, at)) = place
            && at != first + n
        {
            let top = (at as f64 - n as f64) * ROW + rest;
            self.window.scroll_to(top.max(0.0));
        }
    }
}

fn newer(row: &Row, job: &Job) -> bool {
    row.job.with_untracked(|old| job.rev > old.rev)
}

/// Takes over a newer copy; whether it was one.
pub(super) fn patch(row: &Row, job: Job) -> bool {
    let newer = newer(row, &job);
    if newer {
        row.job.set(job);
    }
    newer
}
