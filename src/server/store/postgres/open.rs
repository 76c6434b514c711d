//! Connecting to Postgres, and the lock that says how many processes may use the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Row};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::connect::migration_error;
use super::super::error::StoreError;
use super::super::session::{CONNECT, IDLE_MAX};
use crate::server::config::PostgresUrl;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Connections that read.
const READERS: u32 = 8;
/// The oldest server that will do, as it numbers itself: before it, only a superuser could add the search's extension.
const VERSION_MIN: i32 = 130_000;
/// The first half of the lock's number: "WL". The second is the schema's.
const LOCK: i32 = 0x574c;
/// How long a dead process may seem to be there.
const GONE_WITHIN: Duration = Duration::from_secs(3);
/// How often the connection that holds the lock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Connects, refuses a server that is too old, and brings the database up to date.
pub(in super::super) async fn open(url: &PostgresUrl) -> Result<(PgConnectOptions, PgPool), StoreError> {
    let options = url.options().clone().application_name("windlass").options([
        // What is acknowledged is on disk, whatever the server's default.
        ("synchronous_commit", "on".to_string()),
        (
            "idle_in_transaction_session_timeout",
            format!("{}ms", IDLE_MAX.as_millis()),
        ),
    ]);
    let failed = |e: String| StoreError::Open(format!("the database {url} can't be opened: {e}"));
    let mut first = connect(&options).await.map_err(failed)?;
    let version: i32 = sqlx::query("SELECT current_setting('server_version_num')::int AS version")
        .fetch_one(&mut first)
        .await
        .and_then(|row| row.try_get("version"))
        .map_err(|e| failed(e.to_string()))?;
    if version < VERSION_MIN {
        return Err(failed(format!(
            "it is served by Postgres {}; {} or newer is needed",
            version / 10_000,
            VERSION_MIN / 10_000
        )));
    }
    MIGRATIONS
        .run(&mut first)
        .await
        .map_err(|e| migration_error(&url.to_string(), e))?;
    first.close().await.map_err(|e| failed(e.to_string()))?;
    let read = PgPoolOptions::new()
        .max_connections(READERS)
        .min_connections(1)
        .idle_timeout(Duration::from_secs(60))
        .acquire_timeout(CONNECT)
        .connect_with(options.clone())
        .await
        .map_err(|e| failed(e.to_string()))?;
    Ok((options, read))
}

/// Makes a schema for a system that comes and goes, such as a benchmark's, and gives the address that leads there.
pub async fn create_schema(url: &PostgresUrl, name: &str) -> Result<PostgresUrl, StoreError> {
    let create = format!("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public; CREATE SCHEMA \"{name}\"");
    run(url, create).await?;
    Ok(url.in_schema(name))
}

/// Removes a schema and all that is in it.
pub async fn drop_schema(url: &PostgresUrl, name: &str) -> Result<(), StoreError> {
    run(url, format!("DROP SCHEMA IF EXISTS \"{name}\" CASCADE")).await
}

async fn run(url: &PostgresUrl, text: String) -> Result<(), StoreError> {
    let failed = |e: String| StoreError::Open(format!("the database {url} can't be prepared: {e}"));
    let mut connection = connect(url.options()).await.map_err(failed)?;
    // Who comes second to the same extension at the same moment meets an error that the first one does not.
    sqlx::raw_sql("SELECT pg_advisory_lock(22348)")
        .execute(&mut connection)
        .await
        .map_err(|e| failed(e.to_string()))?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(text))
        .execute(&mut connection)
        .await
        .map_err(|e| failed(e.to_string()))?;
    connection.close().await.map_err(|e| failed(e.to_string()))
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, String> {
    match timeout(CONNECT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err(format!("it did not answer within {CONNECT:?}")),
    }
}

/// Holds the lock on a connection of its own for as long as it lives, and takes it again when that connection breaks. The
/// server gives the lock back with the connection, however the process ends.
pub(in super::super) struct Guard {
    stop: CancellationToken,
    /// Another process has the database now.
    pub lost: CancellationToken,
    holding: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Guard {
    /// `alone`: no other process may use the database; otherwise any number may that share.
    pub async fn take(options: &PgConnectOptions, alone: bool, shown: &str) -> Result<Arc<Self>, StoreError> {
        let failed = |e: String| StoreError::Open(format!("the database {shown} can't be locked: {e}"));
        let mut connection = connect(options).await.map_err(failed)?;
        let began = Instant::now();
        let mut held = lock(&mut connection, alone).await.map_err(|e| failed(e.to_string()))?;
        // The server may not have seen yet that a process which was just killed is gone.
        while !held && began.elapsed() < GONE_WITHIN {
            tokio::time::sleep(Duration::from_millis(100)).await;
            held = lock(&mut connection, alone).await.map_err(|e| failed(e.to_string()))?;
        }
        if !held {
            let hint = match alone {
                true => "several processes share a database only when all of them are given a REDIS_URL",
                false => "that one was started without a REDIS_URL and shares with nobody",
            };
            return Err(StoreError::Open(format!(
                "another Windlass process uses {shown} already; stop it first: {hint}"
            )));
        }
        let guard = Arc::new(Self {
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
            holding: Mutex::default(),
        });
        let (stop, lost, options) = (guard.stop.clone(), guard.lost.clone(), options.clone());
        let holding = tokio::spawn(hold(connection, options, alone, stop, lost));
        *guard.holding.lock().unwrap_or_else(PoisonError::into_inner) = Some(holding);
        Ok(guard)
    }

    /// Gives the lock back.
    pub async fn release(&self) {
        self.stop.cancel();
        let holding = self.holding.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(holding) = holding {
            // An error means that it has ended already.
            let _ = holding.await;
        }
    }
}

async fn lock(connection: &mut PgConnection, alone: bool) -> Result<bool, sqlx::Error> {
    let text = match alone {
        true => "SELECT pg_try_advisory_lock($1, hashtext(current_schema())) AS held",
        false => "SELECT pg_try_advisory_lock_shared($1, hashtext(current_schema())) AS held",
    };
    sqlx::query(text)
        .bind(LOCK)
        .fetch_one(connection)
        .await?
        .try_get("held")
}

async fn hold(
    connection: PgConnection,
    options: PgConnectOptions,
    alone: bool,
    stop: CancellationToken,
    lost: CancellationToken,
) {
    let mut held = Some(connection);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        held = match held {
            Some(mut connection) => match timeout(CONNECT, connection.ping()).await {
                Ok(Ok(())) => Some(connection),
                _ => None,
            },
            None => match connect(&options).await {
                Ok(mut connection) => match lock(&mut connection, alone).await {
                    Ok(true) => Some(connection),
                    Ok(false) => {
                        tracing::error!("the database was away, and another process has it now; this one ends");
                        lost.cancel();
                        return;
                    }
                    Err(_) => None,
                },
                Err(_) => None,
            },
        };
    }
    if let Some(connection) = held
        && let Err(error) = connection.close().await
    {
        tracing::debug!(%error, "the lock's connection could not be closed");
    }
}
