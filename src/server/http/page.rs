//! Pages: what each request gets before it is rendered, and what every answer carries.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use leptos::nonce::use_nonce;
use leptos::prelude::{provide_context, use_context};
use leptos_axum::ResponseOptions;

use super::extract::ApiError;
use super::{AppState, assets, auth};
use crate::domain::error::{Problem, ProblemCode};
use crate::ui::shell::{Theme, shell};

/// Puts what pages and server functions need into the render's context.
pub fn provide(state: &AppState) {
    provide_context(state.clone());
    let Some(parts) = use_context::<Parts>() else { return };
    provide_context(Theme::parse(auth::cookie(&parts.headers, "theme")));
    let Some((nonce, options)) = use_nonce().zip(use_context::<ResponseOptions>()) else {
        return;
    };
    // WASM needs leave to compile; styles may be set on elements (bars, virtual rows), scripts only come from here.
    let policy = format!(
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; \
         img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        options.insert_header(CONTENT_SECURITY_POLICY, policy);
    }
}

/// Whatever has no route: a file of the site, an unknown call, or a page that does not exist.
pub async fn fallback(State(state): State<AppState>, request: Request) -> Response {
    let path = request.uri().path().to_string();
    if let Some(file) = assets::serve(&path, request.headers()) {
        return file;
    }
    if ["/api", "/rpc", "/pkg"]
        .iter()
        .any(|p| path == *p || path.starts_with(&format!("{p}/")))
    {
        return ApiError(Problem::not_found(format_args!("{path}"))).into_response();
    }
    let options = state.leptos.clone();
    let render = leptos_axum::render_app_async_with_context(move || provide(&state), move || shell(options.clone()));
    let mut answer = render(request).await;
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// A method that an address does not know.
pub async fn wrong_method(request: Request) -> Response {
    let detail = format!("{} is not possible at {}", request.method(), request.uri().path());
    ApiError(Problem::new(ProblemCode::MethodNotAllowed, detail)).into_response()
}
