use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sea_orm::{DbErr, RuntimeErr};

use super::session::IDLE_IN_TRANSACTION;
use super::trouble::Trouble;
use crate::domain::error::{ErrorCode, JobError, Problem, ProblemCode};
use crate::domain::job::JobId;
use crate::domain::machine::Refused;

/// What can go wrong between a caller and the truth.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be asked, or answered with an error.
    #[error("the database answered: {0}")]
    Database(#[from] DbErr),
    /// The database could not be opened or migrated; the text says why and what to do.
    #[error("{0}")]
    Open(String),
    #[error("job {0} does not exist")]
    NoJob(JobId),
    /// A new job names one to wait for that is not there.
    #[error("job {0}, which was to be waited for, does not exist")]
    NoDependency(JobId),
    /// The state machine does not allow the change.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A stored value is not what this version writes.
    #[error("a stored {what} can't be read: {value}")]
    Corrupt { what: &'static str, value: String },
    #[error("{what}: {source}")]
    File {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// The settings leave no room for another file.
    #[error("there is no room for the file: {what} may take up {} ({setting})", crate::domain::page::bytes(*max))]
    Full {
        what: &'static str,
        setting: &'static str,
        /// Bytes.
        max: u64,
    },
    /// The store is shutting down.
    #[error("the store is closing")]
    Closed,
    /// A commit failed, or the database did not confirm it: in that case its changes may have happened.
    #[error("the commit failed: {0}")]
    Commit(String),
}

impl StoreError {
    pub(super) fn corrupt(what: &'static str, value: impl ToString) -> Self {
        Self::Corrupt {
            what,
            value: value.to_string(),
        }
    }

    pub(super) fn file(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::File {
            what: what.into(),
            source,
        }
    }

    /// Whether the database gave a transaction up in favour of another: trying again may do.
    pub(super) fn is_contention(&self) -> bool {
        // Serialization failure, deadlock detected (Postgres, appendix A).
        matches!(self.sqlstate().as_deref(), Some("40001" | "40P01"))
    }

    /// Whether the database refused what a statement says, and did not fail itself.
    pub(super) fn is_statements_own(&self) -> bool {
        match self.sqlstate() {
            // Data exceptions, violated constraints, and whatever else is not resources (53), the operator (57), the system (58) or a
            // connection that has ended.
            Some(state) => !["53", "57", "58", "08", IDLE_IN_TRANSACTION]
                .iter()
                .any(|class| state.starts_with(class)),
            None => matches!(self, Self::Corrupt { .. }),
        }
    }

    /// Whether the database itself could not be used: whatever else it is asked will hardly fare better.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Commit(_) | Self::Closed) && !self.is_statements_own()
    }

    fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Database(DbErr::Exec(RuntimeErr::SqlxError(e)) | DbErr::Query(RuntimeErr::SqlxError(e))) => {
                Some(e.as_database_error()?.code()?.into_owned())
            }
            _ => None,
        }
    }

    /// Whether the write was refused because its lease is no longer the job's.
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(Refused::Stale { .. }))
    }
}

/// The database can't be used. It may be away for long, and whoever asks for a page meets that.
static AWAY: Mutex<Trouble> = Mutex::new(Trouble::new());

impl From<StoreError> for Problem {
    fn from(e: StoreError) -> Self {
        match &e {
            StoreError::NoJob(id) => Problem::not_found(format_args!("job {id}")),
            StoreError::NoDependency(id) => Problem::invalid(
                "depends_on",
                format!("depends_on names {id}, and there is no such job; allowed are ids of jobs that exist"),
            ),
            StoreError::Refused(r) => Problem::new(ProblemCode::WrongStatus, r.to_string()),
            StoreError::Full { .. } => Problem::new(ProblemCode::StorageFull, e.to_string()),
            StoreError::Database(_) | StoreError::Commit(_) | StoreError::Closed => {
                // The edge logs the cause; callers learn no more than that they should come back.
                let due = AWAY.lock().unwrap_or_else(PoisonError::into_inner).met(Instant::now());
                if let Some(more_like_this) = due {
                    tracing::error!(error = %e, more_like_this, "the store failed");
                }
                Problem::new(
                    ProblemCode::Unavailable,
                    "The database can't be used at the moment; try again soon.",
                )
            }
            StoreError::Open(_) | StoreError::Corrupt { .. } | StoreError::File { .. } => {
                tracing::error!(error = %e, "the store failed");
                Problem::new(ProblemCode::Internal, "The server met an error; its log says more.")
            }
        }
    }
}

impl From<StoreError> for JobError {
    fn from(e: StoreError) -> Self {
        let code = match &e {
            // Room is made by hand, or by time; further attempts would fill it no less.
            StoreError::Full { .. } => return JobError::new(ErrorCode::IoError, e.to_string()).permanent(),
            StoreError::File { .. } => ErrorCode::IoError,
            StoreError::NoJob(_) | StoreError::NoDependency(_) | StoreError::Refused(_) => ErrorCode::WorkerLost,
            _ => ErrorCode::DatabaseError,
        };
        JobError::caused(code, e.to_string(), &e)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lines").extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn requests_that_find_no_database_do_not_flood_the_log() {
        let lines = Lines::default();
        let into = lines.clone();
        let logging = tracing_subscriber::fmt().with_writer(move || into.clone()).finish();
        tracing::subscriber::with_default(logging, || {
            for _ in 0..1_000 {
                let problem = Problem::from(StoreError::Commit("it is away".into()));
                assert_eq!(problem.code, ProblemCode::Unavailable);
            }
        });
        let text = String::from_utf8(lines.0.lock().expect("lines").clone()).expect("text");
        // A machine that stands still for long may come to a few.
        assert!(text.lines().count() < 20, "{text}");
    }
}
