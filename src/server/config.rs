//! The settings: `Leptos.toml` first (the one built in, then one in the working folder), then the environment and `.env`.
//! A bad value stops the start with the name, the value and what is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;

/// The annotated defaults; a test keeps `Cargo.toml` and `.env.example` in step with them.
pub const DEFAULTS: &str = include_str!("../../Leptos.toml");

/// The settings of this process. Read once at the start.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// The SQLite file, when another than `windlass.db` under the data directory.
    pub database: Option<PathBuf>,
    pub worker_concurrency: u32,
    pub worker_poll_interval: Duration,
    pub job_timeout: Duration,
    /// Attempts after the first.
    pub job_max_retries: u32,
    pub shutdown_grace: Duration,
    /// Bytes.
    pub upload_max: u64,
    /// Bytes.
    pub args_max: u64,
    /// Bytes that a ZIP may hold, unpacked.
    pub import_unzipped_max: u64,
    /// Waiting jobs at which a new one is refused.
    pub queue_max: u64,
    pub artifact_ttl: Duration,
    pub log_json: bool,
    /// A `tracing` filter.
    pub log_level: String,
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

/// The longest that a job may be allowed to run.
const TIMEOUT_MAX: Duration = Duration::from_secs(72 * 3_600);

impl Config {
    /// Reads the settings of this process.
    pub fn load() -> Result<Self, ConfigError> {
        match dotenvy::dotenv() {
            Ok(_) => {}
            Err(dotenvy::Error::Io(e)) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        let sources = config::Config::builder()
            .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml))
            .add_source(config::File::new("Leptos.toml", config::FileFormat::Toml).required(false));
        Self::from(&Source {
            file: sources.build()?,
            env: |name: &str| std::env::var(name).ok(),
        })
    }

    fn from<E: Fn(&str) -> Option<String>>(source: &Source<E>) -> Result<Self, ConfigError> {
        if let Some(url) = source.env_only("REDIS_URL") {
            return Err(bad(
                "REDIS_URL",
                &url,
                "this version has the in-process queue only; leave it unset",
            ));
        }
        let address = "an address and a port, like 127.0.0.1:3000";
        let whole = |name, max: u64| source.number(name, 1..=max);
        Ok(Self {
            listen: source.parse("listen", address, |v| SocketAddr::from_str(v).ok())?,
            data_dir: source.parse("data_dir", "a folder", |v| (!v.is_empty()).then(|| PathBuf::from(v)))?,
            database: source.parse(
                "database_url",
                "empty, or sqlite:FILE (this version stores in SQLite only)",
                |v| match v {
                    "" => Some(None),
                    v => {
                        let file = v.strip_prefix("sqlite:")?;
                        let file = file.strip_prefix("//").unwrap_or(file);
                        (!file.is_empty()).then(|| Some(PathBuf::from(file)))
                    }
                },
            )?,
            worker_concurrency: whole("worker_concurrency", 10_000)? as u32,
            worker_poll_interval: source.duration(
                "worker_poll_interval",
                Duration::from_millis(50),
                Duration::from_secs(60),
            )?,
            job_timeout: source.duration("job_timeout", Duration::from_secs(1), TIMEOUT_MAX)?,
            job_max_retries: source.number("job_max_retries", 0..=1_000)? as u32,
            shutdown_grace: source.duration("shutdown_grace", Duration::ZERO, TIMEOUT_MAX)?,
            upload_max: source.size("upload_max")?,
            args_max: source.size("args_max")?,
            import_unzipped_max: source.size("import_unzipped_max")?,
            queue_max: whole("queue_max", u64::MAX >> 1)?,
            artifact_ttl: source.duration(
                "artifact_ttl",
                Duration::from_secs(60),
                Duration::from_secs(3_650 * 86_400),
            )?,
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
        })
    }

    /// The SQLite file.
    pub fn database_path(&self) -> PathBuf {
        self.database
            .clone()
            .unwrap_or_else(|| self.data_dir.join("windlass.db"))
    }
}

struct Source<E> {
    file: config::Config,
    env: E,
}

impl<E: Fn(&str) -> Option<String>> Source<E> {
    fn env_only(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|v| !v.trim().is_empty())
    }

    fn text(&self, key: &str) -> Result<String, ConfigError> {
        match self.env_only(&key.to_uppercase()) {
            Some(value) => Ok(value),
            None => Ok(self.file.get_string(&format!("windlass.{key}"))?),
        }
    }

    fn parse<T>(&self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ConfigError> {
        let value = self.text(key)?;
        parse(value.trim()).ok_or_else(|| bad(&key.to_uppercase(), &value, &format!("allowed is {allowed}")))
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

    fn load(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = config::Config::builder()
            .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml))
            .build()
            .expect("defaults");
        Config::from(&Source {
            file,
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
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (name, value, allowed) in [
            ("WORKER_CONCURRENCY", "0", "1 to 10000"),
            ("JOB_TIMEOUT", "73h", "3days"),
            ("LISTEN", "localhost", "127.0.0.1:3000"),
            ("UPLOAD_MAX", "much", "2GB"),
            ("LOG_FORMAT", "xml", "text or json"),
            ("DATABASE_URL", "postgres://x", "SQLite only"),
            ("REDIS_URL", "redis://x", "unset"),
        ] {
            let text = load(&[(name, value)]).expect_err(name).to_string();
            assert!(
                text.contains(name) && text.contains(value) && text.contains(allowed),
                "{text}"
            );
        }
    }
}
