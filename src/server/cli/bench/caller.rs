//! A caller over HTTP with one connection that it keeps, and as little of its own beside that as can be: on a machine that the
//! server shares, what the caller costs is missing from what is measured.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use axum::http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::setup::broken;
use crate::server::cli::CliError;

pub struct Caller {
    requests: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    token: HeaderValue,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Caller {
    pub async fn connect(address: SocketAddr, token: &str) -> Result<Self, CliError> {
        let stream = TcpStream::connect(address).await.map_err(broken)?;
        stream.set_nodelay(true).map_err(broken)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        Ok(Self {
            requests,
            host: HeaderValue::from_str(&address.to_string()).map_err(broken)?,
            token: HeaderValue::from_str(&format!("Bearer {token}")).map_err(broken)?,
            connection: tokio::spawn(connection),
        })
    }

    /// Sends JSON and reads the whole answer, which has to be one of success.
    pub async fn post(&mut self, path: &str, body: &impl Serialize) -> Result<(), CliError> {
        let body = serde_json::to_vec(body).map_err(broken)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(broken)?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.token.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.requests.ready().await.map_err(broken)?;
        let answer = self.requests.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(broken)?;
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            return Err(broken(format!("{path} answered {status}: {text}")));
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn end(self) -> Result<(), CliError> {
        drop(self.requests);
        self.connection.await.map_err(broken)?.map_err(broken)
    }
}
