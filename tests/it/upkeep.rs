//! What the store keeps stays as little and as true as it should be, over years: what is removed takes nothing else along, what has
//! come to nothing goes, and what is written twice is there once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use windlass::domain::error::ErrorCode;
use windlass::domain::filter::JobFilter;
use windlass::domain::job::JobId;
use windlass::domain::log::{Level, LogFilter, LogLine};
use windlass::domain::machine::Event;
use windlass::domain::retention::Rule;
use windlass::domain::status::Status;
use windlass::domain::time::from_millis;
use windlass::server::config::Config;
use windlass::server::store::Store;
use windlass::server::store::batches::NewBatch;
use windlass::server::store::claim::{Claim, Claimed};
use windlass::server::store::enqueue::{Batch, Enqueue};
use windlass::server::store::limits::Limits;
use windlass::server::store::logs::Reported;

use crate::chains::{begin, finish, noop, store, written};
use crate::chaos::truth::{COUNTS, ask};
use crate::harness::{self, Server, unique, until};

/// Zero rows of limits, and counts of jobs that are zero.
const ZEROS: &str = "SELECT (SELECT CAST(COUNT(*) AS BIGINT) FROM running_holds WHERE n = 0) + \
    (SELECT CAST(COUNT(*) AS BIGINT) FROM (SELECT status FROM job_counts GROUP BY status, kind, queue HAVING SUM(n) = 0) AS empty)";

async fn config(dir: &TempDir) -> Config {
    let mut config = harness::config(dir.path());
    harness::arrange(&mut config, dir.path()).await;
    config
}

async fn resolve(store: &Store) {
    while store.dependents_due().await.expect("read") {
        store.resolve_dependents().await.expect("resolved");
    }
}

async fn status(store: &Store, id: JobId) -> Status {
    store.job(id).await.expect("read").expect("there").job.status
}

#[tokio::test]
async fn a_completed_job_that_is_removed_has_completed_for_those_that_wait_for_it() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    for (deleted, looked_at) in [(true, true), (true, false), (false, true), (false, false)] {
        let needed = written(&store, vec![noop(&[]), noop(&[])]).await;
        let ids = [needed[0].job.id, needed[1].job.id];
        let waits = written(&store, vec![noop(&ids), noop(&ids[..1])]).await;
        let lease = begin(&store, &[needed[0].seq]).await[0];
        store.finish(finish(lease)).await.expect("finished");
        if looked_at {
            resolve(&store).await;
        }
        match deleted {
            true => drop(
                store
                    .delete(ids[0], harness::deed("job.delete", ids[0]))
                    .await
                    .expect("deleted"),
            ),
            false => {
                let rule = Rule {
                    status: Status::Completed,
                    kind: None,
                    after_ms: Some(-60_000),
                };
                assert_eq!(store.expire_jobs(rule, Vec::new(), 10).await.expect("expired"), 1);
            }
        }
        resolve(&store).await;
        let how = format!("deleted: {deleted}, looked at before: {looked_at}");
        assert_eq!(status(&store, waits[0].job.id).await, Status::Blocked, "{how}");
        assert_eq!(status(&store, waits[1].job.id).await, Status::Pending, "{how}");
        let lease = begin(&store, &[needed[1].seq]).await[0];
        store.finish(finish(lease)).await.expect("finished");
        resolve(&store).await;
        assert_eq!(status(&store, waits[0].job.id).await, Status::Pending, "{how}");
        for id in [ids[1], waits[0].job.id, waits[1].job.id] {
            store
                .delete(id, harness::deed("job.delete", id))
                .await
                .expect("deleted");
        }
    }
    store.close().await;
}

/// When the connection breaks behind a commit, nobody has heard of it.
#[tokio::test]
async fn lines_that_are_written_twice_are_there_once() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let job = written(&store, vec![noop(&[])]).await.remove(0);
    let lease = begin(&store, &[job.seq]).await[0];
    let now = store.clock().await.expect("clock");
    let line = |n: u64| LogLine {
        n,
        at: from_millis(now),
        attempt: 1,
        level: Level::Info,
        message: format!("line {n}"),
    };
    for last in [2, 3] {
        let reported = Reported {
            lines: (1..=last).map(line).collect(),
            ..Reported::default()
        };
        store.report(lease, reported).await.expect("reported");
    }
    let log = store.log(job.seq, &LogFilter::default(), 100).await.expect("log");
    let told: Vec<(u64, &str)> = log.iter().map(|l| (l.n, l.message.as_str())).collect();
    assert_eq!(told, [(1, "line 1"), (2, "line 2"), (3, "line 3")]);
    let data = store.job_data(job.seq).await.expect("read").expect("there");
    assert_eq!(data.log_lines, 3);
    store.finish(finish(lease)).await.expect("finished");
    store.close().await;
}

