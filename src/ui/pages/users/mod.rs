//! Who may sign in, and what they may do.

mod change;
mod invite;
mod link;
mod pending;
mod row;

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::{LazyRoute, lazy_route};
use uuid::Uuid;

use crate::domain::account::{OnceLink, User};
use crate::domain::page::count_label;
use crate::domain::user::Role;
use crate::rpc;
use crate::ui::components::dialog::{Ask, Dialog};
use crate::ui::components::entries_skeleton::EntriesSkeleton;
use crate::ui::components::form::Pick;
use crate::ui::components::refused::Refused;
use crate::ui::components::{ConfirmDialog, Icon};
use crate::ui::layout::page_header::PageHeader;
use crate::ui::signed::lead_to_sign_in;
use crate::ui::text;
use pending::Links;

/// The page, in a part of its own, with what it asks the server for.
pub struct UsersRoute;

#[lazy_route]
impl LazyRoute for UsersRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        UsersPage().into_any()
    }
}

#[component]
fn UsersPage() -> impl IntoView {
    let users = Resource::new(|| (), async |()| rpc::users().await.inspect_err(lead_to_sign_in));
    let links: Links = Resource::new(|| (), async |()| rpc::links().await.inspect_err(lead_to_sign_in));
    let body = move || {
        users.get().map(|answer| match answer {
            Ok(list) => view! { <Loaded list links /> }.into_any(),
            Err(problem) => {
                let again = Callback::new(move |()| users.refetch());
                view! { <Refused problem title="The users can't be loaded" again /> }.into_any()
            }
        })
    };
    let inviting = RwSignal::new(false);
    let allowed = move || {
        Suspend::new(async move {
            users.await.is_ok().then(|| {
                view! {
                    <button type="button" class="btn primary" aria-haspopup="dialog" on:click=move |_| inviting.set(true)>
                        <Icon icon=icondata_lu::LuUserPlus />
                        "Invite user"
                    </button>
                    <invite::InviteDialog open=inviting links />
                }
            })
        })
    };
    view! {
        <Title text=text::USERS />
        <div class="page">
            <PageHeader icon=icondata_lu::LuUsers title=text::USERS description=text::USERS_DESCRIPTION>
                <Suspense>{allowed}</Suspense>
            </PageHeader>
            <Transition fallback=Skeleton>{body}</Transition>
        </div>
    }
}

/// What the rows share: the users as they are now, and the questions about them.
#[derive(Clone, Copy)]
struct People {
    list: RwSignal<Vec<User>>,
    /// Who is being changed.
    changing: RwSignal<Option<User>>,
    asked: RwSignal<Option<Ask>>,
    /// A link that was made, to be shown once.
    link: RwSignal<Option<OnceLink>>,
    /// Those that were not used yet.
    links: Links,
}

impl People {
    fn of(self, id: Uuid) -> Memo<Option<User>> {
        Memo::new(move |_| self.list.with(|list| list.iter().find(|user| user.id == id).cloned()))
    }

    /// Takes a user as the server has them now.
    fn take(self, user: User) {
        self.list.try_update(|list| {
            if let Some(known) = list.iter_mut().find(|known| known.id == user.id) {
                *known = user;
            }
        });
    }
}

#[component]
fn Loaded(list: Vec<User>, links: Links) -> impl IntoView {
    let people = People {
        list: RwSignal::new(list),
        changing: RwSignal::new(None),
        asked: RwSignal::new(None),
        link: RwSignal::new(None),
        links,
    };
    let ids = move || {
        people
            .list
            .with(|list| list.iter().map(|user| user.id).collect::<Vec<_>>())
    };
    let count = move || count_label(people.list.with(|l| l.len() as u64), false, "user", "users");
    let link_open = RwSignal::new(false);
    Effect::new(move |_| {
        if people.link.with(Option::is_some) {
            link_open.set(true);
        }
    });
    view! {
        <p class="part-count">{count}</p>
        <ul class="entries" role="list" aria-label=text::USERS>
            <For each=ids key=|id| *id let:id>
                <row::UserRow id people />
            </For>
        </ul>
        <pending::Pending links />
        <change::ChangeDialog people />
        <ConfirmDialog id="confirm-user" ask=people.asked />
        <Dialog id="password-link" title="New password link" open=link_open class="form-dialog">
            {move || people.link.get().map(|made| view! { <link::Shown made open=link_open /> })}
        </Dialog>
    }
}

/// The roles, with what each may do.
fn roles() -> Vec<Pick> {
    Role::ALL
        .map(|role| Pick::new(role.as_str(), role.label(), role.description()))
        .to_vec()
}

/// The shape of it before it is known.
#[component]
fn Skeleton() -> impl IntoView {
    view! { <EntriesSkeleton label="Loading users" rows=4 /> }
}
