//! The workers, as they report themselves.

use futures::FutureExt;

use super::Store;
use super::error::StoreError;
use super::sql::Sql;
use super::writer::Tx;

/// A worker's report of itself. Its id is drawn anew at each start of its process.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub id: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub slots: u32,
    pub in_use: u32,
}

impl Store {
    /// Records that the worker lives, and forgets those that have been silent for five minutes.
    pub async fn worker_beat(&self, worker: WorkerRow) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| async move { record(tx, &worker).await }.boxed())
            .await
    }

    /// Forgets a worker that ends.
    pub async fn worker_gone(&self, id: String) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    tx.execute(Sql::with("DELETE FROM workers WHERE id = $1", [id.into()]))
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// A worker is silent for at most so many milliseconds before it is forgotten.
const SILENT_MAX: i64 = 300_000;

/// Writes down that the worker lives, and forgets those that have been silent.
pub(super) async fn record(tx: &Tx<'_>, worker: &WorkerRow) -> Result<(), StoreError> {
    let text = "INSERT INTO workers (id, host, pid, version, slots, in_use, started_at, heartbeat_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (id) DO UPDATE SET \
        slots = excluded.slots, in_use = excluded.in_use, heartbeat_at = excluded.heartbeat_at";
    let values = [
        worker.id.as_str().into(),
        worker.host.as_str().into(),
        i64::from(worker.pid).into(),
        worker.version.as_str().into(),
        i64::from(worker.slots).into(),
        i64::from(worker.in_use).into(),
        tx.now().into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    let silent = "DELETE FROM workers WHERE heartbeat_at < $1";
    tx.execute(Sql::with(silent, [(tx.now() - SILENT_MAX).into()])).await?;
    Ok(())
}
