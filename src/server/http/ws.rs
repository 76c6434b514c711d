//! A job's log over a WebSocket.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AppState;
use super::auth::{Caller, Visitor};
use super::extract::{Answer, Id, Params};
use crate::domain::error::Problem;
use crate::domain::log::LogMessage;

/// How often a quiet connection is tried.
const PING: Duration = Duration::from_secs(20);
/// How long a viewer may take to hear that it is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// The log from line `after + 1` on, then live: JSON messages `{"type":"lines","lines":[…]}`, and `{"type":"end"}` when the
/// job has ended and every line was sent.
#[utoipa::path(get, path = "/api/jobs/{id}/logs/ws", tag = "jobs",
    params(("id" = String, Path, description = "The job"), ("after" = Option<u64>, Query, description = "The last line's number that was seen")),
    responses((status = 101, description = "The WebSocket"), (status = 404, body = Problem)))]
pub async fn logs(
    State(state): State<AppState>,
    Caller(actor): Caller,
    visitor: Visitor,
    Id(id): Id,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer<Response> {
    params.only(&["after"])?;
    let after = params.parse("after", "a line's number")?.unwrap_or(0);
    let place = visitor.stream(&state.site)?;
    // Whose it is comes before how it is asked for.
    let log = state.service.follow_log(&actor, id, after).await?;
    let upgrade = upgrade.map_err(|e| Problem::invalid("Upgrade", e.body_text()))?;
    let closing = state.closing.clone();
    let changed = visitor.until_changed(state.service.clone());
    // Viewers send nothing but control frames.
    Ok(upgrade.max_message_size(4_096).on_upgrade(async move |socket| {
        send(socket, log, closing, changed).await;
        drop(place);
    }))
}

async fn send(
    mut socket: WebSocket,
    mut log: mpsc::Receiver<LogMessage>,
    closing: CancellationToken,
    changed: impl Future<Output = ()>,
) {
    let mut changed = std::pin::pin!(changed);
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            () = closing.cancelled() => return end(socket, 1001, "the server restarts").await,
            () = &mut changed => return end(socket, 1008, "sign in again").await,
            message = log.recv() => message,
            _ = ping.tick() => {
                if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                    return;
                }
                continue;
            }
            incoming = socket.recv() => match incoming {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        let Some(message) = message else {
            return end(socket, 1011, "the log can't be read at the moment").await;
        };
        let ended = message == LogMessage::End;
        let Ok(text) = serde_json::to_string(&message) else {
            return;
        };
        if socket.send(Message::Text(text.into())).await.is_err() {
            return;
        }
        if ended {
            return end(socket, 1000, "end").await;
        }
    }
}

/// Says goodbye and waits until the viewer has heard it: a connection that is let go of while something is unread on this side
/// takes back what the other side has not read yet.
async fn end(mut socket: WebSocket, code: u16, reason: &'static str) {
    let farewell = async {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        // The viewer may have gone already.
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    // Whoever does not listen misses nothing.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}
