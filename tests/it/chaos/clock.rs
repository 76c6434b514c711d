//! Workers whose clocks are an hour off.

use std::time::{Duration, Instant};

use serde_json::json;
use windlass::domain::filter::JobFilter;
use windlass::domain::job::NewJob;
use windlass::domain::status::Status;
use windlass::domain::user::Actor;
use windlass::server::store::Store;

use super::{Place, library};
use crate::harness::{self, until};

/// On SQLite the clock of the one process is the database's.
#[tokio::test]
async fn a_wrong_clock_runs_nothing_early_and_ends_no_lease() {
    if harness::arrangement() == "sqlite" {
        return;
    }
    let place = Place::shared().await;
    let service = place.service().await;
    let delay = Duration::from_secs(5);
    let job = |ms: u32, delay: Option<u64>| NewJob {
        delay,
        ..NewJob::of("work", json!({ "n": 0, "ms": ms }))
    };
    // Long enough for a lease of two seconds to be renewed again and again.
    let mut jobs = vec![job(4_500, None); 3];
    jobs.extend(vec![job(50, Some(delay.as_secs())); 10]);
    let began = Instant::now();
    service
        .enqueue_bulk(&Actor::machine(), jobs, None)
        .await
        .expect("taken in");
    service.close().await;
    drop(service);
    let library = library(place.dir.path(), "skew");
    let shifts: &[&str] = match place.redis {
        Some(_) => &["3600", "-3600"],
        None => &["3600"],
    };
    let _workers: Vec<_> = shifts
        .iter()
        .map(|shift| place.worker_with(&[("LD_PRELOAD", library.to_str().expect("path")), ("CLOCK_SHIFT", shift)]))
        .collect();
    let beside = Store::open_beside(&place.config()).await.expect("the database");
    let rows = until("every job has ended", async || {
        let rows = beside.list(&JobFilter::default(), 100, 0, None).await.expect("jobs");
        let early = rows.iter().filter(|row| {
            let waits = row.job.run_at > row.job.created_at + chrono::TimeDelta::seconds(1);
            waits && row.job.status != Status::Scheduled && began.elapsed() < delay
        });
        assert_eq!(early.count(), 0, "due {:?} after its enqueueing", began.elapsed());
        let done = rows.iter().all(|row| row.job.status == Status::Completed);
        (done && rows.len() == 13).then_some(rows)
    })
    .await;
    let lost = rows
        .iter()
        .filter(|row| row.job.crashes > 0 || row.job.attempt > 1)
        .count();
    println!(
        "clocks an hour off on {}: {} jobs, early 0, false expiry {lost}",
        harness::arrangement(),
        rows.len()
    );
    assert_eq!(lost, 0, "leases that were taken for run out");
    beside.close().await;
}
