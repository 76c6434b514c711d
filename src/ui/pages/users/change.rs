//! The dialog that changes a user's name, role and kinds.

use leptos::prelude::*;
use leptos::web_sys::SubmitEvent;

use super::{People, roles};
use crate::domain::account::{NAME_MAX, User, UserChange};
use crate::domain::user::Role;
use crate::rpc;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::form::{FormEnd, Kinds, Radios, Sending, TextField};
use crate::ui::components::toast::Toaster;

#[component]
pub fn ChangeDialog(people: People) -> impl IntoView {
    let open = RwSignal::new(false);
    Effect::new(move |_| {
        if people.changing.with(Option::is_some) {
            open.set(true);
        }
    });
    // The same person may be changed again.
    Effect::new(move |was: Option<bool>| {
        let is = open.get();
        if was == Some(true) && !is {
            people.changing.set(None);
        }
        is
    });
    view! {
        <Dialog id="change-user" title="Change user" open class="form-dialog">
            {move || people.changing.get().map(|user| view! { <ChangeForm user people open /> })}
        </Dialog>
    }
}

#[component]
fn ChangeForm(user: User, people: People, open: RwSignal<bool>) -> impl IntoView {
    let toaster = Toaster::expect();
    let sending = Sending::new(&["name", "role", "kinds"]);
    let name = RwSignal::new(user.name.clone());
    let role = RwSignal::new(user.role.as_str().to_string());
    let kinds = RwSignal::new(user.kinds.clone());
    let email = user.email.clone();
    let user = StoredValue::new(user);
    let submit = move |ev: SubmitEvent| {
        ev.prevent_default();
        let was = user.get_value();
        let change = change(&was, name.get_untracked(), &role.get_untracked(), kinds.get_untracked());
        if change == UserChange::default() {
            open.set(false);
            return;
        }
        sending.send(rpc::change_user(was.id, change), move |user| {
            toaster.ok(format!("{} was changed", user.email));
            people.take(user);
            open.try_set(false);
        });
    };
    view! {
        <form class="form" novalidate on:submit=submit>
            <div class="dialog-body">
                <p class="form-about">{email}</p>
                <TextField id="change-name" label="Name" value=name why=sending.why("name") max=NAME_MAX first=true />
                <Radios id="change-role" legend="Role" picks=roles() picked=role why=sending.why("role") />
                <Kinds
                    id="change-kinds"
                    hint="Tick some to let them start these only; none: they may start all."
                    picked=kinds
                    why=sending.why("kinds")
                />
            </div>
            <FormEnd sending open submit="Save" />
        </form>
    }
}

/// What is different from how they were.
fn change(was: &User, name: String, role: &str, mut kinds: Vec<String>) -> UserChange {
    let mut kinds_were = was.kinds.clone();
    kinds_were.sort();
    kinds.sort();
    UserChange {
        name: (name.trim() != was.name).then_some(name),
        role: Role::parse(role).filter(|role| *role != was.role),
        kinds: (kinds != kinds_were).then_some(kinds),
        disabled: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_different_is_sent() {
        let was = User {
            id: uuid::Uuid::nil(),
            email: "ada@example.org".into(),
            name: "Ada".into(),
            role: Role::Member,
            kinds: vec!["import".into(), "export".into()],
            disabled: false,
            has_password: true,
            has_openid: false,
            created_at: crate::domain::time::from_millis(0),
            seen_at: None,
        };
        let kinds = || vec!["export".to_string(), "import".to_string()];
        assert_eq!(change(&was, " Ada".into(), "member", kinds()), UserChange::default());
        let changed = change(&was, "Ada".into(), "manager", Vec::new());
        assert_eq!(
            (changed.name, changed.role, changed.kinds),
            (None, Some(Role::Manager), Some(Vec::new()))
        );
    }
}
