//! Asking the provider by HTTP: answers bounded in size, redirects not followed.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

use super::OpenidError;
use crate::server::config::is_private;

/// Bytes of an answer.
const ANSWER_MAX: usize = 1_000_000;

/// The connections to the provider.
pub struct Web {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    tls: bool,
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
            tls,
        })
    }

    /// Refuses what others could read on its way: a provider that is asked by TLS is always asked by TLS, any other is on this machine.
    pub fn private(&self, url: &str) -> Result<(), OpenidError> {
        if is_private(url) && (url.starts_with("https://") || !self.tls) {
            return Ok(());
        }
        Err(OpenidError::Description(format!("\"{url}\" is not reached by TLS")))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OpenidError> {
        let url = request.uri().to_string();
        self.private(&url)?;
        let away = |reason: String| OpenidError::Away {
            url: url.clone(),
            reason,
        };
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answer = self.client.request(request).await.map_err(|e| away(causes(&e)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body
            .map_err(|e| away(format!("the answer can't be read: {e}")))?
            .to_bytes();
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

impl<'c> AsyncHttpClient<'c> for Web {
    type Error = OpenidError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OpenidError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// An error with what it came from: the outermost one says little.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
