//! From a row to an event, or to the reason why not.

use csv::ByteRecord;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::draft::{Draft, flag, quoted};
use super::{ReadError, shown};
use crate::domain::event::CameraEvent;
use crate::server::kinds::cell::restore;

/// The columns without which a row is not an event.
const REQUIRED: [&str; 4] = ["camera_id", "occurred_at", "risk_level", "label"];
/// Names of columns that a message lists.
const NAMES_SHOWN: usize = 20;
/// One row of a file.
pub struct Row<'a> {
    /// The file's name, in an archive its path.
    pub file: &'a str,
    /// The line on which it begins, from 1.
    pub line: u64,
    pub content: Content<'a>,
}

/// A row as its format has it.
pub enum Content<'a> {
    Csv {
        record: &'a ByteRecord,
        columns: &'a Columns,
    },
    /// An element of a JSON array.
    Element(&'a [u8]),
    /// A line of NDJSON.
    Line(&'a [u8]),
    /// It could not even be read.
    Faulty(Fault),
}

/// Why a row is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The column at fault, if it is one.
    pub column: Option<&'static str>,
    pub reason: String,
}

impl Fault {
    pub fn row(reason: impl Into<String>) -> Self {
        Self {
            column: None,
            reason: reason.into(),
        }
    }

    pub fn column(column: &'static str, reason: impl Into<String>) -> Self {
        Self {
            column: Some(column),
            reason: reason.into(),
        }
    }
}

impl Row<'_> {
    /// Whether the file as a whole is broken here: a JSON array with a malformed element is no JSON at all.
    pub fn check(&self) -> Result<(), ReadError> {
        if let Content::Element(json) = &self.content
            && let Err(e) = serde_json::from_slice::<IgnoredAny>(json)
        {
            let line = self.line + (e.line() as u64).saturating_sub(1);
            let what = e.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            return Err(ReadError::invalid(format!(
                "the JSON is malformed at line {line}: {what}"
            )));
        }
        Ok(())
    }

    /// The event. `unknown` is told the names of the fields that mean nothing here.
    pub fn event(&self, unknown: &mut dyn FnMut(&str)) -> Result<CameraEvent, Fault> {
        match &self.content {
            Content::Csv { record, columns } => from_cells(record, columns),
            Content::Element(json) | Content::Line(json) => from_json(json, unknown),
            Content::Faulty(fault) => Err(fault.clone()),
        }
    }
}

/// Which field of a CSV row is which column.
#[derive(Debug)]
pub struct Columns {
    at: [Option<usize>; 8],
    width: usize,
    /// Names that mean nothing here.
    pub unknown: Vec<String>,
}

impl Columns {
    /// Understands the header, names in any case.
    pub fn from_header(header: &ByteRecord) -> Result<Self, ReadError> {
        let names: Vec<String> = header
            .iter()
            .map(|f| {
                String::from_utf8_lossy(f)
                    .trim()
                    .to_lowercase()
                    .replace([' ', '-'], "_")
            })
            .collect();
        let mut columns = Self {
            at: [None; 8],
            width: names.len(),
            unknown: Vec::new(),
        };
        for (i, name) in names.iter().enumerate() {
            match CameraEvent::COLUMNS.iter().position(|c| c == name) {
                Some(c) if columns.at[c].is_some() => {
                    return Err(ReadError::invalid(format!("the header has the column {name} twice")));
                }
                Some(c) => columns.at[c] = Some(i),
                None => columns.unknown.push(shown(name, 40)),
            }
        }
        let missing: Vec<_> = REQUIRED.into_iter().filter(|r| !names.iter().any(|n| n == r)).collect();
        if missing.is_empty() {
            return Ok(columns);
        }
        let mut found: Vec<String> = names.iter().take(NAMES_SHOWN).map(|n| shown(n, 40)).collect();
        if names.len() > NAMES_SHOWN {
            found.push(format!("and {} more", names.len() - NAMES_SHOWN));
        }
        Err(ReadError::invalid(format!(
            "wrong columns: the header lacks {}; found: {}; allowed: {}",
            missing.join(", "),
            found.join(", "),
            CameraEvent::COLUMNS.join(", ")
        )))
    }
}

fn from_cells(record: &ByteRecord, columns: &Columns) -> Result<CameraEvent, Fault> {
    if record.len() != columns.width {
        let hint = if record.as_slice().contains(&b'\n') {
            "; the row runs over several lines: is a quote not closed?"
        } else {
            ""
        };
        return Err(Fault::row(format!(
            "the row has {} fields, the header {}{hint}",
            record.len(),
            columns.width
        )));
    }
    let cell = |column: usize| {
        let bytes = columns.at[column].and_then(|i| record.get(i)).unwrap_or_default();
        // The reader below has made sure of UTF-8, and fields are cut at ASCII characters only.
        restore(std::str::from_utf8(bytes).unwrap_or_default())
    };
    let given = |column: usize| Some(cell(column)).filter(|c| !c.trim().is_empty()).map(str::to_string);
    let metadata = cell(7).trim();
    Draft {
        id: cell(0).into(),
        camera_id: given(1),
        occurred_at: given(2),
        risk_level: given(3),
        label: given(4),
        summary: cell(5).into(),
        reviewed: flag(cell(6))?,
        metadata: if metadata.is_empty() {
            Map::new()
        } else {
            serde_json::from_str(metadata).map_err(|_| {
                Fault::column(
                    "metadata",
                    format!("metadata {} is not a JSON object", quoted(metadata)),
                )
            })?
        },
    }
    .finish()
}

fn from_json(json: &[u8], unknown: &mut dyn FnMut(&str)) -> Result<CameraEvent, Fault> {
    let value: Value = serde_json::from_slice(json).map_err(|e| {
        let what = e.to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_string();
        Fault::row(format!("the row is not JSON: {what} at column {}", e.column()))
    })?;
    let Value::Object(mut map) = value else {
        return Err(Fault::row("the row is not a JSON object"));
    };
    let mut text = |name: &'static str| match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(Fault::column(name, format!("{name} is not text"))),
    };
    let camera_id = text("camera_id")?;
    let occurred_at = text("occurred_at")?;
    let risk_level = text("risk_level")?;
    let label = text("label")?;
    let summary = text("summary")?.unwrap_or_default();
    let id = match map.remove("id") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(s)) => s,
        Some(Value::Number(n)) => n.to_string(),
        Some(_) => return Err(Fault::column("id", "id is neither text nor a number")),
    };
    let reviewed = match map.remove("reviewed") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(b)) => b,
        Some(Value::String(s)) => flag(&s)?,
        Some(other) => flag(&other.to_string())?,
    };
    let metadata = match map.remove("metadata") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(m)) => m,
        Some(_) => return Err(Fault::column("metadata", "metadata is not a JSON object")),
    };
    for name in map.keys() {
        unknown(name);
    }
    Draft {
        id,
        camera_id,
        occurred_at,
        risk_level,
        label,
        summary,
        reviewed,
        metadata,
    }
    .finish()
}
