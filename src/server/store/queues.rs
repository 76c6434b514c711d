//! Queues that a person has paused.

use futures::FutureExt;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use crate::domain::audit::Deed;
use crate::domain::queue::Paused;

impl Store {
    /// The paused queues by name.
    pub async fn paused_queues(&self) -> Result<Vec<(String, Paused)>, StoreError> {
        let stmt = Sql::new("SELECT name, paused_by, paused_at FROM paused_queues ORDER BY name").build();
        let rows = self.all(stmt).await?;
        let paused = rows.iter().map(|r| {
            let paused = Paused {
                by: r.get("paused_by")?,
                at: r.time("paused_at")?,
            };
            Ok((r.get("name")?, paused))
        });
        paused.collect()
    }

    /// Nothing is taken from the queue from now on. Pausing a paused one changes nothing.
    pub async fn pause_queue(&self, name: String, deed: Deed) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "INSERT INTO paused_queues (name, paused_by, paused_at) VALUES ($1, $2, $3) \
                        ON CONFLICT (name) DO NOTHING";
                    let values = [name.into(), deed.actor.as_str().into(), tx.now().into()];
                    if tx.execute(Sql::with(text, values)).await? > 0 {
                        append(tx, &[deed]).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Its jobs go again.
    pub async fn resume_queue(&self, name: String, deed: Deed) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM paused_queues WHERE name = $1";
                    if tx.execute(Sql::with(text, [name.into()])).await? > 0 {
                        append(tx, &[deed]).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}
