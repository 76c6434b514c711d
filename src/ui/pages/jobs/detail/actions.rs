//! What a person can do with the job, and the questions that are asked first.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;

use super::job_title;
use super::retry::{Retry, RetryOptions};
use super::selected::Selected;
use crate::domain::job::ActOptions;
use crate::domain::page::count_label;
use crate::domain::status::Action;
use crate::rpc::act;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::toast::Toaster;
use crate::ui::components::{ConfirmDialog, Icon};
use crate::ui::pages::jobs::JobsBase;
use crate::ui::pages::jobs::reason::ReasonField;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;

#[component]
pub fn Actions(selected: Selected) -> impl IntoView {
    let asked = RwSignal::new(None::<Ask>);
    let reason = RwSignal::new(String::new());
    let busy = RwSignal::new(None::<Action>);
    let perform = performer(selected, busy);
    let retry = Retry::new(selected, asked);
    let available = Memo::new(move |_| {
        let status = selected.job.with(|j| j.status);
        // The fetched actions may be those of an earlier status for as long as a fetch takes.
        let fits = status.actions(true);
        selected.detail.with(|d| {
            d.actions
                .iter()
                .copied()
                .filter(|a| fits.contains(a))
                .collect::<Vec<_>>()
        })
    });
    let name = selected.job.with_untracked(|j| job_title(&j.kind, &j.id));
    let choose = Callback::new(move |action: Action| match question(action, &name) {
        Some(question) if action == Action::Retry => {
            retry.begin();
            asked.set(Some(Ask {
                more: Some(Arc::new(move || view! { <RetryOptions retry=retry /> }.into_any())),
                then: Arc::new(move || retry.agree()),
                ..question
            }));
        }
        Some(question) => {
            reason.set(String::new());
            asked.set(Some(Ask {
                more: Some(Arc::new(move || {
                    view! { <ReasonField id="action-reason" reason=reason /> }.into_any()
                })),
                then: Arc::new(move || {
                    perform.try_run((action, reason.get_untracked()));
                    Answered::Yes
                }),
                ..question
            }));
        }
        None => perform.run((action, String::new())),
    });
    view! {
        <div class="actions" role="group" aria-label="Actions">
            <For each=move || available.get() key=|a| *a let:action>
                <ActionButton action=action selected=selected busy=busy choose=choose />
            </For>
        </div>
        <ConfirmDialog id="confirm-action" ask=asked />
    }
}

#[component]
fn ActionButton(
    action: Action,
    selected: Selected,
    busy: RwSignal<Option<Action>>,
    choose: Callback<Action>,
) -> impl IntoView {
    let (class, icon) = look(action);
    // What was asked for and has not come about yet.
    let asked_already = move || {
        selected.job.with(|j| match action {
            Action::Cancel if j.cancel_requested => Some("Cancelling…"),
            Action::Pause if j.pause_requested => Some("Pausing…"),
            _ => None,
        })
    };
    view! {
        <button
            type="button"
            class=format!("btn {class}")
            disabled=move || busy.get().is_some() || asked_already().is_some()
            aria-busy=move || (busy.get() == Some(action)).then_some("true")
            on:click=move |_| choose.run(action)
        >
            <Icon icon=icon />
            {move || asked_already().unwrap_or(action.label())}
        </button>
    }
}

fn look(action: Action) -> (&'static str, icondata_core::Icon) {
    match action {
        Action::RunNow => ("", icondata_lu::LuZap),
        Action::Pause => ("", icondata_lu::LuPause),
        Action::Resume => ("", icondata_lu::LuPlay),
        Action::Cancel => ("amber", icondata_lu::LuBan),
        Action::Abort => ("danger", icondata_lu::LuOctagonX),
        Action::Retry => ("blue", icondata_lu::LuRotateCcw),
        Action::RunAgain => ("", icondata_lu::LuRepeat),
        Action::Delete => ("delete", icondata_lu::LuTrash2),
    }
}

