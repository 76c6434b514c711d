//! `import`: events from a file. The file is read twice: once to see that it is sound as a whole, and only then, row by
//! row, into the database. So a broken file leaves nothing behind.

mod collect;
mod disk;
mod read;

use std::collections::BTreeSet;
use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::collect::{Batch, Collector, Counter, Rejected};
use self::read::{ImportFormat, Limits, ReadError, Setting, read_file};
use super::blocking::join;
use crate::domain::error::{ErrorCode, JobError, Problem};
use crate::domain::kind::Policy;
use crate::domain::log::Level;
use crate::domain::page::{bytes, count_label, grouped};
use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind};

/// Batches that wait for the database; the reader waits when there are more.
const BATCHES_WAITING: usize = 4;
/// Bad rows that the log has as warnings, and that the result lists.
const WARNED: u64 = 100;
/// The artifact that lists all bad rows.
const REJECTED_FILE: &str = "rejected-rows.csv";

/// Which file, and how it is written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportArgs {
    /// The uploaded file: CSV, JSON, NDJSON, or a ZIP of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(title = "File", length(min = 1, max = 64), extend("format" = "windlass-upload"))]
    pub upload: Option<String>,
    /// Instead of an upload: a file on the worker's disk, told from the folder that IMPORT_DIR names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(title = "File on the server", length(min = 1, max = 1000))]
    pub path: Option<String>,
    /// How the file is written.
    #[serde(default)]
    #[schemars(title = "Format")]
    pub format: ImportFormat,
}

/// The kind.
#[derive(Default)]
pub struct Import {
    limits: Limits,
    /// The folder whose files may be imported where they lie.
    dir: Option<PathBuf>,
}

impl Import {
    /// `unpacked_max`: bytes that an archive may unpack to. `dir`: a folder whose files may be imported where they lie.
    pub fn new(unpacked_max: u64, dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            limits: Limits {
                unpacked: unpacked_max,
                ..Limits::default()
            },
        }
    }
}

#[async_trait]
impl Kind for Import {
    type Args = ImportArgs;

