//! Lists of jobs: the filter as a condition, pages by key, counts that stop early.

mod condition;
mod cursor;
mod facets;

use sea_orm::Statement;

use super::Store;
use super::error::StoreError;
use super::jobs::{COLUMNS, JobRow, job_row};
use super::sql::{RowExt, Sql};
use crate::domain::filter::{JobFilter, Order, Sort};
use crate::domain::job::{DEFAULT_QUEUE, JobId};
use crate::domain::page::COUNT_CAP;
use crate::domain::status::Status;
use crate::domain::time::Timestamp;
use condition::Condition;
pub use cursor::Cursor;
use cursor::Key;

/// What a list is sorted by; none: by the order of enqueueing, which is that of the numbers.
fn key(sort: Sort) -> Option<&'static str> {
    match sort {
        Sort::CreatedAt => None,
        Sort::StartedAt => Some("started_at"),
        Sort::CompletedAt => Some("completed_at"),
        // Only a running job's progress says anything.
        Sort::Progress => Some("CASE WHEN status = 'running' THEN progress END"),
        Sort::JobType => Some("kind"),
        Sort::Status => Some("status"),
    }
}

/// Of a sort by something that jobs may have or not: those that have it, as the index of them is told; and the statuses of
/// those that have not, with what else is true of them.
struct Parts {
    present: &'static str,
    statuses: &'static [Status],
    absent: &'static str,
}

