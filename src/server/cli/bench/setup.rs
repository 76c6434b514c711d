//! What every measure needs: a fresh system, and somewhere to put its figures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Builder;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::BenchArgs;
use super::kinds::{self, Busy, Chatter, Noop, Probe, Seen, Tally};
use crate::domain::account::NewToken;
use crate::domain::error::Problem;
use crate::domain::job::NewJob;
use crate::domain::kind::Policy;
use crate::domain::stats::Counts;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Scope};
use crate::server::cli::CliError;
use crate::server::config::{Config, Database};
use crate::server::engine::kind::Registry;
use crate::server::engine::{Engine, Settings};
use crate::server::http::{self, AppState, Listening};
use crate::server::service::Service;
use crate::server::state;
use crate::server::store::{create_schema, drop_schema, raw};

/// The run of a benchmark.
pub struct Bench {
    pub jobs: u32,
    pub slots: u32,
    pub workers: u32,
    pub idle_seconds: u32,
    pub pending: u32,
    config: Config,
    folder: PathBuf,
    systems: u32,
    /// The schemas and the prefixes in Redis of the systems so far.
    names: Vec<String>,
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
    /// What the jobs that do nothing have done.
    pub tally: Arc<Tally>,
    pub config: Config,
    /// The schema or the prefix of its own, where it shares a server.
    pub name: String,
    registry: Registry,
    slots: u32,
    lease: Duration,
}

pub fn broken(error: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("the measure broke: {error}"))
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
            idle_seconds: args.idle_seconds,
            pending: args.pending,
            config: Config {
                queue_max: u64::MAX >> 1,
                ..config.clone()
            },
            folder,
            systems: 0,
            names: Vec::new(),
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

    /// Removes what the systems left in a shared database and a shared Redis.
    pub async fn clean(&mut self) -> Result<(), CliError> {
        for name in self.names.drain(..) {
            if let Database::Postgres(url) = &self.config.database {
                drop_schema(url, &name).await?;
            }
            if let Some(url) = &self.config.redis {
                let text = url.to_string();
                let failed = |e: fred::error::Error| CliError::Usage(format!("the Redis {text} can't be cleaned: {e}"));
                forget(url.as_str(), &name).await.map_err(failed)?;
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
                self.names.push(name.clone());
                Database::Postgres(schema)
            }
        };
        let config = Config {
            data_dir: self.folder.join(self.systems.to_string()),
            database,
            redis_prefix: name.clone(),
            ..self.config.clone()
        };
        let (say, probes) = unbounded_channel();
        let say = Arc::new(say);
        let policy = Policy {
            max_attempts: config.job_max_retries + 1,
            timeout_s: config.job_timeout.as_secs(),
            ..Policy::DEFAULT
        };
        let tally = Arc::new(Tally::default());
        let registry = Registry::new(policy)
            .with(Noop(tally.clone()))
            .with(Probe(say.clone()))
            .with(Busy(say))
            .with(Chatter);
        let registry = kinds::for_reading(registry);
        let system = state::start(&config, registry.clone(), false).await?;
        Ok(Fresh {
            service: system.service,
            probes,
            tally,
            registry,
            slots: self.slots,
            lease: config.worker_lease,
            config,
            name,
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
        let actor = Actor::machine();
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
        self.counted(|counts| counts.of(Status::Completed) >= n).await
    }

    /// Waits until the database's counts are such.
    pub async fn counted(&self, such: impl Fn(&Counts) -> bool) -> Result<(), CliError> {
        let actor = Actor::machine();
        while !such(&self.service.counts(&actor).await.map_err(failed)?) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// What the next probe says. A job that does not come must not hang the measures.
    pub async fn seen(&mut self) -> Result<Seen, CliError> {
        match tokio::time::timeout(PATIENCE, self.probes.recv()).await {
            Ok(Some(seen)) => Ok(seen),
            _ => Err(broken(format_args!("a job did not begin within {PATIENCE:?}"))),
        }
    }

    /// A server over it, on a free port.
    pub async fn serve(&self) -> Result<Served, CliError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(broken)?;
        let address = listener.local_addr().map_err(broken)?;
        let closing = CancellationToken::new();
        let app = http::router(AppState {
            service: self.service.clone(),
            leptos: http::leptos_options(address),
            site: Arc::default(),
            closing: closing.clone(),
        });
        let (stop, listening) = (closing.clone(), Listening::of(&self.config));
        let serving = tokio::spawn(http::serve(listener, app, listening, stop));
        Ok(Served {
            token: token(&self.service).await?,
            address,
            closing,
            serving,
        })
    }
}

/// Makes a token for a program that reads and enqueues.
pub async fn token(service: &Service) -> Result<String, CliError> {
    let new = NewToken {
        name: "bench".into(),
        scopes: Scope::ALL.to_vec(),
        kinds: Vec::new(),
        days: None,
    };
    let made = service.make_token_of_its_own(&Actor::machine(), new).await?;
    Ok(made.secret)
}

/// A server in this process.
pub struct Served {
    pub address: SocketAddr,
    /// A token that may do what the measures do.
    pub token: String,
    closing: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Served {
    pub async fn stop(self) -> Result<(), CliError> {
        self.closing.cancel();
        self.serving.await.map_err(broken)
    }
}

/// How long a measure waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Removes all keys of a prefix. They lie in one slot of a cluster, so one node has them all.
async fn forget(url: &str, prefix: &str) -> Result<(), fred::error::Error> {
    const FORGET: &str = "local at = '0' repeat local found = redis.call('SCAN', at, 'MATCH', ARGV[1], 'COUNT', 1000) \
        at = found[1] for _, key in ipairs(found[2]) do redis.call('UNLINK', key) end until at == '0' return 0";
    let client = Builder::from_config(fred::types::config::Config::from_url(url)?).build()?;
    client.init().await?;
    let (key, pattern) = (format!("{{{prefix}}}:jobs"), format!("{{{prefix}}}:*"));
    let _: i64 = client.eval(FORGET, vec![key], vec![pattern]).await?;
    client.quit().await
}

/// The settings of the database that let it acknowledge what is not on disk.
pub async fn not_durable(config: &Config) -> Result<Vec<String>, CliError> {
    match &config.database {
        Database::Sqlite(_) => Ok(Vec::new()),
        Database::Postgres(url) => Ok(raw::not_durable(url).await?),
    }
}

/// The value that this share of `values` does not exceed: the peers' quantile.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (share * values.len() as f64).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
