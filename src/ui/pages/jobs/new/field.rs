//! One field of the form: its label, its control, what it is for, and what is wrong with it.

use leptos::prelude::*;
use leptos::web_sys::HtmlInputElement;

use super::form::Form;
use super::schema::{Control, Field};
use crate::browser::upload;
use crate::domain::page::bytes;

/// Draws a field of the kind's schema, groups with all that is in them.
pub fn draw(field: Field, form: Form) -> AnyView {
    let Field {
        path,
        title,
        description,
        required,
        control,
        ..
    } = field;
    if let Control::Group(inner) = control {
        return view! {
            <fieldset class="field-group">
                <legend>{title}</legend>
                {inner.into_iter().map(|f| draw(f, form)).collect_view()}
            </fieldset>
        }
        .into_any();
    }
    let description = match control {
        Control::DateTime => and(description, "In UTC."),
        Control::Secret { .. } => and(description, "Stored encrypted, and not shown again."),
        _ => description,
    };
    let label = Label {
        path,
        title,
        description,
        required,
    };
    match control {
        Control::Choice(choices) => select(label, form, choices),
        Control::MaybeBool => select(
            label,
            form,
            vec![("true".into(), "Yes".into()), ("false".into(), "No".into())],
        ),
        Control::Bool => checkbox(label, form),
        Control::Upload => file(label, form),
        Control::Json => textarea(label, form),
        Control::Text { max } => input(
            label,
            form,
            Input {
                kind: "text",
                max_length: max,
                ..Input::default()
            },
        ),
        Control::Secret { max, .. } => input(
            label,
            form,
            Input {
                kind: "password",
                max_length: max,
                ..Input::default()
            },
        ),
        Control::Integer { min, max } => input(
            label,
            form,
            Input {
                kind: "number",
                step: "1",
                min,
                max,
                ..Input::default()
            },
        ),
        Control::Number => input(
            label,
            form,
            Input {
                kind: "number",
                step: "any",
                ..Input::default()
            },
        ),
        Control::DateTime => input(
            label,
            form,
            Input {
                kind: "datetime-local",
                step: "1",
                ..Input::default()
            },
        ),
        Control::Group(_) => ().into_any(),
    }
}

/// What surrounds a control.
pub struct Label {
    /// The name of its value and of its errors.
    pub path: String,
    pub title: String,
    pub description: String,
    pub required: bool,
}

/// What an `<input>` is told.
#[derive(Clone, Copy, Default)]
pub struct Input {
    pub kind: &'static str,
    pub step: &'static str,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub max_length: Option<u64>,
    pub placeholder: &'static str,
}

fn id_of(path: &str) -> String {
    let clean: String = path
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("new-job-{clean}")
}

/// Whether the field has an error, for `aria-invalid`.
fn invalid(form: Form, path: String) -> impl Fn() -> Option<&'static str> + Clone + Send + 'static {
    move || form.errors.with(|e| e.contains_key(&path)).then_some("true")
}

fn frame(label: Label, form: Form, control: AnyView) -> AnyView {
    let Label {
        path,
        title,
        description,
        required,
    } = label;
    let id = id_of(&path);
    view! {
        <div class="field">
            <label for=id.clone()>
                {title}
                {required.then(|| view! { <span class="needed" aria-hidden="true">" *"</span> })}
            </label>
            {control}
            {notes(id, path, description, form)}
        </div>
    }
    .into_any()
}

fn notes(id: String, path: String, description: String, form: Form) -> AnyView {
    view! {
        {(!description.is_empty()).then(|| view! { <p class="hint" id=format!("{id}-hint")>{description}</p> })}
        <p class="field-error" id=format!("{id}-error") aria-live="polite">
            {move || form.errors.with(|e| e.get(&path).cloned())}
        </p>
    }
    .into_any()
}

fn described(id: &str, description: &str) -> String {
    if description.is_empty() {
        format!("{id}-error")
    } else {
        format!("{id}-hint {id}-error")
    }
}

