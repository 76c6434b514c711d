//! What is shown where nothing is.

use leptos::prelude::*;
use leptos_meta::Title;

use crate::ui::components::empty::Empty;

/// For addresses that no page has.
#[component]
pub fn NotFound() -> impl IntoView {
    view! {
        <Title text="Not found" />
        <h1 class="visually-hidden">"Not found"</h1>
        <Empty
            icon=icondata_lu::LuSearchX
            title="There is no such page"
            text="The address may be mistyped, or what it led to has moved."
        >
            <a class="btn primary" href="/jobs">"Go to Jobs"</a>
        </Empty>
    }
}
