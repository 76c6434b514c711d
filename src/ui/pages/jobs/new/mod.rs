//! The dialog that starts a job: a form made from the kind's schema.

mod answer;
mod field;
mod form;
mod options;
mod schema;
mod values;

use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos::web_sys::SubmitEvent;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;

use crate::browser;
use crate::domain::error::Problem;
use crate::domain::job::JobId;
use crate::domain::kind::KindInfo;
use crate::rpc::kinds;
use crate::ui::components::Icon;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::toast::Toaster;
use crate::ui::pages::jobs::JobsBase;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;
use form::{Form, GENERAL};
use options::{MoreOptions, Sent};

type Kinds = RwSignal<Option<Result<Vec<KindInfo>, Problem>>>;

/// Whether the dialog is open; provided by the page, so that other buttons can open it.
#[derive(Clone, Copy)]
pub struct NewJobOpen(pub RwSignal<bool>);

/// The button "New job" and its dialog.
#[component]
pub fn NewJobButton() -> impl IntoView {
    let open = use_context().map_or_else(|| RwSignal::new(false), |NewJobOpen(open)| open);
    let known: Kinds = RwSignal::new(None);
    Effect::new(|_| {
        browser::next_frame(|| {
            lazy_preload!(new_job_form);
        });
    });
    view! {
        <button type="button" class="btn primary" aria-haspopup="dialog" on:click=move |_| open.set(true)>
            <Icon icon=icondata_lu::LuPlus />
            <span class="btn-label">"New job"</span>
        </button>
        <Dialog id="new-job" title="New job" open=open class="new-job">
            <Suspense fallback=|| ()>{move || Suspend::new(new_job_form(open, known))}</Suspense>
        </Dialog>
    }
}

/// The form in a part of its own, which the browser fetches when the page has come alive.
#[lazy]
fn new_job_form(open: RwSignal<bool>, known: Kinds) -> AnyView {
    view! { <NewJobForm open=open known=known /> }.into_any()
}

/// The form, from when the dialog opens until it closes.
#[component]
fn NewJobForm(open: RwSignal<bool>, known: Kinds) -> impl IntoView {
    let form = Form::new(starter(open));
    let load = move || {
        spawn_local(async move {
            let answer = kinds().await.inspect_err(lead_to_sign_in);
            if let Ok([first, ..]) = answer.as_deref()
                && form.kind.try_get_untracked() == Some(None)
            {
                form.choose(first.clone());
            }
            known.try_set(Some(answer));
        });
    };
    match known.get_untracked() {
        Some(Ok(list)) => {
            if let Some(first) = list.first() {
                form.choose(first.clone());
            }
        }
        _ => load(),
    }
    let submit = move |ev: SubmitEvent| {
        ev.prevent_default();
        form.submit();
    };
    view! {
        <form class="new-job-form" novalidate on:submit=submit>
            <div class="dialog-body">
                <KindChoice form=form known=known />
                {move || {
                    let problem = known.with(|k| k.as_ref().and_then(|k| k.as_ref().err().cloned()))?;
                    Some(
                        view! {
                            <p class="form-error" role="alert">
                                {problem.detail}
                                <button type="button" class="btn small" on:click=move |_| load()>
                                    {text::TRY_AGAIN}
                                </button>
                            </p>
                        },
                    )
                }}
                <ArgsFields form=form />
                <MoreOptions form=form />
            </div>
            {move || {
                form.errors
                    .with(|e| e.get(GENERAL).cloned())
                    .map(|why| view! { <p class="form-error" role="alert">{why}</p> })
            }}
            <Sent form=form />
            <footer class="dialog-actions">
                <button type="button" class="btn" on:click=move |_| open.set(false)>
                    "Cancel"
                </button>
                <button
                    type="submit"
                    class="btn primary"
                    disabled=move || form.busy.get() || form.kind.with(Option::is_none)
                    aria-busy=move || form.busy.get().then_some("true")
                >
                    "Start job"
                </button>
            </footer>
        </form>
    }
}

