//! What a serving process is made of, put together in one place.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, Database};
use super::engine::kind::Registry;
use super::engine::{Engine, Settings};
use super::kinds;
use super::queue::memory::{MemoryBus, MemoryQueue};
use super::queue::redis::{Link, RedisBus, RedisError, RedisQueue};
use super::queue::{Bus, Queue};
use super::secrets::keys::ALLOWED;
use super::secrets::{SecretError, Secrets};
use super::service::heads;
use super::service::identity::Lifetimes;
use super::service::{Catalog, Limits, Rules, Service};
use super::store::{Store, StoreError};
use crate::domain::kind::Policy;

/// The service and, when this process works, its engine.
pub struct System {
    pub service: Service,
    pub engine: Option<Engine>,
}

/// Why a system can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Processes that share a database have to be given the key that they share.
    #[error(
        "the args of {kinds} hold secrets, and there is no key to encrypt them with: set SECRET_KEY or SECRET_KEY_FILE, to the \
         same key for every process on this database; allowed: {}",
        ALLOWED
    )]
    NoSecretKey { kinds: String },
    /// A setting names a kind that is not there.
    #[error("KIND_MAX_JOBS, KIND_RATES or KIND_TIMEOUTS names the kind \"{name}\"; allowed are {known}")]
    Kind { name: String, known: String },
}

/// The kinds of this process, with the configured policy.
pub fn registry(config: &Config) -> Registry {
    let policy = Policy {
        max_attempts: config.job_max_retries + 1,
        timeout_s: config.job_timeout.as_secs(),
        ..Policy::DEFAULT
    };
    kinds::registry(policy, config.import_unzipped_max, config.import_dir.clone())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What callers may be limited to.
fn limits(config: &Config) -> Limits {
    Limits {
        queue_max: config.queue_max,
        args_max: config.args_max,
        upload_max: config.upload_max,
        sessions: Lifetimes {
            idle_ms: millis(config.session_idle),
            age_ms: millis(config.session_age),
        },
    }
}

/// The secrets of this process. Alone with its database it keeps a key beside that, unless it is given one.
fn secrets(config: &Config) -> Result<Secrets, SecretError> {
    let file = match config.database {
        Database::Sqlite(_) => Some(config.data_dir.join("secret.key")),
        Database::Postgres(_) => None,
    };
    let (key, old) = (config.secret_key.as_ref(), &config.secret_key_old);
    Secrets::new(key, old, file, config.log_redact.clone())
}

/// The service for a command beside a server that may be running: it reads and writes, and runs nothing.
pub async fn beside(config: &Config) -> Result<Service, StartError> {
    let store = Store::open_beside(config).await?;
    let (queue, bus) = (Arc::new(MemoryQueue::default()), Arc::new(MemoryBus::default()));
    let service = Service::new(
        store,
        queue,
        bus,
        Arc::new(registry(config)),
        limits(config),
        secrets(config)?,
        &config.settings,
    );
    service.refresh_kinds().await?;
    Ok(service)
}

/// Opens the store and starts what the settings ask for; `kinds`: those that this process runs.
pub async fn start(config: &Config, kinds: Registry, work: bool) -> Result<System, StartError> {
    let known = || kinds.infos().into_iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
    let limited = kinds
        .clone()
        .limited(&config.kind_max_jobs, &config.kind_rates, &config.kind_timeouts);
    let kinds = limited.map_err(|name| StartError::Kind { name, known: known() })?;
    let secrets = secrets(config)?;
    if !secrets.can_seal() && !kinds.with_secrets().is_empty() {
        let kinds = kinds.with_secrets().join(", ");
        return Err(StartError::NoSecretKey { kinds });
    }
    let store = Store::open(config).await?;
    let limits = limits(config);
    let (queue, bus): (Arc<dyn Queue>, Arc<dyn Bus>) = match &config.redis {
        None => (Arc::new(MemoryQueue::default()), Arc::new(MemoryBus::default())),
        Some(url) => {
            let link = Link::connect(url, &config.redis_prefix).await?;
            let bus = RedisBus::new(link.clone())
                .await
                .map_err(|source| RedisError::Connect {
                    url: url.to_string(),
                    source,
                })?;
            (Arc::new(RedisQueue::new(link)), Arc::new(bus))
        }
    };
    let service = Service::new(
        store,
        queue,
        bus,
        Arc::new(kinds.clone()),
        limits,
        secrets,
        &config.settings,
    );
    let service = service.working_by(Rules {
        limits: kinds.limits(config.global_max_jobs, config.member_max_jobs),
        lease: config.worker_lease,
        poll: config.worker_poll_interval,
    });
    service.refresh_kinds().await?;
    service.keep_kinds();
    service.keep_heads(config.data_dir.join(heads::FILE));
    let settings = Settings {
        limits: kinds.limits(config.global_max_jobs, config.member_max_jobs),
        slots: config.worker_concurrency,
        poll: config.worker_poll_interval,
        retention: config.retention.clone(),
        sweep_every: config.sweep_every,
        lease: config.worker_lease,
        grace: config.shutdown_grace,
    };
    let engine = match work {
        true => Some(Engine::start(service.clone(), kinds, settings, config.redis.is_none()).await?),
        false => None,
    };
    Ok(System { service, engine })
}
