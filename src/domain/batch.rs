//! Jobs that were started together and are followed as one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::status::Status;
use super::time::Timestamp;

/// Longest name of a batch, in bytes.
pub const NAME_MAX: usize = 200;

/// A batch and how far it is: `GET /api/batches/{id}`. Its counts are kept in the transaction of each change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Batch {
    pub id: Uuid,
    pub name: String,
    /// Who started it.
    pub owner: String,
    pub created_at: DateTime<Utc>,
    /// Its jobs that are still kept.
    pub total: u64,
    /// Those that have ended.
    pub finished: u64,
    /// 0 to 100: the share of those that have ended.
    pub progress: f64,
    /// Every status, zeros included.
    pub by_status: BTreeMap<String, u64>,
}

impl Batch {
    pub fn new(id: Uuid, name: String, owner: String, created_at: Timestamp, by_status: BTreeMap<String, u64>) -> Self {
        let of = |status: &Status| by_status.get(status.as_str()).copied().unwrap_or(0);
        let total: u64 = Status::ALL.iter().map(of).sum();
        let finished: u64 = Status::ALL.iter().filter(|s| s.is_finished()).map(of).sum();
        Self {
            id,
            name,
            owner,
            created_at,
            total,
            finished,
            progress: if total == 0 {
                0.0
            } else {
                finished as f64 * 100.0 / total as f64
            },
            by_status,
        }
    }
}

/// What cancelling a batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct BatchCancelled {
    /// Jobs that waited, and are cancelled.
    pub cancelled: u64,
    /// Jobs that run, and were asked to stop.
    pub asked: u64,
    /// Jobs that have not been looked at: cancel again for these.
    pub left: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_share_of_those_that_have_ended() {
        let batch = |cells: &[(Status, u64)]| {
            let by_status = cells.iter().map(|(s, n)| (s.as_str().to_string(), *n)).collect();
            Batch::new(Uuid::nil(), "b".into(), "ada".into(), DateTime::UNIX_EPOCH, by_status)
        };
        let some = batch(&[(Status::Completed, 2), (Status::Dead, 1), (Status::Running, 1)]);
        assert_eq!((some.total, some.finished, some.progress), (4, 3, 75.0));
        assert_eq!(batch(&[]).progress, 0.0);
    }
}
