//! Workers that are killed, that are killed by their jobs, and that hang and come back.

use std::sync::Mutex;
use std::time::Instant;

use serde_json::json;
use windlass::domain::filter::{JobFilter, Order};
use windlass::domain::job::NewJob;
use windlass::domain::status::Status;
use windlass::domain::user::Actor;
use windlass::server::store::Store;

use super::ledger::{Attempt, Write};
use super::servers::{Postgres, Redis};
use super::{Busy, Place, feed, fill, lease, more, rounds, settle};
use crate::harness::{self, until};

/// Workers are killed again and again in the middle of their jobs.
#[tokio::test]
async fn kill_9_loses_nothing() {
    let place = Place::shared().await;
    let kills = rounds(5);
    let mut busy = Busy::start(&place, 3).await;
    let (mut hit, mut victim) = (0, 0);
    while hit < kills {
        victim = (victim + 1) % busy.workers.len();
        let pid = busy.workers[victim].pid();
        until("the victim works", async || {
            (!place.ledger.open_attempts(pid).is_empty()).then_some(())
        })
        .await;
        busy.workers[victim].kill();
        // It may just have ended what it was at.
        hit += usize::from(!place.ledger.open_attempts(pid).is_empty());
        busy.workers[victim] = busy.worker(&place);
    }
    let report = busy.settle(&place, "kill -9").await;
    assert!(report.kills_in_mid_job >= kills, "not as often as was asked for");
}

/// A job kills its worker whenever it runs, in the midst of others that take longer than it.
#[tokio::test]
async fn a_job_that_kills_its_workers_ends_dead_and_takes_no_other_along() {
    let place = Place::shared().await;
    let service = place.service().await;
    let actor = Actor::machine();
    let risky = |ms: u32, kills: bool| NewJob::of("risky", json!({ "ms": ms, "kills": kills }));
    let mut jobs = vec![risky(400, false); 7];
    jobs.insert(3, risky(60, true));
    let ids = service.enqueue_bulk(&actor, jobs, None).await.expect("taken in").ids;
    service.close().await;
    drop(service);
    let beside = Store::open_beside(&place.config()).await.expect("the database");
    let first = JobFilter {
        order: Order::Asc,
        ..JobFilter::default()
    };
    let worker = Mutex::new((place.worker(), 0));
    let told = until("every job has ended", async || {
        {
            let mut worker = worker.lock().expect("a worker");
            if worker.0.child.try_wait().expect("asked").is_some() {
                *worker = (place.worker(), worker.1 + 1);
            }
        }
        let jobs = beside.list(&first, 100, 0, None).await.expect("jobs");
        let told: Vec<(Status, u32)> = jobs.into_iter().map(|row| (row.job.status, row.job.crashes)).collect();
        told.iter().all(|(status, _)| status.is_finished()).then_some(told)
    })
    .await;
    let deaths = worker.into_inner().expect("a worker").1;
    beside.close().await;
    println!(
        "a poison job on {}: {deaths} workers died, {told:?}",
        harness::arrangement()
    );
    assert_eq!((ids.len(), deaths), (told.len(), 5));
    for (n, (status, crashes)) in told.into_iter().enumerate() {
        match n {
            3 => assert_eq!((status, crashes), (Status::Dead, 5)),
            _ => assert!(
                status == Status::Completed && crashes <= 2,
                "{n}: {status} after {crashes} crashes"
            ),
        }
    }
}

/// A process hangs in the middle of a transaction, whose locks others wait for.
#[tokio::test]
async fn a_worker_that_hangs_in_a_transaction_keeps_nobody_waiting() {
    if harness::arrangement() != "redis" {
        return;
    }
    let (postgres, redis) = (Postgres::start().await, Redis::start().await);
    let mut place = Place::new(Some(postgres.user("hung")), Some(redis.url()));
    let hung = place.worker_with(&[("CHAOS_FEEDS", "1")]);
    place.database = Some(postgres.url());
    let service = place.service().await;
    tokio::spawn(feed(service.clone(), place.enough()));
    let _other = place.worker();
    for _ in 0..rounds(2) {
        more(&place, 20).await;
        until("it hangs in a transaction", async || {
            hung.signal("-STOP");
            // Twice: what it had sent before may have been under way.
            let caught = postgres.idles_in_transaction("hung") && postgres.idles_in_transaction("hung");
            if !caught {
                hung.signal("-CONT");
            }
            caught.then_some(())
        })
        .await;
        until("its transaction is given up, though it hangs", async || {
            (!postgres.idles_in_transaction("hung")).then_some(())
        })
        .await;
        more(&place, 20).await;
        hung.signal("-CONT");
    }
    place.no_more_jobs();
    settle(&place, &service, "hung in a transaction").await;
}

/// A worker hangs for longer than its lease, and then comes back and wants to write: how far it is, lines, a checkpoint, a file,
/// and the end of its attempts.
#[tokio::test]
async fn a_worker_that_comes_back_from_the_dead_can_change_nothing() {
    if harness::arrangement() != "redis" {
        return;
    }
    let place = Place::shared().await;
    let service = place.service().await;
    let sleeper = place.worker_with(&[("CHAOS_INTRUDES", "1")]);
    let pid = sleeper.pid();
    let mut other = None;
    // One that was claimed just before an earlier stop began behind it, without a lease, and was ended before it could say so.
    let at_work = || -> Vec<Attempt> {
        let open = place.ledger.open_attempts(pid).into_iter();
        open.filter(|attempt| !place.ledger.overtaken(*attempt)).collect()
    };
    let (mut next, mut stopped) = (0, 0);
    for _ in 0..rounds(2) {
        // One that ends just before it is stopped holds nothing: then once more.
        let held: Vec<Attempt> = loop {
            fill(&service, next, next + 8, 900).await;
            next += 8;
            until("the sleeper works", async || (!at_work().is_empty()).then_some(())).await;
            sleeper.signal("-STOP");
            let held = at_work();
            if !held.is_empty() {
                break held;
            }
            sleeper.signal("-CONT");
        };
        let since = Instant::now();
        other.get_or_insert_with(|| place.worker());
        // Its lease was some way through when it was stopped; it takes itself to be late once it was away for a whole one.
        until("its jobs run elsewhere, and it was away for a lease", async || {
            let elsewhere = held.iter().all(|attempt| place.ledger.overtaken(*attempt));
            (elsewhere && since.elapsed() > lease()).then_some(())
        })
        .await;
        sleeper.signal("-CONT");
        until("it has tried to write", async || {
            held.iter()
                .all(|attempt| place.ledger.tried_all(*attempt))
                .then_some(())
        })
        .await;
        stopped += held.len();
    }
    let report = settle(&place, &service, "SIGSTOP past the lease").await;
    for write in Write::ALL {
        let refused = report.refused.get(&write).copied().unwrap_or(0);
        assert!(refused >= stopped, "{write:?}: {refused} of {stopped} were refused");
    }
}
