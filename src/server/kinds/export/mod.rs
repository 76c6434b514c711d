//! `export`: events, filtered, as a file.

mod spool;
pub mod write;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::spool::Spool;
use self::write::{WriteError, Written};
use super::blocking::join;
use crate::domain::error::{ErrorCode, JobError, Problem};
use crate::domain::event::{CameraEvent, EventFilter, ExportFormat};
use crate::domain::job::JobId;
use crate::domain::kind::Policy;
use crate::domain::page::{bytes, count_label, grouped};
use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind};
use crate::server::store::events::EventKey;

/// Pages that wait for the writer; the reader waits when there are more.
const PAGES_WAITING: usize = 2;
/// How often the next attempt's beginning is written down.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Pages between two debug lines.
const LOG_EVERY: u64 = 25;
/// Rows from which closing the file takes long enough to be worth a word: a workbook is compressed at the end.
const SLOW_TO_FINISH: u64 = 10_000;

/// Which events, and in which form.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportArgs {
    /// Which events; left empty, all of them.
    #[serde(default)]
    #[schemars(title = "Filter")]
    pub filter: EventFilter,
    /// The form of the file.
    #[serde(default)]
    #[schemars(title = "Format")]
    pub format: ExportFormat,
}

/// The kind.
pub struct Export {
    /// Events fetched and handed to the writer at once, at least 1. An attempt can be paused, cancelled and handed back between
    /// two pages.
    pub page: u32,
}

impl Default for Export {
    fn default() -> Self {
        Self { page: 2_000 }
    }
}

#[async_trait]
impl Kind for Export {
    type Args = ExportArgs;

    fn name(&self) -> &'static str {
        "export"
    }

    fn description(&self) -> &'static str {
        "Writes events, filtered, to a CSV, JSON, NDJSON, Excel or ZIP file for download. After a pause or a crash \
         it goes on where it was, and writes the same file."
    }

    fn policy(&self, default: Policy) -> Policy {
        Policy {
            timeout_s: default.timeout_s.max(3_600),
            ..default
        }
    }

    fn check(&self, args: &ExportArgs) -> Result<(), Problem> {
        let filter = &args.filter;
        if let Some(camera) = &filter.camera_id
            && (camera.trim().is_empty() || camera.len() > CameraEvent::CAMERA_MAX)
        {
            return Err(Problem::invalid(
                "filter.camera_id",
                format!(
                    "camera_id must have 1 to {} bytes; leave it out for all cameras",
                    CameraEvent::CAMERA_MAX
                ),
            ));
        }
        if let (Some(from), Some(until)) = (filter.from, filter.until)
            && from >= until
        {
            return Err(Problem::invalid(
                "filter.until",
                "until is not later than from: no event can match",
            ));
        }
        Ok(())
    }

    fn checkpoints(&self) -> bool {
        true
    }

    async fn run(&self, ctx: &Context, args: ExportArgs) -> Result<Value, Halt> {
        let ExportArgs { filter, format } = args;
        ctx.info(format!(
            "Exporting events as {}; {}",
            format.extension(),
            describe(&filter)
        ));
        let folder = ctx.scratch().await?.to_path_buf();
        let spool = Spool::new(&ctx.workspace().await?, ctx.epoch());
        let resume = usable(ctx, &spool).await?;
        let total = match &resume {
            Some(checkpoint) => {
                ctx.info(format!("Going on behind row {}.", grouped(checkpoint.rows)));
                checkpoint.total
            }
            None => {
                ctx.step("Counting events");
                ctx.events().count(&filter).await?
            }
        };
        let checkpoint = resume.clone().unwrap_or(Checkpoint {
            total,
            ..Checkpoint::default()
        });
        ctx.progress(checkpoint.rows, total);
        if total == 0 {
            ctx.warn("No events match the filter.");
            ctx.step("No events match; the file has 0 rows");
        } else {
            ctx.info(format!("{} match.", events(total)));
            ctx.step(format!("Writing {}", events(total)));
        }
        let rows = match checkpoint.complete {
            true => checkpoint.rows,
            false => {
                let resumed = resume.is_some();
                self.stream(ctx, &filter, format, &spool, checkpoint, resumed).await?
            }
        };
        if rows > SLOW_TO_FINISH && matches!(format, ExportFormat::Xlsx | ExportFormat::Zip) {
            ctx.step("Finishing the file");
        }
        let path = folder.join("events");
        assemble(ctx, format, spool.path(), path.clone(), folder).await?;
        ctx.check()?;

        let name = file_name(ctx.job_id(), format);
        let artifact = ctx.publish_artifact(&name, format.content_type(), &path).await?;
        ctx.progress(rows, rows);
        ctx.step(match rows {
            0 => "No events match; the file has 0 rows".to_string(),
            n => format!("Exported {} to {name}", events(n)),
        });
        ctx.info(format!(
            "{}, {}, SHA-256 {} in {name}.",
            count_label(rows, false, "row", "rows"),
            bytes(artifact.size),
            artifact.sha256
        ));
        Ok(json!({
            "rows": rows,
            "bytes": artifact.size,
            "sha256": artifact.sha256,
            "file": name,
            "format": format,
        }))
    }
}

