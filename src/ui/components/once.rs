//! What is shown once and never again: links that let somebody in, secrets.

use leptos::html;
use leptos::prelude::*;

use super::CopyButton;

/// The value, to be selected or copied. `label` is its name, `copy` the button's.
#[component]
pub fn Once(id: &'static str, label: &'static str, value: String, copy: &'static str) -> impl IntoView {
    // It may take the place of the form that asked for it, and of the button that had the focus.
    let node = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        if let Some(input) = node.get() {
            request_animation_frame(move || {
                let _ = input.focus();
            });
        }
    });
    let select = move |_| {
        if let Some(input) = node.get_untracked() {
            input.select();
        }
    };
    view! {
        <div class="field once">
            <label for=id>{label}</label>
            <span class="once-value">
                <input
                    node_ref=node
                    id=id
                    class="code"
                    type="text"
                    readonly
                    data-focus=""
                    value=value.clone()
                    on:focus=select
                />
                <CopyButton text=Signal::stored(value) label=copy />
            </span>
        </div>
    }
}
