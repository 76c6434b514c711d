//! Forms with files. The reader of their parts takes in whatever is there before it looks at it, and keeps a part's head until
//! it has all of it, however long it is: so it is fed in sips, and no more than a little beyond what the handler has seen.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::multipart::Multipart;
use axum::extract::{FromRequest, Request};
use futures::{Stream, StreamExt};

use super::extract::{Answer, ApiError};
use crate::domain::error::Problem;

/// Bytes that may come in before the handler sees anything of them: what a part's head can take up.
const UNSEEN_MAX: usize = 1 << 20;

/// A form that is coming in.
pub struct Form {
    pub parts: Multipart,
    pub progress: Progress,
}

/// Tells the reader below that the handler has taken what there was.
#[derive(Clone, Default)]
pub struct Progress(Arc<AtomicUsize>);

impl Progress {
    pub fn seen(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The handler was not shown anything for too long.
#[derive(Debug, thiserror::Error)]
#[error("a part's head is longer than {UNSEEN_MAX} bytes")]
struct Unseen;

struct Sips {
    body: BodyDataStream,
    progress: Progress,
    /// Whether to say that there is nothing yet, so that what there is gets looked at first.
    pause: bool,
}

impl Stream for Sips {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(read) = ready!(self.body.poll_next_unpin(cx)) else {
            return Poll::Ready(None);
        };
        self.pause = true;
        Poll::Ready(Some(read.map_err(Into::into).and_then(|bytes| {
            let before = self.progress.0.fetch_add(bytes.len(), Ordering::Relaxed);
            match before.saturating_add(bytes.len()) > UNSEEN_MAX {
                true => Err(Unseen.into()),
                false => Ok(bytes),
            }
        })))
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let progress = Progress::default();
        let request = request.map(|body| {
            Body::from_stream(Sips {
                body: body.into_data_stream(),
                progress: progress.clone(),
                pause: false,
            })
        });
        let parts = Multipart::from_request(request, state).await.map_err(|e| {
            let detail = format!("{}; send multipart/form-data", e.body_text());
            ApiError(Problem::invalid("Content-Type", detail))
        })?;
        Ok(Self { parts, progress })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::CONTENT_TYPE;
    use futures::stream;

    use super::*;

    /// Reads a form of these chunks and answers with the bytes of its first part, or what is wrong with it.
    async fn read(chunks: Vec<Vec<u8>>) -> Result<usize, String> {
        let body = Body::from_stream(stream::iter(chunks).map(Ok::<_, BoxError>));
        let request = Request::builder()
            .header(CONTENT_TYPE, "multipart/form-data; boundary=x")
            .body(body)
            .expect("request");
        let mut form = Form::from_request(request, &()).await.map_err(|e| e.0.detail)?;
        let mut size = 0;
        let part = form.parts.next_field().await.map_err(|e| e.body_text())?;
        let mut part = part.ok_or("no part")?;
        form.progress.seen();
        while let Some(chunk) = part.chunk().await.map_err(|e| e.body_text())? {
            form.progress.seen();
            // Fed in sips, the reader never holds much more than one.
            assert!(chunk.len() <= 1 << 18, "{}", chunk.len());
            size += chunk.len();
        }
        Ok(size)
    }

    #[tokio::test]
    async fn files_may_be_long_and_heads_may_not() {
        let head = b"--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n".to_vec();
        let mut long = vec![head];
        long.extend(std::iter::repeat_with(|| vec![b'a'; 1 << 16]).take(24));
        long.push(b"\r\n--x--\r\n".to_vec());
        assert_eq!(read(long).await, Ok(24 << 16));
        let mut endless = vec![b"--x\r\nX-Long: ".to_vec()];
        endless.extend(std::iter::repeat_with(|| vec![b'a'; 1 << 16]).take(24));
        assert!(read(endless).await.is_err());
    }
}
