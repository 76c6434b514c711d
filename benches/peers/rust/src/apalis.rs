//! apalis, on Postgres.

use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::*;
use apalis_postgres::queries::push_tasks;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use sqlx_09::postgres::PgPoolOptions;
use windlass_peers::{Args, CONNECTIONS, Done, Handle, Peer, run};

const QUEUE: &str = "peers";
/// Jobs that are fetched at once from a backlog.
const BATCH: usize = 500;

#[derive(Clone)]
struct Apalis {
    pool: PgPool,
}

async fn push(pool: &PgPool, jobs: &[Args]) -> Done<()> {
    let tasks = jobs
        .iter()
        .map(|args| Ok(TaskBuilder::new(serde_json::to_vec(args)?).build()));
    let tasks = tasks.collect::<Done<Vec<_>>>()?;
    let mut connection = pool.acquire().await?;
    push_tasks(&mut *connection, QUEUE, tasks).await?;
    Ok(())
}

impl Peer for Apalis {
    const NAME: &'static str = "apalis";
    const PACKAGE: &'static str = "apalis-postgres";
    const SETTINGS: &'static str = "pool of 20 connections for all callers; pushed by its push_tasks, without a transaction around it; worker \
        with concurrency 10, LISTEN/NOTIFY and a poll each 100 ms, batches of 500 (pick-up: 10), no writing of when a task begins (lock_tasks)";
    /// It ends with its process.
    type Worker = ();

    async fn connect(url: &str) -> Done<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(100))
            .test_before_acquire(false)
            .connect(url)
            .await?;
        Ok(Self { pool })
    }

    async fn reset(&mut self) -> Done<()> {
        for text in [
            "DROP SCHEMA IF EXISTS apalis CASCADE",
            "DROP TABLE IF EXISTS _sqlx_migrations",
        ] {
            sqlx_09::query(text).execute(&self.pool).await?;
        }
        PostgresStorage::setup(&self.pool).await?;
        Ok(())
    }

    async fn one(&self, args: Args) -> Done<()> {
        push(&self.pool, &[args]).await
    }

    async fn bulk(&self, jobs: &[Args]) -> Done<()> {
        push(&self.pool, jobs).await
    }

    async fn prepared(&self) -> Done<()> {
        sqlx_09::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
    }

    async fn left(&self) -> Done<i64> {
        let text = "SELECT count(*) FROM apalis.jobs WHERE job_type = $1 AND status <> 'Done'";
        Ok(sqlx_09::query_scalar(text).bind(QUEUE).fetch_one(&self.pool).await?)
    }

    async fn work(&self, slots: usize, backlog: bool, handle: Handle) -> Done<()> {
        let config = Config::default()
            .queue(QUEUE)
            .batch_size(if backlog { BATCH } else { slots })
            .lock_tasks(false);
        let backend = PostgresStorage::<Args>::new(&self.pool)
            .with_config(config)
            .with_pubsub()
            .poll_with_interval(Duration::from_millis(100));
        let run = move |args: Args| {
            handle(args);
            std::future::ready(Ok::<(), BoxDynError>(()))
        };
        let worker = WorkerBuilder::new(format!("peers-{}", std::process::id()))
            .backend(backend)
            .concurrency(slots)
            .build(run);
        // What it runs as can't be sent from thread to thread; so it has the thread that a program's main function would be.
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            if let Err(error) = runtime.block_on(worker.run()) {
                eprintln!("apalis: the worker ended: {error}");
            }
        });
        // It does not say when it listens.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    async fn stop((): ()) {}
}

#[tokio::main]
async fn main() -> Done<()> {
    run::<Apalis>().await
}