fn parts(sort: Sort) -> Option<Parts> {
    use Status::*;
    let (present, statuses, absent): (_, &[Status], _) = match sort {
        Sort::StartedAt => (
            "started_at IS NOT NULL",
            &[Scheduled, Blocked, Pending, Paused, Cancelled],
            "started_at IS NULL",
        ),
        Sort::CompletedAt => (
            "completed_at IS NOT NULL",
            &[Scheduled, Blocked, Pending, Running, Retrying, Paused],
            "completed_at IS NULL",
        ),
        Sort::Progress => (
            "status = 'running' AND progress IS NOT NULL",
            &Status::ALL,
            "(status <> 'running' OR progress IS NULL)",
        ),
        Sort::CreatedAt | Sort::JobType | Sort::Status => return None,
    };
    Some(Parts {
        present,
        statuses,
        absent,
    })
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
        if self.nothing_in_default(filter).await? {
            return Ok(Vec::new());
        }
        let condition = self.condition(filter).await?;
        match parts(filter.sort) {
            Some(parts) if offset == 0 => self.list_in_parts(&condition, &parts, limit, after).await,
            _ => self.list_whole(&condition, limit, offset, after).await,
        }
    }

    /// The ids of all that match, the oldest first, at most `limit`.
    pub async fn matching(&self, filter: &JobFilter, limit: u32) -> Result<Vec<JobId>, StoreError> {
        let filter = JobFilter {
            sort: Sort::CreatedAt,
            order: Order::Asc,
            ..filter.clone()
        };
        let cells = self.cells(&filter).await?;
        if self.nothing_in_default(&filter).await? || cells.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let condition = self.condition(&filter).await?;
        let stmt = whole("id", &condition, cells.as_deref(), limit, 0, None);
        self.all(stmt).await?.iter().map(|row| row.get("id")).collect()
    }

    /// Whether the filter asks for the default queue and nothing is there that could match. The index of queues leaves that one
    /// out, since most jobs are in it and a walk through all soon finds them; when there are none it would find that out last.
    async fn nothing_in_default(&self, filter: &JobFilter) -> Result<bool, StoreError> {
        if filter.queue.as_deref() != Some(DEFAULT_QUEUE) {
            return Ok(false);
        }
        let counted = JobFilter {
            status: filter.status.clone(),
            kind: filter.kind.clone(),
            queue: filter.queue.clone(),
            ..JobFilter::default()
        };
        Ok(self.count(&counted).await?.0 == 0)
    }

    async fn list_whole(
        &self,
        condition: &Condition<'_>,
        limit: u32,
        offset: u32,
        after: Option<&Cursor>,
    ) -> Result<Vec<JobRow>, StoreError> {
        let cells = self.cells(condition.filter).await?;
        if cells.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let stmt = whole(COLUMNS, condition, cells.as_deref(), limit, offset, after);
        self.all(stmt).await?.iter().map(job_row).collect()
    }

    /// Of a sort by something that not all jobs have: one part after the other, each by its own index.
    async fn list_in_parts(
        &self,
        condition: &Condition<'_>,
        parts: &Parts,
        limit: u32,
        after: Option<&Cursor>,
    ) -> Result<Vec<JobRow>, StoreError> {
        let descending = condition.filter.order == Order::Desc;
        let in_absent = after.is_some_and(|c| c.value == Key::Null);
        // Those without come first ascending and last descending.
        let turns = if descending { [true, false] } else { [false, true] };
        let mut rows: Vec<JobRow> = Vec::new();
        for present in turns {
            let rest = limit.saturating_sub(rows.len() as u32);
            // A cursor in the second part has the first behind it.
            let passed = after.is_some() && present != turns[1] && present == in_absent;
            if rest == 0 || passed {
                continue;
            }
            // A cursor in the first part says nothing about the second.
            let after = after.filter(|_| present != in_absent);
            rows.extend(match present {
                true => self.list_present(condition, parts, rest, after).await?,
                false => self.list_absent(condition, parts, rest, after).await?,
            });
        }
        Ok(rows)
    }

    async fn list_present(
        &self,
        condition: &Condition<'_>,
        parts: &Parts,
        limit: u32,
        after: Option<&Cursor>,
    ) -> Result<Vec<JobRow>, StoreError> {
        let filter = condition.filter;
        let (column, direction) = match filter.sort {
            // As the index has it.
            Sort::Progress => ("progress", filter.order.as_str()),
            sort => (key(sort).unwrap_or("seq"), filter.order.as_str()),
        };
        let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM jobs WHERE {} AND ", parts.present));
        condition.push(&mut sql);
        if let Some(cursor) = after {
            let op = if filter.order == Order::Desc { "<" } else { ">" };
            sql.push(&format!(" AND ({column}, seq) {op} ("));
            sql.bind(cursor.value.clone()).push(", ").bind(cursor.seq).push(")");
        }
        sql.push(&format!(
            " ORDER BY {column} {direction}, seq {direction} LIMIT {limit}"
        ));
        self.all(sql.build()).await?.iter().map(job_row).collect()
    }

    async fn list_absent(
        &self,
        condition: &Condition<'_>,
        parts: &Parts,
        limit: u32,
        after: Option<&Cursor>,
    ) -> Result<Vec<JobRow>, StoreError> {
        let filter = condition.filter;
        let wanted = |status: &&Status| filter.status.is_empty() || filter.status.contains(status);
        let narrowed = JobFilter {
            status: parts.statuses.iter().filter(wanted).copied().collect(),
            sort: Sort::CreatedAt,
            ..filter.clone()
        };
        if narrowed.status.is_empty() {
            return Ok(Vec::new());
        }
        let condition = Condition {
            filter: &narrowed,
            ..*condition
        };
        let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM jobs WHERE "));
        match self.cells(&narrowed).await? {
            Some(cells) if cells.is_empty() => return Ok(Vec::new()),
            Some(cells) => {
                sql.push("seq IN (");
                merged(&mut sql, &condition, &cells, parts.absent, limit, after);
                sql.push(")");
            }
            None => {
                sql.push(parts.absent).push(" AND ");
                condition.push(&mut sql);
                if let Some(cursor) = after {
                    let op = if filter.order == Order::Desc { "<" } else { ">" };
                    sql.push(&format!(" AND seq {op} ")).bind(cursor.seq);
                }
            }
        }
        sql.push(&format!(" ORDER BY seq {} LIMIT {limit}", filter.order.as_str()));
        self.all(sql.build()).await?.iter().map(job_row).collect()
    }

    /// The filter as a condition, with its moments as numbers of jobs.
    async fn condition<'a>(&self, filter: &'a JobFilter) -> Result<Condition<'a>, StoreError> {
        let dialect = self.dialect();
        let disorder = dialect.disorder_ms();
        let at = |moment: Option<Timestamp>, slack: i64| moment.map(|t| t.timestamp_millis().saturating_add(slack));
        let (from, until) = (at(filter.created_after, -disorder), at(filter.created_before, disorder));
        Ok(Condition {
            dialect,
            filter,
            from: match from {
                Some(moment) => Some(self.first_since(moment).await?),
                None => None,
            },
            until: match until {
                Some(moment) => Some(self.first_since(moment).await?),
                None => None,
            },
        })
    }

    /// The number of the first job that was enqueued at this moment or later; beyond all numbers, where there is none.
    async fn first_since(&self, moment: i64) -> Result<i64, StoreError> {
        match self.one(first_since(moment)).await? {
            Some(row) => row.get("low"),
            None => Ok(0),
        }
    }

    /// For the table of counts, which knows no moments.
    fn bare<'a>(&self, filter: &'a JobFilter) -> Condition<'a> {
        Condition {
            dialect: self.dialect(),
            filter,
            from: None,
            until: None,
        }
    }

    /// The cells that hold what matches, when reading those is the shortest way.
    async fn cells(&self, filter: &JobFilter) -> Result<Option<Vec<(String, String)>>, StoreError> {
        let narrowed = !filter.status.is_empty() || filter.kind.is_some();
        let useful = match filter.sort {
            Sort::CreatedAt => narrowed,
            Sort::Status | Sort::JobType => true,
            Sort::StartedAt | Sort::CompletedAt | Sort::Progress => false,
        };
        if !useful || filter.elsewhere() {
            return Ok(None);
        }
        self.cells_of(filter).await
    }

    /// The cells that hold what matches, unless there are too many.
    async fn cells_of(&self, filter: &JobFilter) -> Result<Option<Vec<(String, String)>>, StoreError> {
        let counted = JobFilter {
            created_after: None,
            created_before: None,
            ..filter.clone()
        };
        let mut sql = Sql::new("SELECT status, kind FROM job_counts WHERE ");
        self.bare(&counted).push(&mut sql);
        sql.push(" GROUP BY status, kind HAVING SUM(n) > 0");
        let rows = self.all(sql.build()).await?;
        let cells = rows.iter().map(|r| Ok((r.get("status")?, r.get("kind")?)));
        let cells: Vec<_> = cells.collect::<Result<_, StoreError>>()?;
        Ok((cells.len() <= CELLS_MAX).then_some(cells))
    }

    /// How many jobs match, and whether counting stopped at [`COUNT_CAP`]. Exact and free of counting where the counts
    /// per status, kind and queue suffice.
    pub async fn count(&self, filter: &JobFilter) -> Result<(u64, bool), StoreError> {
        if filter.counted() {
            let mut sql = Sql::new("SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n FROM job_counts WHERE ");
            self.bare(filter).push(&mut sql);
            let row = self.one(sql.build()).await?;
            return Ok((row.map(|r| r.u64("n")).transpose()?.unwrap_or(0), false));
        }
        // Queues other than the default one have an index of their own.
        let cells = match filter.elsewhere() || filter.queue.is_some() {
            true => None,
            false => self.cells_of(filter).await?,
        };
        if cells.as_ref().is_some_and(Vec::is_empty) {
            return Ok((0, false));
        }
        let row = self
            .one(counting(&self.condition(filter).await?, cells.as_deref()))
            .await?;
        let n = row.map(|r| r.u64("n")).transpose()?.unwrap_or(0);
        Ok((n.min(COUNT_CAP), n > COUNT_CAP))
    }
}

