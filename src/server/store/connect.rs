//! Opening the database: connections, migrations, and the lock that keeps a second server out.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr};
use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::error::StoreError;
use super::files::Files;
use super::sql::{RowExt, Sql};
use super::writer::Writer;
use super::{Inner, Store};
use crate::server::config::Config;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read. They see the last commit and never wait for the writer.
const READERS: u32 = 4;

impl Store {
    /// Opens the database for a server: takes its lock, which a second process is refused, and brings it up to date.
    pub async fn open(config: &Config) -> Result<Self, StoreError> {
        Self::connect(config, true).await
    }

    /// Opens the database beside a server that may be running on it: for commands that only add data.
    pub async fn open_beside(config: &Config) -> Result<Self, StoreError> {
        Self::connect(config, false).await
    }

    async fn connect(config: &Config, exclusive: bool) -> Result<Self, StoreError> {
        let files = Files::open(&config.data_dir)?;
        let path = config.database_path();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|e| StoreError::file(format!("the folder {} can't be made", folder.display()), e))?;
        }
        let lock = if exclusive { Some(take_lock(&path)?) } else { None };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("journal_size_limit", "67108864")
            .pragma("temp_store", "memory")
            .statement_cache_capacity(256);
        let failed = |e: sqlx::Error| StoreError::Open(format!("the database {} can't be opened: {e}", path.display()));
        let mut writer = SqliteConnection::connect_with(&options.clone().pragma("cache_size", "-16384"))
            .await
            .map_err(failed)?;
        MIGRATIONS
            .run(&mut writer)
            .await
            .map_err(|e| migration_error(&path, e))?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .idle_timeout(Duration::from_secs(60))
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options.pragma("cache_size", "-8192").pragma("query_only", "on"))
            .await
            .map_err(failed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                read: DatabaseConnection::from(read),
                writer: Writer::start(writer),
                files,
                artifact_ttl: config.artifact_ttl,
                lock: Mutex::new(lock),
            }),
        })
    }

    /// Milliseconds since 1970 by the database's clock; also the cheapest question that shows that it answers.
    pub async fn clock(&self) -> Result<i64, StoreError> {
        Ok(clock(self.read()).await?)
    }
}

/// The database's clock in milliseconds, as the writer sees it: an embedded database has no other than its machine's.
pub(super) fn system_clock() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The database's clock in milliseconds.
pub(super) async fn clock(conn: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let stmt = Sql::new("SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now").build();
    let row = conn
        .query_one_raw(stmt)
        .await?
        .ok_or_else(|| DbErr::Custom("the clock gave no row".into()))?;
    row.get("now").map_err(|e| DbErr::Custom(e.to_string()))
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

fn migration_error(path: &Path, e: MigrateError) -> StoreError {
    let path = path.display();
    StoreError::Open(match e {
        MigrateError::VersionMissing(v) | MigrateError::VersionTooNew(v, _) => {
            format!("the database {path} was made by a newer Windlass (its schema has version {v}); upgrade this one")
        }
        MigrateError::VersionMismatch(v) => {
            format!("the database {path} has another schema {v} than this Windlass; it was made by a different build")
        }
        e => format!("the database {path} can't be brought up to date: {e}"),
    })
}
