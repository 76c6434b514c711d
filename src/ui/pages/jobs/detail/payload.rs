//! What the job was given and what it answered with.

use leptos::prelude::*;
use serde_json::Value;

use super::section::Section;
use super::selected::Selected;
use crate::ui::components::json::pretty;
use crate::ui::components::{CopyButton, JsonView};

/// The result, once there is one.
#[component]
pub fn ResultJson(selected: Selected) -> impl IntoView {
    let result = Memo::new(move |_| selected.detail.with(|d| d.result.clone()).filter(|v| !v.is_null()));
    let present = Memo::new(move |_| result.with(Option::is_some));
    move || {
        present.get().then(|| {
            let value = Signal::derive(move || result.get().unwrap_or_default());
            view! {
                <Section title="Result">
                    <Copyable value=value label="Result" copy="Copy result" />
                </Section>
            }
        })
    }
}

/// The args, as the kind got them.
#[component]
pub fn ArgsJson(selected: Selected) -> impl IntoView {
    let args = Memo::new(move |_| selected.detail.with(|d| d.args.clone()));
    view! {
        <Section title="Input args">
            <Copyable value=args.into() label="Input args" copy="Copy input args" />
        </Section>
    }
}

#[component]
fn Copyable(value: Signal<Value>, label: &'static str, copy: &'static str) -> impl IntoView {
    let text = Signal::derive(move || value.with(pretty));
    view! {
        <div class="copyable">
            <CopyButton text=text label=copy />
            <JsonView value=value label=label />
        </div>
    }
}
