//! What is measured over a database that holds many jobs.

use std::time::Instant;

use super::setup::{Bench, failed, percentile};
use crate::domain::filter::{JobFilter, Sort};
use crate::domain::page::PageRequest;
use crate::domain::status::Status;
use crate::domain::user::Actor;
use crate::server::cli::CliError;

/// Readings of each kind.
const TIMES: usize = 100;

/// Lists, filtered lists, searches and counts over `scale` jobs, nine tenths of which have run.
pub async fn measure(bench: &mut Bench, scale: u32) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let done = scale / 10 * 9;
    let began = Instant::now();
    system.fill("noop", done).await?;
    bench.record("reading_fill", f64::from(done) / began.elapsed().as_secs_f64());
    let engine = system.work().await?;
    let began = Instant::now();
    system.completed(u64::from(done)).await?;
    bench.record("reading_drain", f64::from(done) / began.elapsed().as_secs_f64());
    engine.shut_down().await;
    system.fill("probe", scale - done).await?;
    let actor = Actor::local_admin();
    let of = |status: &[Status], kind: Option<&str>| JobFilter {
        status: status.to_vec(),
        kind: kind.map(str::to_string),
        ..JobFilter::default()
    };
    let lists: [(&'static str, JobFilter); 6] = [
        ("reading_list_p99_ms", of(&[], None)),
        ("reading_list_status_p99_ms", of(&[Status::Completed], None)),
        ("reading_list_failed_p99_ms", of(&[Status::Failed, Status::Dead], None)),
        ("reading_list_type_p99_ms", of(&[], Some("noop"))),
        ("reading_list_status_type_p99_ms", of(&[Status::Pending], Some("probe"))),
        (
            "reading_list_by_end_p99_ms",
            JobFilter {
                sort: Sort::CompletedAt,
                ..JobFilter::default()
            },
        ),
    ];
    for (name, filter) in lists {
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let began = Instant::now();
            let page = PageRequest::default();
            system.service.list_jobs(&actor, &filter, &page).await.map_err(failed)?;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        bench.record(name, percentile(&mut times, 0.99));
    }
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        system.service.counts(&actor).await.map_err(failed)?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    bench.record("reading_counts_p99_ms", percentile(&mut times, 0.99));
    // The text of some job in the middle, which one job alone has.
    let page = PageRequest {
        limit: Some(1),
        offset: Some(scale / 2),
        cursor: None,
    };
    let filter = JobFilter::default();
    let middle = system.service.list_jobs(&actor, &filter, &page).await.map_err(failed)?;
    if let Some(job) = middle.items.first() {
        let filter = JobFilter {
            q: Some(job.id.to_string()),
            ..JobFilter::default()
        };
        let mut times = Vec::new();
        for _ in 0..10 {
            let began = Instant::now();
            let page = PageRequest::default();
            system.service.list_jobs(&actor, &filter, &page).await.map_err(failed)?;
            times.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
        bench.record("reading_search_p99_ms", percentile(&mut times, 0.99));
    }
    system.service.close().await;
    Ok(())
}
