//! What a job says while it runs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::error::truncate;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warning, Self::Error];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Debug => "Debug",
            Self::Info => "Info",
            Self::Warning => "Warning",
            Self::Error => "Error",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|l| l.as_str() == name)
            .or_else(|| (name == "warn").then_some(Self::Warning))
    }

    /// 0 for debug to 3 for error: the level as the database stores it.
    pub fn rank(self) -> i64 {
        self as i64
    }

    pub fn from_rank(rank: i64) -> Self {
        Self::ALL
            .get(usize::try_from(rank).unwrap_or(usize::MAX))
            .copied()
            .unwrap_or(Self::Error)
    }
}

/// One line of a job's log. Never changed once written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// From 1, without a gap within the job, over all its attempts.
    pub n: u64,
    pub at: DateTime<Utc>,
    pub attempt: u32,
    pub level: Level,
    /// At most [`LogLine::MESSAGE_MAX`] bytes; hostile text.
    pub message: String,
}

impl LogLine {
    /// Bytes of a line that are kept; a longer one is cut with a mark.
    pub const MESSAGE_MAX: usize = 8_000;
    /// Lines of one job that are kept; the last one says that there were more.
    pub const LINES_MAX: u64 = 100_000;

    /// The line of this number, said now; none: the log is full. The last one says that there were more.
    pub fn new(n: u64, attempt: u32, level: Level, mut message: String) -> Option<Self> {
        if n > Self::LINES_MAX {
            return None;
        }
        if n == Self::LINES_MAX {
            message = format!(
                "A job's log holds {} lines; those that follow are not kept.",
                Self::LINES_MAX
            );
        }
        truncate(&mut message, Self::MESSAGE_MAX);
        Some(Self {
            n,
            at: Utc::now(),
            attempt,
            level,
            message,
        })
    }
}

/// What the log's WebSocket sends, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LogMessage {
    /// Lines in order; the first one's number follows the last one sent.
    Lines { lines: Vec<LogLine> },
    /// The job has ended and every line was sent. The server closes the connection after it.
    End,
}

/// Which lines: `GET /api/jobs/{id}/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilter {
    /// This level or a higher one.
    pub level: Option<Level>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    /// Only lines with a higher number.
    pub after: u64,
    /// Text to find.
    pub q: Option<String>,
}
