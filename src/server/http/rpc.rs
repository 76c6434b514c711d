//! What server functions need of the request that they run in.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use leptos::prelude::use_context;
use leptos::server_fn::error::SERVER_FN_ERROR_HEADER;
use leptos_axum::ResponseOptions;

use super::{AppState, auth};
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::Actor;
use crate::server::service::Service;
use crate::server::service::identity::Known;

/// The service.
pub fn service() -> Result<Service, Problem> {
    let state = use_context::<AppState>();
    state.map(|state| state.service).ok_or_else(outside)
}

/// What people call the provider that they may sign in by.
pub fn openid_name() -> Result<Option<String>, Problem> {
    let state = use_context::<AppState>().ok_or_else(outside)?;
    Ok(state.site.openid.as_ref().map(|openid| openid.settings().name.clone()))
}

/// The service, and who calls.
pub fn caller() -> Result<(Service, Actor), Problem> {
    let (service, known) = person()?;
    Ok((service, known.actor))
}

/// The service, and who calls with the person and session behind it.
pub fn person() -> Result<(Service, Known), Problem> {
    let parts = use_context::<Parts>().ok_or_else(outside)?;
    let known = auth::visitor(&parts).and_then(|visitor| visitor.known.clone());
    let known = known.ok_or_else(|| Problem::new(ProblemCode::Unauthorized, "Nobody is signed in (any more)."));
    Ok((service()?, answer(known)?))
}

fn outside() -> Problem {
    Problem::new(ProblemCode::Internal, "A server function ran outside of a request.")
}

/// What a server function answers with: a refusal also sets the status of the answer, be it the call's or that of the page
/// that is being rendered, so that the page of a job which does not exist is a 404.
pub fn answer<T>(answer: Result<T, Problem>) -> Result<T, Problem> {
    if let Err(problem) = &answer
        && let Some(options) = use_context::<ResponseOptions>()
        && let Ok(status) = StatusCode::from_u16(problem.status)
    {
        options.set_status(status);
    }
    answer
}

/// Bytes of a refusal; more than any has.
const REFUSAL_MAX: usize = 1 << 20;

/// Gives a refusal the status that it speaks of. A call whose arguments can't be read never comes to [`answer`], and the
/// framework says 500 to it, as if the server were at fault.
pub async fn told(answer: Response) -> Response {
    let failed = answer.status() == StatusCode::INTERNAL_SERVER_ERROR;
    if !failed || !answer.headers().contains_key(SERVER_FN_ERROR_HEADER) {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let bytes = match to_bytes(body, REFUSAL_MAX).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "A server function's refusal could not be read");
            return Response::from_parts(head, Body::empty());
        }
    };
    let told = serde_json::from_slice::<Problem>(&bytes).ok();
    if let Some(status) = told.and_then(|problem| StatusCode::from_u16(problem.status).ok()) {
        head.status = status;
    }
    Response::from_parts(head, Body::from(bytes))
}
