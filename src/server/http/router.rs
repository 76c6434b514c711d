//! All routes in one table, with the document that describes them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY,
};
use axum::http::{self, Extensions, HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use leptos::prelude::LeptosOptions;
use leptos_axum::{LeptosRoutes, generate_route_list};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::extract::{ApiError, limited};
use super::rest::{
    actions, artifacts, audit_file, batches, bulk, events, identity, jobs, logs, queues, schedules, settings, workers,
};
use super::{AppState, Site, auth, docs, guard, health, intake, oidc, page, rpc, session, sse, ws};
use crate::domain::error::{Problem, ProblemCode};
use crate::server::openid::CALLBACK;
use crate::ui::app::App;
use crate::ui::shell::shell;

/// Bytes of a body that is not a file.
const BODY_MAX: usize = 1_000_000;

/// What every answer carries unless its handler knows better: it is kept nowhere, does and loads nothing where it is shown, is
/// shown as what it says it is, in no frame and on no other site.
pub(super) const GUARDS: [(&str, &str); 8] = [
    ("cache-control", "no-store"),
    ("content-security-policy", NOTHING),
    ("permissions-policy", PERMISSIONS),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// For answers that are no page.
const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Pages want nothing of what a device could give them.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=()";

#[derive(OpenApi)]
#[openapi(
    info(title = "Windlass", description = "Background jobs: enqueue, follow, act. Errors are RFC 9457 problems with a stable `code`; times are RFC 3339 in UTC."),
    tags((name = "jobs"), (name = "actions"), (name = "schedules"), (name = "batches"), (name = "queues"), (name = "events"), (name = "users"),
        (name = "workers"), (name = "audit"), (name = "settings"), (name = "health"))
)]
struct Api;

/// `args_max`: bytes that a job's args may have, for which a body has room.
fn api(args_max: u64) -> OpenApiRouter<AppState> {
    let quick = OpenApiRouter::new()
        .routes(routes!(jobs::list, jobs::enqueue))
        .routes(routes!(jobs::types))
        .routes(routes!(jobs::search))
        .routes(routes!(jobs::stats))
        .routes(routes!(jobs::series))
        .routes(routes!(jobs::one, actions::delete))
        .routes(routes!(jobs::detail))
        .routes(routes!(jobs::history))
        .routes(routes!(bulk::retry))
        .routes(routes!(bulk::cancel))
        .routes(routes!(bulk::delete))
        .routes(routes!(actions::cancel))
        .routes(routes!(actions::abort))
        .routes(routes!(actions::retry))
        .routes(routes!(actions::pause))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::run_now))
        .routes(routes!(actions::run_again))
        .routes(routes!(schedules::list, schedules::create))
        .routes(routes!(schedules::one, schedules::change, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run_now))
        .routes(routes!(batches::list))
        .routes(routes!(batches::one))
        .routes(routes!(batches::cancel))
        .routes(routes!(workers::forget_kind))
        .routes(routes!(workers::begin))
        .routes(routes!(workers::end))
        .routes(routes!(workers::fetch))
        .routes(routes!(workers::heartbeat))
        .routes(routes!(workers::progress))
        .routes(routes!(workers::logs))
        .routes(routes!(workers::checkpoint))
        .routes(routes!(workers::complete))
        .routes(routes!(workers::fail))
        .routes(routes!(workers::release))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(queues::errors))
        .routes(routes!(events::export))
        .routes(routes!(identity::me))
        .routes(routes!(identity::password))
        .routes(routes!(identity::sessions, identity::end_sessions))
        .routes(routes!(identity::end_session))
        .routes(routes!(identity::my_tokens, identity::make_my_token))
        .routes(routes!(identity::tokens, identity::make_token))
        .routes(routes!(identity::revoke))
        .routes(routes!(identity::users, identity::invite))
        .routes(routes!(identity::links))
        .routes(routes!(identity::revoke_link))
        .routes(routes!(identity::change))
        .routes(routes!(identity::reset))
        .routes(routes!(identity::end_sessions_of))
        .routes(routes!(identity::audit))
        .routes(routes!(identity::audit_head))
        .routes(routes!(settings::list))
        .routes(routes!(health::health))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .layer(middleware::from_fn(intake::in_time));
    let large = OpenApiRouter::new()
        .routes(routes!(jobs::bulk))
        .layer(middleware::from_fn(intake::in_time));
    let long = OpenApiRouter::new()
        .routes(routes!(logs::logs))
        .routes(routes!(ws::logs))
        .routes(routes!(sse::events))
        .routes(routes!(artifacts::download))
        .routes(routes!(audit_file::export))
        .routes(routes!(events::import).layer(DefaultBodyLimit::disable()));
    let args_max = usize::try_from(args_max).unwrap_or(usize::MAX);
    OpenApiRouter::with_openapi(Api::openapi())
        .merge(limited(quick, BODY_MAX.max(args_max.saturating_add(BODY_MAX / 10))))
        .merge(limited(large, jobs::BULK_BYTES_MAX.max(args_max)))
        .merge(long)
}

