//! Why something is done.

use leptos::prelude::*;

use crate::domain::audit::REASON_MAX;
use crate::ui::components::form::TextField;

/// Characters of a reason that can be typed: one as the browser counts them takes three bytes at the most.
const CHARACTERS: usize = REASON_MAX / 3;

/// Why it is done, for those who want to say so.
#[component]
pub fn ReasonField(
    /// Unique on the page.
    id: &'static str,
    reason: RwSignal<String>,
) -> impl IntoView {
    view! {
        <div class="ask-more">
            <TextField
                id=id
                label="Reason (optional)"
                value=reason
                why=Signal::stored(String::new())
                max=CHARACTERS
                hint="The audit log keeps it."
            />
        </div>
    }
}
