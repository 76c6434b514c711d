//! The settings: `Leptos.toml` first (the one built in, then one in the working folder), then the environment and `.env`.
//! A bad value stops the start with the name, the value and what is allowed.

mod edge;
mod secret;
mod shown;
mod sign_in;
mod urls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

pub use self::edge::Edge;
pub use secret::Secret;
use secret::without_password;
pub use sign_in::{OpenidSettings, ProxySettings, is_private};
pub use urls::{Database, PostgresUrl, RedisUrl, parse_database};

use crate::domain::account;
use crate::domain::kind::Rate;
use crate::domain::retention::Rule;
use crate::domain::setting::Setting;
use crate::domain::status::Status;
use crate::server::secrets::{Redactor, SecretKey};

/// The annotated defaults; a test keeps `Cargo.toml` and `.env.example` in step with them.
pub const DEFAULTS: &str = include_str!("../../Leptos.toml");

/// The settings of this process. Read once at the start.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub database: Database,
    /// Of the Redis that this and other processes share; without one, this process is alone with its database.
    pub redis: Option<RedisUrl>,
    /// What the names of all keys in Redis begin with: systems that share a Redis have different ones.
    pub redis_prefix: String,
    pub worker_concurrency: u32,
    pub worker_poll_interval: Duration,
    /// How long a worker that says nothing keeps its jobs.
    pub worker_lease: Duration,
    pub job_timeout: Duration,
    /// Attempts after the first.
    pub job_max_retries: u32,
    /// Crashes after which a job is not tried again by itself, whatever attempts are left.
    pub job_max_crashes: u32,
    /// Running jobs in the whole system; none: as many as there are slots.
    pub global_max_jobs: Option<u32>,
    /// Running jobs of each member.
    pub member_max_jobs: u32,
    /// Running jobs by kind.
    pub kind_max_jobs: BTreeMap<String, u32>,
    /// Jobs that begin within a time, by kind.
    pub kind_rates: BTreeMap<String, Rate>,
    /// How long an attempt may take, by kind.
    pub kind_timeouts: BTreeMap<String, Duration>,
    pub shutdown_grace: Duration,
    /// Bytes.
    pub upload_max: u64,
    /// Bytes.
    pub args_max: u64,
    /// Bytes that a ZIP may hold, unpacked.
    pub import_unzipped_max: u64,
    /// A folder whose files may be imported where they lie.
    pub import_dir: Option<PathBuf>,
    /// Waiting jobs at which a new one is refused.
    pub queue_max: u64,
    pub artifact_ttl: Duration,
    /// When finished jobs are removed.
    pub retention: Vec<Rule>,
    /// How often what is kept no longer is removed.
    pub sweep_every: Duration,
    /// Where people reach the server; empty: wherever it listens.
    pub public_url: String,
    /// Whom the first start makes the first admin.
    pub admin: Option<(String, Secret)>,
    /// Whether the first admin's link works from elsewhere than this machine.
    pub setup_anywhere: bool,
    /// Proxies whose word about a client's address counts.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// Sign-in by an OpenID provider, and by a header of a trusted proxy.
    pub openid: Option<OpenidSettings>,
    pub proxy: Option<ProxySettings>,
    /// How long a session lasts without being used, and in all.
    pub session_idle: Duration,
    pub session_age: Duration,
    /// What encrypts the secrets in args.
    pub secret_key: Option<SecretKey>,
    /// What else decrypts them.
    pub secret_key_old: Vec<SecretKey>,
    /// What is left out of logs and errors.
    pub log_redact: Redactor,
    /// What strangers may take.
    pub edge: Edge,
    pub log_json: bool,
    /// A `tracing` filter.
    pub log_level: String,
    /// All of these as they were given, without secrets.
    pub settings: Vec<Setting>,
}

