//! What every measure needs: a fresh system, and somewhere to put its figures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::BenchArgs;
use super::kinds::{Busy, Chatter, Noop, Probe, Seen};
use crate::domain::error::Problem;
use crate::domain::job::NewJob;
use crate::domain::kind::Policy;
use crate::domain::status::Status;
use crate::domain::user::Actor;
use crate::server::cli::CliError;
use crate::server::config::{Config, Database};
use crate::server::engine::kind::Registry;
use crate::server::engine::{Engine, Settings};
use crate::server::service::Service;
use crate::server::state;
use crate::server::store::{create_schema, drop_schema};

/// The run of a benchmark.
pub struct Bench {
    pub jobs: u32,
    pub slots: u32,
    pub workers: u32,
    config: Config,
    folder: PathBuf,
    systems: u32,
    schemas: Vec<String>,
    results: BTreeMap<&'static str, f64>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("bench: {} could not be removed: {error}", self.folder.display());
        }
    }
}

/// A system without work, and what its probes say.
pub struct Fresh {
    pub service: Service,
    pub probes: UnboundedReceiver<Seen>,
    registry: Registry,
    slots: u32,
    lease: Duration,
}

pub fn failed(problem: Problem) -> CliError {
    CliError::Usage(format!("the measure failed: {}", problem.detail))
}

impl Bench {
    pub fn new(args: &BenchArgs, config: &Config) -> Result<Self, CliError> {
        let parent = args.dir.clone().unwrap_or_else(|| config.data_dir.clone());
        let folder = parent.join(format!("bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|source| CliError::Io {
            what: format!("the folder {} can't be made", folder.display()),
            source,
        })?;
        Ok(Self {
            jobs: args.jobs,
            slots: args.slots,
            workers: args.workers,
            config: Config {
                queue_max: u64::MAX >> 1,
                ..config.clone()
            },
            folder,
            systems: 0,
            schemas: Vec::new(),
            results: BTreeMap::new(),
        })
    }

    pub fn record(&mut self, name: &'static str, value: f64) {
        self.results.insert(name, value);
    }

    pub fn result(&self, name: &str) -> Option<f64> {
        self.results.get(name).copied()
    }

    /// Which of the arrangements of databases and queues is measured.
    pub fn arrangement(&self) -> &'static str {
        match (&self.config.database, &self.config.redis) {
            (Database::Sqlite(_), _) => "sqlite",
            (Database::Postgres(_), None) => "postgres",
            (Database::Postgres(_), Some(_)) => "postgres+redis",
        }
    }

    /// Removes what the systems left in a shared database.
    pub async fn clean(&mut self) -> Result<(), CliError> {
        if let Database::Postgres(url) = &self.config.database {
            for name in self.schemas.drain(..) {
                drop_schema(url, &name).await?;
            }
        }
        Ok(())
    }

    pub fn into_results(mut self) -> BTreeMap<&'static str, f64> {
        std::mem::take(&mut self.results)
    }

    /// A system on an empty database of its own.
    pub async fn fresh(&mut self) -> Result<Fresh, CliError> {
        self.systems += 1;
        let name = format!("windlass_bench_{}_{}", std::process::id(), self.systems);
        let database = match &self.config.database {
            Database::Sqlite(_) => Database::Sqlite(None),
            Database::Postgres(url) => {
                let schema = create_schema(url, &name).await?;
                self.schemas.push(name.clone());
                Database::Postgres(schema)
            }
        };
        let config = Config {
            data_dir: self.folder.join(self.systems.to_string()),
            database,
            redis_prefix: name,
            ..self.config.clone()
        };
        let (say, probes) = unbounded_channel();
        let say = Arc::new(say);
        let policy = Policy {
            max_attempts: config.job_max_retries + 1,
            timeout_s: config.job_timeout.as_secs(),
            ..Policy::DEFAULT
        };
        let registry = Registry::new(policy)
            .with(Noop)
            .with(Probe(say.clone()))
            .with(Busy(say))
            .with(Chatter);
        let system = state::start(&config, registry.clone(), false).await?;
        Ok(Fresh {
            service: system.service,
            probes,
            registry,
            slots: self.slots,
            lease: config.worker_lease,
        })
    }
}

impl Fresh {
    /// A worker on it.
    pub async fn work(&self) -> Result<Engine, CliError> {
        let settings = Settings {
            limits: self.registry.limits(None, 3),
            slots: self.slots,
            poll: Duration::from_secs(1),
            retention: Vec::new(),
            sweep_every: Duration::from_secs(600),
            lease: self.lease,
            grace: Duration::from_secs(5),
        };
        Ok(Engine::start(self.service.clone(), self.registry.clone(), settings, false).await?)
    }

    /// Enqueues `n` jobs a thousand at a time.
    pub async fn fill(&self, kind: &str, n: u32) -> Result<(), CliError> {
        self.fill_with(n, |i| NewJob::of(kind, json!({ "n": i }))).await
    }

    /// The same with jobs of any make.
    pub async fn fill_with(&self, n: u32, make: impl Fn(u32) -> NewJob) -> Result<(), CliError> {
        let actor = Actor::local_admin();
        for from in (0..n).step_by(1_000) {
            let part = (from..n.min(from + 1_000)).map(&make);
            self.service
                .enqueue_bulk(&actor, part.collect(), None)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until so many jobs have completed, by the database's counts.
    pub async fn completed(&self, n: u64) -> Result<(), CliError> {
        let actor = Actor::local_admin();
        loop {
            let counts = self.service.counts(&actor).await.map_err(failed)?;
            if counts.of(Status::Completed) >= n {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The value below which this share of `values` lies.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * share).round() as usize)
        .copied()
        .unwrap_or(0.0)
}
