//! Moments as people say them.

use leptos::prelude::*;

use crate::domain::filter::rfc3339;
use crate::domain::time::{Timestamp, exact, relative};
use crate::ui::live::Live;

/// "2 minutes ago", kept true as time goes by; the exact moment on hover.
#[component]
pub fn RelativeTime(#[prop(into)] at: Signal<Option<Timestamp>>) -> impl IntoView {
    let now = Live::expect().now;
    let words = Memo::new(move |_| at.get().map(|t| relative(t, now.get())).unwrap_or_default());
    view! {
        <time
            datetime=move || at.get().map(|t| rfc3339(&t))
            title=move || at.get().map(exact)
        >
            {move || words.get()}
        </time>
    }
}
