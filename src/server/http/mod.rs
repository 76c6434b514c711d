//! The door for browsers and programs: pages, server functions, REST, live streams. It knows HTTP and asks the service for
//! everything else.

mod assets;
mod auth;
mod docs;
mod extract;
mod guard;
mod health;
mod page;
mod rest;
mod router;
mod sse;
mod ws;

use std::net::SocketAddr;

use axum::extract::FromRef;
use axum::http::StatusCode;
use leptos::prelude::{LeptosOptions, use_context};
use leptos_axum::ResponseOptions;
use tokio_util::sync::CancellationToken;

pub use router::{openapi, router};

use super::service::Service;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::Actor;

/// What every handler can reach.
#[derive(Clone)]
pub struct AppState {
    pub service: Service,
    pub leptos: LeptosOptions,
    /// Streams end when this is cancelled, so that a shutdown need not wait for viewers.
    pub closing: CancellationToken,
}

impl FromRef<AppState> for LeptosOptions {
    fn from_ref(state: &AppState) -> Self {
        state.leptos.clone()
    }
}

/// The service and the caller, for server functions.
pub fn rpc_caller() -> Result<(Service, Actor), Problem> {
    let state = use_context::<AppState>();
    let actor = use_context::<Actor>();
    state
        .zip(actor)
        .map(|(state, actor)| (state.service, actor))
        .ok_or_else(|| Problem::new(ProblemCode::Internal, "A server function ran outside of a request."))
}

/// What a server function answers with: a refusal also sets the status of the answer, be it the call's or that of the page
/// that is being rendered, so that the page of a job which does not exist is a 404.
pub fn rpc_answer<T>(answer: Result<T, Problem>) -> Result<T, Problem> {
    if let Err(problem) = &answer
        && let Some(options) = use_context::<ResponseOptions>()
        && let Ok(status) = StatusCode::from_u16(problem.status)
    {
        options.set_status(status);
    }
    answer
}

/// Why this address must not be listened on, if so: without a sign-in, whoever reaches the server is its admin.
pub fn refuse_listen(address: SocketAddr) -> Option<String> {
    (!address.ip().is_loopback()).then(|| {
        format!(
            "LISTEN is \"{address}\": there is no sign-in yet, so whoever reaches the server may do everything; \
             allowed is an address of this machine alone, like 127.0.0.1:3000 or [::1]:3000"
        )
    })
}

/// The options that the pages' renderer needs. The site lies in the binary.
pub fn leptos_options(address: SocketAddr) -> LeptosOptions {
    LeptosOptions::builder()
        .output_name("windlass")
        .site_pkg_dir("pkg")
        .site_addr(address)
        .build()
}
