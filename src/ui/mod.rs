//! The dashboard: rendered on the server, alive in the browser. Uses `domain` for what it shows, `rpc` to ask for it,
//! and `browser` for what only a browser can do.

pub mod app;
pub mod components;
pub mod layout;
pub mod live;
pub mod pages;
pub mod query;
pub mod shell;
pub mod signed;
pub mod text;
