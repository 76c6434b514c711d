//! Pages: what each request gets before it is rendered, and what every answer carries.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use leptos::nonce::use_nonce;
use leptos::prelude::{LeptosOptions, provide_context, use_context};
use leptos_axum::ResponseOptions;

use super::docs::escape;
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
    let policy = policy(parts.headers.get(HOST), &nonce);
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        options.insert_header(CONTENT_SECURITY_POLICY, policy);
    }
}

/// What a page may do. Scripts: those that the page itself marks, and the site's own by their folder alone (Leptos preloads its
/// module by a link that it does not mark, so that the mark alone won't do); WASM needs leave to compile. Styles: the site's
/// files, and no attribute. Nothing else comes from anywhere else.
pub(super) fn policy(host: Option<&HeaderValue>, nonce: &str) -> String {
    // An address of the sixth version can't be written in a policy.
    let plain = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
    let host = host.and_then(|host| host.to_str().ok()).filter(plain);
    let own = match host {
        Some(host) if !host.is_empty() => format!("{host}/pkg/"),
        _ => "'self'".into(),
    };
    format!(
        "default-src 'none'; script-src 'nonce-{nonce}' 'wasm-unsafe-eval' {own}; script-src-attr 'none'; \
         style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; \
         manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
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
    let render = leptos_axum::render_app_async_with_context(
        move || provide(&state),
        move || shell(LeptosOptions::clone(&options)),
    );
    let mut answer = render(request).await;
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

/// A refusal as whoever asked reads it: a page for a browser that was led here, a problem as JSON for everybody else.
pub fn refusal(headers: &HeaderMap, problem: Problem) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut answer = ApiError(problem.clone()).into_response();
    if !accepted
        .split(',')
        .any(|media| media.trim_start().starts_with("text/html"))
    {
        return answer;
    }
    let (title, detail) = (escape(&problem.title), escape(&problem.detail));
    *answer.body_mut() = Body::from(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · Windlass</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"stylesheet\" href=\"/pkg/windlass.css\">\
         </head><body><main class=\"bare\"><div class=\"bare-box\"><h1>{title}</h1><p class=\"trouble\" role=\"alert\">{detail}</p>\
         <p><a class=\"btn\" href=\"/sign-in\">Go to the sign-in</a></p></div></main></body></html>"
    ));
    let headers = answer.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    answer
}

/// A method that an address does not know.
pub async fn wrong_method(request: Request) -> Response {
    let detail = format!("{} is not possible at {}", request.method(), request.uri().path());
    ApiError(Problem::new(ProblemCode::MethodNotAllowed, detail)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_come_from_the_sites_folder_alone_and_no_host_can_say_otherwise() {
        let of = |host: &'static str| policy(Some(&HeaderValue::from_static(host)), "n0");
        assert!(
            of("jobs.example.org:3000")
                .contains("script-src 'nonce-n0' 'wasm-unsafe-eval' jobs.example.org:3000/pkg/;")
        );
        for odd in [
            "localhost:1; script-src *",
            "localhost:1 'unsafe-inline'",
            "[::1]:3000",
            "",
        ] {
            assert!(of(odd).contains("'wasm-unsafe-eval' 'self';"), "{}", of(odd));
        }
        let whole = of("localhost");
        assert!(
            !whole.contains("unsafe-inline") && !whole.contains("'unsafe-eval'"),
            "{whole}"
        );
    }
}