/// What happens once the job is there: the dialog closes and the job is shown.
fn starter(open: RwSignal<bool>) -> Callback<JobId> {
    let toaster = Toaster::expect();
    let base = JobsBase::expect();
    let navigate = StoredValue::new(use_navigate());
    Callback::new(move |id| {
        toaster.ok("The job was enqueued");
        let options = NavigateOptions {
            resolve: false,
            scroll: false,
            ..Default::default()
        };
        navigate.try_with_value(|navigate| navigate(&base.job_href_untracked(&id), options));
        open.try_set(false);
    })
}

#[component]
fn KindChoice(form: Form, known: Kinds) -> impl IntoView {
    let list = move || {
        known
            .with(|k| k.as_ref().and_then(|k| k.as_ref().ok().cloned()))
            .unwrap_or_default()
    };
    let choose = move |name: String| {
        if let Some(kind) = untrack(list).into_iter().find(|k| k.name == name) {
            form.choose(kind);
        }
    };
    // The form may come after the dialog has opened; before that, focusing does nothing and the dialog sees to it.
    let node = NodeRef::<html::Select>::new();
    Effect::new(move |_| {
        if let Some(select) = node.get() {
            request_animation_frame(move || {
                let _ = select.focus();
            });
        }
    });
    let about = move || form.kind.with(|k| k.as_ref().map(|k| k.description.clone()));
    view! {
        <div class="field">
            <label for="new-job-type">"Job type"</label>
            <select
                id="new-job-type"
                node_ref=node
                data-focus=""
                aria-describedby="new-job-type-hint"
                on:change=move |ev| choose(event_target_value(&ev))
            >
                {move || {
                    list()
                        .into_iter()
                        .map(|kind| {
                            let name = kind.name.clone();
                            let chosen = move || form.kind.with(|k| k.as_ref().is_some_and(|k| k.name == name));
                            view! {
                                <option value=kind.name selected=chosen>
                                    {kind.label}
                                </option>
                            }
                        })
                        .collect_view()
                }}
            </select>
            <p class="hint" id="new-job-type-hint">
                {about}
            </p>
        </div>
    }
}

/// The kind's own fields, or their JSON.
#[component]
fn ArgsFields(form: Form) -> impl IntoView {
    let raw = Memo::new(move |_| form.raw.with(Option::is_some));
    let file = Memo::new(move |_| form.takes_file());
    view! {
        <div class="args">
            {move || {
                (!file.get() && form.has_fields() && form.kind.with(Option::is_some))
                    .then(|| {
                        view! {
                            <button
                                type="button"
                                class="btn ghost small raw-toggle"
                                aria-pressed=move || raw.get().to_string()
                                on:click=move |_| form.toggle_raw()
                            >
                                <Icon icon=icondata_lu::LuBraces />
                                "Edit as JSON"
                            </button>
                        }
                    })
            }}
            {move || {
                if raw.get() {
                    view! { <RawArgs form=form /> }.into_any()
                } else {
                    form.fields.get().into_iter().map(|f| field::draw(f, form)).collect_view().into_any()
                }
            }}
        </div>
    }
}

#[component]
fn RawArgs(form: Form) -> impl IntoView {
    let text = Memo::new(move |_| form.raw.get().unwrap_or_default());
    view! {
        <div class="field">
            <label for="new-job-args">"Args as JSON"</label>
            <textarea
                id="new-job-args"
                class="code"
                rows="10"
                spellcheck="false"
                aria-describedby="new-job-args-error"
                aria-invalid=move || form.errors.with(|e| e.contains_key("args")).then_some("true")
                prop:value=move || text.get()
                on:input=move |ev| {
                    form.raw.set(Some(event_target_value(&ev)));
                    form.forgive("args");
                }
            ></textarea>
            <p class="field-error" id="new-job-args-error" aria-live="polite">
                {move || form.errors.with(|e| e.get("args").cloned())}
            </p>
        </div>
    }
}
