//! Threads that kinds use for work that blocks.

use tokio::task::JoinHandle;

use crate::domain::error::{ErrorCode, JobError};

/// The thread's outcome. Its panic becomes the caller's, so that the engine sees it.
pub async fn join<T>(thread: JoinHandle<T>) -> Result<T, JobError> {
    match thread.await {
        Ok(outcome) => Ok(outcome),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(JobError::caused(
            ErrorCode::Internal,
            "a thread of the job was stopped",
            &e,
        )),
    }
}
