//! Addresses of databases and of Redis, which are shown without their passwords.

use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use super::without_password;

/// Where jobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file; none: `windlass.db` under the data directory.
    Sqlite(Option<PathBuf>),
    Postgres(PostgresUrl),
}

/// Understands `DATABASE_URL`.
pub fn parse_database(text: &str) -> Option<Database> {
    if text.is_empty() {
        return Some(Database::Sqlite(None));
    }
    match text.strip_prefix("sqlite:") {
        Some(file) => {
            let file = file.strip_prefix("//").unwrap_or(file);
            (!file.is_empty()).then(|| Database::Sqlite(Some(PathBuf::from(file))))
        }
        None => PostgresUrl::parse(text).map(Database::Postgres),
    }
}

/// The address of a Postgres database. Shown without its password.
#[derive(Clone)]
pub struct PostgresUrl {
    text: String,
    options: Box<PgConnectOptions>,
}

impl PostgresUrl {
    fn parse(text: &str) -> Option<Self> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return None;
        }
        let options = Box::new(PgConnectOptions::from_str(text).ok()?);
        let text = text.to_string();
        Some(Self { text, options })
    }

    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// The same database, with the tables in a schema of their own.
    pub fn in_schema(&self, name: &str) -> Self {
        let path = format!("{name},public");
        let options = self.options.as_ref().clone().options([("search_path", path)]);
        Self {
            text: format!("{}#{name}", self.text),
            options: Box::new(options),
        }
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PostgresUrl {}

impl std::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        let database = self
            .options
            .get_database()
            .unwrap_or_else(|| self.options.get_username());
        write!(f, "postgres://{host}:{port}/{database}")
    }
}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// The address of a Redis. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Understands `REDIS_URL`.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, _) = text.split_once("://")?;
        let base = scheme.trim_end_matches("-cluster").trim_end_matches("-sentinel");
        if !["redis", "rediss", "valkey", "valkeys"].contains(&base) {
            return None;
        }
        fred::types::config::Config::from_url(text).ok()?;
        Some(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl std::fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
