//! Words that people read in more than one place, kept together for translation.

/// The product's name.
pub const PRODUCT: &str = "Windlass";
pub const SKIP: &str = "Skip to content";

pub const JOBS: &str = "Jobs";
pub const JOBS_DESCRIPTION: &str = "Monitor background jobs and their progress";
pub const CLEAR_ALL: &str = "Clear all";
pub const TRY_AGAIN: &str = "Try again";
pub const ALL_TIME: &str = "All time";

/// Singular and plural for [`crate::domain::page::count_label`].
pub const JOB: (&str, &str) = ("job", "jobs");

/// What the filter calls a status: the words that people know from other systems.
pub fn status_choice(status: crate::domain::status::Status) -> &'static str {
    match status {
        crate::domain::status::Status::Running => "Processing",
        other => other.label(),
    }
}
