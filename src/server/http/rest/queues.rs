//! Queues, and problems that jobs share.

use axum::Json;
use axum::extract::State;

use crate::domain::audit::Reason;
use crate::domain::error::{ErrorGroup, Problem};
use crate::domain::queue::QueueInfo;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body, Params, Path};

/// Queues that have jobs, or are paused, by name.
#[utoipa::path(get, path = "/api/queues", tag = "queues", responses((status = 200, body = Vec<QueueInfo>)))]
pub async fn list(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<QueueInfo>>> {
    Ok(Json(state.service.queues(&actor).await?))
}

/// Takes nothing from the queue any more. What runs goes on running.
#[utoipa::path(post, path = "/api/queues/{name}/pause", tag = "queues", params(("name" = String, Path, description = "The queue")),
    request_body(content = Option<Reason>),
    responses((status = 200, body = QueueInfo), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn pause(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(name): Path<String>,
    Body(told): Body<Reason>,
) -> Answer<Json<QueueInfo>> {
    Ok(Json(state.service.pause_queue(&actor, &name, true, told.reason).await?))
}

/// Lets a paused queue go on.
#[utoipa::path(post, path = "/api/queues/{name}/resume", tag = "queues", params(("name" = String, Path, description = "The queue")),
    request_body(content = Option<Reason>),
    responses((status = 200, body = QueueInfo), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn resume(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(name): Path<String>,
    Body(told): Body<Reason>,
) -> Answer<Json<QueueInfo>> {
    Ok(Json(
        state.service.pause_queue(&actor, &name, false, told.reason).await?,
    ))
}

/// Errors by what they have in common, the last seen first. Their jobs are `GET /api/jobs?error=`.
#[utoipa::path(get, path = "/api/errors", tag = "queues",
    params(("limit" = Option<u32>, Query, description = "1 to 1000, default 50")),
    responses((status = 200, body = Vec<ErrorGroup>), (status = 400, body = Problem)))]
pub async fn errors(
    State(state): State<AppState>,
    Caller(actor): Caller,
    params: Params,
) -> Answer<Json<Vec<ErrorGroup>>> {
    params.only(&["limit"])?;
    let limit = params.parse("limit", "a whole number from 1 to 1000")?;
    Ok(Json(state.service.errors(&actor, limit).await?))
}
