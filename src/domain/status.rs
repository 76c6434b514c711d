//! The statuses of a job, what people may ask of it in each, and how attempts end. The changes between them are
//! [`machine`](super::machine)'s.

use serde::{Deserialize, Serialize};

/// Where a job stands. The database enforces this set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its time has not come.
    Scheduled,
    /// Waits for the jobs that it depends on.
    Blocked,
    /// In its queue.
    Pending,
    /// A worker holds its lease.
    Running,
    /// Failed, will be tried again at a known time.
    Retrying,
    /// Taken aside by a person; keeps its checkpoint.
    Paused,
    /// Finished.
    Completed,
    /// Ended by an error that no retry would cure.
    Failed,
    /// Every attempt used up.
    Dead,
    /// Stopped by a person, or by a cancelled parent.
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 10] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Pending,
        Self::Running,
        Self::Retrying,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The name on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The name that people read.
    pub fn label(self) -> &'static str {
        match self {
            Self::Scheduled => "Scheduled",
            Self::Blocked => "Blocked",
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Retrying => "Retrying",
            Self::Paused => "Paused",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Dead => "Dead",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Understands the names above in any case, and those that other systems use.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase();
        if let Some(status) = Self::ALL.into_iter().find(|s| s.as_str() == name) {
            return Some(status);
        }
        Some(match name.as_str() {
            "queued" | "waiting" => Self::Pending,
            "active" | "processing" => Self::Running,
            "complete" => Self::Completed,
            "dead_letter" | "dead-letter" | "dead letter" => Self::Dead,
            "canceled" => Self::Cancelled,
            _ => return None,
        })
    }

    /// Nothing happens to the job any more unless a person asks for it.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Dead | Self::Cancelled)
    }

    /// Has not started, or will start again.
    pub fn is_waiting(self) -> bool {
        !self.is_finished() && self != Self::Running
    }

    /// What a person may ask of a job in this status. `checkpoints`: whether its kind can stop in the middle.
    pub fn actions(self, checkpoints: bool) -> &'static [Action] {
        use Action::*;
        match self {
            Self::Scheduled => &[RunNow, Cancel, Delete],
            Self::Blocked => &[Cancel, Delete],
            Self::Pending => &[RunNow, Pause, Cancel, Delete],
            Self::Running if checkpoints => &[Pause, Cancel, Abort],
            Self::Running => &[Cancel, Abort],
            Self::Retrying => &[RunNow, Cancel],
            Self::Paused => &[Resume, Cancel, Delete],
            Self::Completed => &[RunAgain, Delete],
            Self::Failed | Self::Dead => &[Retry, Delete],
            Self::Cancelled => &[Delete],
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person can ask of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    RunNow,
    Pause,
    Resume,
    Cancel,
    Abort,
    Retry,
    RunAgain,
    Delete,
}

impl Action {
    pub const ALL: [Self; 8] = [
        Self::RunNow,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Abort,
        Self::Retry,
        Self::RunAgain,
        Self::Delete,
    ];

    /// The last part of the action's address, `run-now`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunNow => "run-now",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::RunAgain => "run-again",
            Self::Delete => "delete",
        }
    }

    /// The words on its button.
    pub fn label(self) -> &'static str {
        match self {
            Self::RunNow => "Run now",
            Self::Pause => "Pause",
            Self::Resume => "Resume",
            Self::Cancel => "Cancel",
            Self::Abort => "Abort",
            Self::Retry => "Retry",
            Self::RunAgain => "Run again",
            Self::Delete => "Delete",
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Failed,
    Cancelled,
    Aborted,
    Paused,
    HandedBack,
    WorkerLost,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::Paused => "paused",
            Self::HandedBack => "handed_back",
            Self::WorkerLost => "worker_lost",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::Aborted => "Aborted",
            Self::Paused => "Paused",
            Self::HandedBack => "Handed back",
            Self::WorkerLost => "Worker lost",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::Aborted,
            Self::Paused,
            Self::HandedBack,
            Self::WorkerLost,
        ]
        .into_iter()
        .find(|o| o.as_str() == name)
    }
}
