//! The measures, and those of jobs that come in and are run. See `super::MEASURES` for what each is.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use serde_json::json;

use super::caller::Caller;
use super::setup::{Bench, broken, failed};
use super::{fairness, idle, logs, pickup, raw};
use crate::domain::job::NewJob;
use crate::domain::user::Actor;
use crate::server::cli::CliError;
use crate::server::service::Service;

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), CliError>> + 'a>>;
type Measure = for<'a> fn(&'a mut Bench) -> Running<'a>;

/// Each writes figures of its name, or of names that begin with it.
pub const ALL: [(&str, Measure); 13] = [
    ("enqueue_one", |b| Box::pin(enqueue_one(b))),
    ("enqueue_concurrent_50", |b| Box::pin(enqueue_concurrent(b))),
    ("enqueue_http_50", |b| Box::pin(enqueue_http(b))),
    ("enqueue_bulk", |b| Box::pin(enqueue_bulk(b))),
    ("raw_bulk", |b| Box::pin(raw::bulk(b))),
    ("drain_10", |b| Box::pin(drain(b, 1))),
    ("drain_workers", |b| Box::pin(drain(b, b.workers))),
    ("raw_drain", |b| Box::pin(raw::drain(b))),
    ("pickup", |b| Box::pin(pickup::measure(b))),
    ("fair", |b| Box::pin(fairness::measure(b))),
    ("blocked", |b| Box::pin(fairness::blocked(b))),
    ("log_lines", |b| Box::pin(logs::measure(b))),
    ("idle", |b| Box::pin(idle::measure(b))),
];

/// Callers of the concurrent measures.
const CALLERS: u32 = 50;

pub fn per_second(n: u32, since: Instant) -> f64 {
    f64::from(n) / since.elapsed().as_secs_f64()
}

pub fn noop(n: u32) -> NewJob {
    NewJob::of("noop", json!({ "n": n }))
}

/// Of so many jobs that are measured, how many more go before them, for enqueues and for drains: as with the peers.
pub fn warm_up(n: u32) -> u32 {
    n.div_ceil(10)
}

pub fn warm_up_drain(n: u32) -> u32 {
    n.div_ceil(20)
}

/// One caller who waits for each answer.
async fn enqueue_one(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let (actor, n) = (Actor::machine(), bench.jobs.div_ceil(10));
    for i in 0..warm_up(n) {
        system.service.enqueue(&actor, noop(i)).await.map_err(failed)?;
    }
    let began = Instant::now();
    for i in 0..n {
        system.service.enqueue(&actor, noop(i)).await.map_err(failed)?;
    }
    bench.record("enqueue_one", per_second(n, began));
    system.service.close().await;
    Ok(())
}

/// What so many callers enqueue each, so that together it is half of the jobs.
fn each(jobs: u32) -> u32 {
    jobs.div_ceil(2).div_ceil(CALLERS)
}

/// Fifty callers in the process, each of whom waits for each answer.
async fn enqueue_concurrent(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let each = each(bench.jobs);
    by_callers(&system.service, warm_up(each)).await?;
    let began = Instant::now();
    by_callers(&system.service, each).await?;
    bench.record("enqueue_concurrent_50", per_second(each * CALLERS, began));
    system.service.close().await;
    Ok(())
}

async fn by_callers(service: &Service, each: u32) -> Result<(), CliError> {
    let callers = (0..CALLERS).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            for i in 0..each {
                service.enqueue(&Actor::machine(), noop(i)).await?;
            }
            Ok(())
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.map_err(broken)?.map_err(failed)?;
    }
    Ok(())
}

/// Fifty callers over HTTP, on connections that they keep.
async fn enqueue_http(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let served = system.serve().await?;
    let mut callers = Vec::with_capacity(CALLERS as usize);
    for _ in 0..CALLERS {
        callers.push(Caller::connect(served.address, &served.token).await?);
    }
    let each = each(bench.jobs);
    callers = by_http(callers, warm_up(each)).await?;
    let began = Instant::now();
    callers = by_http(callers, each).await?;
    bench.record("enqueue_http_50", per_second(each * CALLERS, began));
    for caller in callers {
        caller.end().await?;
    }
    served.stop().await?;
    system.service.close().await;
    Ok(())
}

async fn by_http(callers: Vec<Caller>, each: u32) -> Result<Vec<Caller>, CliError> {
    let callers = callers.into_iter().map(|mut caller| {
        tokio::spawn(async move {
            for i in 0..each {
                caller.post("/api/jobs", &noop(i)).await?;
            }
            Ok::<_, CliError>(caller)
        })
    });
    let ended = futures::future::join_all(callers).await;
    ended.into_iter().map(|caller| caller.map_err(broken)?).collect()
}

/// One caller who enqueues a thousand at a time.
async fn enqueue_bulk(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    system.fill("noop", warm_up(bench.jobs)).await?;
    let began = Instant::now();
    system.fill("noop", bench.jobs).await?;
    bench.record("enqueue_bulk", per_second(bench.jobs, began));
    system.service.close().await;
    raw::shares(bench);
    Ok(())
}

/// From the start of the first job after the warm-up until every job is recorded as completed.
async fn drain(bench: &mut Bench, workers: u32) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let warm_up = warm_up_drain(bench.jobs);
    let all = u64::from(warm_up + bench.jobs);
    system.tally.warm_up(u64::from(warm_up));
    system.fill("noop", warm_up + bench.jobs).await?;
    let mut engines = Vec::new();
    for _ in 0..workers {
        engines.push(system.work().await?);
    }
    system.completed(all).await?;
    let began = system.tally.began().ok_or_else(|| broken("no job began"))?;
    let rate = per_second(bench.jobs, began);
    let ran = system.tally.ran();
    if ran != all {
        return Err(broken(format_args!("{all} jobs enqueued, {ran} run")));
    }
    bench.record(if workers == 1 { "drain_10" } else { "drain_workers" }, rate);
    for engine in engines {
        engine.shut_down().await;
    }
    system.service.close().await;
    raw::shares(bench);
    Ok(())
}
