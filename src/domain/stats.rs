//! Numbers about the whole system.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::status::Status;

/// Jobs by status, kind and queue: `GET /api/jobs/stats`. Kept in the transaction of each change, never counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Counts {
    pub total: u64,
    /// Every status, zeros included.
    pub by_status: BTreeMap<String, u64>,
    pub by_type: BTreeMap<String, BTreeMap<String, u64>>,
    pub by_queue: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Counts {
    pub fn of(&self, status: Status) -> u64 {
        self.by_status.get(status.as_str()).copied().unwrap_or(0)
    }
}

/// How the system fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    #[default]
    Healthy,
    Degraded,
    Critical,
}

impl Grade {
    pub fn label(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Critical => "Critical",
        }
    }
}

/// One thing that health looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Check {
    pub grade: Grade,
    /// "ok", "embedded", "10 slots, 2 in use", "database is locked".
    pub text: String,
}

/// `GET /api/admin/jobs/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Health {
    /// The worst grade among the checks.
    pub status: Grade,
    pub checks: HealthChecks,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HealthChecks {
    pub database: Check,
    /// Redis, or the queue inside this process ("embedded").
    pub queue: Check,
    pub workers: Check,
    /// The API itself: "ok", or what it lacks.
    pub api: Check,
    pub pending_jobs: u64,
    /// Failed or dead within the last hour.
    pub failed_jobs: u64,
    /// Seconds that the oldest pending job has waited since it fell due.
    pub oldest_pending_seconds: Option<u64>,
    /// Seconds since a worker last reported.
    pub worker_last_ping_seconds: Option<u64>,
    /// Slots of all live workers, and those in use.
    pub slots: u32,
    pub slots_in_use: u32,
    /// What is wrong, in sentences; empty when healthy.
    pub warnings: Vec<String>,
}

/// What the status strip shows; pushed by the live stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Overview {
    pub counts: Counts,
    pub health: Health,
    /// The database's clock when this was read.
    pub at: DateTime<Utc>,
}
