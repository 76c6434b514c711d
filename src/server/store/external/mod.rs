//! Workers outside of the binary: what they say of themselves and of the kinds that they run.

pub mod heads;
pub mod leases;

use futures::FutureExt;
use sea_orm::QueryResult;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::dialect::{Dialect, Ty};
use super::error::StoreError;
use super::jobs::UNFINISHED;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::workers::{WorkerRow, record};
use super::writer::Tx;
use crate::domain::audit::Deed;

/// The condition of the index over their waiting jobs, in SQLite's words or Postgres'; see the migration.
pub(super) fn waits_outside(dialect: Dialect) -> String {
    format!("status = 'pending' AND {}(kind, '.') > 0", dialect.position())
}

/// A kind as it was declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    pub name: String,
    /// Description, schema, policy and whether it stores checkpoints, as JSON.
    pub told: String,
    /// The same as the audit log has it.
    pub summary: Value,
}

/// A worker that begins.
#[derive(Clone, Debug)]
pub struct Begins {
    pub row: WorkerRow,
    /// Whose it is: no other token can speak for it.
    pub token: Uuid,
    pub kinds: Vec<Declared>,
    /// What the audit log says of it.
    pub deed: Deed,
}

/// A worker as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub token: Uuid,
    pub kinds: Vec<String>,
    pub slots: u32,
}

/// What became of the wish to forget a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    Done,
    /// There is none of this name.
    NotThere,
    /// So many jobs of it have not ended, and so many schedules start some.
    InUse {
        jobs: u64,
        schedules: u64,
    },
}

impl Store {
    /// All kinds that were declared, by name: their names, and what was told of them.
    pub async fn external_kinds(&self) -> Result<Vec<(String, String)>, StoreError> {
        let stmt = Sql::new("SELECT name, told FROM external_kinds ORDER BY name").build();
        let rows = self.all(stmt).await?;
        rows.iter().map(|r| Ok((r.get("name")?, r.get("told")?))).collect()
    }

    /// Something that is another one whenever the kinds have changed: how many there are, and the sum of when each last changed,
    /// which grows with every change whatever the clock says.
    pub async fn external_kinds_mark(&self) -> Result<(i64, i64), StoreError> {
        let text = "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(changed_at), 0) AS BIGINT) AS at FROM external_kinds";
        let row = self.one(Sql::new(text).build()).await?;
        let row = row.ok_or_else(|| StoreError::corrupt("row", "the count gave no row"))?;
        Ok((row.int("n")?, row.int("at")?))
    }

    /// Records a worker and what it declares, in the order of the names; kinds that are as they were are left alone. `false`, and nothing done: there would
    /// be more than `most` kinds.
    pub async fn begin_worker(&self, begins: Begins, most: u64) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| async move { begin(tx, begins, most).await }.boxed())
            .await
    }

    /// The worker of this name, unless it has been silent for too long.
    pub async fn external_worker(&self, id: &str) -> Result<Option<Known>, StoreError> {
        let text = "SELECT token, kinds, slots FROM workers WHERE id = $1 AND token IS NOT NULL";
        let row = self.one(Sql::with(text, [id.into()])).await?;
        row.map(|row| known(&row)).transpose()
    }

    /// Removes a worker, which is given nothing more from then on. `false`: there is none of this name.
    pub async fn end_worker(&self, id: String, deed: Deed) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| async move { end(tx, &id, deed).await }.boxed())
            .await
    }

    /// Removes a kind of which nothing is left to run.
    pub async fn forget_kind(&self, name: String, deed: Deed) -> Result<Forgotten, StoreError> {
        self.writer()
            .write(move |tx| async move { forget(tx, &name, deed).await }.boxed())
            .await
    }
}

/// Whether a worker is known, which stays so until the transaction ends.
pub(super) async fn is_there(tx: &Tx<'_>, worker: &str) -> Result<bool, StoreError> {
    let text = format!(
        "SELECT 1 AS there FROM workers WHERE id = $1 AND token IS NOT NULL{}",
        tx.dialect().hold_rows()
    );
    Ok(tx.one(Sql::with(&text, [worker.into()])).await?.is_some())
}

fn known(row: &QueryResult) -> Result<Known, StoreError> {
    let kinds: Option<String> = row.get("kinds")?;
    let kinds = serde_json::from_str(&kinds.unwrap_or_else(|| "[]".into()));
    Ok(Known {
        token: row.get("token")?,
        slots: row.u32("slots")?,
        kinds: kinds.map_err(|e| StoreError::corrupt("workers.kinds", e))?,
    })
}

