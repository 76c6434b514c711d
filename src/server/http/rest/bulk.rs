//! Acting on many jobs.

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};

use crate::domain::bulk::{BulkAction, BulkDone, BulkWish};
use crate::domain::error::Problem;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body};

async fn act(
    state: AppState,
    caller: Caller,
    action: BulkAction,
    wish: BulkWish,
) -> Answer<(StatusCode, HeaderMap, Json<BulkDone>)> {
    let done = state.service.act_on_many(&caller.0, action, wish).await?;
    let mut headers = HeaderMap::new();
    let status = match done.batch {
        None => StatusCode::OK,
        Some(batch) => {
            if let Ok(place) = format!("/api/batches/{batch}").parse() {
                headers.insert(LOCATION, place);
            }
            StatusCode::ACCEPTED
        }
    };
    Ok((status, headers, Json(done)))
}

macro_rules! action {
    ($name:ident, $path:literal, $action:expr, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Either `ids`, or a `filter` with the `count` of jobs that the caller saw. Up to 1,000 jobs are seen to at once, and the
        /// answer (`200`) says for each what came of it; more become a batch (`202`) that goes on with the caller's rights. When
        /// other jobs match than the caller saw, nothing is done (`409`).
        #[utoipa::path(post, path = $path, tag = "actions", request_body = BulkWish,
            responses((status = 200, body = BulkDone), (status = 202, body = BulkDone), (status = 400, body = Problem),
                (status = 409, body = Problem), (status = 429, body = Problem)))]
        pub async fn $name(
            State(state): State<AppState>,
            caller: Caller,
            Body(wish): Body<BulkWish>,
        ) -> Answer<(StatusCode, HeaderMap, Json<BulkDone>)> {
            act(state, caller, $action, wish).await
        }
    };
}

action!(
    retry,
    "/api/jobs/bulk-retry",
    BulkAction::Retry,
    "Puts failed and dead jobs back into their queues with fresh attempts, at once or after `delay` seconds."
);
action!(
    cancel,
    "/api/jobs/bulk-cancel",
    BulkAction::Cancel,
    "Cancels jobs that wait, and asks those that run to stop."
);
action!(
    delete,
    "/api/jobs/bulk-delete",
    BulkAction::Delete,
    "Removes jobs for good, with their logs and artifacts: those that have ended, and those that wait."
);