/// Halves the numbers within one statement: each of its own would be a way there and back. SQLite would look for the lowest and
/// the highest number in all rows, were they asked for in one select.
fn first_since(moment: i64) -> Statement {
    const MIDDLE: &str = "FROM jobs WHERE seq >= low + (high - low) / 2 ORDER BY seq LIMIT 1";
    let text = format!(
        "WITH RECURSIVE halves(low, high) AS (\
         SELECT COALESCE((SELECT MIN(seq) FROM jobs), 0), COALESCE((SELECT MAX(seq) FROM jobs), 0) + 1 UNION ALL \
         SELECT CASE WHEN (SELECT created_at {MIDDLE}) < $1 THEN (SELECT seq + 1 {MIDDLE}) ELSE low END, \
         CASE WHEN (SELECT created_at {MIDDLE}) < $1 THEN high ELSE low + (high - low) / 2 END \
         FROM halves WHERE low < high) SELECT MAX(low) AS low FROM halves"
    );
    Sql::with(&text, [moment.into()])
}

/// How many match, up to one over what is told.
fn counting(condition: &Condition<'_>, cells: Option<&[(String, String)]>) -> Statement {
    let enough = COUNT_CAP as u32 + 1;
    let mut sql = Sql::new("SELECT COUNT(*) AS n FROM (");
    match cells {
        Some(cells) => merged(&mut sql, condition, cells, "1 = 1", enough, None),
        None => {
            sql.push(&format!("SELECT 1 FROM {} WHERE ", condition.jobs()));
            condition.push(&mut sql);
        }
    }
    sql.push(&format!(" LIMIT {enough}) AS found"));
    sql.build()
}

