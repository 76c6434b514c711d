//! The sign-in: a plain form, which works without a script.

use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;
use leptos_router::{LazyRoute, lazy_route};

use crate::domain::account::{EMAIL_MAX, PASSWORD_MAX};
use crate::rpc;
use crate::ui::components::Icon;
use crate::ui::layout::bare::Bare;
use crate::ui::text;

/// Where people go who came for no page of their own.
const HOME: &str = "/jobs";

/// The page, in a part of its own: who is signed in has no use for it.
pub struct SignInRoute;

#[lazy_route]
impl LazyRoute for SignInRoute {
    fn data() -> Self {
        Self
    }

    fn view(_this: Self) -> AnyView {
        SignInPage().into_any()
    }
}

#[component]
fn SignInPage() -> impl IntoView {
    let (next, problem) = use_query_map().with_untracked(|query| {
        let seconds = query.get("seconds").and_then(|s| s.parse().ok());
        let problem = query.get("problem").map(|name| words(&name, seconds));
        (query.get("next").unwrap_or_else(|| HOME.into()), problem)
    });
    view! {
        <Title text=text::SIGN_IN />
        <Bare>
            <h1>{text::SIGN_IN}</h1>
            <Trouble words=problem.clone() />
            <form class="bare-form" method="post" action="/session">
                <input type="hidden" name="next" value=next.clone() />
                <div class="field">
                    <label for="email">{text::EMAIL}</label>
                    <input
                        id="email"
                        name="email"
                        type="email"
                        autocomplete="username"
                        maxlength=EMAIL_MAX.to_string()
                        required
                        autofocus
                        aria-describedby=problem.is_some().then_some(TROUBLE)
                    />
                </div>
                <div class="field">
                    <label for="password">{text::PASSWORD}</label>
                    <input
                        id="password"
                        name="password"
                        type="password"
                        autocomplete="current-password"
                        maxlength=PASSWORD_MAX.to_string()
                        required
                    />
                </div>
                <button type="submit" class="btn primary">
                    {text::SIGN_IN}
                </button>
            </form>
            <SignInWith next />
        </Bare>
    }
}

/// The way to sign in by the OpenID provider, where there is one. A link, not a form: pages may only send forms to this server.
#[component]
fn SignInWith(next: String) -> impl IntoView {
    let provider = Resource::new(|| (), |()| rpc::sign_in_with());
    let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
    let href = format!("/session/oidc?{query}");
    let link = move || {
        let href = href.clone();
        Suspend::new(async move {
            provider.await.ok().flatten().map(|name| {
                view! {
                    <a class="btn" href=href rel="external">
                        {format!("Sign in with {name}")}
                    </a>
                }
            })
        })
    };
    view! { <Suspense>{link}</Suspense> }
}

/// The element that says what went wrong.
pub const TROUBLE: &str = "trouble";

/// Says what went wrong with a form that was sent.
#[component]
pub fn Trouble(words: Option<String>) -> impl IntoView {
    words.map(|words| {
        view! {
            <p class="trouble" id=TROUBLE role="alert">
                <Icon icon=icondata_lu::LuCircleAlert />
                <span>{words}</span>
            </p>
        }
    })
}

/// What the server calls a problem, as people say it. It never tells whether somebody has an account.
fn words(problem: &str, seconds: Option<u64>) -> String {
    match (problem, seconds) {
        ("wrong", _) => "The e-mail or the password is wrong.".into(),
        ("wait", Some(seconds)) => format!("Too many sign-ins that failed. Try again in {}.", wait(seconds)),
        ("wait", None) => "Too many sign-ins that failed. Try again later.".into(),
        ("again", _) => "This sign-in took too long, or was begun in another browser. Try again.".into(),
        ("denied", _) => "The sign-in was cancelled there.".into(),
        ("provider", _) => "The sign-in service can't be reached at the moment. Try again later.".into(),
        ("openid", _) => "What the sign-in service said could not be trusted. Try again.".into(),
        ("role", _) => "None of your groups may use Windlass. Ask an administrator.".into(),
        ("email", _) => "Your e-mail address is missing there, or not confirmed. Ask an administrator.".into(),
        ("taken", _) => "Your e-mail address belongs to another account here. Ask an administrator.".into(),
        ("disabled", _) => "Your account is disabled. Ask an administrator.".into(),
        _ => "You could not be signed in. Try again.".into(),
    }
}

fn wait(seconds: u64) -> String {
    match seconds {
        0 | 1 => "a second".into(),
        2..=99 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_said_in_words() {
        assert!(words("wrong", None).contains("password is wrong"));
        assert!(words("wait", Some(30)).ends_with("in 30 seconds."));
        assert!(words("wait", Some(601)).ends_with("in 11 minutes."));
        assert!(words("wait", Some(1)).ends_with("in a second."));
        assert!(words("role", None).contains("groups"));
        assert!(words("<b>", None).starts_with("You could not"));
    }
}
