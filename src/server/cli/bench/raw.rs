//! The store's statements alone, one after the other on one connection: what the engine is measured by. On Postgres it has several
//! that work side by side, and may go beyond.

use std::time::Instant;

use serde_json::json;

use super::measures::{per_second, warm_up, warm_up_drain};
use super::setup::{Bench, broken};
use crate::domain::job::DEFAULT_QUEUE;
use crate::domain::kind::Policy;
use crate::domain::user::Actor;
use crate::server::cli::CliError;
use crate::server::store::enqueue::{Batch, Enqueue};
use crate::server::store::raw::Raw;

/// Claims and ends of a commit, and new jobs of one: as many as the engine and the service write at the most.
const AT_ONCE: usize = 256;
const IN_BULK: u32 = 1_000;

/// Claims and completions.
pub async fn drain(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let before = warm_up_drain(bench.jobs);
    let all = before + bench.jobs;
    system.fill("noop", all).await?;
    system.service.close().await;
    let raw = Raw::open(&system.config).await?;
    let waiting = raw.pending().await?;
    if waiting.len() != all as usize {
        return Err(broken(format_args!("{} of {all} jobs wait", waiting.len())));
    }
    let (first, waiting) = waiting.split_at(before as usize);
    let mut running = Vec::new();
    for next in first.chunks(AT_ONCE) {
        running = raw.round(&running, next, "noop", DEFAULT_QUEUE).await?;
    }
    raw.round(&running, &[], "noop", DEFAULT_QUEUE).await?;
    running.clear();
    let began = Instant::now();
    for next in waiting.chunks(AT_ONCE) {
        running = raw.round(&running, next, "noop", DEFAULT_QUEUE).await?;
    }
    raw.round(&running, &[], "noop", DEFAULT_QUEUE).await?;
    let rate = per_second(bench.jobs, began);
    let left = raw.pending().await?.len();
    raw.close().await?;
    if left > 0 {
        return Err(broken(format_args!("{left} jobs still wait")));
    }
    bench.record("raw_drain", rate);
    shares(bench);
    Ok(())
}

/// Inserts.
pub async fn bulk(bench: &mut Bench) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    system.service.close().await;
    let raw = Raw::open(&system.config).await?;
    let owner = Actor::machine().name;
    let batch = |from: u32, to: u32| {
        let part = from..to.min(from + IN_BULK);
        let jobs = part.map(|n| Enqueue::of("noop", &owner, json!({ "n": n }), &Policy::DEFAULT));
        Batch::of(jobs.collect(), u64::MAX >> 1)
    };
    let before = warm_up(bench.jobs);
    for from in (0..before).step_by(IN_BULK as usize) {
        raw.insert(&batch(from, before)).await?;
    }
    let began = Instant::now();
    for from in (0..bench.jobs).step_by(IN_BULK as usize) {
        raw.insert(&batch(from, bench.jobs)).await?;
    }
    let rate = per_second(bench.jobs, began);
    let written = raw.pending().await?.len();
    raw.close().await?;
    let all = before + bench.jobs;
    if written != all as usize {
        return Err(broken(format_args!("{written} of {all} jobs were written")));
    }
    bench.record("raw_bulk", rate);
    shares(bench);
    Ok(())
}

/// What share of it the engine and the service reach, where both are known.
pub fn shares(bench: &mut Bench) {
    for (ours, raw, share) in [
        ("drain_10", "raw_drain", "drain_10_of_raw_percent"),
        ("enqueue_bulk", "raw_bulk", "enqueue_bulk_of_raw_percent"),
    ] {
        if let (Some(ours), Some(raw)) = (bench.result(ours), bench.result(raw)) {
            bench.record(share, ours / raw * 100.0);
        }
    }
}
