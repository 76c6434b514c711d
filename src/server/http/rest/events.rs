//! Starting exports and imports of events.

use axum::Json;
use axum::extract::State;
use axum::extract::multipart::{Field, MultipartError};
use axum::http::header::{CONTENT_LENGTH, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::error::{Problem, ProblemCode, truncate};
use crate::domain::job::{Job, NewJob};
use crate::domain::page::bytes;
use crate::domain::user::Actor;
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, ApiError, Body, idempotency_key};
use crate::server::http::form::Form;
use crate::server::service::Incoming;

/// Bytes of a part that is a word.
const WORD_MAX: usize = 100;

/// A job that was started.
#[derive(Debug, Serialize, ToSchema)]
pub struct Started {
    job_id: Uuid,
    /// Where to follow it.
    status_url: String,
    job: Job,
}

fn started(job: Job) -> impl IntoResponse {
    let status_url = format!("/api/jobs/{}", job.id);
    let location = [(LOCATION, status_url.clone())];
    let started = Started {
        job_id: job.id,
        status_url,
        job,
    };
    (StatusCode::ACCEPTED, location, Json(started))
}

/// Starts an export. The body has the fields of the filter (`camera_id`, `risk_level`, `from`, `until`, `reviewed`), all
/// optional, and `format` (csv, json, ndjson, xlsx, zip; default csv).
#[utoipa::path(post, path = "/api/events/export", tag = "events", request_body(content = Value, description =
        "camera_id, risk_level (low, medium, high, critical), from, until (RFC 3339), reviewed (true, false), format"),
    responses((status = 202, body = Started), (status = 400, body = Problem)))]
pub async fn export(
    State(state): State<AppState>,
    Caller(actor): Caller,
    headers: HeaderMap,
    Body(mut filter): Body<Map<String, Value>>,
) -> Answer<impl IntoResponse> {
    let mut args = Map::new();
    if let Some(format) = filter.remove("format") {
        args.insert("format".into(), format);
    }
    // Nothing set and null mean the same.
    filter.retain(|_, value| !value.is_null());
    args.insert("filter".into(), filter.into());
    let new = NewJob {
        unique_key: idempotency_key(&headers)?,
        ..NewJob::of("export", args.into())
    };
    let enqueued = state.service.enqueue(&actor, new).await;
    let job = enqueued.map_err(|p| flat(p, &["args.filter.", "args.", "args"]))?.job;
    Ok(started(job))
}

/// Names a field as this call's body has it.
fn flat(mut problem: Problem, prefixes: &[&str]) -> Problem {
    problem.field = problem.field.map(|field| {
        let short = prefixes
            .iter()
            .find_map(|p| field.strip_prefix(p).filter(|rest| !rest.is_empty()));
        short.map(str::to_string).unwrap_or(field)
    });
    problem
}

/// Starts an import of an uploaded file: multipart with the part `file` (CSV, JSON, NDJSON, or a ZIP of these) and
/// optionally `format` (auto, csv, json, ndjson, zip).
#[utoipa::path(post, path = "/api/events/import", tag = "events",
    request_body(content = Vec<u8>, content_type = "multipart/form-data"),
    responses((status = 202, body = Started), (status = 400, body = Problem), (status = 413, body = Problem)))]
pub async fn import(
    State(state): State<AppState>,
    Caller(actor): Caller,
    headers: HeaderMap,
    form: Result<Form, ApiError>,
) -> Answer<impl IntoResponse> {
    let max = state.service.limits().upload_max;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    // The parts' headers take a little beside the file.
    if announced.is_some_and(|n| n > max.saturating_add(10_000)) {
        return Err(too_large(max).into());
    }
    let key = idempotency_key(&headers)?;
    let form = form?;
    let mut incoming = state
        .service
        .begin_upload(&actor, announced.unwrap_or_default())
        .await?;
    let (name, format) = receive(form, &mut incoming, max).await?;
    let sent = Sent { name, format, key };
    Ok(started(keep(&state, &actor, sent, incoming).await?))
}

