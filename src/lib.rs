//! Windlass: a job queue, its workers, an HTTP API, a command line and a dashboard in one binary. The crate is compiled
//! twice: for the server (feature `ssr`) and for the browser (feature `hydrate`). `docs/ARCHITECTURE.md` has the map.
#![recursion_limit = "256"]

pub mod domain;
pub mod rpc;
pub mod ui;

#[cfg(feature = "ssr")]
pub mod server;

/// What only a browser can do; on the server its twin does nothing.
#[cfg(feature = "hydrate")]
#[path = "browser/real.rs"]
pub mod browser;
#[cfg(not(feature = "hydrate"))]
#[path = "browser/server.rs"]
pub mod browser;

/// Brings the server-rendered page to life. Called by the page's script.
#[cfg(feature = "hydrate")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn hydrate() {
    console_error_panic_hook::set_once();
    wasm_bindgen_futures::spawn_local(async {
        // What the address needs comes first: then the page comes alive in one go, and nothing that happens meanwhile can
        // come between what the server rendered and what the browser expects.
        let path = leptos::prelude::window().location().pathname();
        ui::app::fetch_parts(&path.unwrap_or_default()).await;
        leptos::mount::hydrate_lazy(ui::app::App);
    });
}

/// Changed inputs for the tests of readers; the suite beside the crate has the same.
#[cfg(all(test, feature = "ssr"))]
#[path = "../tests/it/fuzz/mutate.rs"]
mod mutate;
