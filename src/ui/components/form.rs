//! Forms that are sent by a call: their fields, and how the sending fares.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::domain::error::Problem;
use crate::domain::kind;
use crate::rpc;
use crate::ui::signed::lead_to_sign_in;

/// How the sending of a form fares. What was typed stays until the server has taken it.
#[derive(Clone, Copy)]
pub struct Sending {
    pub busy: RwSignal<bool>,
    problem: RwSignal<Option<Problem>>,
    fields: &'static [&'static str],
}

impl Sending {
    /// For a form that has `fields`: what is wrong with another one is said at the end.
    pub fn new(fields: &'static [&'static str]) -> Self {
        Self {
            busy: RwSignal::new(false),
            problem: RwSignal::new(None),
            fields,
        }
    }

    /// Sends, unless that is under way, and calls `done` with the answer if it is a good one.
    pub fn send<T: 'static>(
        self,
        call: impl Future<Output = Result<T, Problem>> + 'static,
        done: impl FnOnce(T) + 'static,
    ) {
        if self.busy.get_untracked() {
            return;
        }
        self.busy.set(true);
        self.problem.set(None);
        spawn_local(async move {
            let answer = call.await;
            // The form may be gone by then; what was done is done all the same.
            self.busy.try_set(false);
            match answer {
                Ok(answer) => done(answer),
                Err(problem) => {
                    lead_to_sign_in(&problem);
                    self.problem.try_set(Some(problem));
                }
            }
        });
    }

    fn place(self, problem: &Problem) -> Option<&'static str> {
        let field = problem.field.as_deref()?;
        self.fields.iter().copied().find(|known| *known == field)
    }

    /// Why the server did not take a field; empty when it did.
    pub fn why(self, field: &'static str) -> Signal<String> {
        self.said(move |sending, problem| sending.place(problem) == Some(field))
    }

    /// Why the server did not take the form, when that is about none of its fields.
    pub fn rest(self) -> Signal<String> {
        self.said(|sending, problem| sending.place(problem).is_none())
    }

    fn said(self, here: impl Fn(Self, &Problem) -> bool + Send + Sync + 'static) -> Signal<String> {
        Signal::derive(move || {
            self.problem
                .with(|p| p.as_ref().filter(|p| here(self, p)).map(|p| p.detail.clone()))
                .unwrap_or_default()
        })
    }
}

fn invalid(why: Signal<String>) -> impl Fn() -> Option<&'static str> {
    move || why.with(|w| !w.is_empty()).then_some("true")
}

/// Says what is wrong with a field; empty when nothing is.
#[component]
pub fn FieldError(id: String, why: Signal<String>) -> impl IntoView {
    view! {
        <p class="field-error" id=id role="alert">
            {move || Some(why.get()).filter(|why| !why.is_empty())}
        </p>
    }
}

/// A line of text with its label, a hint, and what is wrong with it. `id` is unique on the page.
#[component]
pub fn TextField(
    id: &'static str,
    label: &'static str,
    value: RwSignal<String>,
    why: Signal<String>,
    #[prop(default = "text")] kind: &'static str,
    #[prop(default = "off")] autocomplete: &'static str,
    #[prop(optional)] hint: &'static str,
    #[prop(default = 200)] max: usize,
    /// Whether it gets the focus when the dialog around it opens.
    #[prop(optional)]
    first: bool,
) -> impl IntoView {
    view! {
        <div class="field">
            <label for=id>{label}</label>
            <input
                id=id
                type=kind
                maxlength=max.to_string()
                autocomplete=autocomplete
                spellcheck="false"
                data-focus=first.then_some("")
                aria-invalid=invalid(why)
                aria-describedby=format!("{id}-hint {id}-why")
                prop:value=move || value.get()
                on:input=move |ev| value.set(event_target_value(&ev))
            />
            <p class="hint" id=format!("{id}-hint")>
                {(!hint.is_empty()).then_some(hint)}
            </p>
            <FieldError id=format!("{id}-why") why />
        </div>
    }
}

/// One of several values to choose from.
#[derive(Clone, Debug)]
pub struct Pick {
    pub value: String,
    pub label: String,
    /// What choosing it means; may be empty.
    pub about: &'static str,
}

impl Pick {
    pub fn new(value: impl Into<String>, label: impl Into<String>, about: &'static str) -> Self {
        Self {
            value: value.into(),
            label: label.into(),
            about,
        }
    }
}

