//! One user, and what can be done with them.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;
use uuid::Uuid;

use super::People;
use crate::domain::account::{User, UserChange};
use crate::rpc;
use crate::ui::components::RelativeTime;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::toast::Toaster;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;

#[component]
pub fn UserRow(id: Uuid, people: People) -> impl IntoView {
    let user = people.of(id);
    let of =
        move |what: fn(&User) -> String| Memo::new(move |_| user.with(|u| u.as_ref().map(what).unwrap_or_default()));
    let email = user.with_untracked(|u| u.as_ref().map(|u| u.email.clone()).unwrap_or_default());
    let named = Memo::new(move |_| user.with(|u| u.as_ref().is_some_and(|u| !u.name.is_empty())));
    let title = of(|u| {
        if u.name.is_empty() {
            u.email.clone()
        } else {
            u.name.clone()
        }
    });
    let role = of(|u| u.role.label().into());
    let kinds = of(|u| text::kinds(&u.kinds));
    let disabled = Memo::new(move |_| user.with(|u| u.as_ref().is_some_and(|u| u.disabled)));
    let waiting = Memo::new(move |_| user.with(|u| u.as_ref().is_some_and(|u| !u.has_password && !u.has_openid)));
    let seen = Memo::new(move |_| user.with(|u| u.as_ref().and_then(|u| u.seen_at)));
    let shown = email.clone();
    view! {
        <li class="entry" class:faded=move || disabled.get()>
            <div class="entry-main">
                <span class="entry-title">
                    {move || title.get()}
                    <span class="pill">{move || role.get()}</span>
                    {move || disabled.get().then(|| view! { <span class="pill bad">"Disabled"</span> })}
                    {move || waiting.get().then(|| view! { <span class="pill">"No password"</span> })}
                </span>
                <span class="entry-facts">
                    {move || {
                        let email = shown.clone();
                        named.get().then(|| view! { <span>{email}</span> })
                    }}
                    <span>{move || kinds.get()}</span>
                    <span>
                        {move || {
                            if seen.get().is_none() {
                                "Has not signed in yet".into_any()
                            } else {
                                view! { "Signed in " <RelativeTime at=seen /> }.into_any()
                            }
                        }}
                    </span>
                </span>
            </div>
            <Actions user email people />
        </li>
    }
}

#[component]
fn Actions(user: Memo<Option<User>>, email: String, people: People) -> impl IntoView {
    let toaster = Toaster::expect();
    let busy = RwSignal::new(false);
    let disabled = Memo::new(move |_| user.with(|u| u.as_ref().is_some_and(|u| u.disabled)));
    let set_disabled = Callback::new(move |disabled: bool| {
        let Some(id) = user.with_untracked(|u| u.as_ref().map(|u| u.id)) else {
            return;
        };
        busy.set(true);
        spawn_local(async move {
            let change = UserChange {
                disabled: Some(disabled),
                ..UserChange::default()
            };
            let answer = rpc::change_user(id, change).await.inspect_err(lead_to_sign_in);
            busy.try_set(false);
            match answer {
                Ok(user) => {
                    let done = if disabled { "is disabled" } else { "may sign in again" };
                    toaster.ok(format!("{} {done}", user.email));
                    people.take(user);
                    // Who is disabled has none any more.
                    people.links.refetch();
                }
                Err(problem) => toaster.error(&problem),
            }
        });
    });
    let make_link = move |_| {
        let Some(id) = user.with_untracked(|u| u.as_ref().map(|u| u.id)) else {
            return;
        };
        busy.set(true);
        spawn_local(async move {
            let answer = rpc::reset_password(id).await.inspect_err(lead_to_sign_in);
            busy.try_set(false);
            match answer {
                Ok(link) => {
                    people.link.try_set(Some(link));
                    people.links.refetch();
                }
                Err(problem) => toaster.error(&problem),
            }
        });
    };
    let labels = |verb: &str| format!("{verb} {email}");
    let (change, enable, disable) = (labels("Change"), labels("Enable"), labels("Disable"));
    let link = format!("New password link for {email}");
    let ask = move |_| {
        people
            .asked
            .set(Some(question(&email, disabled.get_untracked(), set_disabled)))
    };
    view! {
        <div class="entry-actions">
            <button
                type="button"
                class="btn small"
                aria-haspopup="dialog"
                aria-label=change
                on:click=move |_| people.changing.set(user.get_untracked())
            >
                "Change"
            </button>
            <button
                type="button"
                class="btn small"
                aria-label=link
                disabled=move || busy.get() || disabled.get()
                on:click=make_link
            >
                "New password link"
            </button>
            <button
                type="button"
                class="btn small"
                class:danger=move || !disabled.get()
                aria-label=move || if disabled.get() { enable.clone() } else { disable.clone() }
                disabled=move || busy.get()
                on:click=ask
            >
                {move || if disabled.get() { "Enable" } else { "Disable" }}
            </button>
        </div>
    }
}

/// What is asked before somebody is let in again or kept out.
fn question(email: &str, disabled: bool, set: Callback<bool>) -> Ask {
    let (title, text, confirm, keep, tone) = if disabled {
        (
            format!("Enable {email}?"),
            "They may sign in again with the password and the role that they had.",
            "Enable user",
            "Keep disabled",
            "blue",
        )
    } else {
        (
            format!("Disable {email}?"),
            "They are signed out everywhere, and their tokens are refused. Their jobs stay and run on.",
            "Disable user",
            "Keep user",
            "danger",
        )
    };
    Ask {
        title,
        text: text.into(),
        warning: None,
        confirm: confirm.into(),
        keep: keep.into(),
        tone,
        more: None,
        then: Arc::new(move || {
            set.try_run(!disabled);
            Answered::Yes
        }),
    }
}
