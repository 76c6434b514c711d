//! Who did what, the newest first.

mod address;
mod entry;
mod filters;
mod words;

use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_meta::Title;
use leptos_router::{LazyRoute, lazy_route};

use crate::domain::audit::{AuditEntry, AuditHead, AuditPage};
use crate::domain::page::grouped;
use crate::rpc;
use crate::ui::components::empty::Empty;
use crate::ui::components::entries_skeleton::EntriesSkeleton;
use crate::ui::components::refused::Refused;
use crate::ui::components::toast::Toaster;
use crate::ui::components::{CopyButton, Icon};
use crate::ui::layout::page_header::PageHeader;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;
use address::AuditUrl;
use filters::{ExportLinks, Filters};

/// The page, in a part of its own, with what it asks the server for.
pub struct AuditRoute;

#[lazy_route]
impl LazyRoute for AuditRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        AuditLog().into_any()
    }
}

#[component]
fn AuditLog() -> impl IntoView {
    let asked = address::asked();
    let first = Resource::new(
        move || asked.get(),
        async |asked| rpc::audit(asked?, None).await.inspect_err(lead_to_sign_in),
    );
    let actions = Resource::new(|| (), async |()| rpc::audit_actions().await);
    let url = AuditUrl::new(asked);
    let bar = move || Suspend::new(async move { actions.await.ok().map(|actions| view! { <Filters url actions /> }) });
    let export = move || Suspend::new(async move { actions.await.is_ok().then(|| view! { <ExportLinks url /> }) });
    let body = move || {
        first.get().map(|answer| match answer {
            Ok(page) => view! { <Entries url page /> }.into_any(),
            Err(_) if asked.with(Result::is_err) => view! { <BadQuery url /> }.into_any(),
            Err(problem) => {
                let again = Callback::new(move |()| first.refetch());
                view! { <Refused problem title="The audit log can't be loaded" again /> }.into_any()
            }
        })
    };
    view! {
        <Title text=text::AUDIT_LOG />
        <div class="page">
            <PageHeader icon=icondata_lu::LuScrollText title=text::AUDIT_LOG description=text::AUDIT_LOG_DESCRIPTION>
                <button type="button" class="btn" on:click=move |_| first.refetch()>
                    <Icon icon=icondata_lu::LuRefreshCw />
                    <span class="btn-label">"Refresh"</span>
                </button>
                <Suspense>{export}</Suspense>
            </PageHeader>
            <Suspense>{bar}</Suspense>
            <Transition fallback=Skeleton>{body}</Transition>
        </div>
    }
}

/// The entries, and more of them as they are asked for.
#[component]
fn Entries(url: AuditUrl, page: AuditPage) -> impl IntoView {
    let toaster = Toaster::expect();
    let list = RwSignal::new(page.items);
    let next = RwSignal::new(page.next);
    let busy = RwSignal::new(false);
    let more = move |_| {
        let Some(before) = next.get_untracked().filter(|_| !busy.get_untracked()) else {
            return;
        };
        let filter = untrack(|| url.filter());
        busy.set(true);
        spawn_local(async move {
            let answer = rpc::audit(filter, Some(before)).await.inspect_err(lead_to_sign_in);
            busy.try_set(false);
            match answer {
                Ok(page) => {
                    list.try_update(|list| list.extend(page.items));
                    next.try_set(page.next);
                }
                Err(problem) => toaster.error(&problem),
            }
        });
    };
    if list.with_untracked(Vec::is_empty) {
        return match url.asked.with_untracked(|a| a.as_ref().is_ok_and(|f| f.is_empty())) {
            true => view! { <Nothing /> }.into_any(),
            false => view! { <NoMatch url /> }.into_any(),
        };
    }
    view! {
        <Head head=page.head />
        <ol class="entries" role="list" aria-label=text::AUDIT_LOG>
            <For each=move || list.get() key=|entry: &AuditEntry| entry.seq let:entry>
                <entry::Entry entry />
            </For>
        </ol>
        {move || {
            next.get()
                .is_some()
                .then(|| {
                    view! {
                        <div class="part-actions">
                            <button
                                type="button"
                                class="btn"
                                disabled=move || busy.get()
                                aria-busy=move || busy.get().then_some("true")
                                on:click=more
                            >
                                "Load more"
                            </button>
                        </div>
                    }
                })
        }}
    }
    .into_any()
}

/// Where the log ends, to be kept elsewhere.
#[component]
fn Head(head: AuditHead) -> impl IntoView {
    let AuditHead { seq, hash } = head;
    let (both, whole) = (format!("{seq} {hash}"), hash.clone());
    view! {
        <div class="audit-head">
            <p class="deed-hash">
                <span class="label">{format!("Last entry {}, hash", grouped(seq))}</span>
                <code title=whole>{hash}</code>
                <CopyButton text=Signal::stored(both) label="Copy number and hash" />
            </p>
            <p class="hint">
                "Keep these two somewhere else: each hash covers all entries before it, so whoever has them can show later that none was changed, taken out or cut off."
            </p>
        </div>
    }
}

/// Nobody has done anything yet.
#[component]
fn Nothing() -> impl IntoView {
    view! {
        <Empty
            icon=icondata_lu::LuScrollText
            title="Nothing has been done yet"
            text="What people and tokens do appears here: jobs that they start or end, users that they invite, sign-ins."
        />
    }
}

/// There are entries, but none that the filter lets through.
#[component]
fn NoMatch(url: AuditUrl) -> impl IntoView {
    view! {
        <Empty
            icon=icondata_lu::LuSearchX
            title="No entries match"
            text="The filters may be too narrow. Widen them, or see the whole log."
        >
            <button type="button" class="btn" on:click=move |_| url.clear()>
                {text::CLEAR_ALL}
            </button>
        </Empty>
    }
}

/// The address asks for something that makes no sense.
#[component]
fn BadQuery(url: AuditUrl) -> impl IntoView {
    let why = url
        .asked
        .with_untracked(|a| a.as_ref().err().map(|p| p.detail.clone()).unwrap_or_default());
    view! {
        <Empty icon=icondata_lu::LuSearchX title="This filter can't be understood" text=why>
            <button type="button" class="btn" on:click=move |_| url.clear()>
                {text::CLEAR_ALL}
            </button>
        </Empty>
    }
}

/// The shape of it before it is known.
#[component]
fn Skeleton() -> impl IntoView {
    view! { <EntriesSkeleton label="Loading the audit log" rows=8 /> }
}
