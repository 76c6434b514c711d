//! A new password for oneself.

use leptos::prelude::*;
use leptos::web_sys::SubmitEvent;

use crate::domain::account::{PASSWORD_MAX, PASSWORD_MIN, PasswordChange, Session};
use crate::domain::error::Problem;
use crate::rpc;
use crate::ui::components::form::{FieldError, Sending, TextField};
use crate::ui::components::toast::Toaster;

#[component]
pub fn ChangePassword(sessions: Resource<Result<Vec<Session>, Problem>>) -> impl IntoView {
    let toaster = Toaster::expect();
    let sending = Sending::new(&["current", "new"]);
    let (current, new) = (RwSignal::new(String::new()), RwSignal::new(String::new()));
    let submit = move |ev: SubmitEvent| {
        ev.prevent_default();
        let change = PasswordChange {
            current: current.get_untracked(),
            new: new.get_untracked(),
        };
        sending.send(rpc::change_password(change), move |()| {
            current.try_set(String::new());
            new.try_set(String::new());
            toaster.ok("The password was changed; all other sessions have ended");
            sessions.refetch();
        });
    };
    let rest = sending.rest();
    view! {
        <form class="form narrow" method="post" novalidate on:submit=submit>
            <TextField
                id="current-password"
                label="Current password"
                kind="password"
                autocomplete="current-password"
                value=current
                why=sending.why("current")
                max=PASSWORD_MAX
            />
            <TextField
                id="new-password"
                label="New password"
                kind="password"
                autocomplete="new-password"
                value=new
                why=sending.why("new")
                max=PASSWORD_MAX
                hint="A few words are easier to keep in mind than signs. All your other sessions end."
            />
            <FieldError id="password-why".into() why=rest />
            <div class="part-actions">
                <button
                    type="submit"
                    class="btn"
                    disabled=move || {
                        sending.busy.get() || current.with(String::is_empty) || new.with(|n| n.chars().count() < PASSWORD_MIN)
                    }
                    aria-busy=move || sending.busy.get().then_some("true")
                >
                    "Change password"
                </button>
            </div>
        </form>
    }
}
