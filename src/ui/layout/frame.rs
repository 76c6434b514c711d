//! What surrounds the pages of those who are signed in.

use leptos::prelude::*;
use leptos_router::components::Outlet;

use super::banner::ConnectionBanner;
use super::sidebar::Sidebar;
use crate::ui::live::Live;
use crate::ui::signed::Signed;
use crate::ui::text;

/// The sidebar and the page beside it; alive from here on.
#[component]
pub fn Frame(children: Children) -> impl IntoView {
    Signed::provide();
    Live::expect().begin();
    view! {
        <a class="skip" href="#main">{text::SKIP}</a>
        <div class="frame">
            <Sidebar />
            <main id="main" tabindex="-1">
                <ConnectionBanner />
                {children()}
            </main>
        </div>
    }
}

/// The frame around whichever page the address names.
#[component]
pub fn FramedPages() -> impl IntoView {
    view! {
        <Frame>
            <Outlet />
        </Frame>
    }
}
