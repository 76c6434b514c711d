//! Where a link that works once leads: a password is chosen, and its holder is in. Plain forms, which work without a script.

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::{use_params_map, use_query_map};
use leptos_router::{LazyRoute, lazy_route};

use super::sign_in::{TROUBLE, Trouble};
use crate::domain::account::{EMAIL_MAX, PASSWORD_MAX, PASSWORD_MIN, Purpose};
use crate::domain::error::Problem;
use crate::rpc;
use crate::ui::components::empty::Empty;
use crate::ui::layout::bare::Bare;
use crate::ui::text;

/// The page, in a part of its own: who is signed in has no use for it.
pub struct WelcomeRoute;

#[lazy_route]
impl LazyRoute for WelcomeRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        WelcomePage().into_any()
    }
}

#[component]
fn WelcomePage() -> impl IntoView {
    let key = use_params_map().with_untracked(|params| params.get("key").unwrap_or_default());
    let problem = use_query_map().with_untracked(|query| query.get("problem"));
    let link = Resource::new(|| (), {
        let key = key.clone();
        move |()| rpc::link(key.clone())
    });
    let page = move || {
        let (key, problem) = (key.clone(), problem.clone());
        Suspend::new(async move {
            match link.await {
                Ok(Some((purpose, email))) => view! { <Choose purpose email key=key problem /> }.into_any(),
                Ok(None) => view! { <Gone /> }.into_any(),
                Err(problem) => view! { <Failed problem /> }.into_any(),
            }
        })
    };
    view! {
        <Bare>
            <Suspense fallback=|| view! { <p role="status">"Looking at the link…"</p> }>{page}</Suspense>
        </Bare>
    }
}

/// The form. The first admin says who they are; of the others the link knows it.
#[component]
fn Choose(purpose: Purpose, email: String, key: String, problem: Option<String>) -> impl IntoView {
    let (title, about, submit) = match purpose {
        Purpose::First => (
            "Create the first admin",
            "Nobody can sign in yet. Whoever fills this in may do everything, and invites the others.",
            "Create admin",
        ),
        Purpose::Invite => (
            "Welcome to Windlass",
            "You have been invited. Choose a password, and you are in.",
            "Join",
        ),
        Purpose::Reset => (
            "Choose a new password",
            "The old one does not work any more, and you are signed out everywhere else.",
            "Set password",
        ),
    };
    let wrong = problem.as_deref();
    let at = move |field: &str| (wrong == Some(field)).then_some("true");
    let (at_email, at_password) = (at("email").or(at("taken")), at("password"));
    view! {
        <Title text=title />
        <h1>{title}</h1>
        <p class="bare-about">{about}</p>
        <Trouble words=wrong.map(words) />
        <form class="bare-form" method="post" action="/welcome">
            <input type="hidden" name="key" value=key />
            <div class="field">
                <label for="email">{text::EMAIL}</label>
                {match purpose {
                    Purpose::First => {
                        view! {
                            <input
                                id="email"
                                name="email"
                                type="email"
                                autocomplete="username"
                                maxlength=EMAIL_MAX.to_string()
                                required
                                autofocus
                                aria-invalid=at_email
                                aria-describedby=at_email.map(|_| TROUBLE)
                            />
                        }
                            .into_any()
                    }
                    // Without a name it is not sent; password managers take it from here.
                    _ => view! { <input id="email" type="email" autocomplete="username" readonly value=email /> }.into_any(),
                }}
            </div>
            <div class="field">
                <label for="password">{text::PASSWORD}</label>
                <input
                    id="password"
                    name="password"
                    type="password"
                    autocomplete="new-password"
                    minlength=PASSWORD_MIN.to_string()
                    maxlength=PASSWORD_MAX.to_string()
                    required
                    aria-invalid=at_password
                    aria-describedby=if at_password.is_some() { "trouble password-hint" } else { "password-hint" }
                />
                <p class="hint" id="password-hint">
                    {password_hint()}
                </p>
            </div>
            <button type="submit" class="btn primary">
                {submit}
            </button>
        </form>
    }
}

/// What a new password must be.
fn password_hint() -> String {
    format!("{PASSWORD_MIN} characters at least; a few words are easier to keep in mind than signs.")
}

fn words(problem: &str) -> String {
    match problem {
        "password" => format!("A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters."),
        "email" => "This is not an e-mail address like ada@example.org.".into(),
        "taken" => "Somebody with this e-mail is a user already.".into(),
        _ => "This did not work. Try again.".into(),
    }
}

#[component]
fn Gone() -> impl IntoView {
    view! {
        <Title text="Link used up" />
        <h1 class="visually-hidden">"Link used up"</h1>
        <Empty
            icon=icondata_lu::LuUnlink
            title="This link does not work any more"
            text="It was used, or its time has passed. Ask whoever sent it for a new one. The link for the first admin is printed anew when the server starts."
        >
            <a class="btn" href="/sign-in" rel="external">"Go to the sign-in"</a>
        </Empty>
    }
}

#[component]
fn Failed(problem: Problem) -> impl IntoView {
    view! {
        <Title text="Not available" />
        <h1 class="visually-hidden">"Not available"</h1>
        <Empty icon=icondata_lu::LuCircleAlert title="The link can't be looked at now" text=problem.detail>
            <a class="btn" href="" rel="external">{text::TRY_AGAIN}</a>
        </Empty>
    }
}
