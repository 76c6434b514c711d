//! Errors that count as the same problem.

use futures::FutureExt;
use sha2::{Digest, Sha256};

use super::Store;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use crate::domain::error::{ErrorGroup, JobError};
use crate::domain::page::COUNT_CAP;

/// What an error shares with others that count as the same problem: its code and the shape of its message, whatever the kind.
pub(super) fn fingerprint(error: &JobError) -> String {
    let mut hash = Sha256::new();
    hash.update(error.code.as_str());
    hash.update("\n");
    hash.update(error.shape());
    let digest = hash.finalize();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// Problems, the last seen first, at most `limit`.
    pub async fn errors(&self, limit: u32) -> Result<Vec<ErrorGroup>, StoreError> {
        let text = format!(
            "SELECT fingerprint, MIN(first_at) AS first_at, MAX(last_at) AS last_at, CAST(SUM(n) AS BIGINT) AS n FROM errors \
             GROUP BY fingerprint ORDER BY MAX(last_at) DESC, fingerprint LIMIT {limit}"
        );
        let mut groups = Vec::new();
        for row in self.all(Sql::new(&text).build()).await? {
            let fingerprint: String = row.get("fingerprint")?;
            let text = "SELECT kind, code, message FROM errors WHERE fingerprint = $1 ORDER BY last_at DESC, kind";
            let kinds = self.all(Sql::with(text, [fingerprint.clone().into()])).await?;
            let Some(last) = kinds.first() else { continue };
            let text = format!(
                "SELECT COUNT(*) AS n FROM (SELECT 1 FROM jobs WHERE fingerprint = $1 LIMIT {COUNT_CAP}) AS found"
            );
            let jobs = self.one(Sql::with(&text, [fingerprint.clone().into()])).await?;
            groups.push(ErrorGroup {
                code: super::jobs::error_code(last.get("code")?)?,
                message: last.get("message")?,
                kinds: kinds.iter().map(|r| r.get("kind")).collect::<Result<_, _>>()?,
                count: row.u64("n")?,
                jobs: jobs.map_or(Ok(0), |r| r.u64("n"))?,
                first_seen: row.time("first_at")?,
                last_seen: row.time("last_at")?,
                fingerprint,
            });
        }
        Ok(groups)
    }

    /// Forgets problems that were last seen so long ago.
    pub async fn forget_errors(&self, older_than_ms: i64) -> Result<u64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM errors WHERE last_at < $1";
                    Ok(tx.execute(Sql::with(text, [(tx.now() - older_than_ms).into()])).await?)
                }
                .boxed()
            })
            .await
    }
}
