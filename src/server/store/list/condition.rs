//! A filter of jobs in SQL.

use sea_orm::Value;

use super::super::dialect::Dialect;
use super::super::search::STALE_MAX;
use super::super::sql::Sql;
use crate::domain::filter::{JobFilter, Sort};
use crate::domain::job::DEFAULT_QUEUE;
use crate::domain::status::Status;

/// What most jobs go through: the index jobs_owner_apart leaves these out.
const USUAL: [Status; 3] = [Status::Pending, Status::Running, Status::Completed];

/// A filter as a condition over `jobs` (or `job_counts`, when [`JobFilter::counted`]).
pub(super) struct Condition<'a> {
    pub dialect: Dialect,
    pub filter: &'a JobFilter,
    /// Numbers that the filter's moments lie between, as far as [`Dialect::disorder_ms`] lets them say.
    pub from: Option<i64>,
    pub until: Option<i64>,
}

impl Condition<'_> {
    /// Whether the index of an owner's jobs apart from the usual way leads to what matches, in its order.
    fn is_apart(&self) -> bool {
        let JobFilter {
            q,
            owner,
            status,
            parent,
            batch,
            error,
            sort,
            ..
        } = self.filter;
        let unusual = !status.is_empty() && status.iter().all(|status| !USUAL.contains(status));
        // Each of these leads to fewer.
        let better = q.is_some() || parent.is_some() || batch.is_some() || error.is_some();
        *sort == Sort::CreatedAt && owner.is_some() && unusual && !better
    }

    /// The jobs, to be gone through by the index that leads to the fewest of them. SQLite, which knows nothing of how many there are,
    /// would take the one of all jobs of an owner.
    pub fn jobs(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite if self.is_apart() => "jobs INDEXED BY jobs_owner_apart",
            _ => "jobs",
        }
    }

    pub fn push(&self, sql: &mut Sql) {
        let JobFilter {
            q,
            status,
            kind,
            queue,
            owner,
            parent,
            batch,
            error,
            created_after,
            created_before,
            sort,
            order: _,
        } = self.filter;
        sql.push("1 = 1");
        if !status.is_empty() {
            sql.push(" AND status IN (");
            for (i, s) in status.iter().enumerate() {
                if i > 0 {
                    sql.push(", ");
                }
                sql.bind(s.as_str());
            }
            sql.push(")");
        }
        let mut is = |column: &str, value: Option<Value>| {
            if let Some(v) = value {
                sql.push(column).bind(v);
            }
        };
        is(" AND kind = ", kind.clone().map(Into::into));
        is(" AND queue = ", queue.clone().map(Into::into));
        is(" AND owner = ", owner.clone().map(Into::into));
        is(" AND parent = ", parent.map(Into::into));
        is(" AND batch = ", batch.map(Into::into));
        is(" AND fingerprint = ", error.clone().map(Into::into));
        is(" AND seq >= ", self.from.map(Into::into));
        is(" AND seq < ", self.until.map(Into::into));
        // Where the numbers are in the order of the moments they have said it all, and an index that holds them suffices.
        let roughly = |number: Option<i64>| number.is_none() || self.dialect.disorder_ms() > 0;
        let after = created_after.filter(|_| roughly(self.from));
        let before = created_before.filter(|_| roughly(self.until));
        is(" AND created_at >= ", after.map(|t| t.timestamp_millis().into()));
        is(" AND created_at < ", before.map(|t| t.timestamp_millis().into()));
        // As the index of queues says it, which is for the others. Only where nothing else leads to fewer jobs, and where they come in
        // its order: a queue may be a large one, and is not to be sorted for a page.
        let by_queue = *sort == Sort::CreatedAt && !self.filter.elsewhere();
        if by_queue && queue.as_ref().is_some_and(|queue| queue != DEFAULT_QUEUE) {
            sql.push(&format!(" AND queue <> '{DEFAULT_QUEUE}'"));
        }
        // As the index says it.
        if self.is_apart() {
            sql.push(" AND status IN ('scheduled', 'blocked', 'retrying', 'paused', 'failed', 'dead', 'cancelled')");
        }
        if let Some(q) = q {
            search(self.dialect, sql, &q.to_lowercase());
        }
    }
}

/// Jobs whose search text contains `q` (lower case). Three characters and more use the trigram index; jobs that it does not
/// know as they are (those that run, and those that changed a moment ago), and shorter texts, are looked at row by row.
fn search(dialect: Dialect, sql: &mut Sql, q: &str) {
    const TEXT: &str = "lower(kind || ' ' || owner || ' ' || message || ' ' || COALESCE(error_code, '') || ' ' || COALESCE(error, ''))";
    let indexed = q.chars().count() >= 3;
    sql.push(" AND ");
    if indexed {
        match dialect {
            Dialect::Sqlite => {
                let phrase = format!("\"{}\"", q.replace('"', "\"\""));
                sql.push("seq IN (SELECT rowid FROM job_search WHERE text MATCH ")
                    .bind(phrase);
            }
            Dialect::Postgres => {
                let pattern = q.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
                sql.push("seq IN (SELECT job_seq FROM job_search WHERE text LIKE ")
                    .bind(format!("%{pattern}%"));
            }
        }
        sql.push(&format!(
            " UNION ALL SELECT seq FROM jobs WHERE (status = 'running' OR seq IN \
             (SELECT job_seq FROM search_stale ORDER BY job_seq DESC LIMIT {STALE_MAX})) AND "
        ));
    }
    let position = dialect.position();
    sql.push(&format!("({position}({TEXT}, ")).bind(q).push(") > 0");
    sql.push(&format!(" OR {position}({}, ", dialect.hex("id")))
        .bind(q.replace('-', ""))
        .push(") > 0)");
    if indexed {
        sql.push(")");
    }
}
