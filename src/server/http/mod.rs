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
pub mod rpc;
mod sse;
mod ws;

use std::net::SocketAddr;

use axum::extract::FromRef;
use leptos::prelude::LeptosOptions;
use tokio_util::sync::CancellationToken;

pub use router::{openapi, router};

use super::service::Service;

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
