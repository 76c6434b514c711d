//! The app: what every page shares, and the routes.

use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::components::{ParentRoute, Redirect, Route, Router, Routes};
use leptos_router::{Lazy, LazyRoute, SsrMode, path};

use super::components::toast::{Toaster, Toasts};
use super::layout::banner::ConnectionBanner;
use super::layout::sidebar::Sidebar;
use super::live::Live;
use super::pages::jobs::detail::JobDetailRoute;
use super::pages::jobs::{JobsPage, NoSelection};
use super::pages::not_found::NotFound;
use super::text;
use crate::browser;

/// Fetches the code that the page at `path` is made of, beyond what all pages share.
pub async fn fetch_parts(path: &str) {
    let mut segments = path.trim_start_matches("/admin").split('/').filter(|s| !s.is_empty());
    if segments.next() == Some("jobs") && segments.next().is_some() {
        JobDetailRoute::preload().await;
    }
}

/// The dashboard. On the server below [`super::shell::shell`], in the browser below `body`.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    Toaster::provide();
    Live::provide();
    // The effects of the whole page run first, so that whoever waits for the mark finds every control at work.
    Effect::new(|_| browser::next_frame(browser::mark_hydrated));

    view! {
        <Title formatter=|page: String| if page.is_empty() { text::PRODUCT.into() } else { format!("{page} · {}", text::PRODUCT) } />
        <Router>
            <a class="skip" href="#main">{text::SKIP}</a>
            <div class="frame">
                <Sidebar />
                <main id="main" tabindex="-1">
                    <ConnectionBanner />
                    <Routes fallback=NotFound>
                        <Route path=path!("/") view=|| view! { <Redirect path="/jobs" /> } ssr=SsrMode::Async />
                        <ParentRoute path=path!("/jobs") view=JobsPage ssr=SsrMode::Async>
                            <Route path=path!("") view=NoSelection />
                            <Route path=path!(":id") view={Lazy::<JobDetailRoute>::new()} />
                        </ParentRoute>
                        <ParentRoute path=path!("/admin/jobs") view=JobsPage ssr=SsrMode::Async>
                            <Route path=path!("") view=NoSelection />
                            <Route path=path!(":id") view={Lazy::<JobDetailRoute>::new()} />
                        </ParentRoute>
                    </Routes>
                </main>
            </div>
            <Toasts />
        </Router>
    }
}
