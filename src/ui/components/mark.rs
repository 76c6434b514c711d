//! The product's mark.

use leptos::prelude::*;

/// A windlass, seen from its end.
#[component]
pub fn Mark() -> impl IntoView {
    view! {
        <svg viewBox="0 0 24 24" width="22" height="22" fill="none" aria-hidden="true" focusable="false">
            <circle cx="12" cy="12" r="8.5" stroke="currentColor" stroke-width="2" />
            <path
                d="M12 12 12 3.5M12 12 4.6 16.25M12 12 19.4 16.25"
                stroke="currentColor"
                stroke-width="2"
                stroke-linecap="round"
            />
            <circle cx="12" cy="12" r="2.6" fill="currentColor" />
        </svg>
    }
}
