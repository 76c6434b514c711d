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
use crate::browser;
use crate::domain::bulk::{BulkAction, BulkDone, BulkWish, Matching};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::page::count_label;
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

/// Where the focus goes when the bar that had it is gone.
const SELECT_ALL: &str = ".list-head .pick input";

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

/// What is asked before an action, and what is sent when the person agrees.
struct Prepared {
    fit: Count,
    selected: Count,
    wish: BulkWish,
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
    // Another filter means other jobs; another order does not, nor does a span that moves on with the clock.
    let asked_for = Memo::new(move |_| {
        url.query.with(|q| {
            let mut q = q.clone();
            (q.filter.sort, q.filter.order) = Default::default();
            q.to_query()
        })
    });
    Effect::new(move |before: Option<String>| {
        let now = asked_for.get();
        if before.is_some_and(|before| before != now) {
            selection.clear();
        }
        now
    });
    // With the bar gone nobody would see what is selected, nor what becomes of it.
    on_cleanup(move || selection.clear());
    let chosen = Memo::new(move |_| selection.count());
    let number = move || {
        let (n, capped) = count.get();
        count_label(n, capped, "", "").trim().to_string()
    };
    // Whether all that is loaded is selected, and there is more.
    let more = Memo::new(move |_| {
        let (n, capped) = count.get();
        let loaded = list.rows.with(Vec::len) as u64;
        chosen.get() > 0 && chosen.get() as u64 == loaded && (n > loaded || capped)
    });

    let send = move |action: BulkAction, wish: BulkWish| {
        busy.set(Some(action));
        spawn_local(async move {
            let answer = rpc::act_on_many(action, wish).await.inspect_err(lead_to_sign_in);
            match &answer {
                Ok(done) => tell(toaster, action, done),
                Err(problem) => toaster.error(problem),
            }
            // The page may have been left meanwhile: what belongs to it is gone then.
            if busy.try_set(None).is_some() {
                return;
            }
            match answer {
                Ok(done) => {
                    // Whoever went on to something else meanwhile stays there.
                    let here = browser::focus_is_in(".bulk-bar");
                    selection.clear();
                    batch.set(done.batch);
                    if here {
                        browser::focus_selector(SELECT_ALL);
                    }
                }
                Err(problem) if problem.code == ProblemCode::CountChanged => list.refresh(),
                Err(_) => {}
            }
        });
    };
    let put = move |action: BulkAction, prepared: Prepared| {
        let Prepared { fit, selected, wish } = prepared;
        if fit.n == 0 {
            toaster.error(&none_fits(action));
            return;
        }
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
        if busy.get_untracked().is_some() {
            return;
        }
        if !untrack(|| selection.all_matching()) {
            let jobs = untrack(|| selection.jobs());
            let ids: Vec<Uuid> = jobs
                .iter()
                .filter(|(_, s)| action.fits(*s))
                .map(|(id, _)| *id)
                .collect();
            let (fit, selected) = (Count::exactly(ids.len()), Count::exactly(jobs.len()));
            let wish = BulkWish {
                ids: Some(ids),
                ..BulkWish::default()
            };
            put(action, Prepared { fit, selected, wish });
            return;
        }
        let (filter, shown) = (
            url.query.with_untracked(|q| q.filter.clone()),
            asked_for.get_untracked(),
        );
        busy.set(Some(action));
        spawn_local(async move {
            let matched = rpc::matched(action, filter.clone()).await.inspect_err(lead_to_sign_in);
            let still = asked_for.try_get_untracked() == Some(shown) && untrack(|| selection.still_all_matching());
            if busy.try_set(None).is_some() {
                return;
            }
            match matched {
                Err(problem) => toaster.error(&problem),
                // Meanwhile the person looks at something else.
                Ok(_) if !still => {}
                Ok(matched) => {
                    let fit = Count {
                        n: matched.fit,
                        capped: false,
                    };
                    let selected = Count {
                        n: matched.total,
                        capped: matched.total_capped,
                    };
                    // What was asked about is what is done, whatever comes to match until the answer.
                    let wish = match matched.ids {
                        Some(ids) => BulkWish {
                            ids: Some(ids),
                            ..BulkWish::default()
                        },
                        None => BulkWish {
                            filter: action.narrowed(&filter).map(Matching),
                            count: Some(matched.fit),
                            ..BulkWish::default()
                        },
                    };
                    put(action, Prepared { fit, selected, wish });
                }
            }
        });
    });

    let words = move || match (chosen.get(), selection.all_matching()) {
        (0, _) => String::new(),
        (_, true) => format!("{} selected", number()),
        (n, false) => format!("{n} selected"),
    };
    let bar = move || {
        let buttons = move || {
            let allowed = selection.allowed();
            allowed
                .into_iter()
                .map(|action| view! { <BulkButton action busy choose /> })
                .collect_view()
        };
        view! {
            <div class="bulk-bar" role="group" aria-label="Selected jobs">
                <span class="bulk-count" aria-hidden="true">
                    {words}
                </span>
                <span class="bulk-actions">{buttons}</span>
                <button
                    type="button"
                    class="btn ghost icon small"
                    aria-label="Clear selection"
                    title="Clear selection"
                    on:click=move |_| {
                        selection.clear();
                        browser::focus_selector(SELECT_ALL);
                    }
                >
                    <Icon icon=icondata_lu::LuX />
                </button>
            </div>
        }
    };
    let open = Memo::new(move |_| chosen.get() > 0);
    // Read out when the selection changes, not whenever the number of those that match does.
    let said = Memo::new(move |_| {
        let _ = (chosen.get(), selection.all_matching());
        untrack(words)
    });
    view! {
        <span class="visually-hidden" role="status">
            {said}
        </span>
        {move || open.get().then(bar)}
        {move || {
            more.get()
                .then(|| match selection.all_matching() {
                    true => {
                        view! { <div class="bulk-more">{move || format!("All {} matching are selected.", number())}</div> }
                            .into_any()
                    }
                    false => {
                        view! {
                            <div class="bulk-more">
                                <span>{move || format!("The {} loaded are selected.", chosen.get())}</span>
                                <button
                                    type="button"
                                    class="btn ghost small"
                                    on:click=move |_| {
                                        selection.pick_all_matching();
                                        browser::focus_selector(SELECT_ALL);
                                    }
                                >
                                    {move || format!("Select all {} matching", number())}
                                </button>
                            </div>
                        }
                            .into_any()
                    }
                })
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
    let fits = Memo::new(move |_| selection.all_matching() || selection.any(|status| action.fits(status)));
    view! {
        // Not disabled while something goes on: the focus would be lost, and could not return to it from the question.
        <button
            type="button"
            class=format!("btn small {class}")
            disabled=move || !fits.get()
            title=move || (!fits.get()).then(|| none_fits(action).detail)
            aria-disabled=move || busy.get().is_some().then_some("true")
            aria-busy=move || (busy.get() == Some(action)).then_some("true")
            on:click=move |_| choose.run(action)
        >
            <Icon icon=icon />
            <span class="bulk-label">{action.label()}</span>
        </button>
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

/// Tells what came of it. How a batch fares, its own dialog tells.
fn tell(toaster: Toaster, action: BulkAction, done: &BulkDone) {
    let jobs = |n: u64| count_label(n, false, text::JOB.0, text::JOB.1);
    if done.batch.is_some() {
        toaster.ok(format!("{} {}: begun", action.label(), jobs(done.total)));
        return;
    }
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
