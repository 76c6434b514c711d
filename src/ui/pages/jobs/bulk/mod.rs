//! Actions on many jobs: boxes in the rows, a bar above them, a question, and the progress of what takes longer.

mod progress;
mod question;
mod selection;

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use uuid::Uuid;

use super::reason::ReasonField;
use super::state::ListState;
use crate::domain::bulk::{BulkAction, BulkDone, BulkWish, Matching};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::facets::Facets;
use crate::domain::filter::JobFilter;
use crate::domain::page::{COUNT_CAP, count_label};
use crate::domain::status::Status;
use crate::rpc;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::toast::Toaster;
use crate::ui::components::{ConfirmDialog, Icon};
use crate::ui::query::JobsUrl;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;
use progress::BatchDialog;
use question::{Count, question};
pub use selection::Selection;

/// The box that selects what is loaded, and lets go of it.
#[component]
pub fn SelectAll(list: ListState) -> impl IntoView {
    let selection = Selection::expect();
    let loaded = Memo::new(move |_| list.rows.with(Vec::len));
    let selected = Memo::new(move |_| selection.count());
    let all = move || loaded.get() > 0 && selected.get() == loaded.get();
    let some = move || selected.get() > 0 && !all();
    view! {
        <label class="pick">
            <input
                type="checkbox"
                aria-label="Select all"
                title="Select all"
                disabled=move || loaded.get() == 0
                prop:checked=all
                prop:indeterminate=some
                on:change=move |ev| match event_target_checked(&ev) {
                    true => selection.pick_loaded(),
                    false => selection.clear(),
                }
            />
        </label>
    }
}

/// The selected jobs and what can be done to them.
#[component]
pub fn BulkBar(
    list: ListState,
    /// Jobs that match.
    count: Signal<(u64, bool)>,
) -> impl IntoView {
    let selection = Selection::expect();
    let url = JobsUrl::expect();
    let toaster = Toaster::expect();
    let ask = RwSignal::new(None::<Ask>);
    let busy = RwSignal::new(None::<BulkAction>);
    let batch = RwSignal::new(None::<Uuid>);
    let reason = RwSignal::new(String::new());
    // Another filter means other jobs. The order does not.
    Effect::new(move |before: Option<JobFilter>| {
        let filter = url.query.with(|q| JobFilter {
            sort: Default::default(),
            order: Default::default(),
            ..q.filter.clone()
        });
        if before.is_some_and(|before| before != filter) {
            selection.clear();
        }
        filter
    });
    let chosen = Memo::new(move |_| selection.count());
    let more = Memo::new(move |_| {
        let (n, capped) = count.get();
        let loaded = list.rows.with(Vec::len) as u64;
        (chosen.get() as u64 == loaded && (n > loaded || capped))
            .then(|| count_label(n, capped, "", "").trim().to_string())
    });

    let send = move |action: BulkAction, wish: BulkWish| {
        busy.set(Some(action));
        spawn_local(async move {
            let answer = rpc::act_on_many(action, wish).await.inspect_err(lead_to_sign_in);
            busy.try_set(None);
            match answer {
                Ok(done) => {
                    selection.clear();
                    tell(toaster, action, &done);
                    batch.try_set(done.batch);
                }
                Err(problem) => {
                    toaster.error(&problem);
                    if problem.code == ProblemCode::CountChanged {
                        list.refresh();
                    }
                }
            }
        });
    };
    let put = move |action: BulkAction, fit: Count, selected: Count, wish: BulkWish| {
        reason.set(String::new());
        ask.set(Some(Ask {
            more: Some(Arc::new(move || {
                view! { <ReasonField id="bulk-reason" reason=reason /> }.into_any()
            })),
            then: Arc::new(move || {
                let reason = Some(reason.get_untracked()).filter(|reason| !reason.is_empty());
                send(action, BulkWish { reason, ..wish.clone() });
                Answered::Yes
            }),
            ..question(action, fit, selected)
        }));
    };
    let choose = Callback::new(move |action: BulkAction| {
        if !untrack(|| selection.all_matching()) {
            let jobs = untrack(|| selection.jobs());
            let ids: Vec<Uuid> = jobs.iter().filter(|j| action.fits(j.status)).map(|j| j.id).collect();
            let (fit, selected) = (Count::exactly(ids.len()), Count::exactly(jobs.len()));
            let wish = BulkWish {
                ids: Some(ids),
                ..BulkWish::default()
            };
            put(action, fit, selected, wish);
            return;
        }
        let filter = url.query.with_untracked(|q| q.filter.clone());
        busy.set(Some(action));
        spawn_local(async move {
            // As many as there are at this moment: the list's own number may be older than the last change.
            let found = rpc::facets(filter.clone()).await.inspect_err(lead_to_sign_in);
            let narrowed = fitting(action, &filter);
            let fitting = match &narrowed {
                Some(narrowed) => rpc::facets(narrowed.clone()).await.inspect_err(lead_to_sign_in),
                None => Ok(Facets::default()),
            };
            busy.try_set(None);
            match (found, fitting, narrowed) {
                (Ok(found), Ok(fitting), Some(filter)) if in_all(&fitting).n > 0 => {
                    let fit = in_all(&fitting);
                    let wish = BulkWish {
                        filter: Some(Matching(filter)),
                        count: Some(fit.n),
                        ..BulkWish::default()
                    };
                    put(action, fit, in_all(&found), wish);
                }
                (Ok(_), Ok(_), _) => toaster.error(&none_fits(action)),
                (Err(problem), ..) | (_, Err(problem), _) => toaster.error(&problem),
            }
        });
    });

    let bar = move || {
        (chosen.get() > 0).then(|| {
            let words = move || match selection.all_matching() {
                true => {
                    let (n, capped) = count.get();
                    format!("All {} selected", count_label(n, capped, "", "").trim())
                }
                false => format!("{} selected", chosen.get()),
            };
            let buttons = move || {
                let allowed = selection.allowed();
                allowed
                    .into_iter()
                    .map(|action| view! { <BulkButton action busy choose /> })
                    .collect_view()
            };
            view! {
                <div class="bulk-bar" role="group" aria-label="Selected jobs">
                    <span class="bulk-count" role="status">
                        {words}
                    </span>
                    <span class="bulk-actions">{buttons}</span>
                    <button
                        type="button"
                        class="btn ghost icon small"
                        aria-label="Clear selection"
                        title="Clear selection"
                        on:click=move |_| selection.clear()
                    >
                        <Icon icon=icondata_lu::LuX />
                    </button>
                </div>
            }
        })
    };
    view! {
        {bar}
        {move || {
            let n = more.get().filter(|_| chosen.get() > 0)?;
            let all = selection.all_matching();
            Some(
                view! {
                    <div class="bulk-more">
                        {if all {
                            view! { <span>{format!("All {n} matching are selected.")}</span> }.into_any()
                        } else {
                            view! {
                                <span>{format!("The {} loaded are selected.", chosen.get())}</span>
                                <button type="button" class="btn ghost small" on:click=move |_| selection.pick_all_matching()>
                                    {format!("Select all {n} matching")}
                                </button>
                            }
                                .into_any()
                        }}
                    </div>
                },
            )
        }}
        <ConfirmDialog id="confirm-bulk" ask />
        <BatchDialog batch />
    }
}

