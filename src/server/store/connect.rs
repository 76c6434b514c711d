//! Opening the database: connections, migrations, and the lock that keeps a second server out.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::DatabaseConnection;
use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::dialect::Dialect;
use super::error::StoreError;
use super::files::Files;
use super::sql::{RowExt, Sql};
use super::writer::Writer;
use super::{Inner, Lock, Store, postgres};
use crate::server::config::{Config, Database, PostgresUrl};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read. They see the last commit and never wait for the writer.
const READERS: u32 = 4;

/// Who else may use the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    /// No other server.
    Alone,
    /// Other servers that share a Redis.
    Together,
    /// Whoever likes: for commands that only add data.
    Beside,
}

impl Store {
    /// Opens the database for a server: takes its lock, which a second process is refused (on Postgres with a Redis: one that
    /// has none), and brings it up to date.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        let together = config.redis.is_some();
        Self::connect(config, if together { Share::Together } else { Share::Alone }).await
    }

    /// Opens the database beside a server that may be running on it: for commands that only add data.
    pub async fn open_beside(config: &Config) -> Result<Self, StoreError> {
        Self::connect(config, Share::Beside).await
    }

    async fn connect(config: &Config, share: Share) -> Result<Self, StoreError> {
        let files = Files::open(&config.data_dir)?;
        let (dialect, read, writer, lock) = match &config.database {
            Database::Sqlite(_) => sqlite(&config.database_path(), share).await?,
            Database::Postgres(url) => remote(url, share).await?,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                dialect,
                read,
                writer,
                files,
                artifact_ttl: config.artifact_ttl,
                edge: config.edge,
                crashes_max: config.job_max_crashes,
                lock: Mutex::new(lock),
            }),
        })
    }

    /// Milliseconds since 1970 by the database's clock; also the cheapest question that shows that it answers.
    pub async fn clock(&self) -> Result<i64, StoreError> {
        let stmt = Sql::new(&format!("SELECT {} AS now", self.dialect().now())).build();
        let row = self.one(stmt).await?;
        row.ok_or_else(|| StoreError::corrupt("clock", "it gave no row"))?
            .get("now")
    }
}

type Opened = (Dialect, DatabaseConnection, Writer, Option<Lock>);

async fn sqlite(path: &Path, share: Share) -> Result<Opened, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|e| StoreError::file(format!("the folder {} can't be made", folder.display()), e))?;
    }
    let lock = match share {
        Share::Beside => None,
        Share::Alone | Share::Together => Some(Lock::File(take_lock(path)?)),
    };
    let options = sqlite_options(path);
    let failed = |e: sqlx::Error| StoreError::Open(format!("the database {} can't be opened: {e}", path.display()));
    let mut writer = sqlite_writer(path).await?;
    MIGRATIONS
        .run(&mut writer)
        .await
        .map_err(|e| migration_error(&path.display().to_string(), e))?;
    let newest = "SELECT created_at FROM jobs ORDER BY seq DESC LIMIT 1";
    let newest: Option<i64> = sqlx::query_scalar(newest)
        .fetch_optional(&mut writer)
        .await
        .map_err(failed)?;
    goes_on_from(newest.unwrap_or(0));
    let read = SqlitePoolOptions::new()
        .max_connections(READERS)
        .min_connections(1)
        .idle_timeout(Duration::from_secs(60))
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options.pragma("cache_size", "-8192").pragma("query_only", "on"))
        .await
        .map_err(failed)?;
    Ok((Dialect::Sqlite, read.into(), Writer::sqlite(writer), lock))
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("journal_size_limit", "67108864")
        .pragma("temp_store", "memory")
        .statement_cache_capacity(256)
}

/// The connection that writes.
pub(super) async fn sqlite_writer(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = sqlite_options(path).pragma("cache_size", "-16384");
    let connection = SqliteConnection::connect_with(&options).await;
    connection.map_err(|e| StoreError::Open(format!("the database {} can't be opened: {e}", path.display())))
}

async fn remote(url: &PostgresUrl, share: Share) -> Result<Opened, StoreError> {
    let (options, read) = postgres::open(url).await?;
    let lock = match share {
        Share::Beside => None,
        share => Some(postgres::Guard::take(&options, share == Share::Alone, &url.to_string()).await?),
    };
    let writer = Writer::postgres(&options);
    Ok((Dialect::Postgres, read.into(), writer, lock.map(Lock::Postgres)))
}

