//! What the two readings of a file make of its rows: a count, then batches of events for the database.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;
use tokio::sync::mpsc;

use super::read::{Fault, ReadError, Row, Sink};
use crate::domain::event::CameraEvent;
use crate::server::kinds::cell::neutralise;

/// Rows that are handed to the database at once.
const BATCH: u64 = 1_000;
/// Bad rows that are reported one by one.
const LISTED: u64 = 1_000;
/// Unknown columns and skipped files that are named.
const NAMED: usize = 20;

/// The first reading: is every row there?
#[derive(Default)]
pub struct Counter {
    pub rows: u64,
    /// Files in the archive that are not of events.
    pub skipped: Vec<String>,
}

impl Sink for Counter {
    fn row(&mut self, row: Row<'_>) -> Result<(), ReadError> {
        row.check()?;
        self.rows += 1;
        Ok(())
    }

    fn unknown_columns(&mut self, _: &[String]) {}

    fn skipped_file(&mut self, name: &str) {
        if self.skipped.len() < NAMED {
            self.skipped.push(name.into());
        }
    }
}

/// A row that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    pub file: String,
    pub line: u64,
    pub column: Option<&'static str>,
    pub reason: String,
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}: {}", self.file, self.line, self.reason)
    }
}

/// Rows that were read together.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: u64,
    pub events: Vec<CameraEvent>,
    pub rejected: u64,
    /// Those of the rejected that are to be reported one by one.
    pub listed: Vec<Rejected>,
}

/// The second reading: sends batches of events, and writes every bad row to a file.
pub struct Collector {
    sender: mpsc::Sender<Batch>,
    batch: Batch,
    rejected: u64,
    rejected_path: PathBuf,
    rejected_file: Option<csv::Writer<BufWriter<File>>>,
    unknown: BTreeSet<String>,
}

impl Collector {
    /// Bad rows go to `rejected_path`, which is made when there is one.
    pub fn new(sender: mpsc::Sender<Batch>, rejected_path: PathBuf) -> Self {
        Self {
            sender,
            batch: Batch::default(),
            rejected: 0,
            rejected_path,
            rejected_file: None,
            unknown: BTreeSet::new(),
        }
    }

    /// Sends what is left, and answers the names of the columns that mean nothing here.
    pub fn finish(mut self) -> Result<BTreeSet<String>, ReadError> {
        if self.batch.rows > 0 {
            self.send()?;
        }
        if let Some(file) = self.rejected_file {
            file.into_inner()
                .map_err(|e| ReadError::Io(e.into_error()))?
                .flush()
                .map_err(ReadError::Io)?;
        }
        Ok(self.unknown)
    }

    fn send(&mut self) -> Result<(), ReadError> {
        let batch = std::mem::take(&mut self.batch);
        self.sender.blocking_send(batch).map_err(|_| ReadError::Stopped)
    }

    fn reject(&mut self, file: &str, line: u64, fault: Fault) -> Result<(), ReadError> {
        self.rejected += 1;
        self.batch.rejected += 1;
        let csv = match &mut self.rejected_file {
            Some(csv) => csv,
            none => {
                let to = BufWriter::new(File::create(&self.rejected_path).map_err(ReadError::Io)?);
                let mut csv = csv::Writer::from_writer(to);
                csv.write_record(["line", "file", "column", "reason"]).map_err(io)?;
                none.insert(csv)
            }
        };
        let line_text = line.to_string();
        let column = fault.column.unwrap_or_default();
        csv.write_record([
            &line_text,
            neutralise(file).as_ref(),
            column,
            neutralise(&fault.reason).as_ref(),
        ])
        .map_err(io)?;
        if self.rejected <= LISTED {
            self.batch.listed.push(Rejected {
                file: file.into(),
                line,
                column: fault.column,
                reason: fault.reason,
            });
        }
        Ok(())
    }
}

fn io(error: csv::Error) -> ReadError {
    ReadError::Io(error.into())
}

fn note(unknown: &mut BTreeSet<String>, name: &str) {
    if unknown.len() < NAMED && !unknown.contains(name) {
        let mut name: String = name
            .chars()
            .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
            .take(41)
            .collect();
        crate::domain::error::truncate(&mut name, 40);
        unknown.insert(name);
    }
}

impl Sink for Collector {
    fn row(&mut self, row: Row<'_>) -> Result<(), ReadError> {
        self.batch.rows += 1;
        let unknown = &mut self.unknown;
        match row.event(&mut |name| note(unknown, name)) {
            Ok(event) => self.batch.events.push(event),
            Err(fault) => self.reject(row.file, row.line, fault)?,
        }
        if self.batch.rows >= BATCH { self.send() } else { Ok(()) }
    }

    fn unknown_columns(&mut self, names: &[String]) {
        for name in names {
            note(&mut self.unknown, name);
        }
    }

    fn skipped_file(&mut self, _: &str) {}
}
