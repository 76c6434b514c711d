//! What most commits are made of, in two scripts: the first begins, writes the ends of attempts, takes jobs and looks at what
//! new jobs need to know; the second writes the new jobs and the counts, and commits.

use std::collections::HashMap;

use sea_orm::Value;

use super::claim::{self, Claim, Claimed};
use super::enqueue::{self, Batch, Enqueued, Planned};
use super::error::StoreError;
use super::finish::{self, Finish, Finished};
use super::sql::{RowExt, Sql};
use super::writer::Tx;

/// What the sets of one commit ask for.
#[derive(Default)]
pub(super) struct Asked<'a> {
    pub finishes: Vec<&'a Finish>,
    pub batches: Vec<&'a Batch>,
    pub claim: Option<&'a Claim>,
}

/// What they came to: one answer for each.
pub(super) struct Answered {
    pub finished: Vec<Result<Finished, StoreError>>,
    pub enqueued: Vec<Result<Enqueued, StoreError>>,
    pub claimed: Vec<Claimed>,
}

/// Runs the first script, after `opening`; also says what of it is still to be written.
pub(super) async fn first<'a>(
    tx: &Tx<'_>,
    opening: &str,
    asked: &Asked<'a>,
) -> Result<(Answered, Planned<'a>), StoreError> {
    let mut text = opening.to_string();
    let (leases, results) = finish::values(&asked.finishes)?;
    if !asked.finishes.is_empty() {
        text.push_str(finish::END);
        if results.is_some() {
            text.push_str(finish::RESULTS);
        }
    }
    if asked.claim.is_some() {
        text.push_str(&claim::TAKE);
    }
    if !asked.batches.is_empty() {
        text.push_str(enqueue::BEFORE);
    }
    let (seqs, worker, until, limited) = match asked.claim {
        Some(claim) => (
            Some(super::ops::to_json(&claim.seqs)?),
            Some(claim.worker.clone()),
            Some(tx.now() + claim.lease_ms),
            Some(super::ops::to_json(&claim.limited)?),
        ),
        None => (None, None, None, None),
    };
    // The places are those that the statements name.
    let values: [Value; 7] = [
        tx.now().into(),
        leases.into(),
        results.into(),
        seqs.into(),
        worker.into(),
        until.into(),
        limited.into(),
    ];
    let rows = match text.is_empty() {
        true => Vec::new(),
        false => tx.all(Sql::with(&text, values)).await?,
    };
    let mut finished = HashMap::with_capacity(asked.finishes.len());
    let mut claimed = Vec::new();
    let mut before = enqueue::Before::default();
    for row in &rows {
        let what: String = row.get("what")?;
        match what.as_str() {
            "finished" => {
                let (seq, done) = finish::read(tx, row)?;
                finished.insert(seq, done);
            }
            "claimed" => claimed.push(claim::read(tx, row)?),
            _ => before = enqueue::read(tx, row)?,
        }
    }
    let finished = finish::answers(tx, &asked.finishes, finished).await?;
    let (planned, enqueued) = enqueue::plan(tx, &asked.batches, before).await?;
    let answered = Answered {
        finished,
        enqueued,
        claimed,
    };
    Ok((answered, planned))
}
