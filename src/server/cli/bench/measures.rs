//! What is measured while jobs come and go.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::fairness;
use super::kinds::Seen;
use super::setup::{Bench, Fresh, failed, percentile};
use crate::domain::job::NewJob;
use crate::domain::log::LogMessage;
use crate::domain::user::Actor;
use crate::server::cli::CliError;
use crate::server::http::{self, AppState};
use crate::server::store::claim::Claim;
use crate::server::store::finish::Finish;

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), CliError>> + 'a>>;
type Measure = for<'a> fn(&'a mut Bench) -> Running<'a>;

/// Each writes figures of its name, or of names that begin with it.
pub const ALL: [(&str, Measure); 11] = [
    ("enqueue_one", |b| Box::pin(enqueue_one(b))),
    ("enqueue_concurrent_50", |b| Box::pin(enqueue_concurrent(b))),
    ("enqueue_http_50", |b| Box::pin(enqueue_http(b))),
    ("enqueue_bulk", |b| Box::pin(enqueue_bulk(b))),
    ("drain_10", |b| Box::pin(drain(b, 1))),
    ("drain_workers", |b| Box::pin(drain(b, b.workers))),
    ("raw_drain", |b| Box::pin(raw_drain(b))),
    ("pickup", |b| Box::pin(pickup(b))),
    ("fair", |b| Box::pin(fairness::measure(b))),
    ("blocked", |b| Box::pin(fairness::blocked(b))),
    ("log_lines", |b| Box::pin(log_lines(b))),
];

/// Callers of the concurrent measures.
const CALLERS: u32 = 50;

fn per_second(n: u32, since: Instant) -> f64 {
    f64::from(n) / since.elapsed().as_secs_f64()
}

fn noop(n: u32) -> NewJob {
    NewJob::of("noop", json!({ "n": n }))
}

/// One caller who waits for each answer.
async fn enqueue_one(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let (actor, n) = (Actor::local_admin(), bench.jobs / 10);
    let began = Instant::now();
    for i in 0..n {
        system.service.enqueue(&actor, noop(i)).await.map_err(failed)?;
    }
    bench.record("enqueue_one", per_second(n, began));
    system.service.close().await;
    Ok(())
}

/// Fifty callers in the process, each of whom waits for each answer.
async fn enqueue_concurrent(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let each = bench.jobs / CALLERS;
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let service = system.service.clone();
        tokio::spawn(async move {
            for i in 0..each {
                service.enqueue(&Actor::local_admin(), noop(i)).await?;
            }
            Ok(())
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.map_err(broken)?.map_err(failed)?;
    }
    bench.record("enqueue_concurrent_50", per_second(each * CALLERS, began));
    system.service.close().await;
    Ok(())
}

fn broken(error: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("the measure broke: {error}"))
}

/// Fifty callers over HTTP, on connections that they keep.
async fn enqueue_http(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(broken)?;
    let address = listener.local_addr().map_err(broken)?;
    let closing = CancellationToken::new();
    let app = http::router(AppState {
        service: system.service.clone(),
        leptos: http::leptos_options(address),
        closing: closing.clone(),
    });
    let stop = closing.clone();
    let serving = tokio::spawn(async move {
        axum::serve(listener, app)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    });
    let client = reqwest::Client::new();
    let url = format!("http://{address}/api/jobs");
    let each = bench.jobs / CALLERS;
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            for i in 0..each {
                let answer = client.post(&url).json(&noop(i)).send().await?;
                answer.error_for_status()?.bytes().await?;
            }
            Ok::<_, reqwest::Error>(())
        })
    });
    for caller in futures::future::join_all(callers).await {
        caller.map_err(broken)?.map_err(broken)?;
    }
    bench.record("enqueue_http_50", per_second(each * CALLERS, began));
    drop(client);
    closing.cancel();
    serving.await.map_err(broken)?.map_err(broken)?;
    system.service.close().await;
    Ok(())
}

/// One caller who enqueues a thousand at a time.
async fn enqueue_bulk(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let began = Instant::now();
    system.fill("noop", bench.jobs).await?;
    bench.record("enqueue_bulk", per_second(bench.jobs, began));
    system.service.close().await;
    Ok(())
}

/// From the start of the workers until every job is recorded as completed.
async fn drain(bench: &mut Bench, workers: u32) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    system.fill("noop", bench.jobs).await?;
    let mut engines = Vec::new();
    let began = Instant::now();
    for _ in 0..workers {
        engines.push(system.work().await?);
    }
    system.completed(u64::from(bench.jobs)).await?;
    let rate = per_second(bench.jobs, began);
    bench.record(if workers == 1 { "drain_10" } else { "drain_workers" }, rate);
    for engine in engines {
        engine.shut_down().await;
    }
    system.service.close().await;
    share(bench);
    Ok(())
}

