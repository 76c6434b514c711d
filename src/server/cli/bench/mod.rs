//! `windlass bench`: how fast this machine runs jobs. Everything goes through the same service, store, queue and server
//! that users have, in databases and folders of its own that are removed afterwards; every acknowledged write is on disk. The one
//! exception is said to be one: `raw` is the store's statements alone, to see what the rest costs.

mod caller;
mod fairness;
mod idle;
mod kinds;
mod logs;
mod measures;
mod pickup;
mod raw;
mod reading;
mod setup;
mod websocket;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::CliError;
use super::serve::asked_to_stop;
use crate::server::config::Config;
use setup::Bench;

/// What the measures are, at the end of `--help`.
const MEASURES: &str = "\
Measures. All jobs do nothing and have a few bytes of args, unless said otherwise; N is --jobs. Each begins with an empty \
database and, where rates are measured, some jobs that are not counted.
  enqueue_one            N/10 jobs a second by one caller in the process, who waits for each to be on disk
  enqueue_concurrent_50  N/2 jobs a second by 50 such callers
  enqueue_http_50        the same by 50 callers over HTTP on connections that they keep, to a server in this process
  enqueue_bulk           N jobs a second by one caller, 1,000 a call
  drain_10               N waiting jobs a second by one worker with --slots slots, until all are recorded as completed
  drain_workers          the same by --workers workers in this process
  raw_drain              N claims and completions a second by the store's own statements on a connection of their own, 256 a \
commit: without writer, engine and queue. drain_10_of_raw_percent is what share of that drain_10 is
  raw_bulk               the same of inserts, 1,000 a commit; enqueue_bulk_of_raw_percent
  pickup                 from just before an enqueue to the start of the job: one at a time on an idle system, 200 times with \
uneven pauses; then at 1,000 a second for 5 s (pickup_1000_offered: what of that was acknowledged a second)
  fair                   an owner's jobs alone, and beside an owner with nine times as many, three times in turn: the medians of the 99th \
percentiles
  blocked                the drain alone, and behind 100,000 jobs that wait for one concurrency key
  log_lines              50,000 lines of one running job through the log's WebSocket, to 1 and to 100 viewers (added up); each \
viewer must be sent every line that is stored, once and in order (log_lines_1_kept_percent: how many of the 50,000 those are; a job \
that logs faster than its lines can be stored has some left out; log_lines_1_reconnects: how often a viewer was cut off and came back). The viewers are in this process, too, and cost it as much
  idle                   a windlass serve of its own with nothing to do: its CPU time over --idle-seconds in percent of a core, and \
its resident memory; with --pending, also with so many jobs in a paused queue, before and after a restart. Linux only
  reading                only with --scale: lists, filtered lists, searches and counts over so many jobs of all statuses, several \
kinds and many owners; 200 askings each, the 99th percentile. Searches begin when the search knows all jobs, and one by id must \
find its one job";

#[derive(clap::Args)]
#[command(after_long_help = MEASURES)]
pub struct BenchArgs {
    /// Jobs that are enqueued and drained.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    jobs: u32,
    /// Slots of the worker.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: u32,
    /// Workers of the measure with several.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Jobs that lists, searches and counts are measured over; 0 leaves those out.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    scale: u32,
    /// Seconds over which an idle server's CPU time is measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    idle_seconds: u32,
    /// Waiting jobs with which an idle server's memory is measured; 0 leaves that out.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    pending: u32,
    /// Only the measures whose names contain one of these, comma-separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the databases are made for the time being; the default is DATA_DIR.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Measure a Postgres that does not wait for its disk, too (fsync, full_page_writes or synchronous_commit off), and mark
    /// the figures.
    #[arg(long)]
    not_durable: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What came out.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    arrangement: &'static str,
    jobs: u32,
    slots: u32,
    scale: u32,
    pending: u32,
    /// Per second; or in what the name ends with: `_ms`, `_mb`, `_percent`, `_reconnects` (times).
    results: BTreeMap<&'static str, f64>,
    /// What is to be known about the figures.
    notes: Vec<String>,
}

/// Runs the measures one after the other.
pub async fn run(args: BenchArgs, config: &Config) -> Result<(), CliError> {
    if (1..reading::LEAST).contains(&args.scale) {
        let (scale, least) = (args.scale, reading::LEAST);
        return Err(CliError::Usage(format!(
            "--scale {scale}: 0, or a whole number from {least} up"
        )));
    }
    let notes = durable(&args, config).await?;
    let mut bench = Bench::new(&args, config)?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let measured = tokio::select! {
        measured = measure(&mut bench, &args, wanted) => measured,
        () = asked_to_stop() => Err(CliError::Usage("the measures were stopped".into())),
    };
    bench.clean().await?;
    measured?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        arrangement: bench.arrangement(),
        jobs: args.jobs,
        slots: args.slots,
        scale: args.scale,
        pending: args.pending,
        results: bench.into_results(),
        notes,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| CliError::Usage(e.to_string()))?;
        println!("{text}");
    } else {
        table(&report);
    }
    Ok(())
}

/// Refuses a database that acknowledges what is not on disk, or marks its figures.
async fn durable(args: &BenchArgs, config: &Config) -> Result<Vec<String>, CliError> {
    let off = setup::not_durable(config).await?;
    if off.is_empty() {
        return Ok(Vec::new());
    }
    let told = format!("the Postgres runs with {}", off.join(" and "));
    match args.not_durable {
        true => Ok(vec![format!(
            "{told}: its figures are not those of a system that loses nothing"
        )]),
        false => Err(CliError::Usage(format!(
            "{told}: what it acknowledges may not be on disk, and its figures would say nothing. Turn that on, or measure \
             all the same with --not-durable, which marks them"
        ))),
    }
}

async fn measure(bench: &mut Bench, args: &BenchArgs, wanted: impl Fn(&str) -> bool) -> Result<(), CliError> {
    for (name, measure) in measures::ALL {
        if wanted(name) {
            eprintln!("bench: {name}");
            measure(bench).await?;
        }
    }
    if args.scale > 0 && wanted("reading") {
        eprintln!("bench: reading at {} jobs", args.scale);
        reading::measure(bench, args.scale).await?;
    }
    Ok(())
}

fn table(report: &Report) {
    println!("{:<34} {:>14}", format!("on {}", report.arrangement), "");
    for (name, value) in &report.results {
        let (shown, unit) = match name.ends_with("_ms") {
            true => (format!("{value:.2}"), "ms"),
            false if name.ends_with("_mb") => (format!("{value:.0}"), "MB"),
            false if name.ends_with("_reconnects") => (format!("{value:.0}"), "times"),
            false if name.ends_with("_percent") => (format!("{value:.1}"), "%"),
            false => (crate::domain::page::grouped(*value as u64), "a second"),
        };
        println!("{name:<34} {shown:>14} {unit}");
    }
    for note in &report.notes {
        println!("note: {note}");
    }
}
