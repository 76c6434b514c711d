//! Reading requests and writing answers: whatever can't be taken is a [`Problem`] that names the field.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;

use crate::domain::error::{Problem, ProblemCode, truncate};
use crate::domain::job::JobId;

/// A refused call as an answer.
#[derive(Debug)]
pub struct ApiError(pub Problem);

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = (status, axum::Json(&self.0)).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let soon = matches!(self.0.code, ProblemCode::QueueFull | ProblemCode::Unavailable);
        if let Some(seconds) = self.0.retry_after.or(soon.then_some(5)) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.code == ProblemCode::Unauthorized {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"windlass\""),
            );
        }
        answer
    }
}

/// The answer of most handlers.
pub type Answer<T> = Result<T, ApiError>;

/// Query parameters as they came, in order.
pub struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|e| Problem::invalid("query", format!("the query can't be read: {e}")))?;
        // Not every database takes one in a text, and no parameter has use for it.
        if pairs
            .iter()
            .any(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err(Problem::invalid("query", "the query has a zero character").into());
        }
        Ok(Self(pairs))
    }
}

impl Params {
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses parameters that are not among `allowed`: a mistyped filter must not widen what a call does.
    pub fn only(&self, allowed: &[&str]) -> Result<(), Problem> {
        known(self.pairs(), allowed)
    }

    /// The last value of a parameter that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let last = self.pairs().filter(|(n, _)| *n == name).last();
        last.map(|(_, value)| value.trim()).filter(|v| !v.is_empty())
    }

    /// A parameter that is a number or what `what` says.
    pub fn parse<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        self.get(name).map(|value| parse(name, value, what)).transpose()
    }
}

/// Refuses names that are not among `allowed`.
pub fn known<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, allowed: &[&str]) -> Result<(), Problem> {
    for (name, _) in pairs {
        if !allowed.contains(&name) {
            let mut shown = name.to_string();
            truncate(&mut shown, 80);
            let allowed = allowed.join(", ");
            return Err(Problem::invalid(
                shown.clone(),
                format!("\"{shown}\" is not a parameter here; allowed: {allowed}"),
            ));
        }
    }
    Ok(())
}

/// `value` as a `T`, or a problem that says that it is not `what`.
pub fn parse<T: std::str::FromStr>(name: &str, value: &str, what: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| {
        let mut shown = value.to_string();
        truncate(&mut shown, 80);
        Problem::invalid(name, format!("{name} \"{shown}\" is not {what}"))
    })
}

/// The job that an address names. One that can't be an id names a job that does not exist.
pub struct Id(pub JobId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let id = part(parts, state, "id").await?;
        id.parse().map(Self).map_err(|_| {
            let mut id = id;
            truncate(&mut id, 80);
            Problem::not_found(format_args!("job {id}")).into()
        })
    }
}

/// The worker that an address names.
#[derive(utoipa::IntoParams)]
#[into_params(names("worker"), parameter_in = Path)]
pub struct Worker(
    /// The id that it was given when it began
    pub String,
);

impl<S: Send + Sync> FromRequestParts<S> for Worker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let mut id = part(parts, state, "worker").await?;
        // No worker's id is longer, and none has more than is printed.
        truncate(&mut id, 100);
        Ok(Self(id.replace(char::is_control, "\u{fffd}")))
    }
}

/// One part of an address by its name.
async fn part<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Answer<String> {
    let params = axum::extract::RawPathParams::from_request_parts(parts, state).await;
    let params = params.map_err(|e| ApiError(Problem::invalid(name, e.to_string())))?;
    let found = params.iter().find(|(n, _)| *n == name);
    Ok(found.map(|(_, value)| value).unwrap_or_default().to_string())
}

/// Other parts of an address, as text.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let read = axum::extract::Path::from_request_parts(parts, state).await;
        let read = read.map_err(|e| Problem::invalid("path", format!("the address can't be read: {}", e.body_text())));
        Ok(Self(read?.0))
    }
}

/// A JSON body. An empty one stands for `{}`.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let media = media(&request);
        let bytes = bytes(request, state).await?;
        if !bytes.is_empty() && !is_json(&media) {
            return Err(wrong_media(&media, "application/json"));
        }
        Ok(Self(json(if bytes.is_empty() { b"{}" } else { &bytes }, "")?))
    }
}

/// A list in the body: a JSON array, or NDJSON.
pub struct Many<T>(pub Vec<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Many<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let media = media(&request);
        let bytes = bytes(request, state).await?;
        if is_json(&media) {
            return Ok(Self(json(&bytes, "")?));
        }
        if media != "application/x-ndjson" && media != "application/jsonl" {
            return Err(wrong_media(&media, "application/json or application/x-ndjson"));
        }
        let lines = bytes.split(|b| *b == b'\n').enumerate();
        let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
        let items = lines.map(|(i, line)| json(line, &format!("line {}", i + 1)));
        Ok(Self(items.collect::<Answer<_>>()?))
    }
}

fn media(request: &Request) -> String {
    let media = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default();
    media.trim().to_ascii_lowercase()
}

fn is_json(media: &str) -> bool {
    media == "application/json" || media.ends_with("+json")
}

/// Anything but JSON is refused: a form of another site can send the other types without asking.
fn wrong_media(media: &str, allowed: &str) -> ApiError {
    let mut media = media.to_string();
    truncate(&mut media, 80);
    let detail = format!("the body has the type \"{media}\"; allowed is {allowed}");
    Problem::invalid("Content-Type", detail).into()
}

/// Bytes that the body of a call may have, for the answer to one that has more; [`limited`] sets both.
#[derive(Clone, Copy)]
struct BodyMax(usize);

/// Routes whose bodies may have so many bytes.
pub fn limited<S: Clone + Send + Sync + 'static>(routes: OpenApiRouter<S>, max: usize) -> OpenApiRouter<S> {
    routes.layer(DefaultBodyLimit::max(max)).layer(Extension(BodyMax(max)))
}

async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Answer<Bytes> {
    let max = request.extensions().get::<BodyMax>().copied();
    Bytes::from_request(request, state).await.map_err(|e: BytesRejection| {
        let problem = match (e.status(), max) {
            (StatusCode::PAYLOAD_TOO_LARGE, Some(BodyMax(max))) => {
                let max = crate::domain::page::bytes(max as u64);
                Problem::new(
                    ProblemCode::TooLarge,
                    format!("the body is larger than {max}, which is allowed here"),
                )
            }
            (StatusCode::PAYLOAD_TOO_LARGE, None) => Problem::new(ProblemCode::TooLarge, e.body_text()),
            _ => Problem::new(ProblemCode::InvalidInput, e.body_text()),
        };
        ApiError(problem)
    })
}

/// What a call without a body of its own names its job by, should it be sent again.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = key
        .to_str()
        .map_err(|_| Problem::invalid("Idempotency-Key", "Idempotency-Key must be ASCII text"))?;
    Ok(Some(key.to_string()))
}

/// One JSON value, or a problem that names the field below `place`.
fn json<T: DeserializeOwned>(text: &[u8], place: &str) -> Answer<T> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let at = |field: &str| match (place, field) {
        // "." is the whole, "?" some part of it that is no JSON.
        ("", "" | "." | "?") => "body".to_string(),
        ("", field) => field.to_string(),
        (place, "" | "." | "?") => place.to_string(),
        (place, field) => format!("{place}: {field}"),
    };
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let field = at(&e.path().to_string());
        ApiError(Problem::invalid(field, e.into_inner().to_string()))
    })?;
    json.end()
        .map_err(|e| ApiError(Problem::invalid(at(""), e.to_string())))?;
    Ok(value)
}
