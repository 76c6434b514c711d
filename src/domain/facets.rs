//! What a list of jobs is made of: how many of them per status, type, queue and error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ErrorCode;
use super::job::Job;
use super::page::Page;
use super::status::Status;

/// Errors that one answer tells apart; rarer ones are left out.
pub const ERRORS_MAX: usize = 50;

/// How many of the jobs that match there are of each sort.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Facets {
    /// Statuses that occur.
    pub status: BTreeMap<String, u64>,
    /// Kinds that occur, by their names.
    #[serde(rename = "type")]
    pub kind: BTreeMap<String, u64>,
    /// Queues that occur.
    pub queue: BTreeMap<String, u64>,
    /// The most frequent errors, at most [`ERRORS_MAX`].
    pub error: Vec<ErrorFacet>,
    /// There may be more of each: counting stopped at 10,000 jobs.
    pub capped: bool,
    /// The same of the errors, which are counted by themselves.
    pub error_capped: bool,
}

impl Facets {
    /// Jobs in any of these statuses.
    pub fn in_statuses(&self, fits: impl Fn(Status) -> bool) -> u64 {
        let fitting = Status::ALL.into_iter().filter(|status| fits(*status));
        fitting.filter_map(|status| self.status.get(status.as_str())).sum()
    }
}

/// Jobs whose errors count as the same problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct ErrorFacet {
    /// What the list's parameter `error` takes.
    pub fingerprint: String,
    pub code: ErrorCode,
    /// The message of one of these jobs.
    pub message: String,
    pub count: u64,
}

/// One part of the jobs that match, and what all of them are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Found {
    #[serde(flatten)]
    pub page: Page<Job>,
    pub facets: Facets,
}
