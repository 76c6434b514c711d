//! From a row's values to an event: every rule about them is here, whatever the format they came in.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::row::Fault;
use super::shown;
use crate::domain::event::{CameraEvent, RiskLevel};
use crate::domain::filter::choices;
use crate::domain::time::{Timestamp, from_millis};

/// Under this name the ids of events that come without one are made from what they say.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_2a1e_8f6b_4f0e_9c57_1b6e_0a44_d3f1);

/// A row's values before they are judged.
#[derive(Default)]
pub struct Draft {
    pub id: String,
    pub camera_id: Option<String>,
    pub occurred_at: Option<String>,
    pub risk_level: Option<String>,
    pub label: Option<String>,
    pub summary: String,
    pub reviewed: bool,
    pub metadata: Map<String, Value>,
}

impl Draft {
    /// The event, or the first thing that is wrong with it.
    pub fn finish(self) -> Result<CameraEvent, Fault> {
        let camera_id = needed("camera_id", self.camera_id, CameraEvent::CAMERA_MAX)?;
        let occurred_at = moment(self.occurred_at)?;
        let risk = self.risk_level.unwrap_or_default();
        let risk_level = match risk.trim() {
            "" => return Err(missing("risk_level")),
            name => RiskLevel::parse(name).ok_or_else(|| {
                let name = shown(name, 80);
                Fault::column(
                    "risk_level",
                    choices("risk_level", &name, RiskLevel::ALL.map(RiskLevel::as_str)),
                )
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
    Fault::column(
        column,
        format!("{column} is {size} bytes long; at most {max} are allowed"),
    )
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

/// Yes or no in the words that files use; nothing means no.
pub fn flag(text: &str) -> Result<bool, Fault> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "false" | "0" | "no" => Ok(false),
        "true" | "1" | "yes" => Ok(true),
        _ => Err(Fault::column(
            "reviewed",
            choices(
                "reviewed",
                &shown(text.trim(), 80),
                ["true", "false", "yes", "no", "1", "0"],
            ),
        )),
    }
}

/// A hostile value as part of a reason.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text, 80))
}
