//! `windlass demo`: fills the sample domain.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use crate::domain::event::ExportFormat;
use crate::server::config::Config;
use crate::server::kinds::event_writer::{self, EventWriter, WriteError};
use crate::server::kinds::sample::Samples;
use crate::server::store::Store;
use crate::server::store::events::EventStore;

/// Events that are committed together.
const BATCH: usize = 2_000;

#[derive(clap::Args)]
pub struct DemoArgs {
    /// How many events.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: u64,
    /// The same seed gives the same events.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Write them to this file instead of the database; "-" is standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The file's format, when its name does not say it: csv, json, ndjson, xlsx or zip.
    #[arg(long, value_parser = format_named, requires = "to")]
    format: Option<ExportFormat>,
    /// Fill the database as well as the file.
    #[arg(long, requires = "to")]
    db: bool,
    /// Leave the database alone: what --to does anyway.
    #[arg(long, requires = "to", conflicts_with = "db")]
    no_db: bool,
}

/// Makes the events and puts them where `args` say.
pub async fn run(args: DemoArgs, config: &Config) -> Result<(), CliError> {
    if let Some(to) = &args.to {
        write(&args, to).await?;
    }
    if args.to.is_none() || args.db {
        insert(&args, config).await?;
    }
    Ok(())
}

async fn insert(args: &DemoArgs, config: &Config) -> Result<(), CliError> {
    let events = EventStore::open(Store::open_beside(config).await?);
    let bar = bar(args.events);
    let mut samples = Samples::new(args.seed, args.events);
    let mut new = 0;
    loop {
        let batch: Vec<_> = samples.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let rows = batch.len() as u64;
        new += events.insert(batch).await?;
        bar.inc(rows);
    }
    bar.finish_and_clear();
    eprintln!(
        "{} events in {}: {new} new, {} there already",
        args.events,
        config.database_name(),
        args.events - new
    );
    Ok(())
}

async fn write(args: &DemoArgs, to: &Path) -> Result<(), CliError> {
    let stdout = to == Path::new("-");
    let format = match args.format.or_else(|| if stdout { None } else { format_of(to) }) {
        Some(format) => format,
        None if stdout => ExportFormat::Ndjson,
        None => {
            return Err(CliError::Usage(format!(
                "{}: the name does not say the format; allowed endings: csv, json, ndjson, jsonl, xlsx, zip; or use --format",
                to.display()
            )));
        }
    };
    let (seed, count) = (args.seed, args.events);
    let to = to.to_path_buf();
    let done = tokio::task::spawn_blocking(move || {
        if stdout {
            match fill(event_writer::to_stream(format, std::io::stdout()), seed, count) {
                // Whoever read it has seen enough.
                Err(e) if pipe_closed(&e) => Ok(()),
                other => other,
            }
        } else {
            write_file(format, &to, seed, count)
        }
        .map_err(|e| failed(&to, e))
    })
    .await;
    match done {
        Ok(outcome) => outcome,
        Err(e) => Err(CliError::Io {
            what: "the writing stopped".into(),
            source: std::io::Error::other(e),
        }),
    }
}

/// Writes beside the file and renames at the end, so that there is never half a file under its name.
fn write_file(format: ExportFormat, to: &Path, seed: u64, count: u64) -> Result<(), WriteError> {
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)?;
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = fill(event_writer::to_file(format, &part, folder), seed, count)
        .and_then(|()| std::fs::rename(&part, to).map_err(WriteError::Io));
    match &written {
        Ok(()) => eprintln!("{count} events in {}", to.display()),
        // The error that counts is the first one.
        Err(_) => drop(std::fs::remove_file(&part)),
    }
    written
}

fn fill(writer: Result<Box<dyn EventWriter>, WriteError>, seed: u64, count: u64) -> Result<(), WriteError> {
    let mut writer = writer?;
    let bar = bar(count);
    for event in Samples::new(seed, count) {
        writer.write(&event)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    writer.finish()
}

/// A progress bar on standard error, if that is a terminal.
fn bar(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    match ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} events, {per_sec}, {eta} left") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn failed(to: &Path, error: WriteError) -> CliError {
    match error {
        WriteError::NotStreamable(_) => CliError::Usage(format!("{error}; name one with --to")),
        other => CliError::Io {
            what: to.display().to_string(),
            source: std::io::Error::other(other),
        },
    }
}

fn pipe_closed(error: &WriteError) -> bool {
    let kind = match error {
        WriteError::Io(e) => Some(e.kind()),
        WriteError::Json(e) => e.io_error_kind(),
        WriteError::Csv(e) => match e.kind() {
            csv::ErrorKind::Io(e) => Some(e.kind()),
            _ => None,
        },
        _ => None,
    };
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

fn format_of(path: &Path) -> Option<ExportFormat> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    if ending == "jsonl" {
        return Some(ExportFormat::Ndjson);
    }
    ExportFormat::ALL.into_iter().find(|f| f.extension() == ending)
}

fn format_named(name: &str) -> Result<ExportFormat, String> {
    ExportFormat::ALL
        .into_iter()
        .find(|f| f.extension().eq_ignore_ascii_case(name))
        .ok_or_else(|| format!("allowed: {}", ExportFormat::ALL.map(ExportFormat::extension).join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        assert_eq!(format_of(Path::new("a/b.CSV")), Some(ExportFormat::Csv));
        assert_eq!(format_of(Path::new("b.jsonl")), Some(ExportFormat::Ndjson));
        assert_eq!(format_of(Path::new("b.pdf")), None);
        assert_eq!(format_named("xlsx"), Ok(ExportFormat::Xlsx));
        assert!(format_named("pdf").is_err());
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("deep/events.ndjson");
        write_file(ExportFormat::Ndjson, &path, 7, 25).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text").lines().count(), 25);
        assert_eq!(std::fs::read_dir(dir.path().join("deep")).expect("dir").count(), 1);
        std::fs::create_dir(dir.path().join("taken.csv")).expect("dir");
        assert!(write_file(ExportFormat::Csv, &dir.path().join("taken.csv"), 7, 5).is_err());
        assert!(!dir.path().join("taken.csv.part").exists());
    }
}
