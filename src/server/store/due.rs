//! Jobs that wait for their time.

use std::collections::HashMap;

use futures::FutureExt;
use sea_orm::Statement;

use super::Store;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::jobs::{COLUMNS, job_row, status};
use super::ops::{Changed, to_json};
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::machine::Effects;
use crate::domain::status::Status;

/// Jobs that are put into their queues at once.
const STEP: u32 = 500;

impl Store {
    /// Milliseconds until the next scheduled or retrying job falls due; 0 when one is.
    pub async fn next_due(&self) -> Result<Option<u64>, StoreError> {
        let wait: Option<i64> = match self.one(next(self.dialect())).await? {
            Some(row) => row.get("wait")?,
            None => None,
        };
        Ok(wait.map(|w| u64::try_from(w).unwrap_or(0)))
    }

    /// Puts scheduled and retrying jobs whose time has come into their queues, at most five hundred: for a set of jobs what
    /// the machine says about [`Event::Due`]. Those that another process has in hand at this moment are passed over.
    ///
    /// [`Event::Due`]: crate::domain::machine::Event::Due
    pub async fn promote_due(&self) -> Result<Vec<Changed>, StoreError> {
        self.writer().write(|tx| promote_due(tx).boxed()).await
    }
}

pub(super) fn next(dialect: Dialect) -> Statement {
    let text = format!(
        "SELECT MIN(run_at) - {} AS wait FROM jobs{} WHERE status IN ('scheduled', 'retrying')",
        dialect.now(),
        dialect.by("jobs_due")
    );
    Sql::new(&text).build()
}

/// Those whose time has come, the first due first.
pub(super) fn due(dialect: Dialect, now: i64) -> Statement {
    let text = format!(
        "SELECT seq, status, attempt FROM jobs{} WHERE status IN ('scheduled', 'retrying') AND run_at <= $1 \
         ORDER BY run_at LIMIT {STEP}{}",
        dialect.by("jobs_due"),
        dialect.take_rows()
    );
    Sql::with(&text, [now.into()])
}

async fn promote_due(tx: &Tx<'_>) -> Result<Vec<Changed>, StoreError> {
    let due = tx.all(due(tx.dialect(), tx.now())).await?;
    let mut was: HashMap<i64, Status> = HashMap::with_capacity(due.len());
    let mut steps: Vec<(i64, u32, &str)> = Vec::with_capacity(due.len());
    for row in &due {
        let (seq, before) = (row.get("seq")?, status(row)?);
        was.insert(seq, before);
        steps.push((seq, row.u32("attempt")?, before.as_str()));
    }
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let seqs = to_json(&was.keys().collect::<Vec<_>>())?;
    let list = tx.dialect().list("$1", Ty::Int);
    let text = format!(
        "UPDATE jobs SET status = 'pending', rev = rev + 1 WHERE seq IN (SELECT value FROM {list} AS l) RETURNING {COLUMNS}"
    );
    let rows = tx.all(Sql::with(&text, [seqs.into()])).await?;
    let columns = [("s", Ty::Int), ("a", Ty::Int), ("f", Ty::Text)];
    let text = format!(
        "INSERT INTO transitions (job_seq, attempt, at, from_status, to_status, by, reason) \
         SELECT s, a, $1, f, 'pending', 'system', 'its time has come' FROM {} AS due",
        tx.dialect().rows("$2", &columns)
    );
    tx.execute(Sql::with(&text, [tx.now().into(), to_json(&steps)?.into()]))
        .await?;
    let effects = Effects {
        announce: true,
        ..Effects::default()
    };
    let mut changed = Vec::with_capacity(rows.len());
    for row in &rows {
        let row = job_row(row)?;
        if let Some(was) = was.get(&row.seq) {
            tx.moves(*was, Status::Pending, &row.job.kind, &row.job.queue, row.job.batch);
        }
        changed.push(Changed { row, effects });
    }
    // First due, first announced.
    changed.sort_by_key(|c| (c.row.job.run_at, c.row.seq));
    Ok(changed)
}