/// The store alone with the same statements: claims and ends of 256 jobs a commit. What the engine could reach at most.
async fn raw_drain(bench: &mut Bench) -> Result<(), CliError> {
    const AT_ONCE: usize = 256;
    let system = bench.fresh().await?;
    system.fill("noop", bench.jobs).await?;
    let store = &system.service.store;
    let mut waiting = system
        .service
        .queue
        .take(bench.jobs as usize, false)
        .await
        .unwrap_or_default();
    let began = Instant::now();
    let mut ended = Vec::new();
    loop {
        let next: Vec<i64> = waiting.drain(..waiting.len().min(AT_ONCE)).collect();
        let more = !next.is_empty();
        let finishing = ended.drain(..).map(|lease| {
            store.finish(Finish {
                lease,
                result: None,
                again: false,
                cpu_ms: 0,
            })
        });
        let finishing = futures::future::join_all(finishing.collect::<Vec<_>>());
        let (finished, claimed) = tokio::join!(
            finishing,
            store.claim(Claim {
                seqs: next,
                worker: "raw".into(),
                lease_ms: 30_000,
                limited: Vec::new(),
            })
        );
        for one in finished {
            one?;
        }
        ended = claimed?.into_iter().map(|c| c.lease).collect();
        if !more && ended.is_empty() {
            break;
        }
    }
    bench.record("raw_drain", per_second(bench.jobs, began));
    system.service.close().await;
    share(bench);
    Ok(())
}

fn share(bench: &mut Bench) {
    if let (Some(engine), Some(raw)) = (bench.result("drain_10"), bench.result("raw_drain")) {
        bench.record("drain_10_of_raw_percent", engine / raw * 100.0);
    }
}

/// From just before a job is enqueued to the start of its kind: on an idle system one at a time, then at a thousand a
/// second for five seconds.
async fn pickup(bench: &mut Bench) -> Result<(), CliError> {
    const IDLE: u32 = 200;
    const BUSY: u32 = 5_000;
    let mut system = bench.fresh().await?;
    let engine = system.work().await?;
    let mut idle = Vec::new();
    for n in 0..IDLE {
        let asked = Instant::now();
        probe(&system, n).await?;
        if let Some(Seen { started, .. }) = system.probes.recv().await {
            idle.push(millis(asked, started));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first ones warm up.
    idle.drain(..10);
    bench.record("pickup_idle_p50_ms", percentile(&mut idle, 0.5));
    bench.record("pickup_idle_p99_ms", percentile(&mut idle, 0.99));

    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut asked = Vec::with_capacity(BUSY as usize);
    let mut callers = Vec::new();
    for n in 0..BUSY {
        ticks.tick().await;
        asked.push(Instant::now());
        let service = system.service.clone();
        callers.push(tokio::spawn(async move {
            service
                .enqueue(&Actor::local_admin(), NewJob::of("probe", json!({ "n": n })))
                .await
        }));
    }
    let mut busy = Vec::new();
    while busy.len() < BUSY as usize {
        let Some(Seen { n, started, .. }) = system.probes.recv().await else {
            break;
        };
        if let Some(asked) = asked.get(n as usize) {
            busy.push(millis(*asked, started));
        }
    }
    for caller in callers {
        caller.await.map_err(broken)?.map_err(failed)?;
    }
    bench.record("pickup_1000_p50_ms", percentile(&mut busy, 0.5));
    bench.record("pickup_1000_p99_ms", percentile(&mut busy, 0.99));
    engine.shut_down().await;
    system.service.close().await;
    Ok(())
}

fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

async fn probe(system: &Fresh, n: u32) -> Result<(), CliError> {
    let job = NewJob::of("probe", json!({ "n": n }));
    system
        .service
        .enqueue(&Actor::local_admin(), job)
        .await
        .map(|_| ())
        .map_err(failed)
}

/// Lines of one job as they reach its viewers: to one, and to a hundred at the same time (added up).
async fn log_lines(bench: &mut Bench) -> Result<(), CliError> {
    const LINES: u32 = 50_000;
    let system = bench.fresh().await?;
    let engine = system.work().await?;
    let actor = Actor::local_admin();
    for (viewers, name) in [(1, "log_lines_1_viewer"), (100, "log_lines_100_viewers")] {
        let job = NewJob::of("chatter", json!({ "lines": LINES }));
        let job = system.service.enqueue(&actor, job).await.map_err(failed)?.job;
        let began = Instant::now();
        let mut watching = Vec::new();
        for _ in 0..viewers {
            let mut lines = system.service.follow_log(&actor, job.id, 0).await.map_err(failed)?;
            watching.push(tokio::spawn(async move {
                let mut seen = 0;
                while let Some(message) = lines.recv().await {
                    match message {
                        LogMessage::Lines { lines } => seen += lines.len(),
                        LogMessage::End => break,
                    }
                }
                seen
            }));
        }
        let mut seen = 0;
        for viewer in watching {
            seen += viewer.await.map_err(broken)?;
        }
        bench.record(name, seen as f64 / began.elapsed().as_secs_f64());
    }
    engine.shut_down().await;
    system.service.close().await;
    Ok(())
}
