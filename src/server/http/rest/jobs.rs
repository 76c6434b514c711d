//! Jobs: list, enqueue, read.

use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

use crate::domain::error::Problem;
use crate::domain::facets::Found;
use crate::domain::filter::{FIELDS, JobFilter};
use crate::domain::job::{Job, JobDetail, JobHistory, NewJob};
use crate::domain::kind::KindInfo;
use crate::domain::page::{Page, PageRequest};
use crate::domain::stats::{Counts, Series};
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Body, Id, Many, Params, idempotency_key, known, parse};
use crate::server::service::{BulkEnqueued, SeriesQuery};

/// The parameters of lists beside those of the filter.
const PAGE_PARAMS: [&str; 3] = ["limit", "offset", "cursor"];

/// Which jobs, and which part of them.
fn asked(params: &Params) -> Answer<(JobFilter, PageRequest)> {
    let allowed: Vec<&str> = FIELDS.into_iter().chain(PAGE_PARAMS).collect();
    known(params.pairs(), &allowed)?;
    let (filter, rest) = JobFilter::from_pairs(params.pairs())?;
    let mut page = PageRequest::default();
    for (name, value) in rest.into_iter().filter(|(_, v)| !v.trim().is_empty()) {
        match name {
            "limit" => page.limit = Some(parse(name, value, "a whole number from 1 to 1000")?),
            "offset" => page.offset = Some(parse(name, value, "a whole number from 0")?),
            _ => page.cursor = Some(value.to_string()),
        }
    }
    Ok((filter, page))
}

/// Jobs that match, newest first unless told otherwise.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs",
    params(
        ("q" = Option<String>, Query, description = "Text in type, message, id, owner or error"),
        ("status" = Option<String>, Query, description = "One or more statuses, comma-separated"),
        ("type" = Option<String>, Query, description = "The kind's name"),
        ("queue" = Option<String>, Query), ("owner" = Option<String>, Query),
        ("parent" = Option<String>, Query, description = "Children of this job"),
        ("batch" = Option<String>, Query, description = "Jobs of this batch"),
        ("error" = Option<String>, Query, description = "A fingerprint of GET /api/errors"),
        ("created_after" = Option<String>, Query, description = "RFC 3339, inclusive"),
        ("created_before" = Option<String>, Query, description = "RFC 3339, exclusive"),
        ("sort" = Option<String>, Query, description = "created_at (default), started_at, completed_at, progress, job_type, status"),
        ("order" = Option<String>, Query, description = "desc (default) or asc"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 50"),
        ("offset" = Option<u32>, Query, description = "Items to pass over; excludes cursor"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the answer before"),
    ),
    responses((status = 200, body = Page<Job>), (status = 400, body = Problem)))]
pub async fn list(State(state): State<AppState>, Caller(actor): Caller, params: Params) -> Answer<Json<Page<Job>>> {
    let (filter, page) = asked(&params)?;
    Ok(Json(state.service.list_jobs(&actor, &filter, &page).await?))
}

/// Jobs that match, as `GET /api/jobs` lists them and with the same parameters, and how many of them there are per status,
/// type, queue and error.
#[utoipa::path(get, path = "/api/jobs/search", tag = "jobs",
    params(
        ("q" = Option<String>, Query, description = "Text in type, message, id, owner or error"),
        ("status" = Option<String>, Query, description = "One or more statuses, comma-separated"),
        ("type" = Option<String>, Query, description = "The kind's name"),
        ("queue" = Option<String>, Query), ("owner" = Option<String>, Query),
        ("parent" = Option<String>, Query, description = "Children of this job"),
        ("batch" = Option<String>, Query, description = "Jobs of this batch"),
        ("error" = Option<String>, Query, description = "A fingerprint of GET /api/errors"),
        ("created_after" = Option<String>, Query, description = "RFC 3339, inclusive"),
        ("created_before" = Option<String>, Query, description = "RFC 3339, exclusive"),
        ("sort" = Option<String>, Query, description = "As in GET /api/jobs"),
        ("order" = Option<String>, Query, description = "desc (default) or asc"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, default 50"),
        ("offset" = Option<u32>, Query, description = "Items to pass over; excludes cursor"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the answer before"),
    ),
    responses((status = 200, body = Found), (status = 400, body = Problem)))]
pub async fn search(State(state): State<AppState>, Caller(actor): Caller, params: Params) -> Answer<Json<Found>> {
    let (filter, page) = asked(&params)?;
    Ok(Json(state.service.search_jobs(&actor, &filter, &page).await?))
}

/// Enqueues one job. A `unique_key`, or the header `Idempotency-Key`, that an unfinished job has already makes this answer
/// `200` with that job instead.
#[utoipa::path(post, path = "/api/jobs", tag = "jobs", request_body = NewJob,
    responses((status = 202, body = Job), (status = 200, body = Job), (status = 400, body = Problem), (status = 429, body = Problem)))]
