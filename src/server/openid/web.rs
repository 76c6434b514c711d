//! Asking the provider by HTTP: JSON answers, bounded in size, redirects not followed.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Builder;
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use super::OpenidError;

/// Bytes of an answer.
const ANSWER_MAX: usize = 1_000_000;

/// The connections to the provider.
pub struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Web {
    /// `tls`: whether the provider is reached by TLS; the system's certificates are believed then (`SSL_CERT_FILE` names others).
    pub fn new(tls: bool) -> Result<Self, OpenidError> {
        let mut roots = RootCertStore::empty();
        if tls {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "the system's certificates can't all be read");
            }
            roots.add_parsable_certificates(found.certs);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// A document.
    pub async fn get(&self, url: &str) -> Result<Value, OpenidError> {
        self.send(url, Request::get(url), String::new()).await
    }

    /// A document for the bearer of a token.
    pub async fn with_token(&self, url: &str, token: &str) -> Result<Value, OpenidError> {
        let request = Request::get(url).header(AUTHORIZATION, format!("Bearer {token}"));
        self.send(url, request, String::new()).await
    }

    /// Sends a form.
    pub async fn post(&self, url: &str, form: &[(&str, &str)], basic: Option<&str>) -> Result<Value, OpenidError> {
        let mut request = Request::post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, format!("Basic {basic}"));
        }
        self.send(url, request, serde_urlencoded::to_string(form).unwrap_or_default())
            .await
    }

    async fn send(&self, url: &str, request: Builder, body: String) -> Result<Value, OpenidError> {
        let away = |reason: String| OpenidError::Away {
            url: url.into(),
            reason,
        };
        let request = request
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|e| away(e.to_string()))?;
        let answer = self.client.request(request).await.map_err(|e| away(causes(&e)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body
            .map_err(|e| away(format!("the answer can't be read: {e}")))?
            .to_bytes();
        let read = serde_json::from_slice::<Value>(&body);
        match (status, read) {
            (StatusCode::OK, Ok(value)) => Ok(value),
            (StatusCode::OK, Err(e)) => Err(away(format!("the answer is no JSON: {e}"))),
            // What it says went wrong: a name of RFC 6749 §5.2, never more of the answer.
            (status, read) => {
                let name = read.ok().and_then(|v| Some(v["error"].as_str()?.to_string()));
                let name: String = name
                    .unwrap_or_default()
                    .chars()
                    .filter(|c| c.is_ascii_graphic())
                    .take(60)
                    .collect();
                Err(away(format!("{} {name}", status.as_u16())))
            }
        }
    }
}

/// An error with what it came from: the outermost one says little.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
