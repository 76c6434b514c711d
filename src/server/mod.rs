//! Everything that runs on the server. Who may import whom: `docs/ARCHITECTURE.md`, kept by `tests/it/rules.rs`.

pub mod cli;
pub mod config;
pub mod engine;
pub mod http;
pub mod kinds;
pub mod openid;
pub mod queue;
pub mod secrets;
pub mod service;
pub mod state;
pub mod store;
pub mod telemetry;