#[component]
fn BulkButton(action: BulkAction, busy: RwSignal<Option<BulkAction>>, choose: Callback<BulkAction>) -> impl IntoView {
    let selection = Selection::expect();
    let (class, icon) = match action {
        BulkAction::Retry => ("blue", icondata_lu::LuRotateCcw),
        BulkAction::Cancel => ("amber", icondata_lu::LuBan),
        BulkAction::Delete => ("delete", icondata_lu::LuTrash2),
    };
    // Whether there is any that it can be done to; of those that are not loaded, nobody knows yet.
    let fits =
        Memo::new(move |_| selection.all_matching() || selection.jobs().iter().any(|job| action.fits(job.status)));
    view! {
        <button
            type="button"
            class=format!("btn small {class}")
            disabled=move || busy.get().is_some() || !fits.get()
            title=move || (!fits.get()).then(|| none_fits(action).detail)
            aria-busy=move || (busy.get() == Some(action)).then_some("true")
            on:click=move |_| choose.run(action)
        >
            <Icon icon=icon />
            <span class="bulk-label">{action.label()}</span>
        </button>
    }
}

/// The filter for those of its matches that the action can be done to; none: there can be none.
fn fitting(action: BulkAction, filter: &JobFilter) -> Option<JobFilter> {
    let wanted = |status: &Status| filter.status.is_empty() || filter.status.contains(status);
    let status: Vec<Status> = Status::ALL
        .into_iter()
        .filter(|status| wanted(status) && action.fits(*status))
        .collect();
    (!status.is_empty()).then(|| JobFilter {
        status,
        ..filter.clone()
    })
}

/// How many jobs these are in all, as far as they were counted.
fn in_all(facets: &Facets) -> Count {
    let n = facets.in_statuses(|_| true);
    Count {
        n: if facets.capped { n.min(COUNT_CAP) } else { n },
        capped: facets.capped,
    }
}

fn none_fits(action: BulkAction) -> Problem {
    let why = match action {
        BulkAction::Retry => "None of the selected jobs is failed or dead.",
        BulkAction::Cancel => "All of the selected jobs have ended.",
        BulkAction::Delete => "The selected jobs run, or are about to be retried: cancel them first.",
    };
    Problem::new(ProblemCode::WrongStatus, why)
}

/// Tells what came of it. What a batch does is told by its own dialog.
fn tell(toaster: Toaster, action: BulkAction, done: &BulkDone) {
    if done.batch.is_some() {
        return;
    }
    let jobs = |n: u64| count_label(n, false, text::JOB.0, text::JOB.1);
    if done.done > 0 {
        let were = if done.done == 1 { "was" } else { "were" };
        let what = match action {
            BulkAction::Retry => "put back in the queue",
            BulkAction::Cancel => "asked to stop",
            BulkAction::Delete => "deleted",
        };
        toaster.ok(format!("{} {were} {what}", jobs(done.done)));
    }
    if let Some(refused) = done.outcomes.iter().find(|outcome| !outcome.done) {
        let why = refused.detail.clone().unwrap_or_default();
        let code = refused.code.unwrap_or(ProblemCode::WrongStatus);
        let mut problem = Problem::new(code, why);
        problem.title = match done.refused {
            1 => "1 job stays as it is".into(),
            n => format!("{} stay as they are; the first of them", jobs(n)),
        };
        toaster.error(&problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_statuses_that_fit_are_asked_for() {
        let all = JobFilter::default();
        let retry = fitting(BulkAction::Retry, &all).expect("some");
        assert_eq!(retry.status, [Status::Failed, Status::Dead]);
        let running = JobFilter {
            status: vec![Status::Running, Status::Dead],
            ..JobFilter::default()
        };
        assert_eq!(
            fitting(BulkAction::Retry, &running).expect("some").status,
            [Status::Dead]
        );
        assert_eq!(
            fitting(BulkAction::Cancel, &running).expect("some").status,
            [Status::Running]
        );
        let done = JobFilter {
            status: vec![Status::Completed],
            ..JobFilter::default()
        };
        assert_eq!(fitting(BulkAction::Retry, &done), None);
    }
}