fn keyed(key: &str) -> Enqueue {
    Enqueue {
        concurrency_key: Some(key.into()),
        ..noop(&[])
    }
}

async fn take(store: &Store, seqs: &[i64]) -> Vec<Claimed> {
    let claim = Claim {
        seqs: seqs.to_vec(),
        worker: "worker".into(),
        lease_ms: 60_000,
        limited: Vec::new(),
        external: false,
    };
    let limits = Limits {
        all: None,
        member: 1,
        kinds: BTreeMap::new(),
    };
    store.claim_limited(claim, limits).await.expect("claimed").0
}

async fn forget_zeros(store: &Store) {
    // Fewer at once than there are.
    while store.forget_free_places(2).await.expect("forgotten") > 0 {}
    while store.forget_empty_cells(2).await.expect("forgotten") > 0 {}
}

#[tokio::test]
async fn rows_that_count_nothing_go_and_the_others_stay_true() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let config = config(&dir).await;
    let mut jobs = Vec::new();
    for n in 0..5 {
        jobs.push(Enqueue {
            queue: format!("queue{n}"),
            ..keyed(&format!("key{n}"))
        });
    }
    let jobs = written(&store, jobs).await;
    let seqs: Vec<i64> = jobs.iter().map(|job| job.seq).collect();
    let taken = take(&store, &seqs).await;
    assert_eq!(taken.len(), 5);
    // One goes on running, one stays and has ended.
    let running = taken
        .iter()
        .find(|job| job.lease.id == jobs[0].job.id)
        .expect("taken")
        .lease;
    for job in taken.iter().filter(|job| job.lease != running) {
        store.finish(finish(job.lease)).await.expect("finished");
        if job.lease.id != jobs[1].job.id {
            let id = job.lease.id;
            store
                .delete(id, harness::deed("job.delete", id))
                .await
                .expect("deleted");
        }
    }
    assert!(ask(&config, ZEROS).await >= 4 + 3, "there is something to forget");
    forget_zeros(&store).await;
    assert_eq!(ask(&config, ZEROS).await, 0);
    assert_eq!(ask(&config, COUNTS).await, 0, "the counts have drifted");
    let counts = store.counts().await.expect("counts");
    assert_eq!((counts.of(Status::Running), counts.of(Status::Completed)), (1, 1));
    // The place that is taken stays so.
    let second = written(&store, vec![keyed("key0")]).await.remove(0);
    assert!(take(&store, &[second.seq]).await.is_empty());
    store.finish(finish(running)).await.expect("finished");
    assert_eq!(take(&store, &[second.seq]).await.len(), 1);
    assert_eq!(ask(&config, COUNTS).await, 0, "the counts have drifted");
    store.close().await;
}

#[tokio::test]
async fn a_place_is_taken_once_while_free_ones_are_forgotten() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    for round in 0..40 {
        let jobs = written(&store, vec![keyed("key"), keyed("key")]).await;
        let (one, two) = ([jobs[0].seq], [jobs[1].seq]);
        let (one, two, ()) = futures::join!(take(&store, &one), take(&store, &two), forget_zeros(&store));
        assert_eq!(one.len() + two.len(), 1, "in round {round}");
        for job in one.iter().chain(&two) {
            store.finish(finish(job.lease)).await.expect("finished");
        }
        for job in &jobs {
            let id = job.job.id;
            store
                .delete(id, harness::deed("job.delete", id))
                .await
                .expect("deleted");
        }
    }
    store.close().await;
}

#[tokio::test]
async fn a_sweep_leaves_no_row_that_counts_nothing() {
    let s = Server::with(|c| {
        c.sweep_every = Duration::from_millis(200);
        c.retention = vec![Rule {
            status: Status::Completed,
            kind: None,
            after_ms: Some(0),
        }];
    })
    .await;
    let config = config(&s.dir).await;
    let body = json!({ "type": "echo", "queue": "rare", "concurrency_key": unique() });
    s.post("/api/jobs", body).await;
    until(
        "the job has come and gone, and all that it was counted in",
        async || {
            let gone = s.get("/api/jobs").await["total"] == 0;
            let empty = "SELECT (SELECT CAST(COUNT(*) AS BIGINT) FROM running_holds) + \
            (SELECT CAST(COUNT(*) AS BIGINT) FROM job_counts)";
            (gone && ask(&config, empty).await == 0).then_some(())
        },
    )
    .await;
    s.stop().await;
}

