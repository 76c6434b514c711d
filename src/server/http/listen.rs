//! Takes connections in: not more than there is room for, none that dawdles, and until the end is asked for. HTTP/1.1 with
//! upgrades is all that is spoken here: without TLS no browser speaks anything newer, and what TLS ends at speaks it as well.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::callers::{Counted, Tally};
use super::router::GUARDS;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::network::network;
use crate::server::config::{Config, Edge};

/// Bytes that a request's head may have, and fields in it. Larger ones are answered 431.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEAD_FIELDS_MAX: usize = 100;
/// Connections that are told at the same time that there is no room; what comes beyond is closed without a word.
const TURNED_AWAY: usize = 64;
/// How long somebody who was turned away may take to read that.
const FAREWELL: Duration = Duration::from_secs(2);
/// The least that requests may go on for when the end was asked for.
const GRACE_MIN: Duration = Duration::from_secs(5);

/// How connections are taken in.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Open ones in all, and of one network.
    connections: usize,
    per_address: usize,
    /// How long a client may take for a request's head, and to take a part of an answer.
    patience: Duration,
    /// How long requests may go on for when the end was asked for.
    grace: Duration,
    /// Proxies, through whom everybody comes: their connections are not counted by address.
    trusted: Vec<IpAddr>,
}

impl Listening {
    pub fn of(config: &Config) -> Self {
        let Edge {
            connections_max,
            connections_per_address,
            client_timeout,
            ..
        } = config.edge;
        Self {
            connections: connections_max as usize,
            per_address: connections_per_address as usize,
            patience: client_timeout,
            grace: config.shutdown_grace.max(GRACE_MIN),
            trusted: config.trusted_proxies.clone(),
        }
    }
}

/// Serves until `stop` is cancelled; then takes no more connections, lets the requests that are being answered come to their
/// end within the grace period, and ends. WebSockets are none of them: whoever serves them has to watch for the end.
pub async fn serve(listener: TcpListener, app: Router, listening: Listening, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(listening.patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX);
    let room = Arc::new(Semaphore::new(listening.connections.min(Semaphore::MAX_PERMITS)));
    let farewells = Arc::new(Semaphore::new(TURNED_AWAY));
    let by_network: Arc<Tally<IpAddr>> = Arc::default();
    let open = TaskTracker::new();
    // Cancelled when what is still open has had its time.
    let over = CancellationToken::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    wait_after(&error).await;
                    continue;
                }
            },
        };
        let from = peer.ip().to_canonical();
        let known = listening.trusted.contains(&from);
        let max = if known { usize::MAX } else { listening.per_address };
        let places = (
            room.clone().try_acquire_owned().ok(),
            by_network.enter(network(from), max),
        );
        let (Some(place), Some(counted)) = places else {
            if let Ok(farewell) = farewells.clone().try_acquire_owned() {
                open.spawn(async move {
                    // Whoever does not listen misses nothing.
                    let _ = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
                    drop(farewell);
                });
            }
            continue;
        };
        // Answers are written as a whole; small ones must not wait for more.
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = app.clone().oneshot(request);
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let io = TokioIo::new(Patient {
            stream,
            patience: listening.patience,
            waiting: None,
            _places: (place, counted),
        });
        let connection = http.serve_connection(io, service).with_upgrades();
        let (stop, over) = (stop.clone(), over.clone());
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = stop.cancelled() => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = over.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a connection broke");
            }
        });
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(listening.grace, open.wait()).await.is_err() {
        tracing::warn!(
            connections = open.len(),
            "requests that did not come to an end are cut off"
        );
        over.cancel();
        open.wait().await;
    }
}

/// A connection that broke before it was taken is nobody's loss; when there are no more file handles, some have to come back.
async fn wait_after(error: &io::Error) {
    let broken = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ];
    if !broken.contains(&error.kind()) {
        tracing::error!(%error, "connections can't be taken at the moment");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tells a client that there is no room, and waits for it to have read that.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    let problem = Problem::new(
        ProblemCode::Unavailable,
        "there are as many connections as this server, or your address, may have (CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS)",
    );
    let body = serde_json::to_string(&problem.retry_after(5)).unwrap_or_default();
    let guards: String = GUARDS
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\
         {guards}Retry-After: 5\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing before everything was read would take the answer back.
    let mut rest = [0; 4_096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// A connection whose client has to take what is written to it: one that takes nothing for too long is gone.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    /// Runs while the client takes nothing.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Among all connections and those of its network, for as long as it is open: as a WebSocket, too.
    _places: (OwnedSemaphorePermit, Counted<IpAddr>),
}

impl Patient {
    /// What became of a write, or that it has taken too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
