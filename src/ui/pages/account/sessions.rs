//! Where one is signed in, and how to end that.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::device;
use crate::domain::account::Session;
use crate::domain::error::Problem;
use crate::domain::page::count_label;
use crate::rpc;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::toast::Toaster;
use crate::ui::components::{ConfirmDialog, Icon, RelativeTime};
use crate::ui::signed::lead_to_sign_in;

#[component]
pub fn Sessions(list: Vec<Session>, again: Resource<Result<Vec<Session>, Problem>>) -> impl IntoView {
    let toaster = Toaster::expect();
    let asked = RwSignal::new(None::<Ask>);
    let busy = RwSignal::new(false);
    let end = Callback::new(move |one: Option<uuid::Uuid>| {
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        spawn_local(async move {
            let answer = rpc::end_my_sessions(one).await.inspect_err(lead_to_sign_in);
            busy.try_set(false);
            match answer {
                Ok(n) => toaster.ok(format!("{} ended", count_label(n, false, "session", "sessions"))),
                Err(problem) => toaster.error(&problem),
            }
            again.refetch();
        });
    });
    let ask = move |_| {
        asked.set(Some(Ask {
            title: "Sign out everywhere else?".into(),
            text: "All your sessions end but this one. Whoever used them has to sign in again.".into(),
            warning: None,
            confirm: "Sign out everywhere else".into(),
            keep: "Keep sessions".into(),
            tone: "danger",
            more: None,
            then: Arc::new(move || {
                end.try_run(None);
                Answered::Yes
            }),
        }));
    };
    let others = list.iter().any(|session| !session.current);
    let rows = list
        .into_iter()
        .map(|session| view! { <Row session busy end /> })
        .collect_view();
    view! {
        <ul class="entries" role="list" aria-label="Sessions">
            {rows}
        </ul>
        {others
            .then(|| {
                view! {
                    <div class="part-actions">
                        <button type="button" class="btn danger" disabled=move || busy.get() on:click=ask>
                            <Icon icon=icondata_lu::LuLogOut />
                            "Sign out everywhere else"
                        </button>
                    </div>
                }
            })}
        <ConfirmDialog id="confirm-sessions" ask=asked />
    }
}

#[component]
fn Row(session: Session, busy: RwSignal<bool>, end: Callback<Option<uuid::Uuid>>) -> impl IntoView {
    let device = device::words(&session.agent);
    let label = format!("End the session of {device} at {}", session.address);
    let begun = Signal::stored(Some(session.created_at));
    let seen = Signal::stored(Some(session.seen_at));
    let id = session.id;
    view! {
        <li class="entry">
            <div class="entry-main">
                <span class="entry-title" title=session.agent>
                    {device}
                    {session.current.then(|| view! { <span class="pill ok">"This session"</span> })}
                </span>
                <span class="entry-facts">
                    <span>{session.address}</span>
                    <span>"Begun " <RelativeTime at=begun /></span>
                    <span>"Last used " <RelativeTime at=seen /></span>
                </span>
            </div>
            <div class="entry-actions">
                {(!session.current)
                    .then(|| {
                        view! {
                            <button
                                type="button"
                                class="btn small"
                                aria-label=label
                                disabled=move || busy.get()
                                on:click=move |_| end.run(Some(id))
                            >
                                "End"
                            </button>
                        }
                    })}
            </div>
        </li>
    }
}
