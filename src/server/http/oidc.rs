//! Signing in by an OpenID provider: the browser is sent there, and comes back with a code. Whatever fails leads to the page for
//! signing in, which says it in its own words; nothing that was sent is shown.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{HeaderMap, SET_COOKIE};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::AppState;
use super::auth::{Site, Visitor, cookie};
use super::extract::Answer;
use super::session::{back, inside, signed_in};
use crate::domain::error::{Problem, ProblemCode};
use crate::server::openid::{Began, Openid, OpenidError};
use crate::server::service::vouched::{Claimed, Leaving};

/// Seconds that a browser keeps the cookie of a sign-in that is at the provider.
const COOKIE_S: u64 = 600;
/// Bytes of whatever a provider sends a browser back with.
const PART_MAX: usize = 4_096;

/// Where to go on to afterwards.
#[derive(Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// What the browser brings along from the provider.
#[derive(Default, Deserialize)]
pub struct Back {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
    iss: Option<String>,
}

/// The cookie that ties a sign-in to the browser that has begun it.
fn name(site: &Site) -> &'static str {
    if site.secure() {
        "__Host-windlass-oidc"
    } else {
        "windlass-oidc"
    }
}

fn provider(state: &AppState) -> Result<&Openid, Problem> {
    let none = || Problem::not_found("an OpenID provider: OIDC_ISSUER is not set");
    state.site.openid.as_deref().ok_or_else(none)
}

/// What went wrong with the provider, for the log; the page says less.
fn failed(error: &OpenidError) -> &'static str {
    tracing::warn!(%error, "a sign-in by OpenID failed");
    match error {
        OpenidError::Code(_) | OpenidError::Token(_) => "openid",
        _ => "provider",
    }
}

/// Sends the browser to the provider.
pub async fn leave(
    State(state): State<AppState>,
    visitor: Visitor,
    query: Result<Query<Next>, QueryRejection>,
) -> Answer<Response> {
    let openid = provider(&state)?;
    let next = query.map(|Query(query)| query.next).unwrap_or_default();
    let next = inside(&next);
    let begun = match openid.begin().await {
        Ok(begun) => begun,
        Err(error) => return Ok(back("/sign-in", &[("next", next), ("problem", failed(&error))])),
    };
    // What proves to the provider that the code is ours is as hard to guess, but it is not the browser's to know.
    let browser = openid.key();
    let leaving = Leaving {
        state: begun.state,
        browser: browser.clone(),
        nonce: begun.nonce,
        verifier: begun.verifier,
        next: next.into(),
        address: visitor.address,
    };
    state.service.leave_for_openid(leaving).await?;
    let cookie = state.site.cookie_of(name(&state.site), &browser, COOKIE_S);
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to(&begun.url)).into_response())
}

/// Lets in who comes back from the provider.
pub async fn come_back(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    query: Result<Query<Back>, QueryRejection>,
) -> Answer<Response> {
    let openid = provider(&state)?;
    let sent = query.map(|Query(sent)| sent).unwrap_or_default();
    let browser = cookie(&headers, name(&state.site)).unwrap_or_default();
    let clear = state.site.cookie_of(name(&state.site), "", 0);
    let answer = match finish(&state, openid, sent, browser, &visitor, &headers).await? {
        Ok(answer) => answer,
        Err(Left { problem, next }) => back("/sign-in", &[("next", &next), ("problem", problem)]),
    };
    Ok((AppendHeaders([(SET_COOKIE, clear)]), answer).into_response())
}

/// A sign-in that came to nothing.
struct Left {
    /// What the page calls it.
    problem: &'static str,
    next: String,
}

async fn finish(
    state: &AppState,
    openid: &Openid,
    sent: Back,
    browser: &str,
    visitor: &Visitor,
    headers: &HeaderMap,
) -> Result<Result<Response, Left>, Problem> {
    let left = |problem, next: &str| {
        Ok(Err(Left {
            problem,
            next: inside(next).into(),
        }))
    };
    let fits = |text: &str| (1..=PART_MAX).contains(&text.len());
    if !fits(&sent.state) || !fits(browser) {
        return left("again", "");
    }
    let Some(returned) = state.service.return_from_openid(&sent.state, browser).await? else {
        return left("again", "");
    };
    let next = returned.next.as_str();
    if !sent.error.is_empty() || !fits(&sent.code) {
        let denied = sent.error == "access_denied";
        return left(if denied { "denied" } else { "openid" }, next);
    }
    let began = Began {
        nonce: &returned.nonce,
        verifier: &returned.verifier,
    };
    let person = match openid.finish(&sent.code, sent.iss.as_deref(), &began).await {
        Ok(person) => person,
        Err(error) => return left(failed(&error), next),
    };
    let claimed = Claimed {
        role: openid.settings().roles.role_of(&person.groups),
        issuer: person.issuer,
        subject: person.subject,
        email: person.email,
        verified: person.email_verified,
        name: person.name,
    };
    match state.service.sign_in_by_openid(claimed, visitor.origin(headers)).await {
        Ok(signed) => Ok(Ok(signed_in(state, &signed, inside(next)))),
        Err(problem) => match (problem.code, problem.field.as_deref()) {
            (ProblemCode::Forbidden, Some("role")) => left("role", next),
            (ProblemCode::Forbidden, Some("email")) => left("email", next),
            (ProblemCode::Forbidden, Some("disabled")) => left("disabled", next),
            (ProblemCode::Forbidden, Some("taken")) => left("taken", next),
            _ => Err(problem),
        },
    }
}