/// SQLite's clock in milliseconds: an embedded database has no other than its machine's. Within a process it never goes back,
/// or nothing that waits would be due for as long as the machine's clock has been set back. It goes on from where it was,
/// then, until it meets the machine's again, or the process ends.
pub(super) fn system_clock() -> i64 {
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let (shown, now) = (chrono::Utc::now().timestamp_millis(), Instant::now());
    clock.get_or_insert(Forward { read: shown, at: now }).read(shown, now)
}

static CLOCK: Mutex<Option<Forward>> = Mutex::new(None);
/// A machine's clock that was put right by at most this much, in milliseconds, while no process ran: what is enqueued next still
/// comes after what was enqueued last.
const PUT_RIGHT_MS: i64 = 60_000;

/// The clock does not go back behind this moment either, at which something was written: lists find a moment by the order of
/// the numbers. One that is far ahead tells of a clock that was wrong.
fn goes_on_from(written: i64) {
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let (shown, now) = (chrono::Utc::now().timestamp_millis(), Instant::now());
    let clock = clock.get_or_insert(Forward { read: shown, at: now });
    clock.goes_on_from(written, shown, now);
}

/// A clock that never goes back, of one that may.
struct Forward {
    /// What it said last, and when that was by a clock that nobody sets.
    read: i64,
    at: Instant,
}

impl Forward {
    /// What it says while the other one shows `shown`.
    fn read(&mut self, shown: i64, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.at);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        let least = self.read.saturating_add(passed);
        if shown >= least {
            *self = Self { read: shown, at: now };
        }
        shown.max(least)
    }

    fn goes_on_from(&mut self, written: i64, shown: i64, now: Instant) {
        let read = self.read(shown, now);
        if written > read && written - read <= PUT_RIGHT_MS {
            *self = Self { read: written, at: now };
        }
    }
}

/// The kernel ends this lock with the process, however that dies, so a restart after a crash need not wait.
fn take_lock(database: &Path) -> Result<File, StoreError> {
    let path = database.with_extension("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StoreError::file(format!("the lock {} can't be opened", path.display()), e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Open(format!(
            "another Windlass process serves {} already; stop it first, or set DATA_DIR to another folder. \
             Several processes need a shared database and a Redis",
            database.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => Err(StoreError::file(
            format!("the lock {} can't be taken", path.display()),
            e,
        )),
    }
}

pub(super) fn migration_error(database: &str, e: MigrateError) -> StoreError {
    StoreError::Open(match e {
        MigrateError::VersionMissing(v) | MigrateError::VersionTooNew(v, _) => {
            format!(
                "the database {database} was made by a newer Windlass (its schema has version {v}); upgrade this one"
            )
        }
        MigrateError::VersionMismatch(v) => {
            format!(
                "the database {database} has another schema {v} than this Windlass; it was made by a different build"
            )
        }
        e => format!("the database {database} can't be brought up to date: {e}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_that_is_set_forward_is_followed() {
        let began = Instant::now();
        let after = |ms| began + Duration::from_millis(ms);
        let mut clock = Forward {
            read: 10_000_000,
            at: began,
        };
        assert_eq!(clock.read(10_000_500, after(500)), 10_000_500);
        let hour = 3_600_000;
        assert_eq!(clock.read(10_001_000 - hour, after(1_000)), 10_001_000, "set back");
        assert_eq!(clock.read(10_007_000 - hour, after(7_000)), 10_007_000, "it goes on");
        assert_eq!(
            clock.read(10_008_000 + hour, after(8_000)),
            10_008_000 + hour,
            "set forward"
        );
        assert_eq!(
            clock.read(10_009_000, after(9_000)),
            10_009_000 + hour,
            "and back again"
        );
        let now = 10_009_000 + hour;
        clock.goes_on_from(now - 1, now, after(9_000));
        assert_eq!(clock.read(now, after(9_000)), now, "written before");
        clock.goes_on_from(now + PUT_RIGHT_MS, now, after(9_000));
        let least = now + PUT_RIGHT_MS;
        assert_eq!(
            clock.read(now + 5, after(9_007)),
            least + 7,
            "by a clock that was put right since"
        );
        clock.goes_on_from(least + 7 + hour, now, after(9_007));
        assert_eq!(clock.read(now, after(9_007)), least + 7, "by a clock that was wrong");
    }
}
