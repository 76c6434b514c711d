//! `export`: events, filtered, as a file.

pub mod write;

use std::path::PathBuf;

use async_trait::async_trait;
use chrono::SecondsFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use self::write::WriteError;
use super::blocking::join;
use crate::domain::error::{ErrorCode, JobError, Problem};
use crate::domain::event::{CameraEvent, EventFilter, ExportFormat};
use crate::domain::job::JobId;
use crate::domain::kind::Policy;
use crate::domain::page::{bytes, count_label, grouped};
use crate::server::engine::context::Context;
use crate::server::engine::kind::{Halt, Kind};
use crate::server::store::events::EventKey;

/// Events fetched and handed to the writer at once.
const PAGE: u32 = 2_000;
/// Pages that wait for the writer; the reader waits when there are more.
const PAGES_WAITING: usize = 2;
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
pub struct Export;

#[async_trait]
impl Kind for Export {
    type Args = ExportArgs;

    fn name(&self) -> &'static str {
        "export"
    }

    fn description(&self) -> &'static str {
        "Writes events, filtered, to a CSV, JSON, NDJSON, Excel or ZIP file for download. Run again after a crash, it \
         starts over and replaces its file."
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

    async fn run(&self, ctx: &Context, args: ExportArgs) -> Result<Value, Halt> {
        let ExportArgs { filter, format } = args;
        ctx.info(format!(
            "Exporting events as {}; {}",
            format.extension(),
            describe(&filter)
        ));
        ctx.step("Counting events");
        let total = ctx.events().count(&filter).await?;
        ctx.progress(0, total);
        if total == 0 {
            ctx.warn("No events match the filter.");
            ctx.step("No events match; the file has 0 rows");
        } else {
            ctx.info(format!("{} match.", events(total)));
            ctx.step(format!("Writing {}", events(total)));
        }

        let folder = ctx.scratch().await?.to_path_buf();
        let path = folder.join("events");
        let rows = self
            .stream(
                ctx,
                &filter,
                total,
                Target {
                    format,
                    path: path.clone(),
                    folder,
                },
            )
            .await?;
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

/// Where the rows go.
struct Target {
    format: ExportFormat,
    path: PathBuf,
    folder: PathBuf,
}

enum Piece {
    Page(Vec<CameraEvent>),
    /// There are no more. A channel that closes without it belongs to a run that was given up.
    End,
}

impl Export {
    /// Reads the events page by page and hands them to a writer on a thread of its own. Answers the rows written.
    async fn stream(&self, ctx: &Context, filter: &EventFilter, total: u64, target: Target) -> Result<u64, Halt> {
        let (pages, receiver) = mpsc::channel(PAGES_WAITING);
        let writer = tokio::task::spawn_blocking(move || write_pages(receiver, &target));
        let mut after: Option<EventKey> = None;
        let mut done = 0;
        let mut page_number = 0;
        loop {
            ctx.check()?;
            let page = ctx.events().page(filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(EventKey::of(last));
            let rows = page.len() as u64;
            if pages.send(Piece::Page(page)).await.is_err() {
                // The writer gave up; why is known below.
                break;
            }
            done += rows;
            page_number += 1;
            // Events that came in since they were counted are exported too.
            ctx.progress(done, total.max(done));
            if page_number % LOG_EVERY == 0 {
                ctx.debug(format!(
                    "{} of {} rows handed to the writer.",
                    grouped(done),
                    grouped(total.max(done))
                ));
            }
        }
        if pages.send(Piece::End).await.is_ok() && done > SLOW_TO_FINISH {
            ctx.step("Finishing the file");
        }
        let written = join(writer).await?;
        Ok(written.map_err(|e| JobError::caused(ErrorCode::IoError, e.to_string(), &e))?)
    }
}

fn write_pages(mut pages: mpsc::Receiver<Piece>, target: &Target) -> Result<u64, WriteError> {
    let mut writer = write::to_file(target.format, &target.path, &target.folder)?;
    let mut rows = 0;
    loop {
        match pages.blocking_recv() {
            Some(Piece::Page(events)) => {
                for event in &events {
                    writer.write(event)?;
                }
                rows += events.len() as u64;
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
            Export.check(&ExportArgs {
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
        let target = Target {
            format: ExportFormat::Ndjson,
            path: dir.path().join("events"),
            folder: dir.path().into(),
        };
        let events: Vec<_> = crate::server::kinds::sample::Samples::new(1, 3).collect();
        let (sender, receiver) = mpsc::channel(4);
        assert!(sender.try_send(Piece::Page(events.clone())).is_ok());
        assert!(sender.try_send(Piece::Page(events)).is_ok());
        assert!(sender.try_send(Piece::End).is_ok());
        assert_eq!(write_pages(receiver, &target).expect("written"), 6);
        let (sender, receiver) = mpsc::channel::<Piece>(4);
        drop(sender);
        assert_eq!(write_pages(receiver, &target).expect("given up"), 0);
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