    fn name(&self) -> &'static str {
        "import"
    }

    fn description(&self) -> &'static str {
        "Reads events from an uploaded CSV, JSON, NDJSON or ZIP file. Bad rows are listed with their line numbers, good \
         ones kept. Run again, it duplicates nothing: an event whose id is there already is left as it is."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            timeout_s: default.timeout_s.max(3_600),
            ..default
        }
    }

    fn checkpoints(&self) -> bool {
        true
    }

    fn check(&self, args: &ImportArgs) -> Result<(), Problem> {
        match (&args.upload, &args.path) {
            (Some(id), None) => {
                if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    return Err(Problem::invalid("upload", "upload is not the id of an uploaded file"));
                }
                Ok(())
            }
            (None, Some(path)) => disk::check(self.dir.as_deref(), path),
            (None, None) => Err(Problem::invalid(
                "upload",
                "a file is needed: upload one, or give a path",
            )),
            (Some(_), Some(_)) => Err(Problem::invalid(
                "path",
                "upload and path exclude each other; give one of them",
            )),
        }
    }

    async fn run(&self, ctx: &Context, args: ImportArgs) -> Result<Value, Halt> {
        let source = match (&args.upload, &args.path) {
            (Some(id), _) => {
                let upload = ctx.upload(id).await?;
                Source {
                    path: upload.path,
                    name: printable(&upload.file_name),
                    size: upload.size,
                    changed_ms: 0,
                }
            }
            (None, path) => disk::open(self.dir.as_deref(), path.as_deref().unwrap_or_default()).await?,
        };
        let name = source.name.clone();
        let file = Input {
            path: source.path.clone(),
            name: name.clone(),
            format: args.format,
            limits: self.limits,
        };
        ctx.info(format!("Importing events from {name} ({}).", bytes(source.size)));
        ctx.step("Checking the file");
        let checked = file.check(ctx).await?;
        ctx.info(match checked.files {
            1 => format!("The file is sound: {}.", rows(checked.rows)),
            files => format!("The archive is sound: {} in {files} files.", rows(checked.rows)),
        });
        for skipped in &checked.skipped {
            ctx.warn(format!(
                "{skipped} in the ZIP is not a CSV, JSON or NDJSON file and was passed over."
            ));
        }
        if checked.rows == 0 {
            ctx.warn("The file has no rows.");
        }

        ctx.step("Importing");
        ctx.progress(0, checked.rows);
        let mut tally = Tally::default();
        let fresh = Checkpoint {
            size: source.size,
            changed_ms: source.changed_ms,
            ..Checkpoint::default()
        };
        let mut resume: Checkpoint = ctx.checkpoint().unwrap_or(fresh);
        if (resume.size, resume.changed_ms) != (fresh.size, fresh.changed_ms) {
            ctx.warn("The file has changed since the last attempt: it is read from its beginning.");
            resume = fresh;
        }
        if resume.rows > 0 {
            ctx.info(format!("Going on behind row {}.", grouped(resume.rows)));
        }
        let rejected_file = ctx.scratch().await?.join(REJECTED_FILE);
        let ended = file
            .import(ctx, checked.rows, rejected_file.clone(), &mut tally, resume)
            .await;
        if let Err(halt) = &ended
            && tally.imported > 0
        {
            let ending = match halt {
                Halt::Cancelled => "Cancelled",
                Halt::Paused => "Left",
                Halt::Failed(_) => "Failed",
            };
            ctx.warn(format!(
                "{ending} after {} of {}: the {} events imported so far stay.",
                grouped(tally.rows),
                rows(checked.rows),
                grouped(tally.imported)
            ));
        }
        let unknown = ended?;
        if !unknown.is_empty() {
            let names = unknown.into_iter().collect::<Vec<_>>().join(", ");
            ctx.warn(format!("Columns that mean nothing here were left out: {names}."));
        }
        if tally.rejected > 0 {
            ctx.publish_artifact(REJECTED_FILE, "text/csv; charset=utf-8", &rejected_file)
                .await?;
            ctx.warn(format!(
                "{} of {} were rejected; {REJECTED_FILE} lists them all.",
                grouped(tally.rejected),
                rows(tally.rows)
            ));
        }
        if let Some(first) = tally.listed.first()
            && tally.rejected == tally.rows
        {
            return Err(JobError::new(
                ErrorCode::Validation,
                match tally.rows {
                    1 => format!("The file's only row can't be imported. {first}"),
                    n => format!("None of the {} can be imported. {first}", rows(n)),
                },
            )
            .into());
        }
        let duplicates = tally.rows - tally.rejected - tally.imported;
        let told = format!(
            "Imported {}, {}, {} rejected",
            count_label(tally.imported, false, "event", "events"),
            count_label(duplicates, false, "duplicate", "duplicates"),
            grouped(tally.rejected)
        );
        ctx.info(format!("{told}."));
        ctx.step(told);
        Ok(json!({
            "rows": tally.rows,
            "imported": tally.imported,
            "duplicates": duplicates,
            "rejected": tally.rejected,
            "files": checked.files,
            "bytes": source.size,
            "errors": tally.listed,
        }))
    }
}

/// What the first reading found out.
struct Checked {
    rows: u64,
    files: u64,
    skipped: Vec<String>,
}

/// Behind which row the next attempt goes on, and how many of those before it were new. Written in the commit of the rows
/// that it speaks of.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    rows: u64,
    imported: u64,
    /// Of the file, so that another one in its place is not taken for it.
    size: u64,
    changed_ms: i64,
}

/// Where the rows come from.
struct Source {
    path: PathBuf,
    /// As people may see it.
    name: String,
    size: u64,
    /// When it was last changed, in milliseconds since 1970; 0 for an upload, which nobody changes.
    changed_ms: i64,
}

/// What became of the rows so far.
#[derive(Default)]
struct Tally {
    rows: u64,
    imported: u64,
    rejected: u64,
    /// The first bad rows.
    listed: Vec<Rejected>,
}

/// The file to read. Both readings run on a thread of their own.
#[derive(Clone)]
struct Input {
    path: PathBuf,
    name: String,
    format: ImportFormat,
    limits: Limits,
}

impl Input {
    fn read(&self, stop: &dyn Fn() -> bool, thorough: bool, sink: &mut dyn read::Sink) -> Result<u64, ReadError> {
        let setting = Setting {
            limits: self.limits,
            stop,
            thorough,
        };
        read_file(&self.path, &self.name, self.format, &setting, sink)
    }

    async fn check(&self, ctx: &Context) -> Result<Checked, Halt> {
        // An abort drops this future but not the thread; the guard tells it.
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let (file, context) = (self.clone(), ctx.clone());
        let thread = ctx.blocking(move || {
            let mut counter = Counter::default();
            let stop = || given_up.is_cancelled() || context.cancelled();
            let files = file.read(&stop, true, &mut counter)?;
            Ok(Checked {
                rows: counter.rows,
                files,
                skipped: counter.skipped,
            })
        });
        join(thread).await?.map_err(halt)
    }

