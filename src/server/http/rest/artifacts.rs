//! Files that jobs left behind.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::ServeFile;

use crate::domain::error::{Problem, ProblemCode};
use crate::server::http::AppState;
use crate::server::http::auth::Caller;
use crate::server::http::extract::{Answer, Id, Path};

/// Downloads one of a job's files. Range requests are answered.
#[utoipa::path(get, path = "/api/jobs/{id}/artifacts/{name}", tag = "jobs",
    params(("id" = String, Path, description = "The job"), ("name" = String, Path, description = "The file's name")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>), (status = 404, body = Problem), (status = 416)))]
pub async fn download(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Id(id): Id,
    Path((_, name)): Path<(String, String)>,
    request: Request,
) -> Answer<Response> {
    let (artifact, path) = state.service.artifact(&actor, id, &name).await?;
    // Ranges and If-Modified-Since are the file service's; the names on disk say nothing of the type.
    let served = ServeFile::new(path).oneshot(request).await;
    let mut answer = match served {
        Ok(answer) => answer.map(Body::new),
        Err(never) => match never {},
    };
    if answer.status() == StatusCode::NOT_FOUND {
        tracing::error!(job = %id, name, "an artifact's file is missing");
        return Err(Problem::not_found(format_args!("the file of artifact \"{name}\"")).into());
    }
    if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        let detail = format!("the file has {} bytes", artifact.size);
        let mut refused =
            super::super::extract::ApiError(Problem::new(ProblemCode::RangeNotSatisfiable, detail)).into_response();
        if let Some(range) = answer.headers().get("content-range") {
            refused.headers_mut().insert("content-range", range.clone());
        }
        return Ok(refused);
    }
    let headers = answer.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(CONTENT_TYPE, &artifact.content_type);
    set(CONTENT_DISPOSITION, &disposition(&artifact.name));
    // Should a browser show it after all, it is nobody's page and runs nothing.
    set(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    );
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(CACHE_CONTROL, "private, no-cache");
    set(ETAG, &format!("\"{}\"", artifact.sha256));
    Ok(answer)
}

/// `attachment` with the name twice: in ASCII for old clients, and as RFC 8187 has it.
pub fn disposition(name: &str) -> String {
    let ascii: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() && !"\"\\;%".contains(c) || c == ' ' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn names_can_not_break_out_of_the_header() {
        assert_eq!(
            disposition("a\"\r\nb.csv"),
            "attachment; filename=\"a___b.csv\"; filename*=UTF-8''a%22%0D%0Ab.csv"
        );
    }
}
