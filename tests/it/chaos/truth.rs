//! What the database says in the end.

use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use windlass::domain::filter::JobFilter;
use windlass::domain::job::Attempt;
use windlass::domain::page::PageRequest;
use windlass::domain::status::{Outcome, Status};
use windlass::domain::user::Actor;
use windlass::server::config::{Config, Database};
use windlass::server::service::Service;

use super::ledger::Drift;

/// All jobs, and how far what is kept about them has drifted.
pub struct Truth {
    pub jobs: Vec<Told>,
    pub drift: Drift,
    /// Jobs that a limit holds for.
    pub limited: i64,
}

/// What the database says about a job in the end.
#[derive(Clone, Debug)]
pub struct Told {
    pub status: Status,
    pub epoch: u64,
    pub outcomes: Vec<Option<Outcome>>,
    pub result: Value,
    /// When each attempt held its lease, in milliseconds by the database's clock.
    pub spans: Vec<(i64, i64)>,
}

fn spans(attempts: &[Attempt]) -> Vec<(i64, i64)> {
    let span = |a: &Attempt| {
        let ended = a.ended_at.map_or(i64::MAX, |at| at.timestamp_millis());
        (a.started_at.timestamp_millis(), ended)
    };
    attempts.iter().map(span).collect()
}

/// The counts beside the jobs themselves: each job takes one away, and whatever is left is too much or too little.
pub const COUNTS: &str = "SELECT CAST(COALESCE(SUM(ABS(off)), 0) AS BIGINT) FROM (SELECT SUM(n) AS off FROM \
    (SELECT status, kind, queue, n FROM job_counts UNION ALL SELECT status, kind, queue, -1 FROM jobs) AS sides \
    GROUP BY status, kind, queue) AS cells";
const BATCHES: &str = "SELECT CAST(COALESCE(SUM(ABS(off)), 0) AS BIGINT) FROM (SELECT SUM(n) AS off FROM \
    (SELECT batch, status, n FROM batch_counts UNION ALL SELECT batch, status, -1 FROM jobs WHERE batch IS NOT NULL) AS sides \
    GROUP BY batch, status) AS cells";
/// Once nothing runs, nothing takes a place.
const HOLDS: &str = "SELECT CAST(COALESCE(SUM(ABS(n)), 0) AS BIGINT) FROM running_holds";
const LIMITED: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM jobs WHERE member = 1 OR concurrency_key IS NOT NULL";

/// What the database itself answers, past all layers.
pub async fn ask(config: &Config, text: &'static str) -> i64 {
    match &config.database {
        Database::Sqlite(_) => {
            let options = SqliteConnectOptions::new().filename(config.database_path());
            let mut connection = options.connect().await.expect("the database");
            let answer = sqlx::query_scalar(text).fetch_one(&mut connection).await;
            connection.close().await.expect("closed");
            answer.expect(text)
        }
        Database::Postgres(url) => {
            let mut connection = url.options().connect().await.expect("the database");
            let answer = sqlx::query_scalar(text).fetch_one(&mut connection).await;
            connection.close().await.expect("closed");
            answer.expect(text)
        }
    }
}

/// Reads all jobs, one by one, when nothing runs any more.
pub async fn truth(service: &Service, config: &Config) -> Truth {
    let actor = Actor::machine();
    let mut jobs = Vec::new();
    let mut cursor = None;
    loop {
        let page = PageRequest {
            limit: Some(500),
            offset: None,
            cursor: cursor.clone(),
        };
        let page = service
            .list_jobs(&actor, &JobFilter::default(), &page)
            .await
            .expect("jobs");
        for job in &page.items {
            let detail = service.job_detail(&actor, job.id).await.expect("detail");
            jobs.push(Told {
                status: detail.job.status,
                epoch: detail.epoch,
                outcomes: detail.attempts.iter().map(|a| a.outcome).collect(),
                result: detail.result.unwrap_or_default(),
                spans: spans(&detail.attempts),
            });
        }
        match page.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    Truth {
        jobs,
        drift: Drift {
            counts: ask(config, COUNTS).await,
            batches: ask(config, BATCHES).await,
            holds: ask(config, HOLDS).await,
        },
        limited: ask(config, LIMITED).await,
    }
}
