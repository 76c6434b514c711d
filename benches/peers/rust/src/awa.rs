//! Awa, on Postgres.

use std::sync::Arc;
use std::time::Duration;

use awa::{Client, InsertOpts, JobResult, QueueConfig, QueueStorage, QueueStorageConfig, migrations};
use sqlx_08::postgres::{PgPool, PgPoolOptions};
use windlass_peers::{Args, CONNECTIONS, Done, Handle, Peer, run};

const QUEUE: &str = "peers";

/// What awa knows the jobs by.
#[derive(serde::Serialize, serde::Deserialize)]
struct Noop(Args);

impl awa::JobArgs for Noop {
    fn kind() -> &'static str {
        "noop"
    }
}

fn opts() -> InsertOpts {
    InsertOpts {
        queue: QUEUE.into(),
        ..InsertOpts::default()
    }
}

async fn connect(url: &str) -> Done<PgPool> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(100))
        .test_before_acquire(false)
        .connect(url)
        .await?;
    Ok(pool)
}

#[derive(Clone)]
struct Awa {
    url: String,
    pool: PgPool,
    store: Arc<QueueStorage>,
}

impl Awa {
    fn client(&self, slots: usize, handle: Handle) -> Done<Client> {
        let config = QueueConfig {
            max_workers: u32::try_from(slots)?,
            ..QueueConfig::default()
        };
        let builder = Client::builder(self.pool.clone()).queue(QUEUE, config);
        let builder = builder.register::<Noop, _, _>(move |args, _| {
            handle(args.0);
            async { Ok(JobResult::Completed) }
        });
        Ok(builder.build()?)
    }
}

impl Peer for Awa {
    const NAME: &'static str = "awa";
    const PACKAGE: &'static str = "awa";
    const SETTINGS: &'static str = "pool of 20 connections for all callers; its storage since 0.6 (QueueStorage); bulk by COPY; worker with \
        max_workers 10, LISTEN/NOTIFY, claims up to 512 at a time as by default";
    type Worker = Client;

    async fn connect(url: &str) -> Done<Self> {
        let store = Arc::new(QueueStorage::new(QueueStorageConfig::default())?);
        let pool = connect(url).await?;
        Ok(Self {
            url: url.into(),
            pool,
            store,
        })
    }

    async fn reset(&mut self) -> Done<()> {
        sqlx_08::query("DROP SCHEMA IF EXISTS awa CASCADE")
            .execute(&self.pool)
            .await?;
        // The old connections remember types that are gone.
        self.pool.close().await;
        self.pool = connect(&self.url).await?;
        migrations::run(&self.pool).await?;
        // The first worker on an empty database makes it use the newer storage; with jobs in it, it would stay with the older one.
        let client = self.client(1, Arc::new(|_| {}))?;
        client.start().await?;
        client.shutdown(Duration::from_secs(5)).await;
        Ok(())
    }

    async fn one(&self, args: Args) -> Done<()> {
        awa::insert_with(&self.pool, &Noop(args), opts()).await?;
        Ok(())
    }

    async fn bulk(&self, jobs: &[Args]) -> Done<()> {
        let params = jobs
            .iter()
            .map(|args| awa::model::insert::params_with(&Noop(args.clone()), opts()));
        let params = params.collect::<Result<Vec<_>, _>>()?;
        self.store.enqueue_params_copy(&self.pool, &params).await?;
        Ok(())
    }

    async fn prepared(&self) -> Done<()> {
        sqlx_08::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
    }

    async fn left(&self) -> Done<i64> {
        let text = "SELECT count(*) FROM awa.jobs WHERE queue = $1 AND state <> 'completed'";
        Ok(sqlx_08::query_scalar(text).bind(QUEUE).fetch_one(&self.pool).await?)
    }

    async fn work(&self, slots: usize, _backlog: bool, handle: Handle) -> Done<Client> {
        let client = self.client(slots, handle)?;
        client.start().await?;
        Ok(client)
    }

    async fn stop(worker: Client) {
        worker.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::main]
async fn main() -> Done<()> {
    run::<Awa>().await
}