/// These columns of one page of all that match, from these cells where there are any.
fn whole(
    columns: &str,
    condition: &Condition<'_>,
    cells: Option<&[(String, String)]>,
    limit: u32,
    offset: u32,
    after: Option<&Cursor>,
) -> Statement {
    let jobs = if cells.is_some() { "jobs" } else { condition.jobs() };
    let mut sql = Sql::new(&format!("SELECT {columns} FROM {jobs} WHERE "));
    match cells {
        Some(cells) => {
            sql.push("seq IN (");
            let enough = limit.saturating_add(offset);
            merged(&mut sql, condition, cells, "1 = 1", enough, after);
            sql.push(")");
        }
        None => {
            condition.push(&mut sql);
            if let Some(cursor) = after {
                sql.push(" AND ");
                beyond(&mut sql, cursor);
            }
        }
    }
    order(&mut sql, condition.filter);
    sql.push(&format!(" LIMIT {limit} OFFSET {offset}"));
    sql.build()
}

/// The numbers of the first `limit` jobs of each cell that match, are as `also` says, and lie beyond the cursor.
fn merged(
    sql: &mut Sql,
    condition: &Condition<'_>,
    cells: &[(String, String)],
    also: &str,
    limit: u32,
    after: Option<&Cursor>,
) {
    let filter = condition.filter;
    let rest = JobFilter {
        status: Vec::new(),
        kind: None,
        ..filter.clone()
    };
    let rest = Condition {
        filter: &rest,
        ..*condition
    };
    let order = filter.order.as_str();
    for (i, (status, kind)) in cells.iter().enumerate() {
        sql.push(if i > 0 { " UNION ALL " } else { "" });
        sql.push("SELECT seq FROM (SELECT seq FROM jobs WHERE status = ")
            .bind(status.as_str());
        sql.push(" AND kind = ").bind(kind.as_str());
        sql.push(&format!(" AND {also} AND "));
        rest.push(sql);
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
        sql.push(&format!(" ORDER BY seq {order} LIMIT {limit}) AS cell"));
    }
}

fn order(sql: &mut Sql, filter: &JobFilter) {
    let (direction, nulls) = (filter.order.as_str(), nulls(filter.order));
    sql.push(" ORDER BY ");
    if let Some(key) = key(filter.sort) {
        sql.push(&format!("{key} {direction} {nulls}, "));
    }
    sql.push(&format!("seq {direction}"));
}

/// NULLs come first ascending and last descending.
fn nulls(order: Order) -> &'static str {
    match order {
        Order::Asc => "NULLS FIRST",
        Order::Desc => "NULLS LAST",
    }
}

