//! A part of the panel that can be folded away.

use leptos::prelude::*;

use crate::ui::components::Icon;

/// A titled part. Starts open unless `closed`.
#[component]
pub fn Section(
    title: &'static str,
    #[prop(optional)] closed: bool,
    /// Shown beside the title: a count, a size.
    #[prop(optional, into)]
    note: MaybeProp<String>,
    children: Children,
) -> impl IntoView {
    view! {
        <details class="section" open=!closed>
            <summary>
                <Icon icon=icondata_lu::LuChevronRight />
                <h3>{title}</h3>
                <span class="section-note">{move || note.get()}</span>
            </summary>
            <div class="section-body">{children()}</div>
        </details>
    }
}
