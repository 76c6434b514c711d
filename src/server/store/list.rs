//! Lists of jobs: the filter as a condition, pages by key, counts that stop early.

use sea_orm::{ConnectionTrait, Value};
use serde::{Deserialize, Serialize};

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::search::STALE_MAX;
use super::sql::{RowExt, Sql};
use crate::domain::error::Problem;
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::page::COUNT_CAP;

/// Where a page ended: the sort column's value and the job's number. On the wire JSON in lower-case hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    sort: Sort,
    order: Order,
    value: Key,
    seq: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

impl Cursor {
    /// The position of `row` in a list sorted by `filter`.
    pub fn of(filter: &JobFilter, row: &JobRow) -> Self {
        let time = |t: Option<crate::domain::time::Timestamp>| t.map_or(Key::Null, |t| Key::Int(t.timestamp_millis()));
        let job = &row.job;
        Self {
            sort: filter.sort,
            order: filter.order,
            value: match filter.sort {
                Sort::CreatedAt => time(Some(job.created_at)),
                Sort::StartedAt => time(job.started_at),
                Sort::CompletedAt => time(job.completed_at),
                Sort::Progress => job.progress.map_or(Key::Null, Key::Real),
                Sort::JobType => Key::Text(job.kind.clone()),
                Sort::Status => Key::Text(job.status.as_str().into()),
            },
            seq: row.seq,
        }
    }

    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        json.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Reads what [`Cursor::encode`] wrote for the same order; anything else is the caller's mistake.
    pub fn decode(text: &str, filter: &JobFilter) -> Result<Self, Problem> {
        let bad = || Problem::invalid("cursor", "cursor is not one that this list gave out; start without one");
        if !text.is_ascii() || !text.len().is_multiple_of(2) || text.len() > 2_000 {
            return Err(bad());
        }
        let bytes = (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).map_err(|_| bad()))
            .collect::<Result<Vec<u8>, _>>()?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if cursor.sort != filter.sort || cursor.order != filter.order {
            return Err(Problem::invalid(
                "cursor",
                "cursor belongs to a list in another order; start without one",
            ));
        }
        Ok(cursor)
    }
}

fn column(sort: Sort) -> &'static str {
    match sort {
        Sort::CreatedAt => "created_at",
        Sort::StartedAt => "started_at",
        Sort::CompletedAt => "completed_at",
        Sort::Progress => "progress",
        Sort::JobType => "kind",
        Sort::Status => "status",
    }
}

/// Cells (see the index jobs_cell) that one list merges at the most; with more of them it goes through the jobs in order.
const CELLS_MAX: usize = 64;

impl Store {
    /// At most `limit` jobs that match, from `after` or `offset` on.
    pub async fn list(
        &self,
        filter: &JobFilter,
        limit: u32,
        offset: u32,
        after: Option<&Cursor>,
    ) -> Result<Vec<JobRow>, StoreError> {
        let (column, order) = (column(filter.sort), filter.order.as_str());
        let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM jobs WHERE "));
        match self.cells(filter).await? {
            Some(cells) if cells.is_empty() => return Ok(Vec::new()),
            Some(cells) => {
                sql.push("seq IN (");
                merged(&mut sql, filter, &cells, limit.saturating_add(offset), after);
                sql.push(")");
            }
            None => {
                condition(&mut sql, filter);
                if let Some(cursor) = after {
                    sql.push(" AND ");
                    beyond(&mut sql, cursor);
                }
            }
        }
        sql.push(&format!(
            " ORDER BY {column} {order}, seq {order} LIMIT {limit} OFFSET {offset}"
        ));
        self.read()
            .query_all_raw(sql.build())
            .await?
            .iter()
            .map(job_row)
            .collect()
    }

    /// The cells that hold what matches, when reading those is the shortest way.
    async fn cells(&self, filter: &JobFilter) -> Result<Option<Vec<(String, String)>>, StoreError> {
        let narrowed = !filter.status.is_empty() || filter.kind.is_some();
        let useful = match filter.sort {
            Sort::CreatedAt => narrowed,
            Sort::Status | Sort::JobType => true,
            Sort::StartedAt | Sort::CompletedAt | Sort::Progress => false,
        };
        if !useful || filter.q.is_some() || filter.owner.is_some() || filter.parent.is_some() {
            return Ok(None);
        }
        let counted = JobFilter {
            created_after: None,
            created_before: None,
            ..filter.clone()
        };
        let mut sql = Sql::new("SELECT DISTINCT status, kind FROM job_counts WHERE n > 0 AND ");
        condition(&mut sql, &counted);
        let rows = self.read().query_all_raw(sql.build()).await?;
        let cells = rows.iter().map(|r| Ok((r.get("status")?, r.get("kind")?)));
        let cells: Vec<_> = cells.collect::<Result<_, StoreError>>()?;
        Ok((cells.len() <= CELLS_MAX).then_some(cells))
    }

    /// How many jobs match, and whether counting stopped at [`COUNT_CAP`]. Exact and free of counting where the counts
    /// per status, kind and queue suffice.
    pub async fn count(&self, filter: &JobFilter) -> Result<(u64, bool), StoreError> {
        if filter.counted() {
            let mut sql = Sql::new("SELECT COALESCE(SUM(n), 0) AS n FROM job_counts WHERE ");
            condition(&mut sql, filter);
            let row = self.read().query_one_raw(sql.build()).await?;
            return Ok((row.map(|r| r.u64("n")).transpose()?.unwrap_or(0), false));
        }
        let mut sql = Sql::new("SELECT COUNT(*) AS n FROM (SELECT 1 FROM jobs WHERE ");
        condition(&mut sql, filter);
        sql.push(&format!(" LIMIT {})", COUNT_CAP + 1));
        let row = self.read().query_one_raw(sql.build()).await?;
        let n = row.map(|r| r.u64("n")).transpose()?.unwrap_or(0);
        Ok((n.min(COUNT_CAP), n > COUNT_CAP))
    }
}

