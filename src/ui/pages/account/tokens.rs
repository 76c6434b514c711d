//! One's API tokens.

use std::sync::Arc;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::new_token::NewTokenDialog;
use crate::domain::account::Token;
use crate::domain::error::Problem;
use crate::domain::user::Role;
use crate::rpc;
use crate::ui::components::dialog::{Answered, Ask};
use crate::ui::components::empty::Empty;
use crate::ui::components::toast::Toaster;
use crate::ui::components::{ConfirmDialog, Icon, RelativeTime};
use crate::ui::live::Live;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;

#[component]
pub fn Tokens(list: Vec<Token>, again: Resource<Result<Vec<Token>, Problem>>) -> impl IntoView {
    let toaster = Toaster::expect();
    let asked = RwSignal::new(None::<Ask>);
    let revoke = Callback::new(move |id: uuid::Uuid| {
        spawn_local(async move {
            match rpc::revoke_token(id).await.inspect_err(lead_to_sign_in) {
                Ok(()) => toaster.ok("The token was revoked"),
                Err(problem) => toaster.error(&problem),
            }
            again.refetch();
        });
    });
    let ask = Callback::new(move |(id, name): (uuid::Uuid, String)| {
        asked.set(Some(Ask {
            title: format!("Revoke the token {name}?"),
            text: "Whatever uses it is refused from now on. This cannot be undone.".into(),
            warning: None,
            confirm: "Revoke token".into(),
            keep: "Keep token".into(),
            tone: "danger",
            more: None,
            then: Arc::new(move || {
                revoke.try_run(id);
                Answered::Yes
            }),
        }));
    });
    let body = if list.is_empty() {
        view! {
            <Empty
                icon=icondata_lu::LuKeyRound
                title="No tokens yet"
                text="A token lets a program use the API in your name, for as much as you allow it and no more."
            />
        }
        .into_any()
    } else {
        let rows = list.into_iter().map(|token| view! { <Row token ask /> }).collect_view();
        view! {
            <ul class="entries" role="list" aria-label="API tokens">
                {rows}
            </ul>
        }
        .into_any()
    };
    view! {
        {body}
        <ConfirmDialog id="confirm-token" ask=asked />
    }
}

/// Makes one more. Beside the list and not in it: the list is made anew when there is one more, and the dialog still has to show
/// the secret then.
#[component]
pub fn AddToken(again: Resource<Result<Vec<Token>, Problem>>, role: Role) -> impl IntoView {
    let open = RwSignal::new(false);
    view! {
        <div class="part-actions">
            <button type="button" class="btn" aria-haspopup="dialog" on:click=move |_| open.set(true)>
                <Icon icon=icondata_lu::LuPlus />
                "New token"
            </button>
        </div>
        <NewTokenDialog open again role />
    }
}

#[component]
fn Row(token: Token, ask: Callback<(uuid::Uuid, String)>) -> impl IntoView {
    let now = Live::expect().now;
    let (id, name) = (token.id, token.name.clone());
    let revoked = token.revoked_at.is_some();
    let expires_at = token.expires_at;
    let expired = Memo::new(move |_| expires_at.is_some_and(|at| at <= now.get()));
    let at = |time: Option<crate::domain::time::Timestamp>| Signal::stored(time);
    let scopes = token
        .scopes
        .iter()
        .map(|scope| view! { <code class="pill">{scope.as_str()}</code> })
        .collect_view();
    let label = format!("Revoke the token {name}");
    view! {
        <li class="entry" class:faded=move || revoked || expired.get()>
            <div class="entry-main">
                <span class="entry-title">
                    {token.name}
                    <code class="entry-hint">{format!("{}…", token.hint)}</code>
                    {move || {
                        let state = if revoked { "Revoked" } else if expired.get() { "Expired" } else { "" };
                        (!state.is_empty()).then(|| view! { <span class="pill">{state}</span> })
                    }}
                </span>
                <span class="entry-pills">{scopes}</span>
                <span class="entry-facts">
                    <span>{text::kinds(&token.kinds)}</span>
                    <span>"Made " <RelativeTime at=at(Some(token.created_at)) /></span>
                    <span>
                        {match expires_at {
                            None => "Never expires".into_any(),
                            Some(_) => view! { "Expires " <RelativeTime at=at(expires_at) /> }.into_any(),
                        }}
                    </span>
                    <span>
                        {match token.used_at {
                            None => "Not used yet".into_any(),
                            Some(used) => {
                                let from = token.used_from.map(|from| format!(" from {from}"));
                                view! { "Last used " <RelativeTime at=at(Some(used)) /> {from} }.into_any()
                            }
                        }}
                    </span>
                </span>
            </div>
            <div class="entry-actions">
                {(!revoked)
                    .then(|| {
                        view! {
                            <button
                                type="button"
                                class="btn small danger"
                                aria-label=label
                                on:click=move |_| ask.run((id, name.clone()))
                            >
                                "Revoke"
                            </button>
                        }
                    })}
            </div>
        </li>
    }
}