#[tokio::test]
async fn a_list_of_a_queue_is_all_of_it_and_nothing_else() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let of = async |queue: &str| {
        let filter = JobFilter {
            queue: Some(queue.into()),
            ..JobFilter::default()
        };
        let rows = store.list(&filter, 100, 0, None).await.expect("rows");
        let total = store.count(&filter).await.expect("counted").0;
        assert_eq!(rows.len() as u64, total, "{queue}");
        rows.iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    let rare = || Enqueue {
        queue: "rare".into(),
        ..noop(&[])
    };
    let first = written(&store, vec![rare()]).await.remove(0).seq;
    assert_eq!((of("rare").await, of("default").await), (vec![first], Vec::new()));
    let more = written(&store, vec![noop(&[]), rare()]).await;
    assert_eq!(of("rare").await, [more[1].seq, first]);
    assert_eq!(of("default").await, [more[0].seq]);
    assert!(of("nobody's").await.is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_job_that_has_changed_since_is_not_removed() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let job = noop(&[]);
    let id = job.id;
    store.enqueue(Batch::of(vec![job], 100)).await.expect("written");
    let deed = || harness::deed("job.delete", id);
    let refused = store.delete_in(id, |status| status.is_finished(), deed()).await;
    let refused = refused.expect_err("refused").to_string();
    assert_eq!(refused, "Delete is not possible: the job is pending");
    assert!(store.job(id).await.expect("row").is_some());
    store
        .delete_in(id, |status| !status.is_finished(), deed())
        .await
        .expect("deleted");
    assert!(store.job(id).await.expect("row").is_none());
    store.close().await;
}

#[tokio::test]
async fn batches_without_a_job_are_forgotten_wherever_they_lie() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let mut batches = Vec::new();
    for n in 0..7 {
        let starts = NewBatch::new(format!("batch {n}"), "test");
        let id = starts.id;
        let job = Enqueue {
            batch: Some(id),
            ..noop(&[])
        };
        let batch = Batch {
            starts: Some(starts),
            ..Batch::of(vec![job.clone()], 100)
        };
        store.enqueue(batch).await.expect("written");
        if n % 2 == 0 {
            store
                .delete(job.id, harness::deed("job.delete", job.id))
                .await
                .expect("deleted");
        }
        batches.push(id);
    }
    assert_eq!(
        store.forget_batches(3_600_000, 2).await.expect("forgotten"),
        0,
        "too young"
    );
    assert_eq!(store.forget_batches(-60_000, 2).await.expect("forgotten"), 4);
    for (n, id) in batches.into_iter().enumerate() {
        let there = store.batch(id).await.expect("read").is_some();
        assert_eq!(there, n % 2 == 1, "batch {n}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_job_that_is_handed_back_says_why() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let job = written(&store, vec![noop(&[])]).await.remove(0);
    let lease = begin(&store, &[job.seq]).await[0];
    let event = Event::HandBack { epoch: lease.epoch };
    let back = store.change(lease.id, event, "worker".into(), "no slot came free".into());
    let message = back.await.expect("handed back").row.job.message;
    assert_eq!(message, "Handed back: no slot came free");
    store.close().await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_again_and_again_ends_dead_with_attempts_left() {
    let dir = TempDir::new().expect("folder");
    let store = store(&dir).await;
    let job = Enqueue {
        max_attempts: 1_000,
        ..noop(&[])
    };
    let job = written(&store, vec![job]).await.remove(0);
    let crash = async || {
        begin(&store, &[job.seq]).await;
        let mut rescued = store.rescue(true, Vec::new()).await.expect("rescued");
        rescued.pop().expect("the job").row
    };
    for round in 1..=2 {
        for n in 1..harness::CRASHES_MAX {
            assert_eq!(crash().await.job.status, Status::Pending, "crash {n} in round {round}");
        }
        let row = crash().await;
        let crashes = round * harness::CRASHES_MAX;
        assert_eq!((row.job.status, row.job.crashes), (Status::Dead, crashes));
        assert_eq!(row.job.error_code, Some(ErrorCode::WorkerLost));
        let error = row.job.error.expect("an error");
        assert!(error.contains(&format!("died {crashes} times")), "{error}");
        // A person may look into it, and grants as many again.
        let retry = Event::Retry { at: from_millis(0) };
        let retried = store.change(job.job.id, retry, "test".into(), "test".into()).await;
        assert_eq!(retried.expect("retried").row.job.status, Status::Pending);
    }
    store.close().await;
}
