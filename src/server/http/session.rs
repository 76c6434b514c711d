//! Signing in and out, by forms that need no script.

use axum::Form;
use axum::extract::State;
use axum::extract::rejection::FormRejection;
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::auth::Visitor;
use super::{AppState, page};
use crate::domain::account::Purpose;
use crate::domain::error::{Problem, ProblemCode};
use crate::server::service::identity::SignedIn;

/// What the form of the page for signing in sends.
#[derive(Deserialize)]
pub struct SignIn {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    next: String,
}

/// What the form behind a link that works once sends.
#[derive(Deserialize)]
pub struct Welcome {
    #[serde(default)]
    key: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
}

/// A page of this server that a form wants to go on to; anything else is the list of jobs.
pub(super) fn inside(next: &str) -> &str {
    let own = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    match own && !next.chars().any(char::is_control) && next.len() <= 2_000 {
        true => next,
        false => "/jobs",
    }
}

fn form<T>(form: Result<Form<T>, FormRejection>) -> Result<T, Problem> {
    let read = form.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ProblemCode::TooLarge, "the form is larger than is allowed here"),
        _ => Problem::new(ProblemCode::InvalidInput, e.body_text()),
    });
    read.map(|Form(form)| form)
}

/// Leads on, signed in.
pub(super) fn signed_in(state: &AppState, signed: &SignedIn, next: &str) -> Response {
    let cookie = state.site.set_cookie(&signed.key);
    (AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to(next)).into_response()
}

pub(super) fn back(path: &str, pairs: &[(&str, &str)]) -> Response {
    let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
    Redirect::to(&format!("{path}?{query}")).into_response()
}

/// Signs in by e-mail and password.
pub async fn begin(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    sent: Result<Form<SignIn>, FormRejection>,
) -> Response {
    let done = sign_in(&state, &visitor, &headers, sent).await;
    done.unwrap_or_else(|problem| page::refusal(&headers, problem))
}

async fn sign_in(
    state: &AppState,
    visitor: &Visitor,
    headers: &HeaderMap,
    sent: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Problem> {
    let SignIn { email, password, next } = form(sent)?;
    let next = inside(&next);
    match state.service.sign_in(&email, password, visitor.origin(headers)).await {
        Ok(signed) => Ok(signed_in(state, &signed, next)),
        Err(problem) => match (problem.code, problem.retry_after) {
            (ProblemCode::Unauthorized, _) => Ok(back("/sign-in", &[("next", next), ("problem", "wrong")])),
            (ProblemCode::RateLimited, Some(seconds)) => {
                let seconds = seconds.to_string();
                Ok(back(
                    "/sign-in",
                    &[("next", next), ("problem", "wait"), ("seconds", &seconds)],
                ))
            }
            _ => Err(problem),
        },
    }
}

/// Signs out. Whoever is signed out already, elsewhere or because the session has ended, is led to the sign-in all the same.
pub async fn end(State(state): State<AppState>, visitor: Visitor, headers: HeaderMap) -> Response {
    if let Some(known) = &visitor.known
        && let Err(problem) = state.service.sign_out(known).await
    {
        return page::refusal(&headers, problem);
    }
    let cookie = state.site.clear_cookie();
    (AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to("/sign-in")).into_response()
}

/// Uses a link that works once.
pub async fn welcome(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    sent: Result<Form<Welcome>, FormRejection>,
) -> Response {
    let done = come_in(&state, &visitor, &headers, sent).await;
    done.unwrap_or_else(|problem| page::refusal(&headers, problem))
}

async fn come_in(
    state: &AppState,
    visitor: &Visitor,
    headers: &HeaderMap,
    sent: Result<Form<Welcome>, FormRejection>,
) -> Result<Response, Problem> {
    let Welcome { key, email, password } = form(sent)?;
    // What was sent goes into the next address; what no key can be is left out.
    let key = key.chars().filter(char::is_ascii_hexdigit).take(64).collect::<String>();
    let here = format!("/welcome/{key}");
    if let Some((Purpose::First, _)) = state.service.link(&key).await?
        && !visitor.local
        && !state.site.setup_anywhere
    {
        let detail = "The first admin comes in from the machine itself (or set SETUP_ANYWHERE=true).";
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let used = state
        .service
        .use_link(&key, Some(&email), password, visitor.origin(headers))
        .await;
    match used {
        Ok(signed) => Ok(signed_in(state, &signed, "/jobs")),
        Err(problem) => match (problem.code, problem.field.as_deref()) {
            (ProblemCode::InvalidInput, Some("password")) => Ok(back(&here, &[("problem", "password")])),
            (ProblemCode::InvalidInput, Some("email")) => Ok(back(&here, &[("problem", "email")])),
            (ProblemCode::NotFound, _) => Ok(Redirect::to(&here).into_response()),
            _ => Err(problem),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn nobody_is_led_elsewhere() {
        for good in ["/jobs", "/jobs/1?q=a%20b", "/"] {
            assert_eq!(inside(good), good);
        }
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "javascript:x",
        ] {
            assert_eq!(inside(bad), "/jobs", "{bad}");
        }
    }
}
