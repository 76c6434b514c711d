//! How much room files may take up, and that they are the files that were put there.

use std::path::Path;

use super::files::Files;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::server::config::Edge;

/// Bytes of what is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub total: u64,
    /// One person's, or one job's.
    pub own: u64,
}

impl Used {
    /// Whether `size` bytes more fit beside the uploads that are kept, for whoever's own these are.
    pub fn fits_upload(&self, size: u64, edge: &Edge) -> Result<(), StoreError> {
        self.fits(
            size,
            ("uploads", "UPLOADS_MAX_TOTAL", edge.uploads_max_total),
            ("the uploads of one person", "UPLOADS_MAX_USER", edge.uploads_max_user),
        )
    }

    fn fits_artifact(&self, size: u64, edge: &Edge) -> Result<(), StoreError> {
        self.fits(
            size,
            (
                "the files that jobs leave behind",
                "ARTIFACTS_MAX_TOTAL",
                edge.artifacts_max_total,
            ),
            ("the files of one job", "ARTIFACTS_MAX_JOB", edge.artifacts_max_job),
        )
    }

    fn fits(&self, size: u64, total: Limit, own: Limit) -> Result<(), StoreError> {
        for (used, (what, setting, max)) in [(self.own, own), (self.total, total)] {
            if used.saturating_add(size) > max {
                return Err(StoreError::Full { what, setting, max });
            }
        }
        Ok(())
    }
}

/// What is limited, by which setting, to how many bytes.
type Limit = (&'static str, &'static str, u64);

fn uploads(owner: &str) -> sea_orm::Statement {
    Sql::with(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS total, \
         CAST(COALESCE(SUM(CASE WHEN owner = $1 THEN size ELSE 0 END), 0) AS BIGINT) AS own FROM uploads",
        [owner.into()],
    )
}

fn used(row: Option<&sea_orm::QueryResult>) -> Result<Used, StoreError> {
    row.map_or(Ok(Used::default()), |row| {
        Ok(Used {
            total: row.u64("total")?,
            own: row.u64("own")?,
        })
    })
}

/// Refuses an upload that there is no room for. In the transaction that records it, so that two that come at the same time
/// don't both get the last room.
pub(super) async fn for_upload(tx: &Tx<'_>, owner: &str, size: u64, edge: &Edge) -> Result<(), StoreError> {
    used(tx.one(uploads(owner)).await?.as_ref())?.fits_upload(size, edge)
}

/// The same of a job's file, in the place of one of the same name if there is one.
pub(super) async fn for_artifact(
    tx: &Tx<'_>,
    job_seq: i64,
    name: &str,
    size: u64,
    edge: &Edge,
) -> Result<(), StoreError> {
    let others = Sql::with(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS total, \
         CAST(COALESCE(SUM(CASE WHEN job_seq = $1 THEN size ELSE 0 END), 0) AS BIGINT) AS own \
         FROM artifacts WHERE NOT (job_seq = $1 AND name = $2)",
        [job_seq.into(), name.into()],
    );
    used(tx.one(others).await?.as_ref())?.fits_artifact(size, edge)
}

impl Store {
    /// Bytes of the uploads that are kept, in all and this person's.
    pub async fn uploads_used(&self, owner: &str) -> Result<Used, StoreError> {
        used(self.one(uploads(owner)).await?.as_ref())
    }

    /// The limits that the settings give to files.
    pub fn edge(&self) -> &Edge {
        &self.inner.edge
    }
}

impl Files {
    /// Whether there is a file at this path that lies in the folder for artifacts, and is no link out of it.
    pub async fn is_artifact(&self, path: &Path) -> bool {
        let facts = tokio::fs::symlink_metadata(path).await;
        let (root, real) = (
            tokio::fs::canonicalize(&self.artifacts).await,
            tokio::fs::canonicalize(path).await,
        );
        match (facts, root, real) {
            (Ok(facts), Ok(root), Ok(real)) => facts.is_file() && real.starts_with(root),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_reached_is_named() {
        let limits = (("all", "TOTAL", 100), ("own", "OWN", 60));
        let used = Used { total: 80, own: 10 };
        let setting = |size| match used.fits(size, limits.0, limits.1) {
            Ok(()) => "fits",
            Err(StoreError::Full { setting, .. }) => setting,
            Err(_) => "another error",
        };
        assert_eq!(
            (setting(20), setting(21), setting(51), setting(u64::MAX)),
            ("fits", "TOTAL", "OWN", "OWN")
        );
    }

    #[tokio::test]
    async fn a_link_is_no_artifact() {
        let dir = tempfile::TempDir::new().expect("folder");
        let files = Files::open(dir.path()).expect("files");
        let job = dir.path().join("artifacts/job");
        std::fs::create_dir(&job).expect("folder");
        std::fs::write(job.join("good"), "x").expect("file");
        std::fs::write(dir.path().join("secret"), "x").expect("file");
        std::os::unix::fs::symlink("../../secret", job.join("link")).expect("link");
        std::os::unix::fs::symlink("../..", job.join("folder")).expect("link");
        assert!(files.is_artifact(&job.join("good")).await);
        for bad in ["link", "folder", "folder/secret", "../../secret", "none", "."] {
            assert!(!files.is_artifact(&job.join(bad)).await, "{bad}");
        }
    }
}
