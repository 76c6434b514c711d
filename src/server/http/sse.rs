//! The live stream as Server-Sent Events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};

use super::AppState;
use super::auth::{Caller, Visitor};
use super::extract::{Answer, Params};
use crate::domain::live::LiveEvent;

/// Every change of the jobs that the caller may see, as Server-Sent Events named `jobs`, `removed`, `overview` and `stale`
/// with JSON data. `Last-Event-ID` (or `after`) resumes after an earlier event.
#[utoipa::path(get, path = "/api/jobs/events", tag = "jobs",
    params(("after" = Option<String>, Query, description = "The last event's id that was seen")),
    responses((status = 200, content_type = "text/event-stream", body = LiveEvent)))]
pub async fn events(
    State(state): State<AppState>,
    Caller(actor): Caller,
    visitor: Visitor,
    params: Params,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    params.only(&["after"])?;
    let place = visitor.stream(&state.site)?;
    let header = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let live = state.service.live(&actor, header.or(params.get("after")))?;
    let (closing, changed) = (state.closing.clone(), visitor.until_changed(state.service.clone()));
    let stream = live
        .map(move |(cursor, event)| {
            // Held for as long as the stream is.
            let _ = &place;
            Ok(sse_event(cursor, &event))
        })
        .take_until(closing.cancelled_owned())
        .take_until(Box::pin(changed));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn sse_event(cursor: String, event: &LiveEvent) -> Event {
    let named = Event::default().id(cursor).event(event.name());
    let data = match event {
        LiveEvent::Jobs(jobs) => serde_json::to_string(jobs),
        LiveEvent::Removed(ids) => serde_json::to_string(ids),
        LiveEvent::Overview(overview) => serde_json::to_string(overview),
        LiveEvent::Stale => Ok("null".into()),
    };
    match data {
        Ok(data) => named.data(data),
        Err(error) => {
            tracing::error!(%error, "a live event can't be written");
            Event::default().event("stale").data("null")
        }
    }
}