/// Any of several values, as check boxes.
#[component]
pub fn Checks(
    id: &'static str,
    legend: &'static str,
    #[prop(into)] picks: Signal<Vec<Pick>>,
    picked: RwSignal<Vec<String>>,
    why: Signal<String>,
    #[prop(optional)] hint: &'static str,
) -> impl IntoView {
    let toggle = move |value: &str, on: bool| {
        picked.update(|list| {
            list.retain(|v| v != value);
            if on {
                list.push(value.into());
            }
        });
    };
    let one = move |pick: Pick| {
        let (value, name) = (pick.value.clone(), pick.value);
        view! {
            <label class="pick">
                <input
                    type="checkbox"
                    prop:checked=move || picked.with(|list| list.contains(&value))
                    on:change=move |ev| toggle(&name, event_target_checked(&ev))
                />
                <PickText label=pick.label about=pick.about />
            </label>
        }
    };
    view! {
        <fieldset class="picks" aria-describedby=format!("{id}-hint {id}-why")>
            <legend>{legend}</legend>
            <p class="hint" id=format!("{id}-hint")>
                {(!hint.is_empty()).then_some(hint)}
            </p>
            <div class="picks-list">{move || picks.get().into_iter().map(one).collect_view()}</div>
            <FieldError id=format!("{id}-why") why />
        </fieldset>
    }
}

/// One of several values, as radio buttons.
#[component]
pub fn Radios(
    id: &'static str,
    legend: &'static str,
    picks: Vec<Pick>,
    picked: RwSignal<String>,
    why: Signal<String>,
) -> impl IntoView {
    let one = move |pick: Pick| {
        let (value, name) = (pick.value.clone(), pick.value.clone());
        view! {
            <label class="pick">
                <input
                    type="radio"
                    name=id
                    value=pick.value
                    prop:checked=move || picked.with(|p| *p == value)
                    on:change=move |_| picked.set(name.clone())
                />
                <PickText label=pick.label about=pick.about />
            </label>
        }
    };
    view! {
        <fieldset class="picks" aria-describedby=format!("{id}-why")>
            <legend>{legend}</legend>
            <div class="picks-list">{picks.into_iter().map(one).collect_view()}</div>
            <FieldError id=format!("{id}-why") why />
        </fieldset>
    }
}

#[component]
fn PickText(label: String, about: &'static str) -> impl IntoView {
    view! {
        <span class="pick-text">
            <span>{label}</span>
            {(!about.is_empty()).then(|| view! { <span class="hint">{about}</span> })}
        </span>
    }
}

/// The kinds that somebody, or a token, is limited to; none ticked: all. Asks for them when it is made, in the browser.
#[component]
pub fn Kinds(
    id: &'static str,
    hint: &'static str,
    picked: RwSignal<Vec<String>>,
    why: Signal<String>,
) -> impl IntoView {
    let names = RwSignal::new(picked.get_untracked());
    Effect::new(move |_| {
        spawn_local(async move {
            if let Ok(known) = rpc::kind_names().await.inspect_err(lead_to_sign_in) {
                // Those that were picked and that this server does not know any more stay to be seen.
                names.try_update(|names| {
                    names.retain(|name| !known.contains(name));
                    names.splice(0..0, known);
                });
            }
        });
    });
    let picks = Signal::derive(move || {
        let pick = |name: &String| Pick::new(name, kind::label(name), "");
        names.with(|names| names.iter().map(pick).collect::<Vec<_>>())
    });
    view! { <Checks id legend="Kinds" hint picks picked why /> }
}

/// The end of a dialog's form: what is wrong with the whole, and the buttons.
#[component]
pub fn FormEnd(
    sending: Sending,
    open: RwSignal<bool>,
    /// The words on the button that sends.
    submit: &'static str,
) -> impl IntoView {
    let rest = sending.rest();
    view! {
        {move || {
            let why = rest.get();
            (!why.is_empty()).then(|| view! { <p class="form-error" role="alert">{why}</p> })
        }}
        <footer class="dialog-actions">
            <button type="button" class="btn" on:click=move |_| open.set(false)>
                "Cancel"
            </button>
            <button
                type="submit"
                class="btn primary"
                disabled=move || sending.busy.get()
                aria-busy=move || sending.busy.get().then_some("true")
            >
                {submit}
            </button>
        </footer>
    }
}
