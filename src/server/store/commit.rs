//! One commit on SQLite: two scripts for the sets of it, and a savepoint for each of its other operations.

use std::time::Duration;

use sea_orm::{DbErr, Value};

use super::counts::{Deltas, PARTS};
use super::dialect::Dialect;
use super::enqueue::{Batch, Enqueued, Planned};
use super::error::StoreError;
use super::finish::{Finish, Finished};
use super::session::Session;
use super::sets::{self, Answered, Asked};
use super::sql::Sql;
use super::writer::{Acknowledge, Tx, Waiting, Work, acknowledge, settle};

/// How often a commit is tried again while another process writes.
const BUSY_RETRIES: u32 = 5;

/// Writes all of it and acknowledges. Dropping a reply tells its caller that nothing was written.
pub(super) async fn commit(session: &Session, work: Work) -> Result<(), DbErr> {
    if work.is_empty() {
        return Ok(());
    }
    let Work {
        finishes,
        enqueues,
        mut claims,
        singles,
        closing: _,
    } = work;
    let mut deltas = Deltas::default();
    let mut done: Vec<Acknowledge> = Vec::new();
    let now = super::connect::system_clock();
    // The sets go first, so that when they fail nothing is lost by starting over, one by one.
    let alone = singles.is_empty();
    let asked = Work::sets(&finishes, &enqueues, &claims);
    let written = write_sets(session, now, &asked, alone && claims.len() < 2, &mut deltas).await;
    let open = match written {
        Ok((answered, open)) => {
            if !claims.is_empty() {
                let (_, reply) = claims.remove(0);
                done.push(acknowledge(reply, answered.claimed));
            }
            settle(finishes, answered.finished, &mut done);
            settle(enqueues, answered.enqueued, &mut done);
            open
        }
        Err(error) => {
            tracing::warn!(%error, "a set could not be written; its operations are tried one by one");
            // An error means that there is nothing to take back.
            let _ = session.plain("ROLLBACK").await;
            deltas = Deltas::default();
            begin(session).await?;
            one_by_one(session, now, &mut deltas, finishes, enqueues, &mut done).await?;
            true
        }
    };
    if open {
        for (claim, reply) in claims {
            let asked = Asked {
                claim: Some(&claim),
                ..Asked::default()
            };
            let tx = Tx::new(session, now, &deltas);
            // A claim has no reason to fail but a database that fails.
            let (answered, _) = sets::first(&tx, "", &asked).await.map_err(text)?;
            let changed = tx.into_deltas();
            deltas.merge(changed);
            done.push(acknowledge(reply, answered.claimed));
        }
        for single in singles {
            session.plain("SAVEPOINT one").await?;
            let tx = Tx::new(session, now, &deltas);
            let ended = single(&tx).await;
            let changed = tx.into_deltas();
            match ended {
                Ok(acknowledge) => {
                    session.plain("RELEASE one").await?;
                    deltas.merge(changed);
                    done.push(acknowledge);
                }
                Err(refuse) => {
                    take_back(session).await?;
                    refuse();
                }
            }
        }
        last(session, now, None, &deltas).await.map_err(text)?;
    }
    for acknowledge in done {
        acknowledge(Ok(()));
    }
    Ok(())
}

fn text(error: StoreError) -> DbErr {
    DbErr::Custom(error.to_string())
}

/// Writes the sets. `whole`: commits as well, since nothing else belongs to this commit; says whether it is still open.
async fn write_sets(
    session: &Session,
    now: i64,
    asked: &Asked<'_>,
    whole: bool,
    deltas: &mut Deltas,
) -> Result<(Answered, bool), StoreError> {
    let none = Deltas::default();
    let tx = Tx::new(session, now, &none);
    let mut tries = 0;
    let (answered, planned) = loop {
        match sets::first(&tx, "BEGIN IMMEDIATE; ", asked).await {
            Ok(written) => break written,
            // Another process writes at the moment (the demo command, a backup tool), and nothing has begun here.
            Err(e) if tries < BUSY_RETRIES && e.to_string().contains("locked") => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(50 << tries)).await;
            }
            Err(e) => return Err(e),
        }
    };
    deltas.merge(tx.into_deltas());
    if whole {
        last(session, now, Some(&planned), deltas).await?;
    } else {
        let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
        planned.push(now, &mut text, &mut values)?;
        if !text.is_empty() {
            session.all(Sql::with(&text, values)).await?;
        }
    }
    Ok((answered, !whole))
}

/// The last script of a commit.
pub(super) async fn last(
    session: &Session,
    now: i64,
    planned: Option<&Planned<'_>>,
    deltas: &Deltas,
) -> Result<(), StoreError> {
    let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
    if let Some(planned) = planned {
        planned.push(now, &mut text, &mut values)?;
    }
    for part in PARTS {
        part(deltas, Dialect::Sqlite, session.shard, &mut text, &mut values)?;
    }
    text.push_str("COMMIT");
    session.all(Sql::with(&text, values)).await?;
    Ok(())
}

async fn begin(session: &Session) -> Result<(), DbErr> {
    session.plain("BEGIN IMMEDIATE").await
}

async fn take_back(session: &Session) -> Result<(), DbErr> {
    session.plain("ROLLBACK TO one").await?;
    session.plain("RELEASE one").await
}

/// The operations of sets that failed, each in a savepoint of its own.
async fn one_by_one(
    session: &Session,
    now: i64,
    deltas: &mut Deltas,
    finishes: Waiting<Finish, Finished>,
    enqueues: Waiting<Batch, Enqueued>,
    done: &mut Vec<Acknowledge>,
) -> Result<(), DbErr> {
    for (finish, reply) in finishes {
        let asked = Asked {
            finishes: vec![&finish],
            ..Asked::default()
        };
        let answer = savepoint(session, now, deltas, &asked).await?;
        let answer = answer.and_then(|mut a| a.finished.pop().unwrap_or(Err(StoreError::Closed)));
        settle(vec![((), reply)], vec![answer], done);
    }
    for (batch, reply) in enqueues {
        let asked = Asked {
            batches: vec![&batch],
            ..Asked::default()
        };
        let answer = savepoint(session, now, deltas, &asked).await?;
        let answer = answer.and_then(|mut a| a.enqueued.pop().unwrap_or(Err(StoreError::Closed)));
        settle(vec![((), reply)], vec![answer], done);
    }
    Ok(())
}

async fn savepoint(
    session: &Session,
    now: i64,
    deltas: &mut Deltas,
    asked: &Asked<'_>,
) -> Result<Result<Answered, StoreError>, DbErr> {
    session.plain("SAVEPOINT one").await?;
    let tx = Tx::new(session, now, deltas);
    let written = async {
        let (answered, planned) = sets::first(&tx, "", asked).await?;
        let (mut text, mut values) = (String::new(), vec![Value::from(now)]);
        planned.push(now, &mut text, &mut values)?;
        if !text.is_empty() {
            tx.all(Sql::with(&text, values)).await?;
        }
        Ok(answered)
    };
    let written = written.await;
    let changed = tx.into_deltas();
    match &written {
        Ok(_) => {
            session.plain("RELEASE one").await?;
            deltas.merge(changed);
        }
        Err(_) => take_back(session).await?,
    }
    Ok(written)
}
