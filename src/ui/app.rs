//! The app: what every page shares, and the routes.

use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::components::{ParentRoute, Redirect, Route, Router, Routes};
use leptos_router::{Lazy, LazyRoute, SsrMode, path};

use super::components::toast::{Toaster, Toasts};
use super::layout::frame::{Frame, FramedPages};
use super::live::Live;
use super::pages::account::AccountRoute;
use super::pages::audit::AuditRoute;
use super::pages::jobs::detail::JobDetailRoute;
use super::pages::jobs::{JobsPage, NoSelection};
use super::pages::not_found::NotFound;
use super::pages::settings::SettingsRoute;
use super::pages::sign_in::SignInRoute;
use super::pages::users::UsersRoute;
use super::pages::welcome::WelcomeRoute;
use super::text;
use crate::browser;

/// Fetches the code that the page at `path` is made of, beyond what all pages share.
pub async fn fetch_parts(path: &str) {
    let mut segments = path.trim_start_matches("/admin").split('/').filter(|s| !s.is_empty());
    match (segments.next(), segments.next()) {
        (Some("jobs"), Some(_)) => JobDetailRoute::preload().await,
        (Some("account"), _) => AccountRoute::preload().await,
        (Some("users"), _) => UsersRoute::preload().await,
        (Some("settings"), _) => SettingsRoute::preload().await,
        (Some("audit-log" | "audit-logs"), _) => AuditRoute::preload().await,
        (Some("sign-in"), None) => SignInRoute::preload().await,
        (Some("welcome"), _) => WelcomeRoute::preload().await,
        _ => {}
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
            <Routes fallback=|| view! { <Frame><NotFound /></Frame> }>
                <Route path=path!("/") view=|| view! { <Redirect path="/jobs" /> } ssr=SsrMode::Async />
                <Route path=path!("/sign-in") view={Lazy::<SignInRoute>::new()} ssr=SsrMode::Async />
                <Route path=path!("/welcome/:key") view={Lazy::<WelcomeRoute>::new()} ssr=SsrMode::Async />
                <ParentRoute path=path!("") view=FramedPages ssr=SsrMode::Async>
                    <ParentRoute path=path!("/jobs") view=JobsPage ssr=SsrMode::Async>
                        <Route path=path!("") view=NoSelection />
                        <Route path=path!(":id") view={Lazy::<JobDetailRoute>::new()} />
                    </ParentRoute>
                    <ParentRoute path=path!("/admin/jobs") view=JobsPage ssr=SsrMode::Async>
                        <Route path=path!("") view=NoSelection />
                        <Route path=path!(":id") view={Lazy::<JobDetailRoute>::new()} />
                    </ParentRoute>
                    <Route path=path!("/account") view={Lazy::<AccountRoute>::new()} ssr=SsrMode::Async />
                    <Route path=path!("/users") view={Lazy::<UsersRoute>::new()} ssr=SsrMode::Async />
                    <Route path=path!("/settings") view={Lazy::<SettingsRoute>::new()} ssr=SsrMode::Async />
                    <Route path=path!("/audit-log") view={Lazy::<AuditRoute>::new()} ssr=SsrMode::Async />
                    <Route path=path!("/admin/audit-logs") view={Lazy::<AuditRoute>::new()} ssr=SsrMode::Async />
                </ParentRoute>
            </Routes>
            <Toasts />
        </Router>
    }
}
