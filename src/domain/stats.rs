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

    /// Those of some kinds alone. Which queues they are in is not told.
    pub fn of_kinds(&self, kinds: &[String]) -> Self {
        let mut counts = Self {
            by_status: self.by_status.keys().map(|status| (status.clone(), 0)).collect(),
            ..Self::default()
        };
        for (kind, by_status) in self.by_type.iter().filter(|(kind, _)| kinds.contains(kind)) {
            for (status, n) in by_status {
                counts.total += n;
                *counts.by_status.entry(status.clone()).or_default() += n;
            }
            counts.by_type.insert(kind.clone(), by_status.clone());
        }
        counts
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
    /// Absent before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<Sweep>,
}

/// What is counted by the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    Enqueued,
    Completed,
    Failed,
    Dead,
    Cancelled,
    /// An attempt failed, and another one will follow.
    Retried,
    /// How long jobs that began had waited since they could.
    Wait,
    /// How long attempts that ended took.
    Run,
}

impl Metric {
    pub const ALL: [Self; 8] = [
        Self::Enqueued,
        Self::Completed,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
        Self::Retried,
        Self::Wait,
        Self::Run,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Wait => "wait",
            Self::Run => "run",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.as_str() == name)
    }
}

/// How long something took, as a histogram of powers of two says: never too little, and less than twice too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Took {
    pub count: u64,
    /// Milliseconds that half of them took at the most.
    pub median_ms: u64,
    /// Milliseconds that 95 of 100 took at the most.
    pub p95_ms: u64,
}

impl Took {
    /// Of counts by bucket: 0 is under a millisecond, b is 2^(b-1) up to 2^b milliseconds.
    pub fn of(buckets: &[u64]) -> Self {
        let count: u64 = buckets.iter().sum();
        let at = |share: f64| {
            let wanted = (count as f64 * share).ceil() as u64;
            let mut seen = 0;
            let bucket = buckets.iter().position(|n| {
                seen += n;
                seen >= wanted
            });
            1_u64 << bucket.unwrap_or(0).min(62)
        };
        match count {
            0 => Self::default(),
            _ => Self {
                count,
                median_ms: at(0.5),
                p95_ms: at(0.95),
            },
        }
    }
}

/// What happened in one step of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Step {
    /// Its beginning.
    pub at: DateTime<Utc>,
    pub enqueued: u64,
    pub completed: u64,
    pub failed: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub retried: u64,
    pub wait: Took,
    pub run: Took,
}

/// `GET /api/jobs/stats/series`: steps without a gap, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Series {
    /// Minutes of a step.
    pub step_minutes: u32,
    pub steps: Vec<Step>,
}

/// What the last sweep of what is kept no longer has removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Sweep {
    pub at: DateTime<Utc>,
    pub jobs: u64,
    pub artifacts: u64,
    pub uploads: u64,
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
