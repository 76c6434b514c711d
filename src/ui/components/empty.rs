//! Places where nothing is, and what to do about it.

use leptos::prelude::*;

use super::Icon;

/// An icon, a sentence or two, and the next step.
#[component]
pub fn Empty(
    icon: icondata_core::Icon,
    #[prop(into)] title: String,
    #[prop(into)] text: String,
    /// The next step: buttons or links.
    #[prop(optional)]
    children: Option<Children>,
) -> impl IntoView {
    view! {
        <div class="empty">
            <span class="empty-icon">
                <Icon icon />
            </span>
            <h2>{title}</h2>
            <p>{text}</p>
            {children.map(|c| view! { <div class="empty-actions">{c()}</div> })}
        </div>
    }
}
