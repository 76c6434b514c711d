//! Removes files whose time has passed.

use super::super::Shared;
use crate::server::store::StoreError;

/// Removes expired artifacts, a hundred at a time.
pub(super) async fn sweep(shared: &Shared) -> Result<(), StoreError> {
    let mut removed = 0;
    loop {
        let n = shared.service.store.expire_artifacts(100).await?;
        if n == 0 {
            break;
        }
        removed += n;
    }
    if removed > 0 {
        tracing::info!(artifacts = removed, "expired artifacts were removed");
    }
    Ok(())
}
