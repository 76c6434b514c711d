//! Schedules.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;

use crate::domain::error::Problem;
use crate::domain::job::Job;
use crate::domain::schedule::{NewSchedule, Schedule};
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body, Id};

/// All schedules by name.
#[utoipa::path(get, path = "/api/schedules", tag = "schedules", responses((status = 200, body = Vec<Schedule>)))]
pub async fn list(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<Schedule>>> {
    Ok(Json(state.service.schedules(&actor).await?))
}

/// Makes a schedule.
#[utoipa::path(post, path = "/api/schedules", tag = "schedules", request_body = NewSchedule,
    responses((status = 201, body = Schedule), (status = 400, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Body(new): Body<NewSchedule>,
) -> Answer<impl IntoResponse> {
    let schedule = state.service.put_schedule(&actor, None, new).await?;
    let location = format!("/api/schedules/{}", schedule.id);
    Ok((StatusCode::CREATED, [(LOCATION, location)], Json(schedule)))
}

/// One schedule.
#[utoipa::path(get, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = Problem)))]
pub async fn one(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<Schedule>> {
    Ok(Json(state.service.schedule(&actor, id).await?))
}

/// Changes a schedule to what is given.
#[utoipa::path(put, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    request_body = NewSchedule, responses((status = 200, body = Schedule), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Id(id): Id,
    Body(new): Body<NewSchedule>,
) -> Answer<Json<Schedule>> {
    Ok(Json(state.service.put_schedule(&actor, Some(id), new).await?))
}

/// Removes a schedule. Its jobs stay.
#[utoipa::path(delete, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn delete(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<StatusCode> {
    state.service.delete_schedule(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets it fall due no more.
#[utoipa::path(post, path = "/api/schedules/{id}/pause", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = Problem)))]
pub async fn pause(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<Schedule>> {
    Ok(Json(state.service.pause_schedule(&actor, id, true).await?))
}

/// Lets it fall due again, from its next run on.
#[utoipa::path(post, path = "/api/schedules/{id}/resume", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = Problem)))]
pub async fn resume(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<Schedule>> {
    Ok(Json(state.service.pause_schedule(&actor, id, false).await?))
}

/// Enqueues a run now, besides those that fall due.
#[utoipa::path(post, path = "/api/schedules/{id}/run-now", tag = "schedules", params(("id" = String, Path, description = "The schedule")),
    responses((status = 202, body = Job), (status = 404, body = Problem)))]
pub async fn run_now(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<impl IntoResponse> {
    let job = state.service.run_schedule(&actor, id).await?;
    let location = format!("/api/jobs/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(job)))
}
