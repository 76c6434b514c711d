//! How long things are kept.

use super::status::Status;

/// Which jobs are removed when: finished ones of this status, and where one is named of this kind, so long after their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub status: Status,
    pub kind: Option<String>,
    /// Milliseconds; none: they are kept for ever.
    pub after_ms: Option<i64>,
}
