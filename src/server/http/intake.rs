//! How bodies come in: at a pace that is no attack. A client that sends a byte now and then would keep its connection, and
//! whoever reads from it, for hours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use tokio::time::Instant;

use super::AppState;
use super::extract::ApiError;
use crate::domain::error::{Problem, ProblemCode};

/// Bytes a second that a body has to bring, taken over the time that a client may stall.
const PACE: u32 = 1_000;

/// The longest that an answer may take, where it is no stream, no file and no upload.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

/// Ends requests whose bodies come too slowly, whatever their handler makes of it.
pub async fn paced(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Some(patience) = state.site.patience.filter(|_| !request.body().is_end_stream()) else {
        return next.run(request).await;
    };
    let late = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| Body::from_stream(watched(body.into_data_stream(), patience, late.clone())));
    let answer = next.run(request).await;
    if !late.load(Ordering::Relaxed) {
        return answer;
    }
    let detail = format!(
        "the body stalled, or came at less than {PACE} bytes a second, for {} (CLIENT_TIMEOUT)",
        humantime::format_duration(patience)
    );
    let mut answer = ApiError(Problem::new(ProblemCode::TooSlow, detail)).into_response();
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// What comes in, until it comes too slowly. Only the time in which the client is waited for counts: what it sent earns it
/// time again, as much as it may stall at the most.
fn watched(
    body: BodyDataStream,
    patience: Duration,
    late: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> {
    stream::unfold(Some((body, patience, late)), move |watch| async move {
        let (mut body, left, late) = watch?;
        let asked = Instant::now();
        match tokio::time::timeout(left, body.next()).await {
            Ok(Some(Ok(bytes))) => {
                let earned = Duration::from_secs(bytes.len() as u64) / PACE;
                let left = (left.saturating_sub(asked.elapsed()) + earned).min(patience);
                Some((Ok(bytes), Some((body, left, late))))
            }
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(_) => {
                late.store(true, Ordering::Relaxed);
                Some((Err(TooSlow.into()), None))
            }
        }
    })
}

/// Gives up on answers that take too long.
pub async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_MAX, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = format!("there was no answer within {} seconds", ANSWER_MAX.as_secs());
            ApiError(Problem::new(ProblemCode::Unavailable, detail)).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds chunks of these sizes, each after a wait in milliseconds, and says how many bytes came through.
    async fn through(parts: &'static [(u64, usize)]) -> Result<usize, String> {
        let source = stream::iter(parts).then(|(wait, size)| async move {
            tokio::time::sleep(Duration::from_millis(*wait)).await;
            Ok::<_, axum::BoxError>(Bytes::from(vec![b'x'; *size]))
        });
        let late = Arc::new(AtomicBool::new(false));
        let body = Body::from_stream(source).into_data_stream();
        let mut read = Box::pin(watched(body, Duration::from_secs(10), late.clone()));
        let mut size = 0;
        while let Some(part) = read.next().await {
            match part {
                Ok(bytes) => size += bytes.len(),
                Err(error) => {
                    assert!(late.load(Ordering::Relaxed), "{error}");
                    return Err(format!("{size} bytes, then: {error}"));
                }
            }
        }
        assert!(!late.load(Ordering::Relaxed));
        Ok(size)
    }

    #[tokio::test(start_paused = true)]
    async fn who_stalls_or_drips_is_given_up_on_and_who_is_slow_is_not() {
        assert_eq!(
            through(&[(9_000, 5_000), (9_000, 9_000), (9_000, 1)]).await,
            Err("5000 bytes, then: the body came too slowly".into())
        );
        assert_eq!(through(&[(9_000, 9_000), (9_000, 9_000), (9_000, 1)]).await, Ok(18_001));
        assert!(through(&[(0, 10), (10_500, 10)]).await.is_err(), "stalls");
        // A byte a second.
        assert!(through(&[(1_000, 1); 20]).await.is_err(), "drips");
        // Much at the beginning buys no rest afterwards.
        assert!(through(&[(0, 1_000_000), (11_000, 1)]).await.is_err());
        assert_eq!(through(&[(900, 1_000); 100]).await, Ok(100_000));
        assert_eq!(through(&[]).await, Ok(0));
    }
}