pub fn input(label: Label, form: Form, options: Input) -> AnyView {
    let path = label.path.clone();
    let id = id_of(&path);
    let (read, write) = (path.clone(), path.clone());
    let value = Memo::new(move |_| form.value(&read));
    let Input {
        kind,
        step,
        min,
        max,
        max_length,
        placeholder,
    } = options;
    let control = view! {
        <input
            id=id.clone()
            type=kind
            step=(!step.is_empty()).then_some(step)
            min=min
            max=max
            maxlength=max_length
            placeholder=(!placeholder.is_empty()).then_some(placeholder)
            autocomplete="off"
            required=label.required
            aria-invalid=invalid(form, path)
            aria-describedby=described(&id, &label.description)
            prop:value=move || value.get()
            on:input=move |ev| form.set(&write, event_target_value(&ev))
        />
    };
    frame(label, form, control.into_any())
}

pub fn select(label: Label, form: Form, choices: Vec<(String, String)>) -> AnyView {
    let path = label.path.clone();
    let id = id_of(&path);
    let (read, write) = (path.clone(), path.clone());
    let value = Memo::new(move |_| form.value(&read));
    let options = choices
        .into_iter()
        .map(|(choice, words)| {
            let this = choice.clone();
            view! {
                <option value=choice selected=move || value.with(|v| *v == this)>
                    {words}
                </option>
            }
        })
        .collect_view();
    let control = view! {
        <select
            id=id.clone()
            aria-invalid=invalid(form, path)
            aria-describedby=described(&id, &label.description)
            on:change=move |ev| form.set(&write, event_target_value(&ev))
        >
            <option value="" selected=move || value.with(String::is_empty)>
                {if label.required { "Choose…" } else { "–" }}
            </option>
            {options}
        </select>
    };
    frame(label, form, control.into_any())
}

fn checkbox(label: Label, form: Form) -> AnyView {
    let Label {
        path,
        title,
        description,
        ..
    } = label;
    let id = id_of(&path);
    let (read, write) = (path.clone(), path.clone());
    let checked = Memo::new(move |_| form.value(&read) == "true");
    view! {
        <div class="field">
            <label class="check-label">
                <input
                    id=id.clone()
                    type="checkbox"
                    aria-invalid=invalid(form, path.clone())
                    aria-describedby=described(&id, &description)
                    prop:checked=move || checked.get()
                    on:change=move |ev| form.set(&write, event_target_checked(&ev).to_string())
                />
                {title}
            </label>
            {notes(id, path, description, form)}
        </div>
    }
    .into_any()
}

fn textarea(label: Label, form: Form) -> AnyView {
    let path = label.path.clone();
    let id = id_of(&path);
    let (read, write) = (path.clone(), path.clone());
    let value = Memo::new(move |_| form.value(&read));
    let control = view! {
        <textarea
            id=id.clone()
            class="code"
            rows="3"
            spellcheck="false"
            placeholder="JSON"
            aria-invalid=invalid(form, path)
            aria-describedby=described(&id, &label.description)
            prop:value=move || value.get()
            on:input=move |ev| form.set(&write, event_target_value(&ev))
        ></textarea>
    };
    frame(label, form, control.into_any())
}

fn file(label: Label, form: Form) -> AnyView {
    let path = label.path.clone();
    let id = id_of(&path);
    let chosen = RwSignal::new(String::new());
    let write = path.clone();
    let control = view! {
        <input
            node_ref=form.file
            id=id.clone()
            type="file"
            accept=".csv,.json,.ndjson,.jsonl,.zip"
            required=label.required
            aria-invalid=invalid(form, path)
            aria-describedby=described(&id, &label.description)
            on:change=move |ev| {
                form.forgive(&write);
                let file = upload::chosen(&event_target::<HtmlInputElement>(&ev));
                chosen.set(file.map(|(_, size)| bytes(size)).unwrap_or_default());
            }
        />
        <p class="hint">{move || chosen.get()}</p>
    };
    frame(label, form, control.into_any())
}

/// A sentence more behind what somebody wrote, with or without a full stop.
fn and(mut text: String, more: &str) -> String {
    if text.ends_with(|c: char| c.is_alphanumeric() || c == ')') {
        text.push('.');
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_more_stands_by_itself() {
        assert_eq!(and(String::new(), "In UTC."), "In UTC.");
        assert_eq!(and("The key".into(), "In UTC."), "The key. In UTC.");
        assert_eq!(and("The key!".into(), "In UTC."), "The key! In UTC.");
    }
}
