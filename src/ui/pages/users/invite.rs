//! The dialog that asks somebody to come, and shows the link by which they do.

use leptos::prelude::*;
use leptos::web_sys::SubmitEvent;

use super::link::Shown;
use super::pending::Links;
use super::roles;
use crate::domain::account::{EMAIL_MAX, NAME_MAX, NewUser, OnceLink};
use crate::domain::user::Role;
use crate::rpc;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::form::{FormEnd, Kinds, Radios, Sending, TextField};
use crate::ui::text;

#[component]
pub fn InviteDialog(open: RwSignal<bool>, links: Links) -> impl IntoView {
    view! {
        <Dialog id="invite" title="Invite user" open class="form-dialog">
            <Content open links />
        </Dialog>
    }
}

/// The form, and once it was taken, the link.
#[component]
fn Content(open: RwSignal<bool>, links: Links) -> impl IntoView {
    let made = RwSignal::new(None::<OnceLink>);
    move || match made.get() {
        None => view! { <InviteForm open made links /> }.into_any(),
        Some(made) => view! { <Shown made open /> }.into_any(),
    }
}

#[component]
fn InviteForm(open: RwSignal<bool>, made: RwSignal<Option<OnceLink>>, links: Links) -> impl IntoView {
    let sending = Sending::new(&["email", "name", "role", "kinds"]);
    let (email, name) = (RwSignal::new(String::new()), RwSignal::new(String::new()));
    let role = RwSignal::new(Role::Member.as_str().to_string());
    let kinds = RwSignal::new(Vec::new());
    let submit = move |ev: SubmitEvent| {
        ev.prevent_default();
        let new = NewUser {
            email: email.get_untracked(),
            name: name.get_untracked(),
            role: role.with_untracked(|r| Role::parse(r)).unwrap_or(Role::Member),
            kinds: kinds.get_untracked(),
        };
        sending.send(rpc::invite(new), move |link| {
            made.try_set(Some(link));
            links.refetch();
        });
    };
    view! {
        <form class="form" novalidate on:submit=submit>
            <div class="dialog-body">
                <TextField
                    id="invite-email"
                    label=text::EMAIL
                    kind="email"
                    value=email
                    why=sending.why("email")
                    max=EMAIL_MAX
                    first=true
                />
                <TextField
                    id="invite-name"
                    label="Name"
                    value=name
                    why=sending.why("name")
                    max=NAME_MAX
                    hint="May be left empty."
                />
                <Radios id="invite-role" legend="Role" picks=roles() picked=role why=sending.why("role") />
                <Kinds
                    id="invite-kinds"
                    hint="Tick some to let them start these only; none: they may start all."
                    picked=kinds
                    why=sending.why("kinds")
                />
            </div>
            <FormEnd sending open submit="Make link" />
        </form>
    }
}
