//! What the list shows when it has no rows to show.

use leptos::prelude::*;

use super::new::NewJobOpen;
use super::state::ListState;
use crate::domain::error::Problem;
use crate::ui::components::empty::Empty;
use crate::ui::query::JobsUrl;
use crate::ui::text;

/// There are no jobs at all.
#[component]
pub fn NoJobs(may_enqueue: bool) -> impl IntoView {
    let open = use_context::<NewJobOpen>();
    let start = move |_| {
        if let Some(NewJobOpen(open)) = open {
            open.set(true);
        }
    };
    if !may_enqueue {
        return view! {
            <Empty
                icon=icondata_lu::LuInbox
                title="No jobs yet"
                text="Jobs appear here when somebody exports something or runs it in the background."
            />
        }
        .into_any();
    }
    view! {
        <Empty
            icon=icondata_lu::LuInbox
            title="No jobs yet"
            text="Jobs appear here when something is exported or run in the background."
        >
            <button type="button" class="btn primary" aria-haspopup="dialog" on:click=start>
                "Start the first job"
            </button>
        </Empty>
    }
    .into_any()
}

/// There are jobs, but none that the filter lets through.
#[component]
pub fn NoMatch() -> impl IntoView {
    let url = JobsUrl::expect();
    view! {
        <Empty
            icon=icondata_lu::LuSearchX
            title="No jobs match"
            text="The filters may be too narrow. Widen them, or see all jobs."
        >
            <button type="button" class="btn" on:click=move |_| url.clear()>
                {text::CLEAR_ALL}
            </button>
        </Empty>
    }
}

/// The address asks for something that makes no sense.
#[component]
pub fn BadQuery(problem: Problem) -> impl IntoView {
    let url = JobsUrl::expect();
    view! {
        <Empty icon=icondata_lu::LuSearchX title="This filter can't be understood" text=problem.detail>
            <button type="button" class="btn" on:click=move |_| url.clear()>
                {text::CLEAR_ALL}
            </button>
        </Empty>
    }
}

/// The list could not be fetched.
#[component]
pub fn Failed(list: ListState, problem: Problem) -> impl IntoView {
    view! {
        <div role="alert">
            <Empty icon=icondata_lu::LuCircleAlert title="The jobs can't be loaded" text=problem.to_string()>
                <button type="button" class="btn primary" on:click=move |_| list.refresh()>
                    {text::TRY_AGAIN}
                </button>
            </Empty>
        </div>
    }
}

/// The whole left side before it is known.
#[component]
pub fn ListSkeleton() -> impl IntoView {
    view! {
        <div class="list-head" aria-hidden="true">
            <span class="skeleton"></span>
        </div>
        <div class="list-scroll">
            <SkeletonRows />
        </div>
    }
}

/// Rows that are on their way.
#[component]
pub fn SkeletonRows() -> impl IntoView {
    view! {
        <div role="status" class="visually-hidden">"Loading jobs"</div>
        {(0..8).map(|_| view! { <SkeletonRow /> }).collect_view()}
    }
}

/// One row that is on its way.
#[component]
pub fn SkeletonRow() -> impl IntoView {
    view! {
        <div class="row row-skeleton" aria-hidden="true">
            <span class="skeleton round"></span>
            <span class="skeleton"></span>
            <span class="skeleton short"></span>
            <span class="skeleton wide"></span>
        </div>
    }
}