/// A setting that can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{name} is \"{value}\": {allowed}")]
    Value {
        name: String,
        value: String,
        allowed: String,
    },
    #[error("the settings can't be read: {0}")]
    Read(#[from] config::ConfigError),
    #[error(".env can't be read: {0}")]
    DotEnv(#[from] dotenvy::Error),
}

/// The longest that a session may last: a year.
const SESSION_MAX: Duration = Duration::from_secs(365 * 86_400);

/// The longest that a job may be allowed to run.
const TIMEOUT_MAX: Duration = Duration::from_secs(crate::domain::job::TIMEOUT_MAX);

impl Config {
    /// Reads the settings of this process.
    pub fn load() -> Result<Self, ConfigError> {
        let own: BTreeSet<String> = names().collect();
        match dotenvy::dotenv() {
            Ok(_) => {}
            Err(dotenvy::Error::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        let file = config::File::new("Leptos.toml", config::FileFormat::Toml).required(false);
        Self::from(&Source {
            defaults: defaults()?,
            file: config::Config::builder().add_source(file).build()?,
            env: |name: &str| std::env::var(name).ok(),
            dotenv: names().filter(|name| !own.contains(name)).collect(),
        })
    }

    fn from<E: Fn(&str) -> Option<String>>(source: &Source<E>) -> Result<Self, ConfigError> {
        let address = "an address and a port, like 127.0.0.1:3000";
        let whole = |name, max: u64| source.number(name, 1..=max);
        let database = source.parse(
            "database_url",
            "empty, sqlite:FILE, or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            parse_database,
        )?;
        let redis = source.parse(
            "redis_url",
            "empty, or redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss: with TLS, redis-cluster: a cluster, redis-sentinel: sentinels)",
            |v| match v {
                "" => Some(None),
                v => RedisUrl::parse(v).map(Some),
            },
        )?;
        let redis_prefix = source.parse("redis_prefix", "1 to 40 of a-z A-Z 0-9 _ - . :", |v| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
            ((1..=40).contains(&v.len()) && v.bytes().all(fits)).then(|| v.to_string())
        })?;
        if redis.is_some() && matches!(database, Database::Sqlite(_)) {
            return Err(ConfigError::Value {
                name: "REDIS_URL".into(),
                value: "set".into(),
                allowed:
                    "a Redis needs a database that several processes can share: set DATABASE_URL to a Postgres, or \
                          leave REDIS_URL unset"
                        .into(),
            });
        }
        Ok(Self {
            database,
            redis,
            redis_prefix,
            listen: source.parse("listen", address, |v| SocketAddr::from_str(v).ok())?,
            data_dir: source.parse("data_dir", "a folder", |v| (!v.is_empty()).then(|| PathBuf::from(v)))?,
            worker_concurrency: whole("worker_concurrency", 10_000)? as u32,
            worker_poll_interval: source.duration(
                "worker_poll_interval",
                Duration::from_millis(50),
                Duration::from_secs(60),
            )?,
            worker_lease: source.duration("worker_lease", Duration::from_secs(2), Duration::from_secs(600))?,
            job_timeout: source.duration("job_timeout", Duration::from_secs(1), TIMEOUT_MAX)?,
            job_max_retries: source.number("job_max_retries", 0..=1_000)? as u32,
            job_max_crashes: whole("job_max_crashes", 1_000)? as u32,
            global_max_jobs: match source.number("global_max_jobs", 0..=1_000_000)? {
                0 => None,
                n => Some(n as u32),
            },
            member_max_jobs: whole("member_max_jobs", 1_000_000)? as u32,
            kind_max_jobs: source.parse(
                "kind_max_jobs",
                "empty, or KIND=NUMBER, …, like export=2, crawl=5",
                |v| pairs(v, |n| n.parse().ok().filter(|n| *n > 0)),
            )?,
            kind_rates: source.parse("kind_rates", "empty, or KIND=NUMBER/TIME, …, like http=100/1m", |v| {
                pairs(v, rate)
            })?,
            kind_timeouts: source.parse(
                "kind_timeouts",
                "empty, or KIND=TIME, …, each from 1s to 72h, like import=2h, export=30m",
                |v| {
                    pairs(v, |time| {
                        let time = humantime::parse_duration(time).ok()?;
                        (Duration::from_secs(1)..=TIMEOUT_MAX).contains(&time).then_some(time)
                    })
                },
            )?,
            shutdown_grace: source.duration("shutdown_grace", Duration::ZERO, TIMEOUT_MAX)?,
            upload_max: source.size("upload_max")?,
            args_max: source.size("args_max")?,
            import_unzipped_max: source.size("import_unzipped_max")?,
            import_dir: source.parse("import_dir", "empty, or a folder that is there", |v| match v {
                "" => Some(None),
                path => Some(PathBuf::from(path)).filter(|p| p.is_dir()).map(Some),
            })?,
            queue_max: whole("queue_max", u64::MAX >> 1)?,
            retention: source.parse(
                "retention",
                "STATUS=TIME or KIND:STATUS=TIME, …, with the statuses completed, cancelled, failed and dead, like \
                 completed=30d, export:completed=7d, dead=never",
                retention,
            )?,
            sweep_every: source.duration("sweep_every", Duration::from_millis(100), Duration::from_secs(86_400))?,
            artifact_ttl: source.duration(
                "artifact_ttl",
                Duration::from_secs(60),
                Duration::from_secs(3_650 * 86_400),
            )?,
            public_url: source.parse(
                "public_url",
                "empty, or http://HOST:PORT or https://HOST, without a path",
                |v| {
                    let fits = |rest: &str| !rest.is_empty() && !rest.contains(['/', '@', '?', '#']);
                    let url = v.trim_end_matches('/');
                    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
                    (v.is_empty() || rest.is_some_and(fits)).then(|| url.to_string())
                },
            )?,
            admin: match (source.env_only("ADMIN_EMAIL"), source.env_only("ADMIN_PASSWORD")) {
                (None, None) => None,
                (Some(email), Some(password)) => Some(first_admin(email, password)?),
                _ => {
                    return Err(ConfigError::Value {
                        name: "ADMIN_EMAIL and ADMIN_PASSWORD".into(),
                        value: "only one of them".into(),
                        allowed: "give both, or neither".into(),
                    });
                }
            },
            setup_anywhere: source.parse("setup_anywhere", "true or false", |v| v.parse().ok())?,
            trusted_proxies: source.parse("trusted_proxies", "empty, or addresses, like 10.0.0.1, fd00::1", |v| {
                let parts = v.split(',').map(str::trim).filter(|part| !part.is_empty());
                parts.map(|part| part.parse().ok()).collect()
            })?,
            openid: source.openid()?,
            proxy: source.proxy()?,
            session_idle: source.duration("session_idle", Duration::from_secs(60), SESSION_MAX)?,
            session_age: source.duration("session_age", Duration::from_secs(60), SESSION_MAX)?,
            secret_key: source.secret_key()?,
            secret_key_old: source.secret_key_old()?,
            log_redact: source.log_redact()?,
            edge: Edge::from(source)?,
            log_json: source.parse("log_format", "text or json", |v| match v {
                "text" => Some(false),
                "json" => Some(true),
                _ => None,
            })?,
            log_level: source.parse(
                "log_level",
                "error, warn, info, debug or trace, also per module, like info,windlass=debug",
                |v| {
                    tracing_subscriber::EnvFilter::try_new(v).ok()?;
                    Some(v.to_string())
                },
            )?,
            settings: source.shown(),
        })
    }

    /// The database as people name it, without secrets.
    pub fn database_name(&self) -> String {
        match &self.database {
            Database::Sqlite(_) => self.database_path().display().to_string(),
            Database::Postgres(url) => url.to_string(),
        }
    }

    /// The SQLite file, where it is one.
    pub fn database_path(&self) -> PathBuf {
        match &self.database {
            Database::Sqlite(Some(file)) => file.clone(),
            Database::Sqlite(None) | Database::Postgres(_) => self.data_dir.join("windlass.db"),
        }
    }
}

/// Where the settings come from; what stands later wins.
struct Source<E> {
    defaults: config::Config,
    /// What the working folder's file says.
    file: config::Config,
    env: E,
    /// Names in the environment that `.env` has put there.
    dotenv: BTreeSet<String>,
}

/// The names in the environment.
fn names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

fn defaults() -> Result<config::Config, config::ConfigError> {
    let text = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
    config::Config::builder().add_source(text).build()
}

impl<E: Fn(&str) -> Option<String>> Source<E> {
    fn env_only(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|v| !v.trim().is_empty())
    }

    fn text(&self, key: &str) -> Result<String, ConfigError> {
        let path = format!("windlass.{key}");
        match self.env_only(&key.to_uppercase()) {
            Some(value) => Ok(value),
            None => match self.file.get_string(&path) {
                Err(config::ConfigError::NotFound(_)) => Ok(self.defaults.get_string(&path)?),
                found => Ok(found?),
            },
        }
    }

    fn parse<T>(&self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ConfigError> {
        let value = self.text(key)?;
        parse(value.trim()).ok_or_else(|| {
            bad(
                &key.to_uppercase(),
                &without_password(&value),
                &format!("allowed is {allowed}"),
            )
        })
    }

    fn number(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, &allowed, |v| v.parse().ok().filter(|n| range.contains(n)))
    }

    fn duration(&self, key: &str, min: Duration, max: Duration) -> Result<Duration, ConfigError> {
        let (least, most) = (humantime::format_duration(min), humantime::format_duration(max));
        let allowed = format!("a time from {least} to {most}, like 500ms, 30s, 10m, 72h or 7d");
        self.parse(key, &allowed, |v| {
            let parsed = v
                .parse()
                .map(Duration::from_secs)
                .or_else(|_| humantime::parse_duration(v));
            parsed.ok().filter(|d| (min..=max).contains(d))
        })
    }

    fn size(&self, key: &str) -> Result<u64, ConfigError> {
        let size = |v: &str| v.parse::<ByteSize>().ok().map(|s| s.as_u64()).filter(|n| *n > 0);
        self.parse(key, "a size over 0, like 256KB, 20MB or 2GB", size)
    }
}

/// `NAME=VALUE, …`
fn pairs<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_string(), parse(value.trim())?))
        })
        .collect()
}