/// "1 event", "12,345 events".
fn events(n: u64) -> String {
    count_label(n, false, "event", "events")
}

/// How far the file is written, and behind which event the next attempt goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    after: Option<EventKey>,
    total: u64,
    rows: u64,
    /// The attempt whose file it is.
    epoch: u64,
    /// Of the file, up to and including that event.
    bytes: u64,
    /// There are no more events.
    complete: bool,
}

/// A checkpoint whose file is there, and is now the beginning of this attempt's own.
async fn usable(ctx: &Context, spool: &Spool) -> Result<Option<Checkpoint>, JobError> {
    let Some(checkpoint) = ctx.checkpoint::<Checkpoint>().filter(|c| c.rows > 0) else {
        return Ok(None);
    };
    let (spool, epoch, bytes) = (spool.clone(), checkpoint.epoch, checkpoint.bytes);
    let begun = join(ctx.blocking(move || spool.begin_with(epoch, bytes))).await?;
    let begun = begun.map_err(|e| JobError::caused(ErrorCode::IoError, "the file so far can't be gone on with", &e))?;
    Ok(begun.then_some(checkpoint))
}

enum Piece {
    Page(Vec<CameraEvent>),
    /// Say how many bytes there are.
    Flush(oneshot::Sender<u64>),
    /// There are no more. A channel that closes without it belongs to a run that was given up.
    End,
}

impl Export {
    /// Reads the events page by page and hands them to a writer on a thread of its own. Answers the rows written.
    async fn stream(
        &self,
        ctx: &Context,
        filter: &EventFilter,
        format: ExportFormat,
        spool: &Spool,
        mut reached: Checkpoint,
        resumed: bool,
    ) -> Result<u64, Halt> {
        let (pages, receiver) = mpsc::channel(PAGES_WAITING);
        let written = resumed.then_some(Written {
            rows: reached.rows,
            bytes: reached.bytes,
        });
        let path = spool.path();
        let writer = ctx.blocking(move || write_pages(receiver, format, &path, written));
        let mut page_number = 0;
        let mut saved = Instant::now();
        loop {
            ctx.check()?;
            let page = ctx.events().page(filter, reached.after.as_ref(), self.page).await?;
            let Some(last) = page.last() else { break };
            reached.after = Some(EventKey::of(last));
            let rows = page.len() as u64;
            if pages.send(Piece::Page(page)).await.is_err() {
                // The writer gave up; why is known below.
                break;
            }
            reached.rows += rows;
            page_number += 1;
            // Events that came in since they were counted are exported too.
            let total = reached.total.max(reached.rows);
            ctx.progress(reached.rows, total);
            if page_number % LOG_EVERY == 0 {
                ctx.debug(format!(
                    "{} of {} rows handed to the writer.",
                    grouped(reached.rows),
                    grouped(total)
                ));
            }
            if saved.elapsed() > SAVE_EVERY || ctx.leaving() {
                if !save(ctx, &pages, spool, &mut reached).await? {
                    break;
                }
                ctx.may_leave()?;
                saved = Instant::now();
            }
        }
        reached.complete = true;
        if reached.rows > SLOW_TO_FINISH {
            save(ctx, &pages, spool, &mut reached).await?;
        }
        // An error means that the writer gave up; why is known below.
        let _ = pages.send(Piece::End).await;
        let written = join(writer).await?;
        Ok(written.map_err(|e| JobError::caused(ErrorCode::IoError, e.to_string(), &e))?)
    }
}

/// Writes down how far the file is; `false` when the writer has given up.
async fn save(
    ctx: &Context,
    pages: &mpsc::Sender<Piece>,
    spool: &Spool,
    reached: &mut Checkpoint,
) -> Result<bool, Halt> {
    let (reply, answer) = oneshot::channel();
    if pages.send(Piece::Flush(reply)).await.is_err() {
        return Ok(false);
    }
    let Ok(bytes) = answer.await else { return Ok(false) };
    (reached.epoch, reached.bytes) = (ctx.epoch(), bytes);
    ctx.save(reached).await?;
    let spool = spool.clone();
    if let Err(error) = join(ctx.blocking(move || spool.forget_earlier())).await? {
        // They go with the job's folder.
        ctx.debug(format!("Files of earlier attempts could not be removed: {error}."));
    }
    Ok(true)
}

