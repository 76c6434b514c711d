//! Asking the provider by HTTP: answers bounded in size, redirects not followed.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Map, Value};

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

    /// What it answers, whatever kind of text it calls that: some providers give their keys as plain text. Nothing but an
    /// answer is one.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OpenidError> {
        let url = request.uri().to_string();
        self.private(&url)?;
        let away = |reason: String| OpenidError::Away {
            url: url.clone(),
            reason,
        };
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let answer = self.client.request(request).await.map_err(|e| away(causes(&e)))?;
        let (mut head, body) = answer.into_parts();
        if head.status.is_server_error() || head.status.is_redirection() {
            return Err(away(head.status.to_string()));
        }
        head.headers.remove(CONTENT_TYPE);
        let body = Limited::new(body, ANSWER_MAX).collect().await;
        let body = body
            .map_err(|e| away(format!("the answer can't be read: {e}")))?
            .to_bytes();
        Ok(HttpResponse::from_parts(head, body.into()))
    }
}

/// The same for tokens, of which the library wants more to be as the standard says than is needed here.
pub struct ForTokens<'w>(pub &'w Web);

/// Of an answer with tokens what is needed, with what has to be there; any other answer as it is.
fn needed(body: Vec<u8>) -> Vec<u8> {
    const NEEDED: [&str; 3] = ["access_token", "id_token", "token_type"];
    let Ok(mut told) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return body;
    };
    if told.contains_key("error") {
        return body;
    }
    told.retain(|name, value| NEEDED.contains(&name.as_str()) && value.is_string());
    told.entry("access_token").or_insert_with(|| "".into());
    told.entry("token_type").or_insert_with(|| "Bearer".into());
    Value::Object(told).to_string().into_bytes()
}

type Answering<'c> = Pin<Box<dyn Future<Output = Result<HttpResponse, OpenidError>> + Send + 'c>>;

impl<'c> AsyncHttpClient<'c> for Web {
    type Error = OpenidError;
    type Future = Answering<'c>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl<'c> AsyncHttpClient<'c> for ForTokens<'_> {
    type Error = OpenidError;
    type Future = Answering<'c>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async {
            let (head, body) = self.0.send(request).await?.into_parts();
            Ok(HttpResponse::from_parts(head, needed(body)))
        })
    }
}

/// An error with what it came from: the outermost one says little.
pub fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_are_taken_from_providers_that_know_the_standard_by_hearsay() {
        let read = |told: Value| {
            let body = needed(told.to_string().into_bytes());
            serde_json::from_slice::<Value>(&body).expect("json")
        };
        let odd = json!({ "id_token": "a.b.c", "access_token": "x", "token_type": "bearer", "expires_in": "3599", "scope": ["openid"] });
        assert_eq!(
            read(odd),
            json!({ "id_token": "a.b.c", "access_token": "x", "token_type": "bearer" })
        );
        let alone = json!({ "id_token": "a.b.c", "access_token": null });
        assert_eq!(
            read(alone),
            json!({ "id_token": "a.b.c", "access_token": "", "token_type": "Bearer" })
        );
        let refused = json!({ "error": "invalid_grant", "error_description": "used" });
        assert_eq!(read(refused.clone()), refused);
        assert_eq!(needed(b"<html>".to_vec()), b"<html>");
    }
}
