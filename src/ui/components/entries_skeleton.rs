//! The shape of a list of entries before it is known.

use leptos::prelude::*;

/// So many rows in grey, and for screen readers what is being loaded.
#[component]
pub fn EntriesSkeleton(label: &'static str, rows: usize) -> impl IntoView {
    let row = || {
        view! {
            <div class="skeleton wide"></div>
            <div class="skeleton"></div>
        }
    };
    view! {
        <div class="entries-skeleton" role="status">
            <span class="visually-hidden">{label}</span>
            {(0..rows).map(|_| row()).collect_view()}
        </div>
    }
}
