//! The dialog that makes a token and shows its secret, this once.

use leptos::prelude::*;
use leptos::web_sys::SubmitEvent;

use crate::domain::account::{NAME_MAX, NewToken, Token};
use crate::domain::error::Problem;
use crate::domain::user::{Role, Scope};
use crate::rpc;
use crate::ui::components::dialog::Dialog;
use crate::ui::components::form::{Checks, FieldError, FormEnd, Kinds, Pick, Sending, TextField};
use crate::ui::components::once::Once;

/// Days that a token is good for, and how people say it; the first is what is offered.
const SPANS: [(&str, &str); 4] = [("90", "90 days"), ("30", "30 days"), ("365", "1 year"), ("", "Never")];

#[component]
pub fn NewTokenDialog(
    open: RwSignal<bool>,
    again: Resource<Result<Vec<Token>, Problem>>,
    /// Whose token it will be.
    role: Role,
) -> impl IntoView {
    view! {
        <Dialog id="new-token" title="New token" open class="form-dialog">
            <Content open again role />
        </Dialog>
    }
}

/// The form, and once the token is made, its secret.
#[component]
fn Content(open: RwSignal<bool>, again: Resource<Result<Vec<Token>, Problem>>, role: Role) -> impl IntoView {
    let made = RwSignal::new(None::<String>);
    move || match made.get() {
        None => view! { <TokenForm open again role made /> }.into_any(),
        Some(secret) => view! { <Secret open secret /> }.into_any(),
    }
}

#[component]
fn TokenForm(
    open: RwSignal<bool>,
    again: Resource<Result<Vec<Token>, Problem>>,
    role: Role,
    made: RwSignal<Option<String>>,
) -> impl IntoView {
    let sending = Sending::new(&["name", "scopes", "kinds", "days"]);
    let name = RwSignal::new(String::new());
    let scopes = RwSignal::new(vec![Scope::JobsRead.as_str().to_string()]);
    let kinds = RwSignal::new(Vec::new());
    let days = RwSignal::new(SPANS[0].0.to_string());
    let submit = move |ev: SubmitEvent| {
        ev.prevent_default();
        let new = NewToken {
            name: name.get_untracked(),
            scopes: scopes.with_untracked(|s| s.iter().filter_map(|s| Scope::parse(s)).collect()),
            kinds: kinds.get_untracked(),
            days: days.with_untracked(|d| d.parse().ok()),
        };
        sending.send(rpc::make_my_token(new), move |answer| {
            made.try_set(Some(answer.secret));
            again.refetch();
        });
    };
    let picks = Scope::offered(role)
        .into_iter()
        .map(|s| Pick::new(s.as_str(), s.as_str(), s.description()))
        .collect::<Vec<_>>();
    let spans = SPANS
        .map(|(value, words)| view! { <option value=value>{words}</option> })
        .collect_view();
    view! {
        <form class="form" novalidate on:submit=submit>
            <div class="dialog-body">
                <TextField
                    id="token-name"
                    label="Name"
                    value=name
                    why=sending.why("name")
                    max=NAME_MAX
                    hint="What it is for, so that you know it again."
                    first=true
                />
                <Checks
                    id="token-scopes"
                    legend="Scopes"
                    hint="A token can never do more than you can."
                    picks=Signal::stored(picks)
                    picked=scopes
                    why=sending.why("scopes")
                />
                <Kinds
                    id="token-kinds"
                    hint="Tick some to limit the token to these; none: it is good for all."
                    picked=kinds
                    why=sending.why("kinds")
                />
                <div class="field">
                    <label for="token-days">"Expires"</label>
                    <select id="token-days" aria-describedby="token-days-why" on:change=move |ev| days.set(event_target_value(&ev))>
                        {spans}
                    </select>
                    <FieldError id="token-days-why".into() why=sending.why("days") />
                </div>
            </div>
            <FormEnd sending open submit="Make token" />
        </form>
    }
}

#[component]
fn Secret(open: RwSignal<bool>, secret: String) -> impl IntoView {
    view! {
        <div class="form">
            <div class="dialog-body">
                <p role="status">
                    "This is the only time that the token is shown. Copy it now and keep it where the program that uses it finds it; the server itself keeps no more than a fingerprint."
                </p>
                <Once id="token-secret" label="Token" value=secret copy="Copy token" />
                <p class="hint">"Programs send it as " <code>"Authorization: Bearer …"</code> ", never in an address."</p>
            </div>
            <footer class="dialog-actions">
                <button type="button" class="btn primary" on:click=move |_| open.set(false)>
                    "Done"
                </button>
            </footer>
        </div>
    }
}
