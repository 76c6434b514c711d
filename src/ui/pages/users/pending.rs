//! Links that were made and not used yet, and how to take one back.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::domain::account::{PendingLink, Purpose};
use crate::domain::error::Problem;
use crate::rpc;
use crate::ui::components::RelativeTime;
use crate::ui::components::toast::Toaster;
use crate::ui::signed::lead_to_sign_in;

/// What the page knows of them.
pub type Links = Resource<Result<Vec<PendingLink>, Problem>>;

/// The list; nothing while there are none.
#[component]
pub fn Pending(links: Links) -> impl IntoView {
    let toaster = Toaster::expect();
    let busy = RwSignal::new(false);
    let revoke = Callback::new(move |id: String| {
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        spawn_local(async move {
            let answer = rpc::revoke_link(id).await.inspect_err(lead_to_sign_in);
            busy.try_set(false);
            match answer {
                Ok(()) => toaster.ok("The link does not work any more"),
                Err(problem) => toaster.error(&problem),
            }
            links.refetch();
        });
    });
    let body = move || {
        links.get().map(|answer| match answer {
            Ok(list) if list.is_empty() => ().into_any(),
            Ok(list) => {
                let rows = list
                    .into_iter()
                    .map(|link| view! { <Row link busy revoke /> })
                    .collect_view();
                view! {
                    <section class="part" aria-labelledby="pending-title">
                        <h2 id="pending-title">"Links not used yet"</h2>
                        <ul class="entries" role="list" aria-label="Links not used yet">
                            {rows}
                        </ul>
                    </section>
                }
                .into_any()
            }
            Err(problem) => view! {
                <p class="hint" role="alert">
                    {format!("The links that were not used yet can't be loaded. {}", problem.detail)}
                </p>
            }
            .into_any(),
        })
    };
    view! { <Transition>{body}</Transition> }
}

#[component]
fn Row(link: PendingLink, busy: RwSignal<bool>, revoke: Callback<String>) -> impl IntoView {
    let PendingLink {
        id,
        purpose,
        email,
        role,
        made_by,
        expires_at,
        ..
    } = link;
    let what = words(purpose);
    let label = format!("Revoke: {what} for {email}");
    view! {
        <li class="entry">
            <div class="entry-main">
                <span class="entry-title">
                    {email}
                    <span class="pill">{what}</span>
                </span>
                <span class="entry-facts">
                    <span>{role.label()}</span>
                    <span>{format!("Made by {made_by}")}</span>
                    <span>"Expires " <RelativeTime at=Signal::stored(Some(expires_at)) /></span>
                </span>
            </div>
            <div class="entry-actions">
                <button
                    type="button"
                    class="btn small danger"
                    aria-label=label
                    disabled=move || busy.get()
                    on:click=move |_| revoke.run(id.clone())
                >
                    "Revoke"
                </button>
            </div>
        </li>
    }
}

fn words(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::First => "First admin",
        Purpose::Invite => "Invitation",
        Purpose::Reset => "New password",
    }
}
