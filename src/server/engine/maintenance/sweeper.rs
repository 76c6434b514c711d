//! Removes files whose time has passed.

use std::future::Future;

use super::super::Shared;
use crate::server::store::StoreError;

/// Files that go at once.
const CHUNK: u32 = 100;
/// Milliseconds that an upload is kept for a job to be made of it: a day.
const UPLOAD_UNUSED_MS: i64 = 86_400_000;

/// Removes expired artifacts, and uploads that no job was ever made of.
pub(super) async fn sweep(shared: &Shared) -> Result<(), StoreError> {
    let store = &shared.service.store;
    let artifacts = all(|| store.expire_artifacts(CHUNK)).await?;
    let uploads = all(|| store.expire_uploads(UPLOAD_UNUSED_MS, CHUNK)).await?;
    if artifacts + uploads > 0 {
        tracing::info!(artifacts, uploads, "files whose time has passed were removed");
    }
    Ok(())
}

/// Removes chunk after chunk until nothing is left, and says how many files went.
async fn all<F: Future<Output = Result<usize, StoreError>>>(mut chunk: impl FnMut() -> F) -> Result<usize, StoreError> {
    let mut removed = 0;
    loop {
        match chunk().await? {
            0 => return Ok(removed),
            n => removed += n,
        }
    }
}
