//! How soon a job begins.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::setup::{Bench, Fresh, broken, failed, percentile};
use crate::domain::job::NewJob;
use crate::domain::user::Actor;
use crate::server::cli::CliError;

/// Jobs on an idle system, and those before them that warm up.
const IDLE: u32 = 200;
const IDLE_WARM_UP: u32 = 20;
/// Jobs at a steady rate, and the time between two of them.
const BUSY: u32 = 5_000;
const EVERY: Duration = Duration::from_millis(1);

/// From just before a job is enqueued to the start of its kind: on an idle system one at a time, then at a thousand a second.
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    let mut system = bench.fresh().await?;
    let engine = system.work().await?;
    idle(bench, &mut system).await?;
    at_rate(bench, &mut system).await?;
    engine.shut_down().await;
    system.service.close().await;
    Ok(())
}

async fn idle(bench: &mut Bench, system: &mut Fresh) -> Result<(), CliError> {
    let samples = IDLE.min(bench.jobs);
    let mut took = Vec::with_capacity(samples as usize);
    for n in 0..IDLE_WARM_UP + samples {
        tokio::time::sleep(pause()).await;
        let asked = Instant::now();
        enqueue(system, n).await?;
        let seen = system.seen().await?;
        if n >= IDLE_WARM_UP {
            took.push(millis(asked, seen.started));
        }
    }
    bench.record("pickup_idle_p50_ms", percentile(&mut took, 0.5));
    bench.record("pickup_idle_p99_ms", percentile(&mut took, 0.99));
    Ok(())
}

/// 20 to 40 ms, uneven: the system is at rest again, and no timer of its own falls into step with this one.
fn pause() -> Duration {
    let draw = u64::try_from(Uuid::new_v4().as_u128() % 20_000).unwrap_or(0);
    Duration::from_micros(20_000 + draw)
}

async fn enqueue(system: &Fresh, n: u32) -> Result<(), CliError> {
    let enqueued = system.service.enqueue(&Actor::machine(), probe(n)).await;
    enqueued.map(|_| ()).map_err(failed)
}

fn probe(n: u32) -> NewJob {
    NewJob::of("probe", json!({ "n": n }))
}

fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}

async fn at_rate(bench: &mut Bench, system: &mut Fresh) -> Result<(), CliError> {
    let samples = BUSY.min(bench.jobs);
    // A fifth more at the front is not counted.
    let warm_up = samples.div_ceil(5);
    let total = warm_up + samples;
    // A job leaves when it is due, even if earlier ones are not acknowledged: missed ticks are made up for.
    let mut ticks = tokio::time::interval(EVERY);
    let mut asked = Vec::with_capacity(total as usize);
    let mut callers = Vec::with_capacity(total as usize);
    let began = Instant::now();
    for n in 0..total {
        ticks.tick().await;
        asked.push(Instant::now());
        let service = system.service.clone();
        callers.push(tokio::spawn(async move {
            service.enqueue(&Actor::machine(), probe(n)).await
        }));
    }
    for caller in callers {
        caller.await.map_err(broken)?.map_err(failed)?;
    }
    let offered = f64::from(total) / began.elapsed().as_secs_f64();
    let mut took = Vec::with_capacity(samples as usize);
    for _ in 0..total {
        let seen = system.seen().await?;
        if let (Some(asked), true) = (asked.get(seen.n as usize), seen.n >= warm_up) {
            took.push(millis(*asked, seen.started));
        }
    }
    bench.record("pickup_1000_p50_ms", percentile(&mut took, 0.5));
    bench.record("pickup_1000_p99_ms", percentile(&mut took, 0.99));
    bench.record("pickup_1000_offered", offered);
    Ok(())
}