/// The numbers of the first `limit` jobs of each cell that match and lie beyond the cursor.
fn merged(sql: &mut Sql, filter: &JobFilter, cells: &[(String, String)], limit: u32, after: Option<&Cursor>) {
    let rest = JobFilter {
        status: Vec::new(),
        kind: None,
        ..filter.clone()
    };
    let order = filter.order.as_str();
    for (i, (status, kind)) in cells.iter().enumerate() {
        sql.push(if i > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT seq FROM (SELECT seq FROM jobs WHERE status = ")
            .bind(status.as_str());
        sql.push(" AND kind = ").bind(kind.as_str()).push(" AND ");
        condition(sql, &rest);
        if let Some(cursor) = after {
            sql.push(" AND ");
            if filter.sort == Sort::CreatedAt {
                // Within a cell the order of enqueueing is that of the numbers.
                let op = if filter.order == Order::Desc { "<" } else { ">" };
                sql.push(&format!("seq {op} ")).bind(cursor.seq);
            } else {
                beyond(sql, cursor);
            }
        }
        sql.push(&format!(" ORDER BY seq {order} LIMIT {limit})"));
    }
}

/// The filter as a condition over `jobs` (or `job_counts`, when [`JobFilter::counted`]).
fn condition(sql: &mut Sql, filter: &JobFilter) {
    let JobFilter {
        q,
        status,
        kind,
        queue,
        owner,
        parent,
        created_after,
        created_before,
        sort: _,
        order: _,
    } = filter;
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
    is(
        " AND created_at >= ",
        created_after.map(|t| t.timestamp_millis().into()),
    );
    is(
        " AND created_at < ",
        created_before.map(|t| t.timestamp_millis().into()),
    );
    if let Some(q) = q {
        search(sql, &q.to_lowercase());
    }
}

/// Jobs whose search text contains `q` (lower case). Three characters and more use the trigram index; jobs that it does not
/// know as they are (those that run, and those that changed a moment ago), and shorter texts, are looked at row by row.
fn search(sql: &mut Sql, q: &str) {
    const TEXT: &str = "lower(kind || ' ' || owner || ' ' || message || ' ' || COALESCE(error_code, '') || ' ' || COALESCE(error, ''))";
    let indexed = q.chars().count() >= 3;
    sql.push(" AND ");
    if indexed {
        let phrase = format!("\"{}\"", q.replace('"', "\"\""));
        sql.push("seq IN (SELECT rowid FROM job_search WHERE text MATCH ")
            .bind(phrase);
        sql.push(&format!(
            " UNION ALL SELECT seq FROM jobs WHERE (status = 'running' OR seq IN \
             (SELECT job_seq FROM search_stale ORDER BY job_seq DESC LIMIT {STALE_MAX})) AND "
        ));
    }
    sql.push(&format!("(instr({TEXT}, ")).bind(q).push(") > 0");
    sql.push(" OR instr(lower(hex(id)), ")
        .bind(q.replace('-', ""))
        .push(") > 0)");
    if indexed {
        sql.push(")");
    }
}

/// Beyond the cursor in its order. NULLs come first ascending and last descending, as SQLite sorts them.
fn beyond(sql: &mut Sql, cursor: &Cursor) {
    let column = column(cursor.sort);
    let descending = cursor.order == Order::Desc;
    let op = if descending { "<" } else { ">" };
    let nullable = matches!(cursor.sort, Sort::StartedAt | Sort::CompletedAt | Sort::Progress);
    let value: Value = match &cursor.value {
        Key::Null => {
            sql.push(&format!("({column} IS NULL AND seq {op} ")).bind(cursor.seq);
            if !descending {
                sql.push(&format!(" OR {column} IS NOT NULL"));
            }
            sql.push(")");
            return;
        }
        Key::Int(v) => (*v).into(),
        Key::Real(v) => (*v).into(),
        Key::Text(v) => v.clone().into(),
    };
    sql.push(&format!("(({column}, seq) {op} ("))
        .bind(value)
        .push(", ")
        .bind(cursor.seq)
        .push(")");
    if descending && nullable {
        sql.push(&format!(" OR {column} IS NULL"));
    }
    sql.push(")");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_and_a_foreign_one_is_refused() {
        let filter = JobFilter::default();
        let cursor = Cursor {
            sort: Sort::CreatedAt,
            order: Order::Desc,
            value: Key::Int(5),
            seq: 7,
        };
        assert_eq!(Cursor::decode(&cursor.encode(), &filter), Ok(cursor.clone()));
        let other = JobFilter {
            order: Order::Asc,
            ..filter.clone()
        };
        for (text, filter) in [
            ("zz", &filter),
            ("7b7d", &filter),
            ("é1", &filter),
            (&*cursor.encode(), &other),
        ] {
            assert_eq!(
                Cursor::decode(text, filter).expect_err("refused").field.as_deref(),
                Some("cursor")
            );
        }
    }
}
