//! Controls of filter bars. Each shows what the address says and reports what a person makes of it.

use leptos::html;
use leptos::prelude::*;

use crate::browser::{self, Timer};

/// Milliseconds between the last key and its effect.
const DEBOUNCE_MS: u32 = 300;

/// A choice among named values.
#[component]
pub fn Choice(
    label: &'static str,
    /// The query parameter, for browsers without the page's script.
    name: &'static str,
    /// Values and the words for them.
    #[prop(into)]
    options: Signal<Vec<(String, String)>>,
    #[prop(into)] value: Signal<String>,
    on_pick: Callback<String>,
) -> impl IntoView {
    let node = NodeRef::<html::Select>::new();
    // What the browser restores, or a person picked before, gives way to the address.
    Effect::new(move |_| {
        options.track();
        let value = value.get();
        if let Some(select) = node.get() {
            browser::next_frame(move || {
                if select.value() != value {
                    select.set_value(&value);
                }
            });
        }
    });
    let shown = move || {
        let current = value.get();
        options
            .get()
            .into_iter()
            .map(|(value, words)| {
                let selected = value == current;
                view! {
                    <option value=value selected=selected>
                        {words}
                    </option>
                }
            })
            .collect_view()
    };
    view! {
        <select
            node_ref=node
            name=name
            aria-label=label
            class:set=move || !value.with(String::is_empty)
            on:change=move |ev| on_pick.run(event_target_value(&ev))
        >
            {shown}
        </select>
    }
}

/// A line of text that takes effect when the typing pauses, or at Enter.
#[component]
pub fn Line(
    label: &'static str,
    name: &'static str,
    /// "search" or "text".
    kind: &'static str,
    max: u32,
    #[prop(into)] value: Signal<String>,
    on_text: Callback<String>,
    /// Called for Escape; the text is empty then.
    on_escape: Callback<()>,
) -> impl IntoView {
    let node = NodeRef::<html::Input>::new();
    let timer = StoredValue::new(None::<Timer>);
    // What was reported last: the address coming round again must not overwrite what was typed since.
    let told = StoredValue::new(value.get_untracked());
    let filled = RwSignal::new(!value.with_untracked(String::is_empty));
    let tell = move |text: String| {
        timer.set_value(None);
        told.set_value(text.trim().to_string());
        on_text.run(text.trim().to_string());
    };
    Effect::new(move |first: Option<()>| {
        let wanted = value.get();
        let Some(input) = node.get_untracked() else { return };
        if first.is_none() {
            // Typed before the page came to life.
            let typed = input.value();
            if typed.trim() != wanted && browser::typing() {
                filled.set(!typed.is_empty());
                tell(typed);
                return;
            }
        }
        if first.is_none() || told.get_value() != wanted {
            timer.set_value(None);
            told.set_value(wanted.clone());
            filled.set(!wanted.is_empty());
            input.set_value(&wanted);
        }
    });
    let typed = move |text: String| {
        filled.set(!text.is_empty());
        timer.set_value(Some(browser::after(DEBOUNCE_MS, move || tell(text))));
    };
    let empty = move || {
        if let Some(input) = node.get_untracked() {
            input.set_value("");
            let _ = input.focus();
        }
        filled.set(false);
        timer.set_value(None);
        told.set_value(String::new());
    };
    let key = move |ev: leptos::ev::KeyboardEvent| match ev.key().as_str() {
        "Escape" => {
            ev.prevent_default();
            empty();
            on_escape.run(());
        }
        "Enter" => {
            ev.prevent_default();
            if let Some(input) = node.get_untracked() {
                tell(input.value());
            }
        }
        _ => {}
    };
    view! {
        <span class="line-input">
            <input
                node_ref=node
                type=kind
                name=name
                aria-label=label
                placeholder=label
                value=value.get_untracked()
                maxlength=max
                autocomplete="off"
                spellcheck="false"
                on:input=move |ev| typed(event_target_value(&ev))
                on:keydown=key
            />
            <button
                type="button"
                class="line-clear"
                hidden=move || !filled.get()
                aria-label=format!("Clear {}", label.to_lowercase())
                on:click=move |_| {
                    empty();
                    on_text.run(String::new());
                }
            >
                <super::Icon icon=icondata_lu::LuX />
            </button>
        </span>
    }
}
