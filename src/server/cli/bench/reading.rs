//! What is measured over a database that holds many jobs.

use std::time::Instant;

use serde_json::json;

use super::kinds::{COMPLETE, DIES, FAILS, RETRIES, STAYS};
use super::setup::{Bench, Fresh, broken, failed, percentile};
use crate::domain::filter::{JobFilter, Sort};
use crate::domain::job::{ActOptions, Job, JobId, Needs, NewJob};
use crate::domain::page::{Page, PageRequest};
use crate::domain::status::{Action, Status};
use crate::domain::time::Timestamp;
use crate::domain::user::{Actor, Role};
use crate::server::cli::CliError;
use crate::server::store::raw::Raw;

/// Askings of each question that are counted, and those before them that are not.
const TIMES: usize = 200;
const WARM_UP: usize = 5;
/// Jobs that are enqueued at once, all of one owner, and how many owners there are.
const CHUNK: u32 = 1_000;
const OWNERS: u32 = 97;
/// A queue that is paused: its jobs stay pending.
const HELD: &str = "held";
/// Jobs of each status that only a person's wish, or another job, gives.
const FEW: u32 = 200;
/// Jobs whose text one step makes known to the search.
const INDEX_STEP: u32 = 2_000;

/// Fewer jobs than this have not all statuses.
pub const LEAST: u32 = 1_000;

/// Over how long the jobs were enqueued, as their dates say.
const MONTH_MS: i64 = 30 * 86_400_000;

/// What was filled in: for each chunk its owner, when its first job was enqueued, and that job, which has completed.
struct Filled {
    chunks: Vec<(String, Timestamp, JobId)>,
}

/// Lists, filtered lists, searches and counts over `scale` jobs: of all statuses (four fifths of them completed, a tenth pending),
/// several kinds and many owners.
pub async fn measure(bench: &mut Bench, scale: u32) -> Result<(), CliError> {
    let system = bench.fresh().await?;
    let actor = Actor::machine();
    let paused = system.service.pause_queue(&actor, HELD, true, None).await;
    paused.map_err(failed)?;
    let began = Instant::now();
    let chunks = fill(&system, scale).await?;
    bench.record("reading_fill", f64::from(scale) / began.elapsed().as_secs_f64());
    let engine = system.work().await?;
    let began = Instant::now();
    // Whatever may run has. Failed ones that are to be tried again wait for that.
    let held = (0..scale).filter(|n| is_held(*n)).count() as u64;
    system
        .counted(|counts| counts.of(Status::Running) == 0 && counts.of(Status::Pending) == held)
        .await?;
    bench.record("reading_drain", f64::from(scale) / began.elapsed().as_secs_f64());
    few(bench, &system).await?;
    let counts = system.service.counts(&actor).await.map_err(failed)?;
    for status in Status::ALL {
        if counts.of(status) == 0 {
            return Err(broken(format_args!("no job is {status}")));
        }
    }
    let began = Instant::now();
    let store = &system.service.store;
    let mut known = 0;
    // The same steps as the engine's own, without its pauses. It may be at some of them.
    while store.index_lags().await? {
        known += store.index_some(INDEX_STEP).await?;
    }
    bench.record("reading_index", known as f64 / began.elapsed().as_secs_f64());
    let filled = age(&system, chunks).await?;
    questions(bench, &system, &filled).await?;
    engine.shut_down().await;
    system.service.close().await;
    Ok(())
}

fn is_held(n: u32) -> bool {
    n % 10 == 9
}

/// The n-th job: which kind, and whether it may run.
fn job(n: u32) -> NewJob {
    let kind = match n % 1_000 {
        100 | 300 | 500 | 700 | 900 => FAILS,
        200 | 400 | 600 => DIES,
        800 => RETRIES,
        _ => {
            let mut draw = n.wrapping_mul(2_654_435_761) % 100;
            let mut complete = COMPLETE.into_iter();
            loop {
                match complete.next() {
                    Some((_, share)) if draw >= share => draw -= share,
                    Some((name, _)) => break name,
                    None => break COMPLETE[0].0,
                }
            }
        }
    };
    NewJob {
        queue: is_held(n).then(|| HELD.into()),
        // A hundredth waits for its time, which is a day away.
        delay: (n % 100 == 1).then_some(86_400),
        ..NewJob::of(kind, json!({ "n": n }))
    }
}