/// The OpenAPI document of [`api`].
pub fn openapi() -> utoipa::openapi::OpenApi {
    api(0).into_openapi()
}

/// The whole of what is served.
pub fn router(state: AppState) -> Router {
    let (api, document) = api(state.service.limits().args_max).split_for_parts();
    // As bytes: axum clones its handlers for each connection, and a clone of the document is large.
    let docs = Bytes::from(docs::page(&document));
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let fixed = |media: &'static str, policy: &'static str, body: Bytes| {
        get(async move || ([(CONTENT_TYPE, media), (CONTENT_SECURITY_POLICY, policy)], body))
    };
    let routes = generate_route_list(App);
    let (context, options) = (state.clone(), state.leptos.clone());
    let pages = Router::new().leptos_routes_with_context(
        &state,
        routes,
        move || page::provide(&context),
        move || shell(LeptosOptions::clone(&options)),
    );
    let pages = pages.layer(middleware::map_response(rpc::told));
    let layers = ServiceBuilder::new()
        // Outermost, so that refusals have them too.
        .map_response(hardened(&state.site))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard))
        .layer(middleware::from_fn_with_state(state.clone(), auth::authenticate))
        .layer(middleware::from_fn_with_state(state.clone(), intake::paced))
        // Not brotli: its encoder takes megabytes for every answer, and the allocator does not give them back.
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(1_024).and(is_text)));
    Router::new()
        .merge(api)
        .route("/api/openapi.json", fixed("application/json", NOTHING, document))
        .route("/api/docs", fixed("text/html; charset=utf-8", docs::POLICY, docs))
        .route("/session", post(session::begin))
        .route("/session/end", post(session::end))
        .route("/session/oidc", get(oidc::leave))
        .route(CALLBACK, get(oidc::come_back))
        .route("/welcome", post(session::welcome))
        .merge(pages)
        .fallback(page::fallback)
        .method_not_allowed_fallback(page::wrong_method)
        .layer(layers)
        .with_state(state)
}

/// Sets the [`GUARDS`].
fn hardened<B>(site: &Site) -> impl Fn(http::Response<B>) -> http::Response<B> + Clone + use<B> {
    let fixed = GUARDS.map(|(name, value)| (HeaderName::from_static(name), value));
    // A year. Browsers forget it where there is no TLS, and only a server that is reached by TLS may ask for it.
    let tls = site.secure().then_some((STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
    let all: Arc<[(HeaderName, &'static str)]> = fixed.into_iter().chain(tls).collect();
    move |mut answer: http::Response<B>| {
        let headers = answer.headers_mut();
        for (name, value) in all.iter() {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), HeaderValue::from_static(value));
            }
        }
        answer
    }
}

/// What is worth compressing on the way out: text that is neither a download nor a stream (the site's files are compressed
/// when they are built).
fn is_text(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let text = media.starts_with("text/html") || media.contains("json");
    text && !headers.contains_key(CONTENT_DISPOSITION)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    // The panic hook has logged it.
    ApiError(Problem::new(
        ProblemCode::Internal,
        "The server met an error; its log says more.",
    ))
    .into_response()
}
