//! For whoever watches the process.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::AppState;
use super::auth::Caller;
use super::extract::Answer;
use crate::domain::stats::{Grade, Health};
use crate::server::telemetry;

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub async fn healthz() -> &'static str {
    "ok"
}

/// The process can do its work: its database answers.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = String), (status = 503, body = String)))]
pub async fn readyz(State(state): State<AppState>) -> impl IntoResponse {
    match state.service.ready().await {
        Ok(()) => (StatusCode::OK, "ready"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer"),
    }
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub async fn metrics() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        telemetry::metrics().render(),
    )
}

/// How the system fares: `healthy`, `degraded` or `critical` (then with status 503), with the checks.
#[utoipa::path(get, path = "/api/admin/jobs/health", tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health)))]
pub async fn health(State(state): State<AppState>, Caller(actor): Caller) -> Answer<impl IntoResponse> {
    let health = state.service.health(&actor).await?;
    let status = match health.status {
        Grade::Critical => StatusCode::SERVICE_UNAVAILABLE,
        Grade::Healthy | Grade::Degraded => StatusCode::OK,
    };
    Ok((status, axum::Json(health)))
}
