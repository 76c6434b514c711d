//! Where waiting jobs stand, and what holds them back besides their time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::job::{Job, Lane};
use super::time::Timestamp;

/// In a lane, retries go before fresh jobs that have not waited this much longer, in milliseconds.
const RETRY_MS: i64 = 300_000;

/// Since when a job waits that shall go before all others: nothing has waited for longer, so no lane is ahead of its own.
pub const FRONT: Timestamp = DateTime::UNIX_EPOCH;

/// The lane of jobs that may kill their workers. It goes by the time that its jobs have waited, as the first one does.
pub const SUSPECTS: u8 = 4;

/// What jobs have in common that may be held back together, and share their turns: their queue, kind, owner and, where they
/// have one, the key whose jobs don't run all at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    pub queue: String,
    pub kind: String,
    pub owner: String,
    pub key: Option<String>,
}

/// A waiting job as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The database's number of the job.
    pub seq: i64,
    /// 0, critical, to 3, low; or [`SUSPECTS`].
    pub lane: u8,
    /// Since when it could have started, in milliseconds since 1970, with the head start that a retry has.
    pub since: i64,
    pub cell: Cell,
}

/// The number of a lane that is not that of the suspects.
pub fn lane_number(lane: Lane) -> u8 {
    u8::try_from(lane.rank()).unwrap_or(SUSPECTS - 1)
}

impl Entry {
    pub fn of(seq: i64, job: &Job) -> Self {
        let cell = Cell {
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            owner: job.owner.clone(),
            key: job.concurrency_key.clone(),
        };
        let since = if job.front { FRONT } else { job.run_at };
        Self::new(seq, job.priority, job.is_suspect(), since, job.attempt, cell)
    }

    /// `attempt` is the number of the last one, 0 before the first; `run_at` is [`FRONT`] for one that goes before all.
    pub fn new(seq: i64, lane: Lane, suspect: bool, run_at: Timestamp, attempt: u32, cell: Cell) -> Self {
        let retry = if attempt > 0 { RETRY_MS } else { 0 };
        Self {
            seq,
            lane: match suspect {
                true => SUSPECTS,
                false => lane_number(lane),
            },
            since: run_at.timestamp_millis() - retry,
            cell,
        }
    }
}

/// Why jobs that could run do not: those that share it stay out of everybody's way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hold {
    Queue(String),
    Kind(String),
    Owner(String),
    Key(String),
    /// Whatever runs.
    All,
}

impl Hold {
    /// Understands what [`Hold`] is displayed as.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, name) = text.split_once(':')?;
        let name = name.to_string();
        Some(match what {
            "q" => Self::Queue(name),
            "k" => Self::Kind(name),
            "o" => Self::Owner(name),
            "c" => Self::Key(name),
            "a" => Self::All,
            _ => return None,
        })
    }

    /// Whether several may run at the same time of those behind it. A queue is paused or is not, and a key has one place.
    pub fn has_places(&self) -> bool {
        !matches!(self, Self::Queue(_) | Self::Key(_))
    }

    /// All that can hold a cell's jobs back.
    pub fn of(cell: &Cell) -> impl Iterator<Item = Self> {
        [
            Some(Self::Queue(cell.queue.clone())),
            Some(Self::Kind(cell.kind.clone())),
            Some(Self::Owner(cell.owner.clone())),
            cell.key.clone().map(Self::Key),
            Some(Self::All),
        ]
        .into_iter()
        .flatten()
    }
}

impl std::fmt::Display for Hold {
    /// A short text that no two holds share.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(name) => write!(f, "q:{name}"),
            Self::Kind(name) => write!(f, "k:{name}"),
            Self::Owner(name) => write!(f, "o:{name}"),
            Self::Key(name) => write!(f, "c:{name}"),
            Self::All => f.write_str("a:"),
        }
    }
}

/// Who stopped a queue, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Paused {
    pub by: String,
    pub at: DateTime<Utc>,
}

/// A queue as `GET /api/queues` shows it. Queues need not be made: one is there as soon as a job names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct QueueInfo {
    pub name: String,
    /// Its jobs by status; statuses without any are left out.
    pub by_status: BTreeMap<String, u64>,
    /// Absent while its jobs go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
}

/// Checks a name that people give: 1 to `max` bytes, without control characters, and not of blanks alone.
pub fn valid_name(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len()) && !name.chars().any(char::is_control) && !name.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_survive_their_text() {
        let cell = Cell {
            queue: "mail".into(),
            kind: "http".into(),
            owner: "a:b".into(),
            key: Some("x".into()),
        };
        let holds: Vec<Hold> = Hold::of(&cell).collect();
        assert_eq!(holds.len(), 5);
        for hold in holds {
            assert_eq!(Hold::parse(&hold.to_string()), Some(hold));
        }
        assert_eq!(Hold::parse("x:y"), None);
    }
}
