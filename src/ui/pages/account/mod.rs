//! The account of whoever is signed in: who they are, where they are signed in, their password and their tokens.

mod device;
mod new_token;
mod password;
mod sessions;
mod tokens;

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::{LazyRoute, lazy_route};

use crate::domain::account::Me;
use crate::domain::user::Role;
use crate::rpc;
use crate::ui::components::Icon;
use crate::ui::components::entries_skeleton::EntriesSkeleton;
use crate::ui::components::refused::Refused;
use crate::ui::layout::page_header::PageHeader;
use crate::ui::signed::{Signed, lead_to_sign_in};
use crate::ui::text;

/// The page, in a part of its own, with what it asks the server for.
pub struct AccountRoute;

#[lazy_route]
impl LazyRoute for AccountRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        AccountPage().into_any()
    }
}

#[component]
fn AccountPage() -> impl IntoView {
    let signed = Signed::expect();
    let sessions = Resource::new(|| (), async |()| rpc::my_sessions().await.inspect_err(lead_to_sign_in));
    let tokens = Resource::new(|| (), async |()| rpc::my_tokens().await.inspect_err(lead_to_sign_in));
    let person = move || Suspend::new(async move { signed.me().await.map(|me| view! { <Person me /> }) });
    // Who signs in with somebody else's word has none.
    let password = move || {
        Suspend::new(async move {
            signed.me().await.filter(|me| me.has_password).map(|_| {
                view! {
                    <section class="part" aria-labelledby="password-title">
                        <h2 id="password-title">"Change password"</h2>
                        <password::ChangePassword sessions />
                    </section>
                }
            })
        })
    };
    let add = move || {
        Suspend::new(async move {
            let role = signed.me().await.map_or(Role::Viewer, |me| me.role);
            view! { <tokens::AddToken again=tokens role /> }
        })
    };
    let session_list = move || {
        sessions.get().map(|answer| match answer {
            Ok(list) => view! { <sessions::Sessions list again=sessions /> }.into_any(),
            Err(problem) => {
                let again = Callback::new(move |()| sessions.refetch());
                view! { <Refused problem title="Your sessions can't be loaded" again /> }.into_any()
            }
        })
    };
    let token_list = move || {
        tokens.get().map(|answer| match answer {
            Ok(list) => view! { <tokens::Tokens list again=tokens /> }.into_any(),
            Err(problem) => {
                let again = Callback::new(move |()| tokens.refetch());
                view! { <Refused problem title="Your tokens can't be loaded" again /> }.into_any()
            }
        })
    };
    view! {
        <Title text=text::ACCOUNT />
        <div class="page">
            <PageHeader icon=icondata_lu::LuCircleUser title=text::ACCOUNT description=text::ACCOUNT_DESCRIPTION>
                <form method="post" action="/session/end">
                    <button type="submit" class="btn">
                        <Icon icon=icondata_lu::LuLogOut />
                        {text::SIGN_OUT}
                    </button>
                </form>
            </PageHeader>
            <Suspense>{person}</Suspense>
            <section class="part" aria-labelledby="sessions-title">
                <h2 id="sessions-title">"Sessions"</h2>
                <Transition fallback=Skeleton>{session_list}</Transition>
            </section>
            <Suspense>{password}</Suspense>
            <section class="part" aria-labelledby="tokens-title">
                <h2 id="tokens-title">"API tokens"</h2>
                <Transition fallback=Skeleton>{token_list}</Transition>
                <Suspense>{add}</Suspense>
            </section>
        </div>
    }
}

#[component]
fn Person(me: Me) -> impl IntoView {
    let named = !me.name.is_empty();
    let name = if named { me.name } else { "Not given".into() };
    view! {
        <dl class="facts">
            <div class="fact">
                <dt>{text::EMAIL}</dt>
                <dd title=me.email.clone()>{me.email.clone()}</dd>
            </div>
            <div class="fact" class:absent=!named>
                <dt>"Name"</dt>
                <dd>{name}</dd>
            </div>
            <div class="fact wide">
                <dt>"Role"</dt>
                <dd>
                    <span class="pill">{me.role.label()}</span>
                    " "
                    {me.role.description()}
                </dd>
            </div>
        </dl>
    }
}

/// The shape of it before it is known.
#[component]
fn Skeleton() -> impl IntoView {
    view! { <EntriesSkeleton label="Loading" rows=2 /> }
}
