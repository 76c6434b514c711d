//! A link that lets somebody in once, shown to whoever made it.

use leptos::prelude::*;

use crate::browser;
use crate::domain::account::OnceLink;
use crate::domain::time::exact;
use crate::ui::components::once::Once;

/// The link as it is to be sent, with this server's address in front.
#[component]
pub fn Shown(made: OnceLink, open: RwSignal<bool>) -> impl IntoView {
    let url = format!("{}{}", browser::origin(), made.path);
    view! {
        <div class="form">
            <div class="dialog-body">
                <p role="status">
                    "Send this link to " <strong>{made.email}</strong>
                    " by a way that you trust: whoever opens it first is in. It is shown this once."
                </p>
                <Once id="once-link" label="Link" value=url copy="Copy link" />
                <p class="hint">{format!("It works once, until {}.", exact(made.expires_at))}</p>
            </div>
            <footer class="dialog-actions">
                <button type="button" class="btn primary" on:click=move |_| open.set(false)>
                    "Done"
                </button>
            </footer>
        </div>
    }
}