fn write_pages(
    mut pages: mpsc::Receiver<Piece>,
    format: ExportFormat,
    spool: &Path,
    resume: Option<Written>,
) -> Result<u64, WriteError> {
    let mut writer = write::spool(format, spool, resume)?;
    let mut rows = resume.map_or(0, |w| w.rows);
    loop {
        match pages.blocking_recv() {
            Some(Piece::Page(events)) => {
                for event in &events {
                    writer.write(event)?;
                }
                rows += events.len() as u64;
            }
            Some(Piece::Flush(reply)) => {
                writer.flush()?;
                let file = std::fs::File::open(spool)?;
                // A checkpoint speaks of what is on disk.
                file.sync_data()?;
                // The run may have been given up.
                let _ = reply.send(file.metadata()?.len());
            }
            Some(Piece::End) => {
                writer.finish()?;
                return Ok(rows);
            }
            // The run was given up: nobody wants the file any more.
            None => return Ok(rows),
        }
    }
}

/// Makes the result of the rows, on a thread of its own.
async fn assemble(
    ctx: &Context,
    format: ExportFormat,
    spool: PathBuf,
    path: PathBuf,
    folder: PathBuf,
) -> Result<(), Halt> {
    // An abort drops this future but not the thread; the guard tells it.
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    let context = ctx.clone();
    let thread = ctx.blocking(move || {
        let stop = || given_up.is_cancelled() || context.cancelled();
        write::assemble(format, &spool, &path, &folder, &stop)
    });
    let made = join(thread).await?;
    Ok(made.map_err(|e| JobError::caused(ErrorCode::IoError, e.to_string(), &e))?)
}

/// The same for every attempt, so that a later one replaces what an earlier one left.
fn file_name(id: JobId, format: ExportFormat) -> String {
    let id = id.simple().to_string();
    // The end of an id is what the dashboard shows; its beginning is the same for jobs of one moment.
    let short = id.get(id.len().saturating_sub(6)..).unwrap_or(&id);
    format!("events-{short}.{}", format.extension())
}

