//! The door for browsers and programs: pages, server functions, REST, live streams. It knows HTTP and asks the service for
//! everything else.

mod assets;
mod auth;
mod callers;
mod docs;
mod doors;
mod extract;
mod form;
mod guard;
mod health;
mod intake;
mod listen;
mod oidc;
mod page;
mod proxied;
mod rest;
mod router;
pub mod rpc;
mod session;
mod sse;
mod ws;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRef;
use leptos::prelude::LeptosOptions;
use tokio_util::sync::CancellationToken;

pub use auth::Site;
pub use doors::{DOORS, Door};
pub use listen::{Listening, serve};
pub use router::{openapi, router};

use super::service::Service;

/// What every handler can reach.
#[derive(Clone)]
pub struct AppState {
    pub service: Service,
    pub leptos: Arc<LeptosOptions>,
    pub site: Arc<Site>,
    /// Streams end when this is cancelled, so that a shutdown need not wait for viewers.
    pub closing: CancellationToken,
}

impl FromRef<AppState> for LeptosOptions {
    fn from_ref(state: &AppState) -> Self {
        LeptosOptions::clone(&state.leptos)
    }
}

/// Why this address must not be listened on, if so: as long as there is no user, the first one is made at this machine.
pub fn refuse_listen(address: SocketAddr, has_users: bool, site: &Site) -> Option<String> {
    (!address.ip().is_loopback() && !has_users && !site.setup_anywhere).then(|| {
        format!(
            "LISTEN is \"{address}\", and there is no user yet who could sign in. Set ADMIN_EMAIL and ADMIN_PASSWORD for the first \
             start, or start once at an address of this machine alone, like 127.0.0.1:3000, and open the link that is printed then"
        )
    })
}

/// The options that the pages' renderer needs. The site lies in the binary.
pub fn leptos_options(address: SocketAddr) -> Arc<LeptosOptions> {
    let options = LeptosOptions::builder()
        .output_name("windlass")
        .site_pkg_dir("pkg")
        .site_addr(address);
    Arc::new(options.build())
}

#[cfg(test)]
mod fuzz_tests;
