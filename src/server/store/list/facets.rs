//! What the jobs that match are made of.

use std::collections::BTreeMap;

use sea_orm::{QueryResult, Statement};

use super::super::Store;
use super::super::error::StoreError;
use super::super::jobs::error_code;
use super::super::sql::{RowExt, Sql};
use super::condition::Condition;
use super::merged;
use crate::domain::facets::{ERRORS_MAX, ErrorFacet, Facets};
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::page::COUNT_CAP;
use crate::domain::status::Status;

/// Where jobs stand whose last attempt failed.
const FAILURES: [Status; 3] = [Status::Retrying, Status::Failed, Status::Dead];

/// Cells of the index jobs_cell: status and kind.
type Cells = Vec<(String, String)>;

impl Store {
    /// How many jobs match per status, kind, queue and error. By the table of counts where that suffices, else by looking at the
    /// newest [`COUNT_CAP`] of them; errors are those of the newest so many that failed.
    pub async fn facets(&self, filter: &JobFilter) -> Result<Facets, StoreError> {
        if self.nothing_in_default(filter).await? {
            return Ok(Facets::default());
        }
        let newest = JobFilter {
            sort: Sort::CreatedAt,
            order: Order::Desc,
            ..filter.clone()
        };
        let mut facets = Facets::default();
        let mut seen = 0;
        let counted = newest.counted();
        let rows = match counted {
            true => self.all(by_counts(&self.bare(&newest))).await?,
            false => match self.scanned(&newest).await? {
                Some(cells) => {
                    self.all(by_jobs(&self.condition(&newest).await?, cells.as_ref()))
                        .await?
                }
                None => Vec::new(),
            },
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
        facets.capped = !counted && seen >= COUNT_CAP;
        self.errors_of(&newest, &mut facets).await?;
        Ok(facets)
    }

    async fn errors_of(&self, newest: &JobFilter, facets: &mut Facets) -> Result<(), StoreError> {
        let wanted = |status: &Status| newest.status.is_empty() || newest.status.contains(status);
        let failed = JobFilter {
            status: FAILURES.into_iter().filter(wanted).collect(),
            ..newest.clone()
        };
        if failed.status.is_empty() {
            return Ok(());
        }
        let Some(cells) = self.scanned(&failed).await? else {
            return Ok(());
        };
        let (mut errors, mut met) = (BTreeMap::new(), 0);
        for row in self
            .all(of_errors(&self.condition(&failed).await?, cells.as_ref()))
            .await?
        {
            met += row.u64("n")?;
            let error = error(&row)?;
            errors.insert((u64::MAX - error.count, error.fingerprint.clone()), error);
        }
        facets.error = errors.into_values().take(ERRORS_MAX).collect();
        facets.error_capped = met >= COUNT_CAP;
        Ok(())
    }

    /// The cells to look through, when those are the shortest way; the outer none: nothing can match.
    async fn scanned(&self, filter: &JobFilter) -> Result<Option<Option<Cells>>, StoreError> {
        let cells = self.cells(filter).await?;
        Ok(Some(cells).filter(|cells| !cells.as_ref().is_some_and(Vec::is_empty)))
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

fn by_jobs(condition: &Condition<'_>, cells: Option<&Cells>) -> Statement {
    let mut sql = Sql::new("SELECT status, kind, queue, COUNT(*) AS n FROM (SELECT status, kind, queue FROM ");
    newest(&mut sql, condition, cells, "1 = 1");
    sql.push(") AS found GROUP BY status, kind, queue");
    sql.build()
}

fn of_errors(condition: &Condition<'_>, cells: Option<&Cells>) -> Statement {
    let mut sql = Sql::new(
        "SELECT fingerprint, MIN(error_code) AS error_code, MIN(error) AS error, COUNT(*) AS n FROM \
         (SELECT fingerprint, error_code, error FROM ",
    );
    newest(&mut sql, condition, cells, "fingerprint IS NOT NULL");
    sql.push(") AS found GROUP BY fingerprint");
    sql.build()
}

/// The newest of those that match and are as `also` says, as many as are looked at.
fn newest(sql: &mut Sql, condition: &Condition<'_>, cells: Option<&Cells>, also: &str) {
    let most = COUNT_CAP as u32;
    match cells {
        Some(cells) => {
            sql.push("jobs WHERE seq IN (");
            merged(sql, condition, cells, also, most, None);
            sql.push(")");
        }
        None => {
            sql.push(condition.jobs()).push(" WHERE ").push(also).push(" AND ");
            condition.push(sql);
        }
    }
    sql.push(&format!(" ORDER BY seq DESC LIMIT {most}"));
}
