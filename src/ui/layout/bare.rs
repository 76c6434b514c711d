//! What surrounds the pages of those who are not signed in: nothing but the product's mark.

use leptos::prelude::*;

use crate::ui::components::mark::Mark;
use crate::ui::text;

/// The product's mark, and below it the page.
#[component]
pub fn Bare(children: Children) -> impl IntoView {
    view! {
        <main id="main" class="bare">
            <div class="bare-box">
                <p class="brand">
                    <Mark />
                    <span>{text::PRODUCT}</span>
                </p>
                {children()}
            </div>
        </main>
    }
}