async fn begin(tx: &Tx<'_>, begins: Begins, most: u64) -> Result<bool, StoreError> {
    let Begins {
        row,
        token,
        kinds,
        deed,
    } = begins;
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    let list = tx.dialect().list("$1", Ty::Text);
    let text = format!("SELECT COUNT(*) AS n FROM external_kinds WHERE name NOT IN (SELECT value FROM {list} AS l)");
    let others = tx.one(Sql::with(&text, [to_json(&names)?.into()])).await?;
    if others.map(|row| row.u64("n")).transpose()?.unwrap_or(0) + names.len() as u64 > most {
        return Ok(false);
    }
    let mut deeds = Vec::new();
    for kind in &kinds {
        // One that two declare at the same time is written by one after the other.
        let text = format!(
            "SELECT told FROM external_kinds WHERE name = $1{}",
            tx.dialect().hold_rows()
        );
        let before = tx.one(Sql::with(&text, [kind.name.as_str().into()])).await?;
        let before: Option<String> = before.map(|row| row.get("told")).transpose()?;
        if before.as_ref() == Some(&kind.told) {
            continue;
        }
        let text = "INSERT INTO external_kinds (name, told, changed_by, changed_at) VALUES ($1, $2, $3, $4) \
            ON CONFLICT (name) DO UPDATE SET told = excluded.told, changed_by = excluded.changed_by, \
            changed_at = CASE WHEN external_kinds.changed_at >= excluded.changed_at THEN external_kinds.changed_at + 1 \
            ELSE excluded.changed_at END";
        let values = [
            kind.name.as_str().into(),
            kind.told.as_str().into(),
            deed.actor.as_str().into(),
            tx.now().into(),
        ];
        tx.execute(Sql::with(text, values)).await?;
        let declares = Deed {
            action: "kind.declare".into(),
            object: "kind".into(),
            name: kind.name.clone(),
            after: Some(kind.summary.clone()),
            before: before.map(|told| {
                serde_json::from_str(&told)
                    .map(|told| summary(&told))
                    .unwrap_or_default()
            }),
            ..deed.clone()
        };
        deeds.push(declares);
    }
    record(tx, &row).await?;
    let text = "UPDATE workers SET token = $2, kinds = $3 WHERE id = $1";
    let values = [row.id.as_str().into(), token.into(), to_json(&names)?.into()];
    tx.execute(Sql::with(text, values)).await?;
    deeds.push(deed.to(json!({ "host": row.host, "version": row.version, "slots": row.slots, "kinds": names })));
    append(tx, &deeds).await?;
    Ok(true)
}

async fn end(tx: &Tx<'_>, id: &str, deed: Deed) -> Result<bool, StoreError> {
    let text = "DELETE FROM workers WHERE id = $1 AND token IS NOT NULL RETURNING host, version, slots, kinds, token";
    let Some(row) = tx.one(Sql::with(text, [id.into()])).await? else {
        return Ok(false);
    };
    let Known { kinds, slots, .. } = known(&row)?;
    let was = json!({
        "host": row.get::<String>("host")?, "version": row.get::<String>("version")?, "slots": slots, "kinds": kinds,
    });
    append(tx, &[deed.from(was)]).await?;
    Ok(true)
}

/// What the audit log says of a kind: all but its schema, of which it has the hash.
pub fn summary(told: &Value) -> Value {
    use sha2::{Digest, Sha256};
    let schema = Sha256::digest(told["args_schema"].to_string());
    json!({
        "description": told["description"], "policy": told["policy"], "checkpoints": told["checkpoints"],
        "args_schema_sha256": schema.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

async fn forget(tx: &Tx<'_>, name: &str, deed: Deed) -> Result<Forgotten, StoreError> {
    let text = format!(
        "SELECT told FROM external_kinds WHERE name = $1{}",
        tx.dialect().hold_rows()
    );
    let Some(row) = tx.one(Sql::with(&text, [name.into()])).await? else {
        return Ok(Forgotten::NotThere);
    };
    let told: String = row.get("told")?;
    let count = async |text: &str| -> Result<u64, StoreError> {
        let row = tx.one(Sql::with(text, [name.into()])).await?;
        Ok(row.map(|row| row.u64("n")).transpose()?.unwrap_or(0))
    };
    let unfinished =
        format!("SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS n FROM job_counts WHERE kind = $1 AND {UNFINISHED}");
    let jobs = count(&unfinished).await?;
    let schedules = count("SELECT COUNT(*) AS n FROM schedules WHERE kind = $1").await?;
    if jobs > 0 || schedules > 0 {
        return Ok(Forgotten::InUse { jobs, schedules });
    }
    let text = "DELETE FROM external_kinds WHERE name = $1";
    tx.execute(Sql::with(text, [name.into()])).await?;
    let was = serde_json::from_str(&told)
        .map(|told| summary(&told))
        .unwrap_or_default();
    append(tx, &[deed.from(was)]).await?;
    Ok(Forgotten::Done)
}
