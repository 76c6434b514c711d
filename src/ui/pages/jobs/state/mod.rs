//! What the list shows: the loaded rows, kept true by the live stream.

mod follow;

use std::collections::{HashMap, HashSet};

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::browser::Timer;
use crate::domain::error::Problem;
use crate::domain::filter::JobFilter;
use crate::domain::job::{Job, JobId};
use crate::domain::page::{LIMIT_MAX, Page, PageRequest};
use crate::domain::stats::{Counts, Overview};
use crate::rpc;
use crate::ui::components::virtual_list::Window;
use crate::ui::signed::lead_to_sign_in;
use follow::patch;

/// Rows asked for at a time.
pub const PAGE: u32 = 50;
/// Height of a row in pixels; `--row` in the style sheet.
pub const ROW: f64 = 56.0;
/// Height that the list is taken to have before it is measured.
const HEIGHT: f64 = 900.0;
/// Lists in another order than that of creation are fetched again at most this often.
const REORDER_MS: u32 = 2_000;

/// One row: a job that changes in place.
#[derive(Clone)]
pub struct Row {
    pub id: JobId,
    pub job: ArcRwSignal<Job>,
}

impl Row {
    fn new(job: Job) -> Self {
        Self {
            id: job.id,
            job: ArcRwSignal::new(job),
        }
    }

    /// Shows `job`: by the row that showed it before, if there is one.
    fn of(job: Job, before: Option<Self>) -> Self {
        let Some(row) = before else {
            return Self::new(job);
        };
        patch(&row, job);
        row
    }

    fn key(&self) -> (crate::domain::time::Timestamp, JobId) {
        (self.job.with_untracked(|j| j.created_at), self.id)
    }
}

/// What happened while an answer was on its way, to be applied to it.
#[derive(Default)]
struct Meanwhile {
    jobs: HashMap<JobId, Job>,
    removed: HashSet<JobId>,
}

/// The list. Made by the page, filled by [`ListState::begin`].
#[derive(Clone, Copy)]
pub struct ListState {
    pub rows: RwSignal<Vec<Row>>,
    /// Matches, and whether there are more than that; see [`ListState::count`].
    total: RwSignal<(u64, bool)>,
    /// Jobs that the search passed over.
    pub unsearched: RwSignal<u64>,
    pub problem: RwSignal<Option<Problem>>,
    /// Anything is being fetched.
    pub loading: RwSignal<bool>,
    /// Rows of another filter are shown until the new ones are there.
    pub outdated: RwSignal<bool>,
    pub window: Window,
    filter: StoredValue<JobFilter>,
    /// An answer has come.
    loaded: StoredValue<bool>,
    cursor: RwSignal<Option<String>>,
    /// Raised by each request; an answer to an older one is thrown away.
    generation: StoredValue<u32>,
    meanwhile: StoredValue<Meanwhile>,
    reorder: StoredValue<Option<Timer>>,
}

impl ListState {
    /// For the jobs that `filter` asks for; nothing is loaded yet.
    pub fn new(filter: JobFilter) -> Self {
        Self {
            rows: RwSignal::new(Vec::new()),
            total: RwSignal::new((0, false)),
            unsearched: RwSignal::new(0),
            problem: RwSignal::new(None),
            loading: RwSignal::new(false),
            outdated: RwSignal::new(false),
            window: Window::new(ROW, HEIGHT),
            filter: StoredValue::new(filter),
            loaded: StoredValue::new(false),
            cursor: RwSignal::new(None),
            generation: StoredValue::new(0),
            meanwhile: StoredValue::new(Meanwhile::default()),
            reorder: StoredValue::new(None),
        }
    }

    /// Takes the page's first answer, unless a later one was faster.
    pub fn begin(&self, answer: Result<Page<Job>, Problem>) {
        if self.loaded.get_value() || self.outdated.get_untracked() {
            return;
        }
        match answer {
            Ok(page) => self.replace(page),
            Err(problem) => self.problem.set(Some(problem)),
        }
    }

    /// How many jobs match, and whether there are more than that. From the live counts where they suffice.
    pub fn count(&self, filter: &JobFilter, overview: Option<&Overview>) -> (u64, bool) {
        overview
            .and_then(|o| counted(filter, &o.counts))
            .map_or_else(|| self.total.get(), |n| (n, false))
    }

    pub fn has_more(&self) -> bool {
        self.cursor.with(Option::is_some)
    }

    /// Lists other jobs, from the top. The old rows stay until the new ones are there.
    pub fn show(&self, filter: JobFilter) {
        if self.filter.with_value(|f| *f == filter) {
            return;
        }
        self.filter.set_value(filter);
        self.outdated.set(true);
        self.fetch(PAGE, true);
    }

