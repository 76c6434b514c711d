//! What server functions need of the request that they run in.

use axum::http::StatusCode;
use leptos::prelude::use_context;
use leptos_axum::ResponseOptions;

use super::AppState;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::Actor;
use crate::server::service::Service;

/// The service, and who calls.
pub fn caller() -> Result<(Service, Actor), Problem> {
    let state = use_context::<AppState>();
    let actor = use_context::<Actor>();
    state
        .zip(actor)
        .map(|(state, actor)| (state.service, actor))
        .ok_or_else(|| Problem::new(ProblemCode::Internal, "A server function ran outside of a request."))
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