/// Beyond the cursor in its order.
fn beyond(sql: &mut Sql, cursor: &Cursor) {
    let descending = cursor.order == Order::Desc;
    let op = if descending { "<" } else { ">" };
    let Some(column) = key(cursor.sort) else {
        sql.push(&format!("seq {op} ")).bind(cursor.seq);
        return;
    };
    let nullable = parts(cursor.sort).is_some();
    if cursor.value == Key::Null {
        sql.push(&format!("({column} IS NULL AND seq {op} ")).bind(cursor.seq);
        if !descending {
            sql.push(&format!(" OR {column} IS NOT NULL"));
        }
        sql.push(")");
        return;
    }
    sql.push(&format!("(({column}, seq) {op} ("))
        .bind(cursor.value.clone())
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
    use super::super::dialect::Dialect;
    use super::super::plan_tests::plan;
    use super::*;

    #[tokio::test]
    async fn a_list_of_a_queue_does_not_walk_past_the_others() {
        let filter = JobFilter {
            queue: Some("rare".into()),
            ..JobFilter::default()
        };
        let condition = Condition {
            dialect: Dialect::Sqlite,
            filter: &filter,
            from: None,
            until: None,
        };
        let plan = plan(whole(COLUMNS, &condition, None, 50, 0, None)).await;
        assert!(plan[0].contains("jobs_queue (queue=?)"), "{plan:?}");
        assert_eq!(plan.len(), 1, "nothing is sorted: {plan:?}");
    }

    #[tokio::test]
    async fn an_owners_few_failures_are_found_without_walking_past_the_rest() {
        let of = |status: &[Status]| JobFilter {
            owner: Some("ada".into()),
            status: status.to_vec(),
            ..JobFilter::default()
        };
        for (status, index) in [
            (&[Status::Failed][..], "jobs_owner_apart (owner=?)"),
            (&[Status::Failed, Status::Dead], "jobs_owner_apart (owner=?)"),
            (&[Status::Failed, Status::Completed], "jobs_owner (owner=?)"),
            (&[], "jobs_owner (owner=?)"),
        ] {
            let filter = of(status);
            let condition = Condition {
                dialect: Dialect::Sqlite,
                filter: &filter,
                from: None,
                until: None,
            };
            let listed = plan(whole(COLUMNS, &condition, None, 50, 0, None)).await;
            assert!(listed[0].contains(index), "{status:?}: {listed:?}");
            assert_eq!(listed.len(), 1, "nothing is sorted: {listed:?}");
            let counted = plan(counting(&condition, None)).await;
            let found = counted.iter().any(|step| step.contains(index));
            assert!(found, "{status:?}: {counted:?}");
        }
    }

    #[tokio::test]
    async fn jobs_of_a_status_and_a_time_are_counted_by_the_index_alone() {
        let filter = JobFilter {
            status: vec![Status::Completed],
            created_after: Timestamp::from_timestamp_millis(1_000),
            created_before: Timestamp::from_timestamp_millis(2_000),
            ..JobFilter::default()
        };
        let condition = Condition {
            dialect: Dialect::Sqlite,
            filter: &filter,
            from: Some(10),
            until: Some(20),
        };
        let cells = [("completed".to_string(), "echo".to_string())];
        let plan = plan(counting(&condition, Some(&cells))).await;
        let reads: Vec<_> = plan.iter().filter(|step| step.contains(" jobs")).collect();
        let whole = "COVERING INDEX jobs_cell (status=? AND kind=? AND seq>? AND seq<?)";
        assert!(reads.len() == 1 && reads[0].contains(whole), "{plan:?}");
    }

    #[tokio::test]
    async fn the_number_of_a_moment_is_found_without_walking_over_all_jobs() {
        let plan = plan(first_since(1)).await;
        assert!(plan.iter().any(|step| step.contains("SEARCH jobs")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("SCAN jobs")), "{plan:?}");
    }
}
