//! Cron rules: jobs that are enqueued each time that they fall due.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::job::Lane;

/// What happens to runs that were missed, because nothing ran or the schedule's time lay in an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Misfire {
    /// However many were missed, one is made up for.
    #[default]
    Once,
    /// None is made up for.
    Skip,
}

impl Misfire {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Skip => "skip",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Once, Self::Skip].into_iter().find(|m| m.as_str() == name)
    }
}

/// A schedule as `GET /api/schedules` shows it. Changed by people; its times by the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Schedule {
    pub id: Uuid,
    /// No two have the same.
    pub name: String,
    /// Five fields (minute, hour, day of the month, month, day of the week), or six with seconds first.
    pub cron: String,
    /// The same in words.
    pub description: String,
    /// An IANA name, "Europe/Berlin". In an hour that is skipped it runs at that hour's end; in one that is repeated, once.
    pub time_zone: String,
    /// The kind of the jobs.
    #[serde(rename = "type")]
    pub kind: String,
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args: Value,
    pub queue: String,
    pub priority: Lane,
    pub misfire: Misfire,
    /// Whose the jobs are.
    pub owner: String,
    pub paused: bool,
    pub created_at: DateTime<Utc>,
    /// Absent while it is paused, and when it never falls due again.
    pub next_at: Option<DateTime<Utc>>,
    /// The time that the last run was due.
    pub last_at: Option<DateTime<Utc>>,
    /// The job of the last run.
    pub last_job: Option<Uuid>,
}

/// A wish for a schedule: the body of `POST /api/schedules` and `PUT /api/schedules/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    pub name: String,
    pub cron: String,
    #[serde(default = "utc")]
    pub time_zone: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default = "empty_object")]
    #[cfg_attr(feature = "ssr", schema(value_type = Object))]
    pub args: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Lane>,
    #[serde(default)]
    pub misfire: Misfire,
}

fn utc() -> String {
    "UTC".into()
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}
