//! The sample domain: events of cameras.

use futures::FutureExt;
use sea_orm::QueryResult;
use serde::{Deserialize, Serialize};

use super::Store;
use super::dialect::Ty;
use super::error::StoreError;
use super::logs::{fence, save};
use super::ops::{Lease, to_json};
use super::sql::{RowExt, Sql};
use crate::domain::event::{CameraEvent, EventFilter, RiskLevel};

/// The events, as kinds and the demo command reach them.
#[derive(Clone)]
pub struct EventStore {
    store: Store,
    lease: Option<Lease>,
}

/// Where a page of events ended: events are in the order of time, then id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventKey {
    occurred_at: i64,
    id: String,
}

impl EventKey {
    pub fn of(event: &CameraEvent) -> Self {
        Self {
            occurred_at: event.occurred_at.timestamp_millis(),
            id: event.id.clone(),
        }
    }
}

impl EventStore {
    /// For whoever is not a job.
    pub fn open(store: Store) -> Self {
        Self { store, lease: None }
    }

    /// For an attempt: writes are refused once its lease is lost.
    pub fn fenced(store: Store, lease: Lease) -> Self {
        Self {
            store,
            lease: Some(lease),
        }
    }

    /// Adds events, all in one commit, and answers how many are new. One whose id exists is left as it is.
    pub async fn insert(&self, events: Vec<CameraEvent>) -> Result<u64, StoreError> {
        self.insert_and_save(events, |_| None).await
    }

    /// [`EventStore::insert`], and in the same commit where the job's next attempt would go on, as `checkpoint` says of the
    /// number of new events.
    pub async fn insert_and_save(
        &self,
        events: Vec<CameraEvent>,
        checkpoint: impl FnOnce(u64) -> Option<String> + Send + 'static,
    ) -> Result<u64, StoreError> {
        let rows: Vec<_> = events
            .iter()
            .map(|e| {
                (
                    &e.id,
                    &e.camera_id,
                    e.occurred_at.timestamp_millis(),
                    e.risk_level,
                    &e.label,
                    &e.summary,
                    u8::from(e.reviewed),
                    e.metadata.to_string(),
                )
            })
            .collect();
        let rows = to_json(&rows)?;
        let lease = self.lease;
        self.store
            .writer()
            .write(move |tx| {
                async move {
                    if let Some(lease) = lease {
                        fence(tx, lease).await?;
                    }
                    let columns = CameraEvent::COLUMNS.map(|c| match c {
                        "occurred_at" | "reviewed" => (c, Ty::Int),
                        _ => (c, Ty::Text),
                    });
                    let given = tx.dialect().rows("$1", &columns);
                    let names = CameraEvent::COLUMNS.join(", ");
                    let text = format!(
                        "INSERT INTO events ({names}) SELECT {names} FROM {given} AS given WHERE true \
                         ON CONFLICT (id) DO NOTHING"
                    );
                    let new = tx.execute(Sql::with(&text, [rows.into()])).await?;
                    if let (Some(lease), Some(checkpoint)) = (lease, checkpoint(new)) {
                        save(tx, lease, &checkpoint).await?;
                    }
                    Ok(new)
                }
                .boxed()
            })
            .await
    }

    /// How many events match.
    pub async fn count(&self, filter: &EventFilter) -> Result<u64, StoreError> {
        let mut sql = Sql::new("SELECT COUNT(*) AS n FROM events WHERE 1 = 1");
        condition(&mut sql, filter);
        let row = self.store.one(sql.build()).await?;
        row.map_or(Ok(0), |r| r.u64("n"))
    }

    /// At most `limit` events that match, beyond `after`, in the order of time, then id.
    pub async fn page(
        &self,
        filter: &EventFilter,
        after: Option<&EventKey>,
        limit: u32,
    ) -> Result<Vec<CameraEvent>, StoreError> {
        let mut sql = Sql::new("SELECT * FROM events WHERE 1 = 1");
        condition(&mut sql, filter);
        if let Some(key) = after {
            sql.push(" AND (occurred_at, id) > (")
                .bind(key.occurred_at)
                .push(", ")
                .bind(key.id.clone())
                .push(")");
        }
        sql.push(&format!(" ORDER BY occurred_at, id LIMIT {limit}"));
        self.store.all(sql.build()).await?.iter().map(event).collect()
    }
}

fn condition(sql: &mut Sql, filter: &EventFilter) {
    let EventFilter {
        camera_id,
        risk_level,
        from,
        until,
        reviewed,
    } = filter;
    if let Some(camera) = camera_id {
        sql.push(" AND camera_id = ").bind(camera.clone());
    }
    if let Some(risk) = risk_level {
        sql.push(" AND risk_level = ").bind(risk.as_str());
    }
    if let Some(t) = from {
        sql.push(" AND occurred_at >= ").bind(t.timestamp_millis());
    }
    if let Some(t) = until {
        sql.push(" AND occurred_at < ").bind(t.timestamp_millis());
    }
    if let Some(reviewed) = reviewed {
        sql.push(" AND reviewed = ").bind(i64::from(*reviewed));
    }
}

fn event(r: &QueryResult) -> Result<CameraEvent, StoreError> {
    let risk: String = r.get("risk_level")?;
    let metadata: String = r.get("metadata")?;
    Ok(CameraEvent {
        id: r.get("id")?,
        camera_id: r.get("camera_id")?,
        occurred_at: r.time("occurred_at")?,
        risk_level: RiskLevel::parse(&risk).ok_or_else(|| StoreError::corrupt("risk level", risk))?,
        label: r.get("label")?,
        summary: r.get("summary")?,
        reviewed: r.flag("reviewed")?,
        metadata: serde_json::from_str(&metadata).map_err(|_| StoreError::corrupt("metadata", metadata))?,
    })
}
