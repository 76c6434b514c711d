//! From a row to an event, or to the reason why not.

use chrono::{DateTime, NaiveDateTime, Utc};
use csv::ByteRecord;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{ReadError, shown};
use crate::domain::event::{CameraEvent, RiskLevel};
use crate::domain::filter::choices;
use crate::domain::time::{Timestamp, from_millis};
use crate::server::kinds::cell::restore;

/// The columns without which a row is not an event.
const REQUIRED: [&str; 4] = ["camera_id", "occurred_at", "risk_level", "label"];
/// Names of columns that a message lists.
const NAMES_SHOWN: usize = 20;
/// Under this name the ids of events that come without one are made from what they say.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_2a1e_8f6b_4f0e_9c57_1b6e_0a44_d3f1);

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
    Csv { record: &'a ByteRecord, columns: &'a Columns },
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

    fn column(column: &'static str, reason: impl Into<String>) -> Self {
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
            return Err(ReadError::invalid(format!("the JSON is malformed at line {line}: {what}")));
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
            .map(|f| String::from_utf8_lossy(f).trim().to_lowercase().replace([' ', '-'], "_"))
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
        let missing: Vec<_> = REQUIRED
            .into_iter()
            .filter(|r| !names.iter().any(|n| n == r))
            .collect();
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

/// A row's values before they are judged.
#[derive(Default)]
struct Draft {
    id: String,
    camera_id: Option<String>,
    occurred_at: Option<String>,
    risk_level: Option<String>,
    label: Option<String>,
    summary: String,
    reviewed: bool,
    metadata: Map<String, Value>,
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
            serde_json::from_str(metadata)
                .map_err(|_| Fault::column("metadata", format!("metadata {} is not a JSON object", quoted(metadata))))?
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

impl Draft {
    fn finish(self) -> Result<CameraEvent, Fault> {
        let camera_id = needed("camera_id", self.camera_id, CameraEvent::CAMERA_MAX)?;
        let occurred_at = moment(self.occurred_at)?;
        let risk = self.risk_level.unwrap_or_default();
        let risk_level = match risk.trim() {
            "" => return Err(missing("risk_level")),
            name => RiskLevel::parse(name).ok_or_else(|| {
                let name = shown(name, 80);
                Fault::column("risk_level", choices("risk_level", &name, RiskLevel::ALL.map(RiskLevel::as_str)))
            })?,
        };
        let label = needed("label", self.label, CameraEvent::LABEL_MAX)?;
        sound("summary", &self.summary, CameraEvent::SUMMARY_MAX)?;
        let metadata = Value::Object(self.metadata);
        let size = metadata.to_string().len();
        if size > CameraEvent::METADATA_MAX {
            return Err(too_long("metadata", size, CameraEvent::METADATA_MAX));
        }
        let id = self.id.trim();
        sound("id", id, CameraEvent::ID_MAX)?;
        let mut event = CameraEvent {
            id: id.to_string(),
            camera_id,
            occurred_at,
            risk_level,
            label,
            summary: self.summary,
            reviewed: self.reviewed,
            metadata,
        };
        if event.id.is_empty() {
            event.id = made_up_id(&event);
        }
        Ok(event)
    }
}

/// The same for the same content, so that reading a file again finds its rows there.
fn made_up_id(event: &CameraEvent) -> String {
    let content = serde_json::json!([
        event.camera_id,
        event.occurred_at.timestamp_millis(),
        event.risk_level,
        event.label,
        event.summary,
        event.reviewed,
        event.metadata,
    ]);
    Uuid::new_v5(&NAMESPACE, content.to_string().as_bytes()).to_string()
}

fn missing(column: &'static str) -> Fault {
    Fault::column(column, format!("{column} is missing"))
}

fn too_long(column: &'static str, size: usize, max: usize) -> Fault {
    Fault::column(column, format!("{column} is {size} bytes long; at most {max} are allowed"))
}

fn sound(column: &'static str, text: &str, max: usize) -> Result<(), Fault> {
    if text.len() > max {
        return Err(too_long(column, text.len(), max));
    }
    if text.contains('\0') {
        return Err(Fault::column(column, format!("{column} has a zero character")));
    }
    Ok(())
}

fn needed(column: &'static str, text: Option<String>, max: usize) -> Result<String, Fault> {
    let text = text.unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Err(missing(column));
    }
    sound(column, text, max)?;
    Ok(text.to_string())
}

/// RFC 3339, or a date and a time without a zone, which are taken as UTC. Cut to milliseconds.
fn moment(text: Option<String>) -> Result<Timestamp, Fault> {
    let text = text.unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Err(missing("occurred_at"));
    }
    let naive = |form| NaiveDateTime::parse_from_str(text, form).map(|t| t.and_utc());
    // A longer text is no time, and not worth three tries.
    let parsed = (text.len() <= 64)
        .then(|| {
            DateTime::parse_from_rfc3339(text)
                .map(|t| t.with_timezone(&Utc))
                .or_else(|_| naive("%Y-%m-%d %H:%M:%S%.f"))
                .or_else(|_| naive("%Y-%m-%dT%H:%M:%S%.f"))
                .ok()
        })
        .flatten();
    match parsed {
        // Years beyond four digits can't be written in RFC 3339 again.
        Some(t) if (0..=9_999).contains(&chrono::Datelike::year(&t)) => Ok(from_millis(t.timestamp_millis())),
        _ => Err(Fault::column(
            "occurred_at",
            format!(
                "occurred_at {} is not a time; allowed: RFC 3339 such as 2026-03-01T14:05:09Z, or \
                 2026-03-01 14:05:09 (taken as UTC)",
                quoted(text)
            ),
        )),
    }
}

fn flag(text: &str) -> Result<bool, Fault> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "false" | "0" | "no" => Ok(false),
        "true" | "1" | "yes" => Ok(true),
        _ => Err(Fault::column(
            "reviewed",
            choices("reviewed", &shown(text.trim(), 80), ["true", "false", "yes", "no", "1", "0"]),
        )),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text, 80))
}