/// `NUMBER/TIME`
fn rate(text: &str) -> Option<Rate> {
    let (jobs, time) = text.split_once('/')?;
    let time = humantime::parse_duration(time.trim()).ok()?;
    let rate = Rate {
        jobs: jobs.trim().parse().ok()?,
        per_ms: u64::try_from(time.as_millis()).ok()?,
    };
    (rate.jobs > 0 && rate.per_ms >= 100).then_some(rate)
}

/// `STATUS=TIME` or `KIND:STATUS=TIME`, …; `never` keeps them.
fn retention(text: &str) -> Option<Vec<Rule>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (which, time) = part.split_once('=')?;
            let (kind, status) = match which.trim().split_once(':') {
                Some((kind, status)) => (Some(kind.trim().to_string()), status),
                None => (None, which),
            };
            let status = Status::parse(status).filter(|s| s.is_finished())?;
            let after_ms = match time.trim() {
                "never" => None,
                time => Some(i64::try_from(humantime::parse_duration(time).ok()?.as_millis()).ok()?),
            };
            Some(Rule { status, kind, after_ms })
        })
        .collect()
}

/// The first admin, as the settings name them.
fn first_admin(email: String, password: String) -> Result<(String, Secret), ConfigError> {
    if let Err(problem) = account::email(&email) {
        return Err(bad("ADMIN_EMAIL", &email, &problem.detail));
    }
    if let Err(problem) = account::check_password("ADMIN_PASSWORD", &password) {
        return Err(bad("ADMIN_PASSWORD", "(not shown)", &problem.detail));
    }
    Ok((email, Secret(password)))
}

