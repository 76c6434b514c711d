//! Whether an owner with many jobs starves one with few.

use std::time::{Duration, Instant};

use serde_json::json;

use super::setup::{Bench, failed, percentile};
use crate::domain::job::NewJob;
use crate::domain::user::{Actor, Role};
use crate::server::cli::CliError;

/// Jobs of the quiet owner, and the time between two of them. Ten slots of five milliseconds each have ten places in that.
const QUIET: u32 = 600;
const EVERY: Duration = Duration::from_millis(5);
/// Jobs of the noisy owner for each of the quiet one, and those that wait before the first.
const NOISY: u32 = 9;
const BACKLOG: u32 = 3_000;
/// Numbers from here on are the noisy owner's.
const NOISY_FROM: u32 = 1_000_000;

/// The quiet owner's waits alone, and beside one who enqueues nine times as much.
pub async fn measure(bench: &mut Bench) -> Result<(), CliError> {
    let solo = waits(bench, false).await?;
    let shared = waits(bench, true).await?;
    bench.record("fair_quiet_alone_p99_ms", solo);
    bench.record("fair_quiet_beside_noisy_p99_ms", shared);
    bench.record("fair_beside_of_alone_percent", shared / solo * 100.0);
    Ok(())
}

async fn waits(bench: &mut Bench, noisy: bool) -> Result<f64, CliError> {
    let owner = |name: &str| Actor {
        name: name.into(),
        role: Role::Admin,
    };
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
    while waits.len() < QUIET as usize {
        let Some((n, started)) = system.probes.recv().await else {
            break;
        };
        if let Some(asked) = asked.get(n as usize) {
            waits.push(started.saturating_duration_since(*asked).as_secs_f64() * 1_000.0);
        }
    }
    engine.shut_down().await;
    system.service.close().await;
    Ok(percentile(&mut waits, 0.99))
}
