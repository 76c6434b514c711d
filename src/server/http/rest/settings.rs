//! The settings.

use axum::Json;
use axum::extract::State;

use crate::domain::setting::Setting;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::Answer;

/// The settings of the process that answers, and where each comes from; secrets are not among the values.
#[utoipa::path(get, path = "/api/settings", tag = "settings", responses((status = 200, body = Vec<Setting>)))]
pub async fn list(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<Setting>>> {
    Ok(Json(state.service.settings(&actor)?))
}
