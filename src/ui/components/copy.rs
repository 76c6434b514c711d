//! A button that copies a text.

use std::time::Duration;

use leptos::prelude::*;

use super::Icon;
use super::toast::Toaster;
use crate::browser;
use crate::domain::error::{Problem, ProblemCode};

/// How long the button shows that it has copied.
const THANKS: Duration = Duration::from_millis(1_600);

/// Copies `text` to the clipboard and says so. `label` is its accessible name, "Copy job id".
#[component]
pub fn CopyButton(#[prop(into)] text: Signal<String>, label: &'static str) -> impl IntoView {
    let toaster = Toaster::expect();
    let copied = RwSignal::new(false);
    let copy = move |_| {
        browser::copy(text.get_untracked(), move |worked| {
            if !worked {
                toaster.error(&Problem::new(
                    ProblemCode::Forbidden,
                    "This browser does not let the page copy.",
                ));
                return;
            }
            copied.try_set(true);
            set_timeout(
                move || {
                    copied.try_set(false);
                },
                THANKS,
            );
        });
    };
    view! {
        <button type="button" class="btn ghost icon small copy" class:copied=copied aria-label=label title=label on:click=copy>
            {move || {
                let icon = if copied.get() { icondata_lu::LuCheck } else { icondata_lu::LuCopy };
                view! { <Icon icon=icon /> }
            }}
            <span class="visually-hidden" role="status">
                {move || if copied.get() { "Copied" } else { "" }}
            </span>
        </button>
    }
}
