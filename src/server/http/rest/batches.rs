//! Batches.

use axum::Json;
use axum::extract::State;

use crate::domain::audit::Reason;
use crate::domain::batch::{Batch, BatchCancelled};
use crate::domain::error::Problem;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body, Id, Params};

/// Batches, the newest first. The next part begins behind the last one's id (`before`).
#[utoipa::path(get, path = "/api/batches", tag = "batches",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 50"),
        ("before" = Option<String>, Query, description = "The id of the last batch of the answer before"),
    ),
    responses((status = 200, body = Vec<Batch>), (status = 400, body = Problem)))]
pub async fn list(State(state): State<AppState>, Caller(actor): Caller, params: Params) -> Answer<Json<Vec<Batch>>> {
    params.only(&["limit", "before"])?;
    let limit = params.parse("limit", "a whole number from 1 to 1000")?;
    let before = params.parse("before", "a batch's id (a UUID)")?;
    Ok(Json(state.service.batches(&actor, before, limit).await?))
}

/// One batch with its counts. Its jobs are `GET /api/jobs?batch=`.
#[utoipa::path(get, path = "/api/batches/{id}", tag = "batches", params(("id" = String, Path, description = "The batch")),
    responses((status = 200, body = Batch), (status = 404, body = Problem)))]
pub async fn one(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<Batch>> {
    Ok(Json(state.service.batch(&actor, id).await?))
}

/// Cancels what waits of it, and asks what runs to stop.
#[utoipa::path(post, path = "/api/batches/{id}/cancel", tag = "batches", params(("id" = String, Path, description = "The batch")),
    request_body(content = Option<Reason>),
    responses((status = 200, body = BatchCancelled), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn cancel(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Id(id): Id,
    Body(told): Body<Reason>,
) -> Answer<Json<BatchCancelled>> {
    Ok(Json(state.service.cancel_batch(&actor, id, told.reason).await?))
}
