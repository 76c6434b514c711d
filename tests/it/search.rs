//! The index that a search looks through follows the jobs, whoever changes them meanwhile.

use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use windlass::domain::error::{ErrorCode, JobError};
use windlass::domain::filter::JobFilter;
use windlass::domain::kind::Policy;
use windlass::domain::machine::Event;
use windlass::domain::status::Status;
use windlass::domain::time::from_millis;
use windlass::server::store::Store;
use windlass::server::store::claim::Claim;
use windlass::server::store::enqueue::{Batch, Enqueue, Enqueued};

use crate::harness;

#[tokio::test]
async fn a_text_that_changes_while_it_is_indexed_is_indexed_again() {
    const JOBS: usize = 64;
    let dir = TempDir::new().expect("folder");
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    let store = Store::open(&config).await.expect("store");
    let jobs = (0..JOBS).map(|_| Enqueue::of("noop", "test", json!({}), &Policy::DEFAULT));
    let Enqueued::Written(written) = store.enqueue(Batch::of(jobs.collect(), 1_000)).await.expect("written") else {
        panic!("there is room");
    };
    let seqs: Vec<i64> = written.into_iter().map(|one| one.into_row().seq).collect();
    for round in 0..12 {
        let claim = Claim {
            seqs: seqs.clone(),
            worker: "worker".into(),
            lease_ms: 60_000,
            limited: Vec::new(),
            external: false,
        };
        let claimed = store.claim(claim).await.expect("claimed");
        assert_eq!(claimed.len(), JOBS);
        // All of them are marked, by their enqueueing or their retry, and get another text now.
        let word = format!("lemon{round}");
        let fail = |n: usize| {
            let lease = claimed[n].lease;
            let (epoch, delay_ms) = (lease.epoch, 0);
            let error = JobError::new(ErrorCode::AuthError, word.clone());
            let event = Event::Fail { epoch, error, delay_ms };
            store.change(lease.id, event, "test".into(), "test".into())
        };
        // The index is renewed while some of them are on their way.
        let (first, indexed, rest) = futures::join!(
            join_all((0..8).map(fail)),
            store.index_some(JOBS as u32),
            join_all((8..JOBS).map(fail)),
        );
        indexed.expect("indexed");
        for one in first.into_iter().chain(rest) {
            assert_eq!(one.expect("failed").row.job.status, Status::Failed);
        }
        while store.index_lags().await.expect("read") {
            store.index_some(JOBS as u32).await.expect("indexed");
        }
        let filter = JobFilter {
            q: Some(word),
            ..JobFilter::default()
        };
        let found = store.list(&filter, 1_000, 0, None).await.expect("jobs").len();
        assert_eq!(found, JOBS, "in round {round}");
        for one in &claimed {
            let event = Event::Retry { at: from_millis(0) };
            let retried = store
                .retry(one.lease.id, event, None, harness::deed("job.retry", one.lease.id))
                .await;
            assert_eq!(retried.expect("retried").row.job.status, Status::Pending);
        }
    }
    store.close().await;
}