fn owner(n: u32) -> Actor {
    Actor::named(&format!("owner-{}", n % OWNERS), Role::Admin)
}

async fn fill(system: &Fresh, scale: u32) -> Result<Vec<(String, JobId)>, CliError> {
    let mut chunks = Vec::new();
    for from in (0..scale).step_by(CHUNK as usize) {
        let owner = owner(from / CHUNK);
        let jobs = (from..scale.min(from + CHUNK)).map(job).collect();
        let enqueued = system.service.enqueue_bulk(&owner, jobs, None).await.map_err(failed)?;
        let first = enqueued.ids.first().ok_or_else(|| broken("a bulk gave no ids"))?;
        chunks.push((owner.name, *first));
    }
    Ok(chunks)
}

/// Filling took seconds; what it filled in is to look like the jobs of a month.
async fn age(system: &Fresh, filled: Vec<(String, JobId)>) -> Result<Filled, CliError> {
    let raw = Raw::open(&system.config).await?;
    raw.spread(MONTH_MS).await?;
    raw.close().await?;
    let actor = Actor::machine();
    let mut chunks = Vec::with_capacity(filled.len());
    for (owner, first) in filled {
        let job = system.service.job(&actor, first).await.map_err(failed)?;
        chunks.push((owner, job.created_at, first));
    }
    Ok(Filled { chunks })
}

/// Some jobs of the statuses that no run leads to.
async fn few(bench: &Bench, system: &Fresh) -> Result<(), CliError> {
    let (service, actor) = (&system.service, Actor::machine());
    let held = JobFilter {
        status: vec![Status::Pending],
        queue: Some(HELD.into()),
        ..JobFilter::default()
    };
    let page = PageRequest {
        limit: Some(FEW * 4),
        ..PageRequest::default()
    };
    let held = service.list_jobs(&actor, &held, &page).await.map_err(failed)?.items;
    for (i, job) in held.iter().take(held.len() / 2).enumerate() {
        let action = if i % 2 == 0 { Action::Pause } else { Action::Cancel };
        let done = service.act(&actor, job.id, action, ActOptions::default()).await;
        done.map_err(failed)?;
    }
    let paused = held.first().ok_or_else(|| broken("no job is held"))?;
    for n in 0..FEW {
        let new = NewJob {
            depends_on: vec![Needs::Job(paused.id)],
            ..NewJob::of(COMPLETE[0].0, json!({ "n": n }))
        };
        service.enqueue(&actor, new).await.map_err(failed)?;
    }
    for n in 0..bench.slots {
        let new = NewJob::of(STAYS, json!({ "n": n }));
        service.enqueue(&actor, new).await.map_err(failed)?;
    }
    let running = u64::from(bench.slots);
    system.counted(|counts| counts.of(Status::Running) >= running).await
}

/// What a list must hold, for its time to count.
type Holds = fn(&Page<Job>, &JobFilter) -> bool;

