//! The top of a page: what it is, and what one can do here.

use leptos::prelude::*;

use crate::ui::components::Icon;

/// Heading, description and the page's buttons.
#[component]
pub fn PageHeader(
    icon: icondata_core::Icon,
    title: &'static str,
    description: &'static str,
    /// The buttons, where there are any.
    #[prop(optional)]
    children: Option<Children>,
) -> impl IntoView {
    view! {
        <header class="page-header">
            <div class="page-title">
                <h1>
                    <Icon icon />
                    {title}
                </h1>
                <p>{description}</p>
            </div>
            {children.map(|children| view! { <div class="page-actions">{children()}</div> })}
        </header>
    }
}
