//! Workers outside of the binary. `docs/WORKERS.md` walks through the protocol.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::domain::error::Problem;
use crate::domain::work::{
    Beaten, CheckpointReport, Completion, Ended, Failure, FetchWish, Fetched, Heartbeat, LogReport, ProgressReport,
    Release, Wishes,
};
use crate::domain::worker::{NewWorker, WorkerBegun};
use crate::server::http::AppState;
use crate::server::http::auth::{Caller, Visitor, nobody};
use crate::server::http::extract::{Answer, Body, Id, Path, Worker};

/// Begins a worker, with a token of the scope `worker`, and takes over what it says of its kinds: from then on they are kinds as
/// any others are.
#[utoipa::path(post, path = "/api/workers", tag = "workers", request_body = NewWorker,
    responses((status = 201, body = WorkerBegun), (status = 400, body = Problem), (status = 403, body = Problem), (status = 409, body = Problem)))]
pub async fn begin(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Body(new): Body<NewWorker>,
) -> Answer<(StatusCode, Json<WorkerBegun>)> {
    let begun = state.service.begin_worker(&actor, new).await?;
    Ok((StatusCode::CREATED, Json(begun)))
}

/// Ends a worker. The jobs that it holds wait again, which costs them no attempt.
#[utoipa::path(delete, path = "/api/workers/{worker}", tag = "workers",
    params(Worker),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn end(State(state): State<AppState>, Caller(actor): Caller, Worker(worker): Worker) -> Answer<StatusCode> {
    state.service.end_worker(&actor, &worker).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes jobs for a worker, at once or as soon as there are some: it runs them from then on, and names them in its heartbeats.
#[utoipa::path(post, path = "/api/workers/{worker}/fetch", tag = "workers",
    params(Worker), request_body = FetchWish,
    responses((status = 200, body = Fetched), (status = 400, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn fetch(
    State(state): State<AppState>,
    Caller(actor): Caller,
    visitor: Visitor,
    Worker(worker): Worker,
    Body(wish): Body<FetchWish>,
) -> Answer<Json<Fetched>> {
    let fetching = state.service.fetch(&actor, &worker, wish, &state.closing);
    tokio::select! {
        biased;
        // Whose token is revoked while it waits is given nothing more.
        () = visitor.until_changed(state.service.clone()) => Err(nobody().into()),
        fetched = fetching => Ok(Json(fetched?)),
    }
}

/// Says that a worker lives, and renews its leases: at least as often as it was told when it began. Answers with what people
/// want of its attempts, at once or as soon as they want something.
#[utoipa::path(post, path = "/api/workers/{worker}/heartbeat", tag = "workers",
    params(Worker), request_body = Heartbeat,
    responses((status = 200, body = Beaten), (status = 400, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn heartbeat(
    State(state): State<AppState>,
    Caller(actor): Caller,
    visitor: Visitor,
    Worker(worker): Worker,
    Body(beat): Body<Heartbeat>,
) -> Answer<Json<Beaten>> {
    let beating = state.service.heartbeat(&actor, &worker, beat, &state.closing);
    tokio::select! {
        biased;
        () = visitor.until_changed(state.service.clone()) => Err(nobody().into()),
        beaten = beating => Ok(Json(beaten?)),
    }
}

/// What a worker says of a job that it holds. Where it does not (any more) the answer is 409 `lease_lost`: the attempt is over.
macro_rules! said {
    ($name:ident, $call:ident, $path:literal, $body:ty, $answer:ty, $words:literal) => {
        #[doc = $words]
        #[utoipa::path(post, path = $path, tag = "workers", description = $words,
                    params(
                        Worker,
                        ("id" = String, Path, description = "A job that it holds"),
                    ),
                    request_body = $body,
                    responses(
                        (status = 200, body = $answer), (status = 400, body = Problem), (status = 403, body = Problem),
                        (status = 404, body = Problem), (status = 409, body = Problem),
                    ))]
        pub async fn $name(
            State(state): State<AppState>,
            Caller(actor): Caller,
            Worker(worker): Worker,
            Id(id): Id,
            Body(said): Body<$body>,
        ) -> Answer<Json<$answer>> {
            Ok(Json(state.service.$call(&actor, &worker, id, said).await?))
        }
    };
}

said!(
    progress,
    worker_progress,
    "/api/workers/{worker}/jobs/{id}/progress",
    ProgressReport,
    Wishes,
    "How far an attempt is. Answers with what people want of it."
);
said!(
    logs,
    worker_lines,
    "/api/workers/{worker}/jobs/{id}/logs",
    LogReport,
    Wishes,
    "Adds lines to the job's log; said twice, they are there twice. Answers with what people want of the attempt."
);
said!(
    checkpoint,
    worker_checkpoint,
    "/api/workers/{worker}/jobs/{id}/checkpoint",
    CheckpointReport,
    Wishes,
    "Stores where the next attempt would go on. Answers with what people want of the attempt."
);
said!(
    complete,
    worker_complete,
    "/api/workers/{worker}/jobs/{id}/complete",
    Completion,
    Ended,
    "The attempt ended well. Said again, it is answered in the same way."
);
said!(
    fail,
    worker_fail,
    "/api/workers/{worker}/jobs/{id}/fail",
    Failure,
    Ended,
    "The attempt failed; the kind's policy and the error say what comes next. Said again, it is answered in the same way."
);
said!(
    release,
    worker_release,
    "/api/workers/{worker}/jobs/{id}/release",
    Release,
    Ended,
    "The attempt stops without an end of its own: cancelled or paused if it was asked to, otherwise its job waits again, which costs \
     it no attempt. Said again, it is answered in the same way."
);

/// Removes a kind that workers outside have declared, once all its jobs have ended and no schedule starts one.
#[utoipa::path(delete, path = "/api/jobs/types/{kind}", tag = "workers",
    params(("kind" = String, Path, description = "The kind's name")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn forget_kind(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(kind): Path<String>,
) -> Answer<StatusCode> {
    state.service.forget_kind(&actor, &kind).await?;
    Ok(StatusCode::NO_CONTENT)
}
