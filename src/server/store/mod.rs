//! The truth: jobs, their logs and files, and the sample domain, in a SQL database. Everything that other layers know
//! about a job was read here; everything that they change goes through the group-committing [`writer`].

pub mod claim;
mod connect;
pub mod counts;
pub mod enqueue;
mod error;
pub mod events;
pub mod files;
pub mod finish;
mod history;
pub mod jobs;
pub mod list;
pub mod logs;
pub mod ops;
pub mod search;
mod session;
mod sets;
mod sql;
mod workers;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DatabaseConnection;

pub use error::StoreError;
pub use workers::WorkerRow;
pub use writer::Tx;

use files::Files;
use writer::Writer;

/// A handle to the database and the files beside it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    read: DatabaseConnection,
    writer: Writer,
    files: Files,
    artifact_ttl: Duration,
    /// Held for as long as this process serves the database.
    lock: Mutex<Option<std::fs::File>>,
}

impl Store {
    /// Where artifacts, uploads and temporary files lie.
    pub fn files(&self) -> &Files {
        &self.inner.files
    }

    /// Waits for what is being written, closes the database and gives its lock back. Whatever is asked afterwards fails.
    pub async fn close(&self) {
        self.inner.writer.close().await;
        if let Err(error) = self.inner.read.close_by_ref().await {
            tracing::warn!(%error, "the database could not be closed");
        }
        self.inner.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn read(&self) -> &DatabaseConnection {
        &self.inner.read
    }

    fn writer(&self) -> &Writer {
        &self.inner.writer
    }
}
