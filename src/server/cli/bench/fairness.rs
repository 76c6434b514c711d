//! Whether an owner with many jobs starves one with few, and whether jobs behind a limit are in the way of others.

use std::time::{Duration, Instant};

use serde_json::json;

use super::setup::{Bench, failed, percentile};
use crate::domain::filter::JobFilter;
use crate::domain::job::NewJob;
use crate::domain::page::PageRequest;
use crate::domain::status::Status;
use crate::domain::user::{Actor, Role};
use crate::server::cli::CliError;

/// Jobs of the quiet owner, and the time between two of them. Ten slots of five milliseconds each have ten places in that.
const QUIET: u32 = 600;
const EVERY: Duration = Duration::from_millis(5);
/// Jobs of the noisy owner for each of the quiet one, and those that wait before the first.
const NOISY: u32 = 9;
const BACKLOG: u32 = 3_000;
/// Alone and beside are measured so often, in turn: a disk that hesitates once makes all of a 99th percentile, and not of a median.
const ROUNDS: usize = 3;
/// Numbers from here on are the noisy owner's.
const NOISY_FROM: u32 = 1_000_000;

/// How long the quiet owner's jobs took at the 99th percentile, in milliseconds.
struct Took {
    /// From the enqueue to the start, and to the end.
    started: f64,
    ended: f64,
}

/// The quiet owner alone, and beside one who enqueues nine times as much and keeps every slot busy. A job beside others waits
/// until a slot is free, which takes up to the five milliseconds of a job whose slot it gets, however fair its turn is: alone, it
/// begins as it is written down. So what counts is how long it takes until it is done.
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(took(bench, false).await?);
        beside.push(took(bench, true).await?);
    }
    let (alone, beside) = (median(&alone), median(&beside));
    bench.record("fair_alone_start_p99_ms", alone.started);
    bench.record("fair_alone_end_p99_ms", alone.ended);
    bench.record("fair_beside_noisy_start_p99_ms", beside.started);
    bench.record("fair_beside_noisy_end_p99_ms", beside.ended);
    bench.record(
        "fair_start_beside_of_alone_percent",
        beside.started / alone.started * 100.0,
    );
    bench.record("fair_end_beside_of_alone_percent", beside.ended / alone.ended * 100.0);
    Ok(())
}

fn median(rounds: &[Took]) -> Took {
    let of = |part: fn(&Took) -> f64| percentile(&mut rounds.iter().map(part).collect::<Vec<_>>(), 0.5);
    Took {
        started: of(|took| took.started),
        ended: of(|took| took.ended),
    }
}

async fn took(bench: &mut Bench, noisy: bool) -> Result<Took, CliError> {
    let owner = |name: &str| Actor::named(name, Role::Admin);
    let (quiet, loud) = (owner("quiet"), owner("noisy"));
    let mut system = bench.fresh().await?;
    let job = |n: u32| NewJob::of("busy", json!({ "n": n }));
    let mut next = NOISY_FROM;
    let mut some = |n: u32| {
        let jobs: Vec<NewJob> = (next..next + n).map(job).collect();
        next += n;
        jobs
    };
    if noisy {
        system
            .service
            .enqueue_bulk(&loud, some(BACKLOG), None)
            .await
            .map_err(failed)?;
    }
    let engine = system.work().await?;
    let mut ticks = tokio::time::interval(EVERY);
    let mut asked = Vec::with_capacity(QUIET as usize);
    for n in 0..QUIET {
        ticks.tick().await;
        if noisy {
            system
                .service
                .enqueue_bulk(&loud, some(NOISY), None)
                .await
                .map_err(failed)?;
        }
        asked.push(Instant::now());
        system.service.enqueue(&quiet, job(n)).await.map_err(failed)?;
    }
    let mut waits = Vec::with_capacity(QUIET as usize);
    let mut ends = Vec::with_capacity(QUIET as usize);
    while waits.len() < QUIET as usize {
        let Some(seen) = system.probes.recv().await else {
            break;
        };
        if let Some(asked) = asked.get(seen.n as usize) {
            let ms = |at: Instant| at.saturating_duration_since(*asked).as_secs_f64() * 1_000.0;
            waits.push(ms(seen.started));
            ends.push(ms(seen.ended));
        }
    }
    engine.shut_down().await;
    system.service.close().await;
    Ok(Took {
        started: percentile(&mut waits, 0.99),
        ended: percentile(&mut ends, 0.99),
    })
}

/// Jobs that wait behind one concurrency key.
const BLOCKED: u32 = 100_000;

/// The drain again, alone and behind a hundred thousand older jobs of which one may run at a time.
pub async fn blocked(bench: &mut Bench) -> Result<(), CliError> {
    let free = drain_beside(bench, 0).await?;
    let beside = drain_beside(bench, BLOCKED).await?;
    bench.record("blocked_none_drain", free);
    bench.record("blocked_100000_drain", beside);
    bench.record("blocked_beside_of_alone_percent", beside / free * 100.0);
    Ok(())
}

async fn drain_beside(bench: &mut Bench, blocked: u32) -> Result<f64, CliError> {
    let system = bench.fresh().await?;
    let gated = |n| NewJob {
        concurrency_key: Some("gate".into()),
        ..NewJob::of("busy", json!({ "n": n }))
    };
    system.fill_with(blocked, gated).await?;
    system.fill("noop", bench.jobs).await?;
    let done = JobFilter {
        status: vec![Status::Completed],
        kind: Some("noop".into()),
        ..JobFilter::default()
    };
    let page = PageRequest {
        limit: Some(1),
        ..PageRequest::default()
    };
    let engine = system.work().await?;
    let began = Instant::now();
    loop {
        let seen = system.service.list_jobs(&Actor::machine(), &done, &page).await;
        if seen.map_err(failed)?.total >= u64::from(bench.jobs) {
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
    let rate = f64::from(bench.jobs) / began.elapsed().as_secs_f64();
    engine.shut_down().await;
    system.service.close().await;
    Ok(rate)
}
