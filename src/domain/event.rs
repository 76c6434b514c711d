//! The sample domain: what cameras saw. Imported, exported and audited by the built-in kinds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How dangerous an event looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RiskLevel {
    Low,
    Medium,
    High,
    Critical,
}

impl RiskLevel {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Understands the names above in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str().eq_ignore_ascii_case(name))
    }
}

/// One event. Written by `import` and `windlass demo`; never changed by an import that meets its id again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CameraEvent {
    /// 1 to [`CameraEvent::ID_MAX`] bytes; two events with one id are the same event.
    pub id: String,
    /// 1 to [`CameraEvent::CAMERA_MAX`] bytes.
    pub camera_id: String,
    /// Kept to the millisecond.
    pub occurred_at: DateTime<Utc>,
    pub risk_level: RiskLevel,
    /// 1 to [`CameraEvent::LABEL_MAX`] bytes.
    pub label: String,
    /// At most [`CameraEvent::SUMMARY_MAX`] bytes.
    pub summary: String,
    pub reviewed: bool,
    /// A JSON object of at most [`CameraEvent::METADATA_MAX`] bytes.
    pub metadata: Value,
}

impl CameraEvent {
    pub const ID_MAX: usize = 100;
    pub const CAMERA_MAX: usize = 100;
    pub const LABEL_MAX: usize = 200;
    pub const SUMMARY_MAX: usize = 4_000;
    pub const METADATA_MAX: usize = 8_000;
    /// The columns of tables of events, in the order in which they are written.
    pub const COLUMNS: [&str; 8] = [
        "id",
        "camera_id",
        "occurred_at",
        "risk_level",
        "label",
        "summary",
        "reviewed",
        "metadata",
    ];
}

/// Which events. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema, schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Only this camera's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schemars(title = "Camera", length(min = 1, max = 100)))]
    pub camera_id: Option<String>,
    /// Only events of this risk level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schemars(title = "Risk level"))]
    pub risk_level: Option<RiskLevel>,
    /// Only events that occurred at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schemars(title = "From"))]
    pub from: Option<DateTime<Utc>>,
    /// Only events that occurred before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schemars(title = "Until"))]
    pub until: Option<DateTime<Utc>>,
    /// Only events that a person has reviewed, or only those that nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "ssr", schemars(title = "Reviewed"))]
    pub reviewed: Option<bool>,
}

/// The form in which events are written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// Comma-separated values with a header.
    #[default]
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// An Excel workbook.
    Xlsx,
    /// The CSV file, compressed.
    Zip,
}

impl ExportFormat {
    pub const ALL: [Self; 5] = [Self::Csv, Self::Json, Self::Ndjson, Self::Xlsx, Self::Zip];

    /// The file's extension.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Xlsx => "xlsx",
            Self::Zip => "zip",
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Zip => "application/zip",
        }
    }
}