pub async fn enqueue(
    State(state): State<AppState>,
    Caller(actor): Caller,
    headers: HeaderMap,
    Body(mut new): Body<NewJob>,
) -> Answer<impl IntoResponse> {
    if let Some(key) = idempotency_key(&headers)? {
        if new.unique_key.as_deref().is_some_and(|k| k != key) {
            let detail = "Idempotency-Key and unique_key differ; give one of them";
            return Err(Problem::invalid("Idempotency-Key", detail).into());
        }
        new.unique_key = Some(key);
    }
    let enqueued = state.service.enqueue(&actor, new).await?;
    let status = if enqueued.existing {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let location = format!("/api/jobs/{}", enqueued.job.id);
    Ok((status, [(LOCATION, location)], Json(enqueued.job)))
}

/// Bytes of a bulk.
pub const BULK_BYTES_MAX: usize = 64_000_000;

/// Enqueues up to 10,000 jobs, all or none: a JSON array of what `POST /api/jobs` takes, or NDJSON
/// (`application/x-ndjson`), one a line. With the header `Idempotency-Key`, each job without a `unique_key` has it with its
/// place as its own.
#[utoipa::path(post, path = "/api/jobs/bulk", tag = "jobs", request_body = Vec<NewJob>,
    params(("batch" = Option<String>, Query, description = "The name of a batch that they begin")),
    responses((status = 202, body = BulkEnqueued), (status = 400, body = Problem), (status = 429, body = Problem)))]
pub async fn bulk(
    State(state): State<AppState>,
    Caller(actor): Caller,
    params: Params,
    headers: HeaderMap,
    Many(mut jobs): Many<NewJob>,
) -> Answer<(StatusCode, Json<BulkEnqueued>)> {
    params.only(&["batch"])?;
    // A blank name is one that can't be taken, not one that was left out.
    let batch = params
        .pairs()
        .find(|(name, _)| *name == "batch")
        .map(|(_, value)| value);
    if let Some(key) = idempotency_key(&headers)? {
        for (i, job) in jobs.iter_mut().enumerate() {
            job.unique_key.get_or_insert_with(|| format!("{key}#{i}"));
        }
    }
    let done = state.service.enqueue_bulk(&actor, jobs, batch).await?;
    Ok((StatusCode::ACCEPTED, Json(done)))
}

/// The kinds that can be enqueued.
#[utoipa::path(get, path = "/api/jobs/types", tag = "jobs", responses((status = 200, body = Vec<KindInfo>)))]
pub async fn types(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<KindInfo>>> {
    Ok(Json(state.service.kinds(&actor)?))
}

/// Counts by status, type and queue.
#[utoipa::path(get, path = "/api/jobs/stats", tag = "jobs", responses((status = 200, body = Counts)))]
pub async fn stats(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Counts>> {
    Ok(Json(state.service.counts(&actor).await?))
}

/// What was enqueued and ended, and how long jobs waited and ran, in steps up to now.
#[utoipa::path(get, path = "/api/jobs/stats/series", tag = "jobs",
    params(
        ("minutes" = Option<u32>, Query, description = "How far back, 1 to 44640, default 60"),
        ("step" = Option<u32>, Query, description = "Minutes of a step, default 1"),
        ("type" = Option<String>, Query), ("queue" = Option<String>, Query),
    ),
    responses((status = 200, body = Series), (status = 400, body = Problem)))]
pub async fn series(State(state): State<AppState>, Caller(actor): Caller, params: Params) -> Answer<Json<Series>> {
    params.only(&["minutes", "step", "type", "queue"])?;
    let text = |name: &str| {
        let found = params.pairs().find(|(n, v)| *n == name && !v.trim().is_empty());
        found.map(|(_, v)| v.to_string())
    };
    let query = SeriesQuery {
        minutes: params.parse("minutes", "a whole number from 1 to 44640")?,
        step: params.parse("step", "a whole number of minutes")?,
        kind: text("type"),
        queue: text("queue"),
    };
    Ok(Json(state.service.series(&actor, &query).await?))
}

/// One job.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = Job), (status = 404, body = Problem)))]
pub async fn one(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<Job>> {
    Ok(Json(state.service.job(&actor, id).await?))
}

/// All of one job.
#[utoipa::path(get, path = "/api/jobs/{id}/detail", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = JobDetail), (status = 404, body = Problem)))]
pub async fn detail(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<JobDetail>> {
    Ok(Json(state.service.job_detail(&actor, id).await?))
}

/// Transitions and attempts of one job.
#[utoipa::path(get, path = "/api/jobs/{id}/history", tag = "jobs", params(("id" = String, Path, description = "The job")),
    responses((status = 200, body = JobHistory), (status = 404, body = Problem)))]
pub async fn history(State(state): State<AppState>, Caller(actor): Caller, Id(id): Id) -> Answer<Json<JobHistory>> {
    Ok(Json(state.service.history(&actor, id).await?))
}