    /// Fetches again what is loaded; place and selection stay.
    pub fn refresh(&self) {
        let loaded = u32::try_from(self.rows.with_untracked(Vec::len)).unwrap_or(LIMIT_MAX);
        self.fetch(loaded.clamp(PAGE, LIMIT_MAX), self.outdated.get_untracked());
    }

    fn fetch(&self, limit: u32, to_top: bool) {
        let state = *self;
        let generation = self.next_generation();
        let filter = self.filter.get_value();
        self.loading.set(true);
        spawn_local(async move {
            let answer = rpc::list_jobs(
                filter,
                PageRequest {
                    limit: Some(limit),
                    ..PageRequest::default()
                },
            )
            .await
            .inspect_err(lead_to_sign_in);
            if state.generation.try_get_value() != Some(generation) {
                return;
            }
            match answer {
                Ok(page) if to_top => {
                    state.replace(page);
                    state.window.scroll_to(0.0);
                }
                Ok(page) => state.keeping_place(|| state.replace(page)),
                Err(problem) => state.problem.set(Some(problem)),
            }
            state.outdated.set(false);
            state.loading.set(false);
        });
    }

    /// Fetches the next part, if there is one and nothing is on its way.
    pub fn more(&self) {
        let Some(cursor) = self.cursor.get_untracked().filter(|_| !self.loading.get_untracked()) else {
            return;
        };
        let state = *self;
        let generation = self.next_generation();
        let filter = self.filter.get_value();
        self.loading.set(true);
        spawn_local(async move {
            let request = PageRequest {
                limit: Some(PAGE * 2),
                cursor: Some(cursor),
                ..PageRequest::default()
            };
            let answer = rpc::list_jobs(filter, request).await.inspect_err(lead_to_sign_in);
            if state.generation.try_get_value() != Some(generation) {
                return;
            }
            match answer {
                Ok(page) => state.append(page),
                Err(problem) => state.problem.set(Some(problem)),
            }
            state.loading.set(false);
        });
    }

    fn next_generation(&self) -> u32 {
        self.meanwhile.set_value(Meanwhile::default());
        self.generation.update_value(|g| *g = g.wrapping_add(1));
        self.generation.get_value()
    }

    fn replace(&self, page: Page<Job>) {
        let mut known: HashMap<JobId, Row> = self
            .rows
            .with_untracked(|rows| rows.iter().map(|r| (r.id, r.clone())).collect());
        let rows = page.items.into_iter().map(|job| {
            let row = known.remove(&job.id);
            Row::of(job, row)
        });
        self.rows.set(rows.collect());
        self.unsearched.set(page.unsearched);
        self.arrived(page.total, page.total_capped, page.next_cursor, known);
    }

    fn append(&self, page: Page<Job>) {
        self.rows.update(|rows| {
            let known: HashSet<JobId> = rows.iter().map(|r| r.id).collect();
            rows.extend(page.items.into_iter().filter(|j| !known.contains(&j.id)).map(Row::new));
        });
        self.arrived(page.total, page.total_capped, page.next_cursor, HashMap::new());
    }

    /// Takes what comes with the rows, and what the stream said about them on their way. `left` are rows that the answer is too old
    /// to have: what is shown of a job goes by its row, so one that comes back has to be the same.
    fn arrived(&self, total: u64, capped: bool, cursor: Option<String>, mut left: HashMap<JobId, Row>) {
        self.loaded.set_value(true);
        self.total.set((total, capped));
        self.cursor.set(cursor);
        self.problem.set(None);
        let meanwhile = self.meanwhile.try_update_value(std::mem::take).unwrap_or_default();
        for job in meanwhile.jobs.into_values() {
            let row = left.remove(&job.id);
            self.put(job, row);
        }
        self.remove(&meanwhile.removed);
    }

    /// The place of a job among the loaded rows; untracked.
    pub fn position(&self, id: JobId) -> Option<usize> {
        self.rows.with_untracked(|rows| rows.iter().position(|r| r.id == id))
    }
}

/// Matches by the counts that the live stream keeps, for filters that these can answer.
fn counted(filter: &JobFilter, counts: &Counts) -> Option<u64> {
    if !filter.counted() {
        return None;
    }
    let by_status = match (&filter.kind, &filter.queue) {
        (None, None) => Some(&counts.by_status),
        (Some(kind), None) => counts.by_type.get(kind),
        (None, Some(queue)) => counts.by_queue.get(queue),
        (Some(_), Some(_)) => return None,
    };
    let Some(by_status) = by_status else {
        return Some(0);
    };
    if filter.status.is_empty() {
        return Some(by_status.values().sum());
    }
    Some(filter.status.iter().filter_map(|s| by_status.get(s.as_str())).sum())
}

#[cfg(test)]
mod tests;