/// A file that came in completely, with what was said about it.
struct Sent {
    name: String,
    format: Option<String>,
    key: Option<String>,
}

async fn keep(state: &AppState, actor: &Actor, sent: Sent, incoming: Incoming) -> Result<Job, Problem> {
    let upload = state.service.keep_upload(actor, incoming, &sent.name).await?;
    let mut args = json!({ "upload": upload.id });
    if let Some(format) = sent.format {
        args["format"] = format.into();
    }
    let new = NewJob {
        unique_key: sent.key,
        ..NewJob::of("import", args)
    };
    match state.service.enqueue(actor, new).await {
        Ok(enqueued) => {
            if enqueued.existing {
                // That one has the file that was sent the first time.
                state.service.drop_upload(actor, &upload.id).await?;
            }
            Ok(enqueued.job)
        }
        Err(problem) => {
            state.service.drop_upload(actor, &upload.id).await?;
            Err(flat(problem, &["args."]))
        }
    }
}

/// Writes the part `file` as it comes in, and answers with its name and the part `format`.
async fn receive(
    Form { mut parts, progress }: Form,
    incoming: &mut Incoming,
    max: u64,
) -> Result<(String, Option<String>), Problem> {
    let (mut name, mut format) = (None, None);
    while let Some(mut part) = parts.next_field().await.map_err(broken)? {
        progress.seen();
        match part.name().unwrap_or_default() {
            "file" if name.is_none() => {
                let given = part.file_name().unwrap_or_default().to_string();
                // Never through a link that somebody put there.
                let mut fresh = tokio::fs::OpenOptions::new();
                let file = fresh.write(true).create_new(true).open(incoming.path()).await;
                let file = file.map_err(|e| storage(&e))?;
                let mut file = tokio::io::BufWriter::with_capacity(1 << 18, file);
                let mut size = 0u64;
                while let Some(chunk) = part.chunk().await.map_err(broken)? {
                    progress.seen();
                    size += chunk.len() as u64;
                    if size > max {
                        return Err(too_large(max));
                    }
                    incoming.grow(chunk.len() as u64)?;
                    file.write_all(&chunk).await.map_err(|e| storage(&e))?;
                }
                file.flush().await.map_err(|e| storage(&e))?;
                name = Some(given);
            }
            "file" => {
                return Err(Problem::invalid(
                    "file",
                    "more than one file was sent; send one, or a ZIP of several",
                ));
            }
            "format" if format.is_none() => format = Some(word(&mut part).await?),
            "format" => return Err(Problem::invalid("format", "format was sent twice; send it once")),
            other => {
                let mut other = other.to_string();
                truncate(&mut other, 80);
                let detail = format!("\"{other}\" is not a part here; allowed: file, format");
                return Err(Problem::invalid(other, detail));
            }
        }
    }
    let name = name.ok_or_else(|| Problem::invalid("file", "the part \"file\" is missing"))?;
    Ok((name, format.filter(|f| !f.is_empty())))
}

/// A part that is a word.
async fn word(part: &mut Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > WORD_MAX {
            let detail = format!("format is longer than {WORD_MAX} bytes; allowed: auto, csv, json, ndjson, zip");
            return Err(Problem::invalid("format", detail));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_string())
}

fn too_large(max: u64) -> Problem {
    let mut problem = Problem::new(ProblemCode::TooLarge, format!("the file is larger than {}", bytes(max)));
    problem.field = Some("file".into());
    problem
}

fn broken(e: MultipartError) -> Problem {
    Problem::invalid("body", format!("the form can't be read: {}", e.body_text()))
}

fn storage(e: &std::io::Error) -> Problem {
    tracing::error!(error = %e, "an upload could not be written");
    Problem::new(ProblemCode::Unavailable, "The file can't be stored at the moment.")
}