    /// Reads the rows into the database and answers the names of the columns that mean nothing here.
    async fn import(
        &self,
        ctx: &Context,
        total: u64,
        rejected_file: PathBuf,
        tally: &mut Tally,
        resume: Checkpoint,
    ) -> Result<BTreeSet<String>, Halt> {
        let (sender, mut batches) = mpsc::channel(BATCHES_WAITING);
        let (file, context) = (self.clone(), ctx.clone());
        // The thread ends by itself when the other end of its channel is gone.
        let thread = ctx.blocking(move || {
            let mut collector = Collector::new(sender, rejected_file);
            file.read(&|| context.cancelled(), false, &mut collector)?;
            collector.finish()
        });
        while let Some(batch) = batches.recv().await {
            ctx.check()?;
            let Batch {
                rows,
                events,
                rejected,
                listed,
            } = batch;
            tally.rows += rows;
            // What an earlier attempt has dealt with is read again for its bad rows alone.
            let dealt_with = tally.rows <= resume.rows;
            if dealt_with {
                tally.imported = resume.imported;
            } else if !events.is_empty() {
                let (rows, before) = (tally.rows, tally.imported);
                let checkpoint = move |new| {
                    let reached = Checkpoint {
                        rows,
                        imported: before + new,
                        ..resume
                    };
                    serde_json::to_string(&reached).ok()
                };
                tally.imported += ctx.events().insert_and_save(events, checkpoint).await?;
            }
            for bad in listed {
                tally.report(ctx, bad, dealt_with);
            }
            tally.rejected += rejected;
            ctx.progress(tally.rows, total.max(tally.rows));
            if !dealt_with {
                ctx.may_leave()?;
            }
        }
        join(thread).await?.map_err(halt)
    }
}

impl Tally {
    /// `told`: an earlier attempt has logged it.
    fn report(&mut self, ctx: &Context, bad: Rejected, told: bool) {
        let warned = self.listed.len() as u64 >= WARNED;
        if !told {
            ctx.log(if warned { Level::Debug } else { Level::Warning }, bad.to_string());
        }
        if !warned {
            self.listed.push(bad);
        }
    }
}

/// A broken file is the sender's to mend; a broken disk may be well the next time.
fn halt(error: ReadError) -> Halt {
    match error {
        ReadError::Invalid(what) => {
            let mut chars = what.chars();
            let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            JobError::new(ErrorCode::Validation, format!("{first}{}.", chars.as_str())).into()
        }
        ReadError::Io(e) => JobError::caused(ErrorCode::IoError, format!("The file can't be read: {e}"), &e).into(),
        ReadError::Stopped => Halt::Cancelled,
    }
}

/// The sender's name for the file, fit to be shown.
fn printable(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect();
    if clean.trim().is_empty() {
        "the file".into()
    } else {
        clean
    }
}

/// "1 row", "12,345 rows".
fn rows(n: u64) -> String {
    count_label(n, false, "row", "rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn args_name_an_upload_and_nothing_else() {
        let check = |upload: &str| {
            let args = ImportArgs {
                upload: Some(upload.into()),
                path: None,
                format: ImportFormat::Auto,
            };
            Import::default().check(&args)
        };
        assert!(check("0190b5c700007000800000000000abcd").is_ok());
        for bad in ["", "../../etc/passwd", "a/b", "a b", &"x".repeat(65)] {
            assert_eq!(check(bad).expect_err("refused").field.as_deref(), Some("upload"));
        }
        let both = json!({ "upload": "a", "path": "a.csv" });
        let field = |args: Value| {
            let args = serde_json::from_value(args).expect("args");
            Import::new(1, Some("/".into()))
                .check(&args)
                .map_err(|problem| problem.field)
        };
        assert_eq!(field(both), Err(Some("path".into())));
        assert_eq!(field(json!({})), Err(Some("upload".into())));
        assert_eq!(field(json!({ "path": "a.csv" })), Ok(()));
        let schema = schemars::schema_for!(ImportArgs).to_value();
        assert_eq!(schema["properties"]["upload"]["format"], "windlass-upload");
    }

    #[test]
    fn a_broken_file_is_not_tried_again_and_a_broken_disk_is() {
        let Halt::Failed(e) = halt(ReadError::Invalid("the file is empty".into())) else {
            panic!("failed")
        };
        assert_eq!(
            (e.code, e.retryable, e.message.as_str()),
            (ErrorCode::Validation, false, "The file is empty.")
        );
        let Halt::Failed(e) = halt(ReadError::Io(std::io::Error::other("disk"))) else {
            panic!("failed")
        };
        assert!(e.retryable);
        assert!(matches!(halt(ReadError::Stopped), Halt::Cancelled));
    }
}