async fn questions(bench: &mut Bench, system: &Fresh, filled: &Filled) -> Result<(), CliError> {
    let chunk = |i: usize| &filled.chunks[i * 31 % filled.chunks.len()];
    let of = |status: &[Status], kind: Option<&str>| JobFilter {
        status: status.to_vec(),
        kind: kind.map(str::to_string),
        ..JobFilter::default()
    };
    let search = |text: &str| JobFilter {
        q: Some(text.to_string()),
        ..JobFilter::default()
    };
    let some: Holds = |page, _| !page.items.is_empty();
    let own: Holds = |page, filter| {
        let owner = filter.owner.as_deref();
        !page.items.is_empty() && page.items.iter().all(|job| Some(job.owner.as_str()) == owner)
    };
    let its_own: Holds = |page, filter| {
        let found: Vec<String> = page.items.iter().map(|job| job.id.to_string()).collect();
        page.total == 1 && found.first() == filter.q.as_ref()
    };
    let none: Holds = |page, _| page.items.is_empty();
    let by_owner = |i: usize, status: &[Status]| JobFilter {
        owner: Some(chunk(i).0.clone()),
        ..of(status, None)
    };
    // From one chunk's beginning to that of the one ten later.
    let by_date = |i: usize, status: &[Status]| {
        let from = i * 31 % filled.chunks.len();
        JobFilter {
            created_after: Some(filled.chunks[from].1),
            created_before: filled.chunks.get(from + 10).map(|c| c.1),
            ..of(status, None)
        }
    };
    type Ask<'a> = Box<dyn Fn(usize) -> JobFilter + 'a>;
    let (completed, pending) = ([Status::Completed], [Status::Pending]);
    let bad = [Status::Failed, Status::Dead];
    let lists: [(&'static str, Ask<'_>, Holds); 16] = [
        ("reading_list_p99_ms", Box::new(|_| of(&[], None)), some),
        ("reading_list_status_p99_ms", Box::new(|_| of(&completed, None)), some),
        ("reading_list_failed_p99_ms", Box::new(|_| of(&bad, None)), some),
        (
            "reading_list_type_p99_ms",
            Box::new(|i| of(&[], Some(COMPLETE[i % 4].0))),
            some,
        ),
        (
            "reading_list_status_type_p99_ms",
            Box::new(|_| of(&pending, Some(COMPLETE[0].0))),
            some,
        ),
        (
            "reading_list_by_end_p99_ms",
            Box::new(|_| JobFilter {
                sort: Sort::CompletedAt,
                ..JobFilter::default()
            }),
            some,
        ),
        ("reading_list_owner_p99_ms", Box::new(|i| by_owner(i, &[])), own),
        (
            "reading_list_owner_status_p99_ms",
            Box::new(|i| by_owner(i, &completed)),
            own,
        ),
        ("reading_list_owner_failed_p99_ms", Box::new(|i| by_owner(i, &bad)), own),
        ("reading_list_date_p99_ms", Box::new(|i| by_date(i, &[])), some),
        (
            "reading_list_date_status_p99_ms",
            Box::new(|i| by_date(i, &completed)),
            some,
        ),
        (
            "reading_search_p99_ms",
            Box::new(|i| search(&chunk(i).2.to_string())),
            its_own,
        ),
        (
            "reading_search_common_p99_ms",
            Box::new(|i| search(COMPLETE[i % 2].0)),
            some,
        ),
        ("reading_search_error_p99_ms", Box::new(|_| search("refused")), some),
        ("reading_search_owner_p99_ms", Box::new(|i| search(&chunk(i).0)), some),
        ("reading_search_nothing_p99_ms", Box::new(|_| search("zzqxj")), none),
    ];
    let actor = Actor::machine();
    for (name, ask, holds) in lists {
        let mut times = Vec::with_capacity(TIMES);
        for i in 0..WARM_UP + TIMES {
            let (filter, page) = (ask(i), PageRequest::default());
            let began = Instant::now();
            let listed = system.service.list_jobs(&actor, &filter, &page).await.map_err(failed)?;
            let took = began.elapsed();
            if !holds(&listed, &filter) || listed.unsearched > 0 {
                let (filter, total) = (filter.to_query(), listed.total);
                return Err(broken(format_args!(
                    "{name}: not the right answer to {filter}: {total} jobs"
                )));
            }
            if i >= WARM_UP {
                times.push(took.as_secs_f64() * 1_000.0);
            }
        }
        bench.record(name, percentile(&mut times, 0.99));
    }
    next_pages(bench, system).await?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        system.service.counts(&actor).await.map_err(failed)?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    bench.record("reading_counts_p99_ms", percentile(&mut times, 0.99));
    Ok(())
}

/// One page after the other, as somebody who scrolls reads them.
async fn next_pages(bench: &mut Bench, system: &Fresh) -> Result<(), CliError> {
    let (actor, filter) = (Actor::machine(), JobFilter::default());
    let mut times = Vec::with_capacity(TIMES);
    let mut cursor = None;
    for _ in 0..TIMES {
        let page = PageRequest {
            cursor,
            ..PageRequest::default()
        };
        let began = Instant::now();
        let listed = system.service.list_jobs(&actor, &filter, &page).await.map_err(failed)?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
        // After the last page the first one again.
        cursor = listed.next_cursor;
    }
    bench.record("reading_list_next_p99_ms", percentile(&mut times, 0.99));
    Ok(())
}
