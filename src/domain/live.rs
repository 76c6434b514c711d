//! What the live stream says.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::job::Job;
use super::stats::Overview;

/// One message of `GET /api/jobs/events`. Server-Sent Events carry the variant's name as the event's type and the
/// content as JSON; the event's id is a cursor for `Last-Event-ID` or `?after=`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum LiveEvent {
    /// Jobs as they are now; at most four times a second for one job.
    Jobs(Vec<Job>),
    /// These are gone for good.
    Removed(Vec<Uuid>),
    /// Counts and health as they are now.
    Overview(Box<Overview>),
    /// More happened than is worth telling one by one, or the cursor is too old: fetch again what is on the screen.
    Stale,
}

impl LiveEvent {
    /// The names that [`LiveEvent::name`] gives, for whoever has to subscribe to each.
    pub const NAMES: [&str; 4] = ["jobs", "removed", "overview", "stale"];

    /// The event's type on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Jobs(_) => Self::NAMES[0],
            Self::Removed(_) => Self::NAMES[1],
            Self::Overview(_) => Self::NAMES[2],
            Self::Stale => Self::NAMES[3],
        }
    }
}
