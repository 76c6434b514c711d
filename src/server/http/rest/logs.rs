//! A job's log, by pages or as text.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;

use crate::domain::error::Problem;
use crate::domain::filter::{QUERY_MAX, choices};
use crate::domain::job::{JobId, short_id};
use crate::domain::log::{Level, LogFilter, LogLine};
use crate::domain::time::Timestamp;
use crate::domain::user::Actor;
use crate::server::http::AppState;
use crate::server::http::auth::{Caller, Visitor};
use crate::server::http::extract::{Answer, Id, Params};
use crate::server::service::Service;

/// Lines of a log in order. As JSON at most `limit` of them; as text (`format=text`, or `Accept: text/plain`) all of them.
#[utoipa::path(get, path = "/api/jobs/{id}/logs", tag = "jobs",
    params(
        ("id" = String, Path, description = "The job"),
        ("level" = Option<String>, Query, description = "This level or a higher one: debug, info, warning, error"),
        ("since" = Option<String>, Query, description = "RFC 3339, inclusive"),
        ("until" = Option<String>, Query, description = "RFC 3339, exclusive"),
        ("after" = Option<u64>, Query, description = "Only lines with a higher number"),
        ("q" = Option<String>, Query, description = "Text to find"),
        ("limit" = Option<u32>, Query, description = "1 to 10000, default 1000"),
        ("format" = Option<String>, Query, description = "json (default) or text"),
    ),
    responses((status = 200, body = Vec<LogLine>), (status = 404, body = Problem)))]
pub async fn logs(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Id(id): Id,
    visitor: Visitor,
    params: Params,
    headers: HeaderMap,
) -> Answer<Response> {
    params.only(&["level", "since", "until", "after", "q", "limit", "format"])?;
    let filter = filter(&params)?;
    let accepts = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let text = match params.get("format") {
        Some("text") => true,
        Some("json") => false,
        None => accepts.starts_with("text/plain"),
        Some(other) => return Err(Problem::invalid("format", choices("format", other, ["json", "text"])).into()),
    };
    if text {
        return whole(state.service, visitor, actor, id, filter).await;
    }
    let limit = params.parse("limit", "a whole number from 1 to 10000")?;
    Ok(Json(state.service.logs(&actor, id, &filter, limit).await?).into_response())
}

fn filter(params: &Params) -> Result<LogFilter, Problem> {
    let level = params.get("level").map(|name| {
        let levels = Level::ALL.map(Level::as_str);
        Level::parse(name).ok_or_else(|| Problem::invalid("level", choices("level", name, levels)))
    });
    let time = |name| params.parse::<Timestamp>(name, "a time; write RFC 3339, like 2026-03-01T14:05:00Z");
    let q = params.get("q").map(str::to_string);
    if q.as_ref().is_some_and(|q| q.chars().count() > QUERY_MAX) {
        return Err(Problem::invalid(
            "q",
            format!("q is longer than {QUERY_MAX} characters"),
        ));
    }
    Ok(LogFilter {
        level: level.transpose()?,
        since: time("since")?,
        until: time("until")?,
        after: params.parse("after", "a line's number")?.unwrap_or(0),
        q,
    })
}

/// The whole log as a text file, read and sent a page at a time.
async fn whole(service: Service, visitor: Visitor, actor: Actor, id: JobId, filter: LogFilter) -> Answer<Response> {
    const PAGE: u32 = 5_000;
    let first = service.logs(&actor, id, &filter, Some(PAGE)).await?;
    let pages = stream::unfold(Some((first, filter)), move |state| {
        let (service, visitor, actor) = (service.clone(), visitor.clone(), actor.clone());
        async move {
            let (lines, mut filter) = state?;
            let text: String = lines.iter().map(line).collect();
            let Some(last) = lines.last() else {
                return Some((Ok(text), None));
            };
            if lines.len() < PAGE as usize {
                return Some((Ok(text), None));
            }
            filter.after = last.n;
            let next = match visitor.still(&service).await {
                Ok(()) => service.logs(&actor, id, &filter, Some(PAGE)).await,
                Err(problem) => Err(problem),
            };
            match next {
                Ok(next) => Some((Ok(text), Some((next, filter)))),
                // The transfer breaks off, so that nobody takes a part for the whole.
                Err(problem) => Some((Err(problem), None)),
            }
        }
    });
    let name = format!("attachment; filename=\"job-{}.log\"", short_id(&id));
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8".to_string()),
        (CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(pages)).into_response())
}

fn line(l: &LogLine) -> String {
    let at = l.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!("{at} {:7} {}\n", l.level.as_str().to_uppercase(), l.message)
}
