//! What a serving process is made of, put together in one place.

use std::sync::Arc;

use super::config::Config;
use super::engine::kind::Registry;
use super::engine::{Engine, Settings};
use super::kinds;
use super::queue::memory::{MemoryBus, MemoryQueue};
use super::service::{Limits, Service};
use super::store::{Store, StoreError};
use crate::domain::kind::Policy;

/// The service and, when this process works, its engine.
pub struct System {
    pub service: Service,
    pub engine: Option<Engine>,
}

/// The kinds of this process, with the configured policy.
pub fn registry(config: &Config) -> Registry {
    let policy = Policy {
        max_attempts: config.job_max_retries + 1,
        timeout_s: config.job_timeout.as_secs(),
        ..Policy::DEFAULT
    };
    kinds::registry(policy, config.import_unzipped_max)
}

/// Opens the store and starts what the settings ask for; `kinds`: those that this process runs.
pub async fn start(config: &Config, kinds: Registry, work: bool) -> Result<System, StoreError> {
    let store = Store::open(config).await?;
    let limits = Limits {
        queue_max: config.queue_max,
        args_max: config.args_max,
        upload_max: config.upload_max,
    };
    let queue = Arc::new(MemoryQueue::default());
    let service = Service::new(
        store,
        queue,
        Arc::new(MemoryBus::default()),
        Arc::new(kinds.clone()),
        limits,
    );
    let settings = Settings {
        slots: config.worker_concurrency,
        poll: config.worker_poll_interval,
        grace: config.shutdown_grace,
    };
    let engine = match work {
        true => Some(Engine::start(service.clone(), kinds, settings, true).await?),
        false => None,
    };
    Ok(System { service, engine })
}
