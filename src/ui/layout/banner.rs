//! The line that says when the page is not live.

use leptos::prelude::*;

use crate::ui::components::Icon;
use crate::ui::live::{Connection, Live};
use crate::ui::text;

/// Says when the page is not live.
#[component]
pub fn ConnectionBanner() -> impl IntoView {
    let live = Live::expect();
    let words = move || match live.connection.get() {
        Connection::Connecting | Connection::Live | Connection::Reconnecting(0 | 1) => None,
        Connection::Reconnecting(tries) => Some(format!(
            "The connection is lost: what you see may be old. Trying again (attempt {tries})…"
        )),
        Connection::Offline => Some("Live updates are paused.".to_string()),
    };
    let words = Memo::new(move |_| words());
    view! {
        <div role="status" class="banner-place">
            {move || {
                words
                    .get()
                    .map(|words| {
                        view! {
                            <div class="banner warn">
                                <Icon icon=icondata_lu::LuWifiOff />
                                <span>{words}</span>
                                <button type="button" class="btn small" on:click=move |_| live.reconnect()>
                                    {text::TRY_AGAIN}
                                </button>
                            </div>
                        }
                    })
            }}
        </div>
    }
}
