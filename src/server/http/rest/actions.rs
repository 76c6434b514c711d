//! Acting on one job.

use axum::Json;
use axum::extract::State;

use crate::domain::audit::Reason;
use crate::domain::error::Problem;
use crate::domain::job::{ActOptions, Job};
use crate::domain::status::Action;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body, Id, Params};

async fn act(state: AppState, caller: Caller, id: Id, action: Action, options: ActOptions) -> Answer<Json<Job>> {
    Ok(Json(state.service.act(&caller.0, id.0, action, options).await?))
}

macro_rules! action {
    ($name:ident, $path:literal, $action:expr, $doc:literal) => {
        #[doc = $doc]
        #[utoipa::path(post, path = $path, tag = "actions", params(("id" = String, Path, description = "The job")),
            request_body(content = Option<Reason>),
            responses((status = 200, body = Job), (status = 400, body = Problem), (status = 404, body = Problem),
                (status = 409, body = Problem)))]
        pub async fn $name(
            State(state): State<AppState>,
            caller: Caller,
            id: Id,
            Body(told): Body<Reason>,
        ) -> Answer<Json<Job>> {
            let options = ActOptions {
                reason: told.reason,
                ..ActOptions::default()
            };
            act(state, caller, id, $action, options).await
        }
    };
}

action!(
    cancel,
    "/api/jobs/{id}/cancel",
    Action::Cancel,
    "Cancels a waiting job at once; asks a running one to stop after its current step."
);
action!(
    abort,
    "/api/jobs/{id}/abort",
    Action::Abort,
    "Ends a running attempt at once. What it was doing may be left half done."
);
action!(
    pause,
    "/api/jobs/{id}/pause",
    Action::Pause,
    "Takes a waiting job aside; asks a running one whose kind stores checkpoints to stop at its next one."
);
action!(
    resume,
    "/api/jobs/{id}/resume",
    Action::Resume,
    "Puts a paused job back into its queue."
);
action!(
    run_now,
    "/api/jobs/{id}/run-now",
    Action::RunNow,
    "Lets a waiting job go first."
);
action!(
    run_again,
    "/api/jobs/{id}/run-again",
    Action::RunAgain,
    "Enqueues a copy of a completed job and answers with the copy."
);

/// Puts a failed or dead job back into its queue with fresh attempts, at once or after `delay` seconds, with
/// the args that it had or others.
#[utoipa::path(post, path = "/api/jobs/{id}/retry", tag = "actions", params(("id" = String, Path, description = "The job")),
    request_body(content = Option<ActOptions>),
    responses((status = 200, body = Job), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    id: Id,
    Body(options): Body<ActOptions>,
) -> Answer<Json<Job>> {
    act(state, caller, id, Action::Retry, options).await
}

/// Waiting: cancels. Running: aborts. Finished: removes for good, with logs and artifacts. `purge=true` removes in every status.
#[utoipa::path(delete, path = "/api/jobs/{id}", tag = "actions",
    params(("id" = String, Path, description = "The job"), ("purge" = Option<bool>, Query, description = "Remove in every status"),
        ("reason" = Option<String>, Query, description = "Why, at most 500 bytes: for the audit log, and the history of a job that stays")),
    responses((status = 200, body = Job), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub async fn delete(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Id(id): Id,
    params: Params,
) -> Answer<Json<Job>> {
    params.only(&["purge", "reason"])?;
    let purge = params.parse("purge", "true or false")?.unwrap_or(false);
    let reason = params.get("reason").map(String::from);
    Ok(Json(state.service.delete(&actor, id, purge, reason).await?))
}
