//! What a list of jobs is made of: how many of them per status, type, queue and error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ErrorCode;
use super::job::Job;
use super::page::Page;

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
    /// The most frequent errors of those that failed last, the most frequent first: at most 50.
    pub error: Vec<ErrorFacet>,
    /// There may be more of each: the newest 10,000 jobs were looked at.
    pub capped: bool,
    /// The same of the errors, for which the newest 10,000 that failed are looked at.
    pub error_capped: bool,
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