fn describe(filter: &EventFilter) -> String {
    let EventFilter {
        camera_id,
        risk_level,
        from,
        until,
        reviewed,
    } = filter;
    let time = |t: &crate::domain::time::Timestamp| t.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let parts: Vec<String> = [
        camera_id.as_ref().map(|c| format!("camera {c:?}")),
        risk_level.map(|r| format!("risk level {}", r.as_str())),
        from.as_ref().map(|t| format!("from {}", time(t))),
        until.as_ref().map(|t| format!("before {}", time(t))),
        reviewed.map(|r| if r { "reviewed".into() } else { "not reviewed".into() }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        "all of them".into()
    } else {
        format!("only {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::RiskLevel;
    use crate::domain::time::from_millis;

    #[test]
    fn args_have_defaults_and_refuse_what_they_do_not_know() {
        let args: ExportArgs = serde_json::from_value(json!({})).expect("empty");
        assert_eq!(args.format, ExportFormat::Csv);
        let full = json!({"filter": {"camera_id": "c", "risk_level": "high", "reviewed": true}, "format": "xlsx"});
        let args: ExportArgs = serde_json::from_value(full).expect("full");
        assert_eq!(args.filter.risk_level, Some(RiskLevel::High));
        for bad in [
            json!({"camera_id": "c"}),
            json!({"filter": {"camera": "c"}}),
            json!({"format": "pdf"}),
        ] {
            assert!(serde_json::from_value::<ExportArgs>(bad).is_err());
        }
    }

    #[test]
    fn a_filter_that_nothing_can_match_is_refused() {
        let with = |filter| {
            Export::default().check(&ExportArgs {
                filter,
                format: ExportFormat::Csv,
            })
        };
        assert!(with(EventFilter::default()).is_ok());
        let (a, b) = (from_millis(1_000), from_millis(2_000));
        assert!(
            with(EventFilter {
                from: Some(a),
                until: Some(b),
                ..EventFilter::default()
            })
            .is_ok()
        );
        let p = with(EventFilter {
            from: Some(b),
            until: Some(a),
            ..EventFilter::default()
        })
        .expect_err("refused");
        assert_eq!(p.field.as_deref(), Some("filter.until"));
        for camera in [String::new(), "x".repeat(101)] {
            assert!(
                with(EventFilter {
                    camera_id: Some(camera),
                    ..EventFilter::default()
                })
                .is_err()
            );
        }
    }

    #[test]
    fn the_writer_ends_with_its_channel_and_counts_its_rows() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("events");
        let events: Vec<_> = crate::server::kinds::sample::Samples::new(1, 3).collect();
        let write = |pieces: Vec<Piece>, resume| {
            let (sender, receiver) = mpsc::channel(9);
            for piece in pieces {
                assert!(sender.try_send(piece).is_ok());
            }
            drop(sender);
            write_pages(receiver, ExportFormat::Json, &path, resume).expect("written")
        };
        let page = || Piece::Page(events.clone());
        assert_eq!(write(vec![page(), page(), Piece::End], None), 6);
        let whole = std::fs::read(&path).expect("file");
        // Given up after the checkpoint, with more behind it; then on from there.
        let (reply, mut bytes) = oneshot::channel();
        assert_eq!(write(vec![page(), Piece::Flush(reply), page(), page()], None), 9);
        let bytes = bytes.try_recv().expect("bytes");
        assert_eq!(write(vec![page(), Piece::End], Some(Written { rows: 3, bytes })), 6);
        assert_eq!(std::fs::read(&path).expect("file"), whole);
        assert_eq!(write(Vec::new(), None), 0);
    }

    /// A worker that hung for longer than its lease comes back while the next attempt is at work, and after that has ended.
    #[test]
    fn an_attempt_that_lost_its_lease_writes_into_no_other_file() {
        let events: Vec<_> = crate::server::kinds::sample::Samples::new(1, 300).collect();
        let page = |n: usize| Piece::Page(events[n * 100..n * 100 + 100].to_vec());
        // As they were when the one that hangs read them.
        let before: Vec<_> = crate::server::kinds::sample::Samples::new(2, 300).collect();
        let old_page = |n: usize| Piece::Page(before[n * 100..n * 100 + 100].to_vec());
        for format in [ExportFormat::Csv, ExportFormat::Json, ExportFormat::Ndjson] {
            let dir = tempfile::tempdir().expect("dir");
            let begin = |spool: &Spool, resume| {
                let (sender, receiver) = mpsc::channel(9);
                let path = spool.path();
                let writer = std::thread::spawn(move || write_pages(receiver, format, &path, resume).expect("written"));
                let say = move |piece| assert!(sender.blocking_send(piece).is_ok());
                (say, writer)
            };
            let result = |spool: &Spool, name: &str| {
                let to = dir.path().join(name);
                write::assemble(format, &spool.path(), &to, dir.path(), &|| false).expect("assembled");
                to
            };
            let alone = Spool::new(dir.path(), 1);
            let (say, writer) = begin(&alone, None);
            (0..3).for_each(|n| say(page(n)));
            say(Piece::End);
            assert_eq!(writer.join().expect("ended"), 300);
            let expected = std::fs::read(result(&alone, "alone")).expect("file");

            let (old, new) = (Spool::new(dir.path(), 3), Spool::new(dir.path(), 5));
            let (say_old, old_writer) = begin(&old, None);
            let (reply, bytes) = oneshot::channel();
            say_old(page(0));
            say_old(Piece::Flush(reply));
            let bytes = bytes.blocking_recv().expect("bytes");
            // Of this some lies in the file already, and the rest in the memory of the one that hangs.
            say_old(old_page(1));
            assert!(new.begin_with(3, bytes).expect("copied"));
            let (say, writer) = begin(&new, Some(Written { rows: 100, bytes }));
            say(page(1));
            say_old(old_page(2));
            new.forget_earlier().expect("removed");
            say(page(2));
            say(Piece::End);
            assert_eq!(writer.join().expect("ended"), 300);
            let artifact = result(&new, "artifact");
            say_old(Piece::End);
            assert_eq!(old_writer.join().expect("ended"), 300);
            assert_eq!(std::fs::read(&artifact).expect("file"), expected, "{format:?}");
            assert!(!old.path().exists() && !new.path().exists());
            assert!(
                !Spool::new(dir.path(), 7).begin_with(5, 1).expect("looked"),
                "it is gone"
            );
        }
    }

    #[test]
    fn names_and_filters_read_well() {
        let id: JobId = "0190b5c7-0000-7000-8000-0000000abcde".parse().expect("id");
        assert_eq!(file_name(id, ExportFormat::Xlsx), "events-0abcde.xlsx");
        assert_eq!(describe(&EventFilter::default()), "all of them");
        let filter = EventFilter {
            camera_id: Some("cam-1".into()),
            reviewed: Some(false),
            ..EventFilter::default()
        };
        assert_eq!(describe(&filter), "only camera \"cam-1\", not reviewed");
    }
}
