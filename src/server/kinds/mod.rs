//! The built-in kinds of jobs: one module a kind, and one line here. They know the vocabulary and the context that the
//! engine gives them, nothing else of the server.

mod blocking;
mod bulk_action;
mod cell;
pub mod export;
mod import;
pub mod sample;

pub use export::write as event_writer;

use std::path::PathBuf;

use crate::domain::kind::Policy;
use crate::server::engine::kind::Registry;

/// Every kind that this binary can run. `default` is the policy of the kinds that have none of their own; an imported
/// archive may unpack to `unpacked_max` bytes.
pub fn registry(default: Policy, unpacked_max: u64, import_dir: Option<PathBuf>) -> Registry {
    Registry::new(default)
        .with(bulk_action::BulkAction)
        .with(export::Export::default())
        .with(import::Import::new(unpacked_max, import_dir))
}
