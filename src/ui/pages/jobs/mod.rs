//! The Jobs page: the list at the left, the selected job at the right.

pub mod bulk;
pub mod detail;
pub mod filters;
pub mod list;
pub mod logs;
pub mod new;
pub mod placeholders;
pub mod reason;
pub mod row;
pub mod state;
pub mod stats;
pub mod status_strip;

use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_meta::Title;
use leptos_router::LazyRoute;
use leptos_router::components::Outlet;
use leptos_router::hooks::use_location;

use crate::browser;
use crate::domain::filter::JobFilter;
use crate::domain::job::JobId;
use crate::rpc;
use crate::ui::components::Icon;
use crate::ui::components::empty::Empty;
use crate::ui::layout::page_header::PageHeader;
use crate::ui::live::Live;
use crate::ui::query::JobsUrl;
use crate::ui::signed::{Signed, lead_to_sign_in};
use crate::ui::text;

use bulk::Selection;
use detail::JobDetailRoute;
use filters::{Filters, FiltersSkeleton};
use list::ListPane;
use new::{NewJobButton, NewJobOpen};
use placeholders::ListSkeleton;
use state::{ListState, PAGE};
use stats::StatsButton;
use status_strip::{StatusStrip, StripSkeleton};

/// Where the page lives; made by [`JobsPage`] for what is inside it.
#[derive(Clone, Copy)]
pub struct JobsBase {
    /// "/jobs" or "/admin/jobs".
    pub path: &'static str,
    url: JobsUrl,
}

impl JobsBase {
    /// The page's.
    pub fn expect() -> Self {
        use_context().unwrap_or_else(|| Self {
            path: "/jobs",
            url: JobsUrl::expect(),
        })
    }

    /// The address of a job, with the list beside it as it is; follows the list's filter.
    pub fn job_href(&self, id: &JobId) -> String {
        self.url.href(Some(*id))
    }

    /// The address of the list without a selection; follows the list's filter.
    pub fn list_href(&self) -> String {
        self.url.href(None)
    }

    /// The address of the list of the jobs that match.
    pub fn filtered_href(&self, filter: &JobFilter) -> String {
        format!("{}?{}", self.path, filter.to_query())
    }

    /// [`JobsBase::job_href`] as it is now, for event handlers.
    pub fn job_href_untracked(&self, id: &JobId) -> String {
        untrack(|| self.job_href(id))
    }

    /// [`JobsBase::list_href`] as it is now, for event handlers.
    pub fn list_href_untracked(&self) -> String {
        untrack(|| self.list_href())
    }
}

/// The page, at whichever of its two addresses.
#[component]
pub fn JobsPage() -> impl IntoView {
    let admin = use_location().pathname.with_untracked(|p| p.starts_with("/admin/"));
    let base = if admin { "/admin/jobs" } else { "/jobs" };
    let url = JobsUrl::provide(base);
    provide_context(JobsBase { path: base, url });
    provide_context(NewJobOpen(RwSignal::new(false)));
    let live = Live::expect();
    let filter = url.query.with_untracked(|q| q.filter.clone());
    let list = ListState::new(filter.clone());
    let selection = Selection::provide(list);
    live.subscribe(move |event| list.hear(event));

    // Once the page is alive, the rest of it is fetched too: nobody waits for it then, be the server there or not.
    Effect::new(|_| browser::next_frame(|| spawn_local(JobDetailRoute::preload())));

    let signed = Signed::expect();
    let first = Resource::new(
        || (),
        move |()| {
            let request = crate::domain::page::PageRequest {
                limit: Some(PAGE),
                ..Default::default()
            };
            let filter = filter.clone();
            async move { rpc::list_jobs(filter, request).await.inspect_err(lead_to_sign_in) }
        },
    );
    let overview = Resource::new(|| (), |()| rpc::overview());
    let kinds = Resource::new(|| (), |()| rpc::kind_names());

    let new_job = move || {
        Suspend::new(async move {
            let may = signed.me().await.is_some_and(|me| me.may_enqueue);
            may.then(|| view! { <NewJobButton /> })
        })
    };
    let filters = move || {
        Suspend::new(async move {
            let kinds = kinds.await.unwrap_or_default();
            view! { <Filters list kinds /> }
        })
    };
    let strip = move || {
        Suspend::new(async move {
            let first = overview.await;
            view! { <StatusStrip first /> }
        })
    };
    let pane = move || {
        Suspend::new(async move {
            let overview = overview.await.ok();
            let me = signed.me().await;
            let may_enqueue = me.as_ref().is_some_and(|me| me.may_enqueue);
            selection.allow(me.map(|me| me.may_act).unwrap_or_default());
            list.begin(first.await);
            view! { <ListPane list overview may_enqueue /> }
        })
    };
    view! {
        <Title text=text::JOBS />
        <div class="jobs-page" class:has-selection=move || url.has_selection()>
            <div class="jobs-top">
                <PageHeader icon=icondata_lu::LuBriefcase title=text::JOBS description=text::JOBS_DESCRIPTION>
                    <RefreshButton list />
                    <StatsButton overview />
                    <Suspense>{new_job}</Suspense>
                </PageHeader>
                <Suspense fallback=StripSkeleton>{strip}</Suspense>
                <Suspense fallback=FiltersSkeleton>{filters}</Suspense>
            </div>
            <div class="split">
                <div class="list-pane">
                    <Suspense fallback=ListSkeleton>{pane}</Suspense>
                </div>
                <div class="detail-pane">
                    <Outlet />
                </div>
            </div>
        </div>
    }
}

/// Fetches everything on the page again.
#[component]
fn RefreshButton(list: ListState) -> impl IntoView {
    let live = Live::expect();
    view! {
        <button
            type="button"
            class="btn refresh"
            class:spins=move || list.loading.get()
            aria-busy=move || list.loading.get().then_some("true")
            on:click=move |_| live.refresh()
        >
            <Icon icon=icondata_lu::LuRefreshCw />
            <span class="btn-label">"Refresh"</span>
        </button>
    }
}

/// The right side while no job is selected.
#[component]
pub fn NoSelection() -> impl IntoView {
    view! {
        <Empty
            icon=icondata_lu::LuMousePointerClick
            title="No job selected"
            text="Select a job in the list to see what it does, how it fares and what it logs."
        />
    }
}