/// What is asked before `action` is done to the job called `name`; `None` for what can be undone or does no harm.
fn question(action: Action, name: &str) -> Option<Ask> {
    let one_job = count_label(1, false, text::JOB.0, text::JOB.1);
    let (title, text, warning, confirm, keep, tone) = match action {
        Action::Cancel => (
            format!("Cancel {name}?"),
            "The job completes its current operation first and then stops. A job that has not started is cancelled at once.",
            None,
            "Cancel job".to_string(),
            "Keep job",
            "amber",
        ),
        Action::Abort => (
            format!("Abort {name}?"),
            "The job is ended at once, in the middle of what it does.",
            Some("work may be left half done, and data may be inconsistent. Cancel is the safe way to stop a job."),
            "Abort job".to_string(),
            "Keep running",
            "danger",
        ),
        Action::Retry => (
            format!("Retry {one_job}?"),
            "It goes back to its queue with fresh attempts.",
            None,
            format!("Retry {one_job}"),
            "Not now",
            "blue",
        ),
        Action::Delete => (
            format!("Delete {name}?"),
            "Its record, its log and its files are removed for good. This cannot be undone.",
            None,
            "Delete job".to_string(),
            "Keep job",
            "danger",
        ),
        Action::RunNow | Action::Pause | Action::Resume | Action::RunAgain => return None,
    };
    Some(Ask {
        title,
        text: text.into(),
        warning: warning.map(Into::into),
        confirm,
        keep: keep.into(),
        tone,
        more: None,
        then: Arc::new(|| Answered::Yes),
    })
}

/// Does an action, for a reason that may be empty, and tells how it went.
fn performer(selected: Selected, busy: RwSignal<Option<Action>>) -> Callback<(Action, String)> {
    let toaster = Toaster::expect();
    let base = JobsBase::expect();
    let navigate = StoredValue::new(use_navigate());
    Callback::new(move |(action, reason): (Action, String)| {
        if busy.get_untracked().is_some() {
            return;
        }
        // The live stream may tell of the deletion before the answer comes; what this component keeps is gone by then.
        let Some(navigate) = navigate.try_get_value() else {
            return;
        };
        let go = move |href: String| {
            let options = NavigateOptions {
                resolve: false,
                scroll: false,
                ..Default::default()
            };
            navigate(&href, options);
        };
        busy.set(Some(action));
        let options = ActOptions {
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            ..ActOptions::default()
        };
        spawn_local(async move {
            let answer = act(selected.id, action, options).await.inspect_err(lead_to_sign_in);
            busy.try_set(None);
            match answer {
                Err(problem) => {
                    toaster.error(&problem);
                    selected.refetch();
                }
                Ok(job) => {
                    toaster.ok(done(action));
                    match action {
                        Action::Delete => go(base.list_href_untracked()),
                        Action::RunAgain => go(base.job_href_untracked(&job.id)),
                        _ => {
                            selected.take(job);
                            selected.refetch();
                        }
                    }
                }
            }
        });
    })
}

pub(super) fn done(action: Action) -> &'static str {
    match action {
        Action::RunNow => "The job goes to the front of its queue",
        Action::Pause => "The job pauses",
        Action::Resume => "The job goes on",
        Action::Cancel => "The job was asked to stop",
        Action::Abort => "The job was aborted",
        Action::Retry => "The job was put back in its queue",
        Action::RunAgain => "A copy of the job was enqueued",
        Action::Delete => "The job was deleted",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_harm_is_asked_first_and_says_what_the_harm_is() {
        let all = |a| {
            question(a, "Export #a1b2c3").map(|q| format!("{} {} {}", q.title, q.text, q.warning.unwrap_or_default()))
        };
        assert!(all(Action::Cancel).is_some_and(|t| t.contains("completes its current operation first")));
        assert!(all(Action::Abort).is_some_and(|t| t.contains("inconsistent")));
        assert!(all(Action::Delete).is_some_and(|t| t.contains("cannot be undone")));
        assert!(all(Action::Retry).is_some_and(|t| t.contains("1 job")));
        for free in [Action::RunNow, Action::Pause, Action::Resume, Action::RunAgain] {
            assert!(all(free).is_none(), "{free:?}");
        }
    }
}
