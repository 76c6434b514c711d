//! `windlass bench`: how fast this machine runs jobs. Everything goes through the same service, store, queue and server
//! that users have, in folders of its own that are removed afterwards; every acknowledged write is on disk.

mod fairness;
mod kinds;
mod measures;
mod reading;
mod setup;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::CliError;
use crate::server::config::Config;
use setup::Bench;

#[derive(clap::Args)]
pub struct BenchArgs {
    /// Jobs that are enqueued and drained.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    jobs: u32,
    /// Slots of the worker.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: u32,
    /// Workers of the measure with several.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Finished jobs that lists, searches and counts are measured over; 0 leaves those out.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    scale: u32,
    /// Only the measures whose names contain one of these, comma-separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the databases are made for the time being; the default is DATA_DIR.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
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
    /// Per second, or milliseconds where the name ends with `_ms`.
    results: BTreeMap<&'static str, f64>,
}

/// Runs the measures one after the other.
pub async fn run(args: BenchArgs, config: &Config) -> Result<(), CliError> {
    let mut bench = Bench::new(&args, config)?;
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let measured = measure(&mut bench, &args, wanted).await;
    bench.clean().await?;
    measured?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        arrangement: bench.arrangement(),
        jobs: args.jobs,
        slots: args.slots,
        scale: args.scale,
        results: bench.into_results(),
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report).map_err(|e| CliError::Usage(e.to_string()))?;
        println!("{text}");
    } else {
        table(&report);
    }
    Ok(())
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
    println!("{:<28} {:>14}", format!("on {}", report.arrangement), "");
    for (name, value) in &report.results {
        let (shown, unit) = match name.ends_with("_ms") {
            true => (format!("{value:.2}"), "ms"),
            false if name.ends_with("_mb") => (format!("{value:.0}"), "MB"),
            false if name.ends_with("_percent") => (format!("{value:.0}"), "%"),
            false => (crate::domain::page::grouped(*value as u64), "a second"),
        };
        println!("{name:<28} {shown:>14} {unit}");
    }
}
