//! One round of a writer on Postgres. Claims, ends and new jobs are one statement and one transaction for each set; every
//! other operation is a transaction of its own.

use futures::FutureExt;
use futures::future::BoxFuture;
use sea_orm::DbErr;

use super::super::counts::{Deltas, PARTS};
use super::super::dialect::Dialect;
use super::super::enqueue::{Batch, Enqueued};
use super::super::error::StoreError;
use super::super::finish::{Finish, Finished};
use super::super::session::Session;
use super::super::sql::{RowExt, Sql};
use super::super::writer::{Single, Tx, Waiting, Work, settle};
use super::{enqueue, sets};

/// How often a set is tried again that the database gave up for the sake of another transaction.
const TRIES: u32 = 4;

/// Writes all of it and acknowledges. Dropping a reply tells its caller that the database did not confirm it.
pub(in super::super) async fn commit(session: &Session, work: Work) -> Result<(), DbErr> {
    let Work {
        finishes,
        enqueues,
        claims,
        singles,
        closing: _,
    } = work;
    if !finishes.is_empty() {
        finish(session, finishes).await?;
    }
    for (claim, reply) in claims {
        // An error here is the database's, and then nothing that follows would fare better.
        let claimed = again(|| sets::claim(session, &claim).boxed()).await.map_err(text)?;
        let _ = reply.send(Ok(claimed));
    }
    if !enqueues.is_empty() {
        enqueue(session, enqueues).await?;
    }
    for one in singles {
        single(session, one).await?;
    }
    Ok(())
}

/// Runs a set until the database does not give it up in favour of another.
async fn again<'a, T>(run: impl Fn() -> BoxFuture<'a, Result<T, StoreError>> + Send) -> Result<T, StoreError> {
    let mut tries = 1;
    loop {
        match run().await {
            Err(error) if tries < TRIES && error.is_contention() => tries += 1,
            done => return done,
        }
    }
}

fn text(error: StoreError) -> DbErr {
    DbErr::Custom(error.to_string())
}

async fn finish(session: &Session, items: Waiting<Finish, Finished>) -> Result<(), DbErr> {
    let asked: Vec<&Finish> = items.iter().map(|(f, _)| f).collect();
    match again(|| sets::finish(session, &asked).boxed()).await {
        Ok(answers) => tell(items, answers),
        Err(error) if error.is_statements_own() && items.len() > 1 => {
            tracing::warn!(%error, "a set could not be written; its operations are tried one by one");
            for (item, reply) in items {
                let answer = sets::finish(session, &[&item]).await;
                tell(vec![(item, reply)], answer.unwrap_or_else(|e| vec![Err(e)]));
            }
        }
        Err(error) => return Err(text(error)),
    }
    Ok(())
}

async fn enqueue(session: &Session, items: Waiting<Batch, Enqueued>) -> Result<(), DbErr> {
    let asked: Vec<&Batch> = items.iter().map(|(b, _)| b).collect();
    match again(|| enqueue::enqueue(session, &asked).boxed()).await {
        Ok(answers) => tell(items, answers),
        Err(error) if error.is_statements_own() && items.len() > 1 => {
            tracing::warn!(%error, "a set could not be written; its operations are tried one by one");
            for (item, reply) in items {
                let answer = enqueue::enqueue(session, &[&item]).await;
                tell(vec![(item, reply)], answer.unwrap_or_else(|e| vec![Err(e)]));
            }
        }
        Err(error) => return Err(text(error)),
    }
    Ok(())
}

/// Each set is committed by the time that it answers.
fn tell<A, T: Send + 'static>(asked: Waiting<A, T>, answers: Vec<Result<T, StoreError>>) {
    let mut done = Vec::with_capacity(asked.len());
    settle(asked, answers, &mut done);
    for acknowledge in done {
        acknowledge(Ok(()));
    }
}

async fn single(session: &Session, single: Single) -> Result<(), DbErr> {
    session.plain("BEGIN").await?;
    let now = clock(session).await?;
    let none = Deltas::default();
    let tx = Tx::new(session, now, &none);
    let ended = single(&tx).await;
    let deltas = tx.into_deltas();
    let acknowledge = match ended {
        Ok(acknowledge) => acknowledge,
        Err(refuse) => {
            let undone = session.plain("ROLLBACK").await;
            refuse();
            return undone;
        }
    };
    for part in PARTS {
        let (mut statement, mut values) = (String::new(), Vec::new());
        part(&deltas, Dialect::Postgres, session.shard, &mut statement, &mut values).map_err(text)?;
        if !statement.is_empty() {
            session.execute(Sql::with(&statement, values)).await?;
        }
    }
    session.plain("COMMIT").await?;
    acknowledge(Ok(()));
    Ok(())
}

async fn clock(session: &Session) -> Result<i64, DbErr> {
    let statement = Sql::new(&format!("SELECT {} AS now", Dialect::Postgres.now())).build();
    let row = session.all(statement).await?.pop();
    let row = row.ok_or_else(|| DbErr::Custom("the clock gave no row".into()))?;
    row.get("now").map_err(text)
}
