//! What the jobs that match are made of.

use std::collections::BTreeMap;

use sea_orm::{QueryResult, Statement};

use super::super::Store;
use super::super::error::StoreError;
use super::super::jobs::error_code;
use super::super::sql::{RowExt, Sql};
use super::condition::Condition;
use crate::domain::facets::{ERRORS_MAX, ErrorFacet, Facets};
use crate::domain::filter::JobFilter;
use crate::domain::page::COUNT_CAP;

impl Store {
    /// How many jobs match per status, kind, queue and error. By the table of counts where that suffices, else by looking at the
    /// jobs, [`COUNT_CAP`] at the most; the same number of those with an error.
    pub async fn facets(&self, filter: &JobFilter) -> Result<Facets, StoreError> {
        if self.nothing_in_default(filter).await? {
            return Ok(Facets::default());
        }
        let condition = self.condition(filter).await?;
        let mut facets = Facets::default();
        let mut seen = 0;
        let counted = filter.counted();
        let rows = match counted {
            true => self.all(by_counts(&self.bare(filter))).await?,
            false => self.all(by_jobs(&condition)).await?,
        };
        for row in &rows {
            let n = row.u64("n")?;
            seen += n;
            for (facet, column) in [
                (&mut facets.status, "status"),
                (&mut facets.kind, "kind"),
                (&mut facets.queue, "queue"),
            ] {
                *facet.entry(row.get::<String>(column)?).or_default() += n;
            }
        }
        facets.capped = !counted && seen > COUNT_CAP;
        let (mut errors, mut met) = (BTreeMap::new(), 0);
        for row in self.all(of_errors(&condition)).await? {
            met += row.u64("n")?;
            let error = error(&row)?;
            errors.insert((u64::MAX - error.count, error.fingerprint.clone()), error);
        }
        facets.error = errors.into_values().take(ERRORS_MAX).collect();
        facets.error_capped = met > COUNT_CAP;
        Ok(facets)
    }
}

fn error(row: &QueryResult) -> Result<ErrorFacet, StoreError> {
    Ok(ErrorFacet {
        fingerprint: row.get("fingerprint")?,
        code: error_code(row.get("error_code")?)?,
        message: row.get("error")?,
        count: row.u64("n")?,
    })
}

fn by_counts(condition: &Condition<'_>) -> Statement {
    let mut sql = Sql::new("SELECT status, kind, queue, CAST(SUM(n) AS BIGINT) AS n FROM job_counts WHERE ");
    condition.push(&mut sql);
    sql.push(" GROUP BY status, kind, queue HAVING SUM(n) > 0");
    sql.build()
}

fn by_jobs(condition: &Condition<'_>) -> Statement {
    let mut sql =
        Sql::new("SELECT status, kind, queue, COUNT(*) AS n FROM (SELECT status, kind, queue FROM jobs WHERE ");
    condition.push(&mut sql);
    let enough = COUNT_CAP + 1;
    sql.push(&format!(" LIMIT {enough}) AS found GROUP BY status, kind, queue"));
    sql.build()
}

fn of_errors(condition: &Condition<'_>) -> Statement {
    let mut sql = Sql::new(
        "SELECT fingerprint, MIN(error_code) AS error_code, MIN(error) AS error, COUNT(*) AS n FROM \
         (SELECT fingerprint, error_code, error FROM jobs WHERE fingerprint IS NOT NULL AND ",
    );
    condition.push(&mut sql);
    let enough = COUNT_CAP + 1;
    sql.push(&format!(" LIMIT {enough}) AS found GROUP BY fingerprint"));
    sql.build()
}