fn bad(name: &str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value {
        name: name.into(),
        value: value.into(),
        allowed: allowed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from(&Source {
            defaults: defaults().expect("defaults"),
            file: config::Config::default(),
            dotenv: BTreeSet::new(),
            env: |name: &str| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_string()),
        })
    }

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let c = load(&[]).expect("defaults");
        assert_eq!(c.listen.to_string(), "127.0.0.1:3000");
        assert_eq!((c.worker_concurrency, c.job_max_retries), (10, 4));
        assert_eq!((c.job_timeout.as_secs(), c.worker_poll_interval.as_secs()), (600, 1));
        assert_eq!(c.database_path(), PathBuf::from("./data/windlass.db"));
        assert_eq!(c.artifact_ttl.as_secs(), 7 * 86_400);
        assert_eq!(c.upload_max, 2_000_000_000);
    }

    #[test]
    fn the_environment_wins() {
        let c = load(&[
            ("WORKER_CONCURRENCY", "3"),
            ("JOB_TIMEOUT", "90"),
            ("DATABASE_URL", "sqlite:///tmp/x.db"),
        ])
        .expect("settings");
        assert_eq!((c.worker_concurrency, c.job_timeout.as_secs()), (3, 90));
        assert_eq!(c.database_path(), PathBuf::from("/tmp/x.db"));
    }

    #[test]
    fn a_redis_needs_a_database_that_can_be_shared_and_passwords_are_not_shown() {
        let alone = load(&[("REDIS_URL", "redis://127.0.0.1")])
            .expect_err("refused")
            .to_string();
        assert!(alone.contains("REDIS_URL") && alone.contains("Postgres"), "{alone}");
        let both = [
            ("DATABASE_URL", "postgres://me:secret@db:5433/jobs"),
            ("REDIS_URL", "redis://:secret@cache:6380/2"),
        ];
        let config = load(&both).expect("settings");
        let shown = format!("{:?}", config.database);
        assert!(shown.contains("db:5433/jobs") && !shown.contains("secret"), "{shown}");
        let bad = load(&[("DATABASE_URL", "mysql://me:secret@db/jobs")])
            .expect_err("refused")
            .to_string();
        assert!(bad.contains("me:***@db") && !bad.contains("secret"), "{bad}");
    }

    #[test]
    fn no_secret_of_the_settings_is_shown() {
        let key = "0123456789abcdef".repeat(4);
        let dir = tempfile::TempDir::new().expect("folder");
        let file = dir.path().join("key");
        std::fs::write(&file, format!("{key}\n")).expect("write");
        let file = file.display().to_string();
        let shared = [
            ("DATABASE_URL", "postgres://me:s3cret-a@db/jobs?password=s3cret-b"),
            (
                "REDIS_URL",
                "redis-sentinel://me:s3cret-c@cache:26379?sentinelServiceName=x&sentinelUsername=y&sentinelPassword=s3cret-d",
            ),
            ("ADMIN_EMAIL", "admin@example.org"),
            ("ADMIN_PASSWORD", "s3cret-e of the admin"),
        ];
        let old = format!("{key}, {}", "fedcba9876543210".repeat(4));
        for with in [("SECRET_KEY", key.as_str()), ("SECRET_KEY_FILE", file.as_str())] {
            let all: Vec<_> = shared
                .into_iter()
                .chain([with, ("SECRET_KEY_OLD", old.as_str())])
                .collect();
            let config = load(&all).expect("settings");
            assert!(config.secret_key.is_some());
            assert_eq!(config.secret_key_old.len(), 2);
            for shown in [format!("{config:?}"), format!("{config:#?}"), config.database_name()] {
                for secret in ["s3cret", "0123456789abcdef", "fedcba9876543210"] {
                    assert!(!shown.contains(secret), "{secret}: {shown}");
                }
            }
        }
        // Nor what is wrong with one.
        for (name, value) in [
            ("SECRET_KEY", "s3cret"),
            ("SECRET_KEY_OLD", "s3cret"),
            ("DATABASE_URL", "mysql://db/jobs?a=b&password=s3cret"),
            ("REDIS_URL", "http://me@cache?sentinelPassword=s3cret@x"),
        ] {
            let text = load(&[(name, value)]).expect_err(name).to_string();
            assert!(text.contains(name) && !text.contains("s3cret"), "{text}");
        }
        let both = load(&[("SECRET_KEY", &key), ("SECRET_KEY_FILE", &file)])
            .expect_err("two keys")
            .to_string();
        assert!(both.contains("SECRET_KEY_FILE") && !both.contains(&key), "{both}");
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (name, value, allowed) in [
            ("WORKER_CONCURRENCY", "0", "1 to 10000"),
            ("JOB_TIMEOUT", "73h", "3days"),
            ("LISTEN", "localhost", "127.0.0.1:3000"),
            ("UPLOAD_MAX", "much", "2GB"),
            ("LOG_FORMAT", "xml", "text or json"),
            ("KIND_MAX_JOBS", "export=none", "export=2"),
            ("RETENTION", "running=1d", "completed=30d"),
            ("KIND_RATES", "http=5", "http=100/1m"),
            ("DATABASE_URL", "mysql://x", "postgres://"),
            ("REDIS_URL", "http://x", "redis://"),
            ("SECRET_KEY_FILE", "/nowhere/at/all", "64 hexadecimal digits"),
            ("LOG_REDACT", "a(b", "can't be read"),
            ("LOG_REDACT", "x*", "empty text"),
        ] {
            let text = load(&[(name, value)]).expect_err(name).to_string();
            assert!(
                text.contains(name) && text.contains(value) && text.contains(allowed),
                "{text}"
            );
        }
    }
}
