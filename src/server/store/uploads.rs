//! Files that were sent to be worked on.

use std::path::Path;

use futures::FutureExt;

use super::files::Upload;
use super::room;
use super::sql::{RowExt, Sql, int};
use super::{Store, StoreError};

impl Store {
    /// Makes a file that came in completely an upload: synced, moved to its place, recorded.
    pub async fn keep_upload(
        &self,
        id: String,
        owner: &str,
        file_name: String,
        incoming: &Path,
    ) -> Result<Upload, StoreError> {
        let path = self.files().uploads.join(&id);
        let (from, to) = (incoming.to_path_buf(), path.clone());
        let folder = self.files().uploads.clone();
        let moved = tokio::task::spawn_blocking(move || -> std::io::Result<u64> {
            let file = std::fs::File::open(&from)?;
            file.sync_all()?;
            std::fs::rename(&from, &to)?;
            std::fs::File::open(&folder)?.sync_all()?;
            Ok(file.metadata()?.len())
        });
        let size = match moved.await {
            Ok(done) => done.map_err(|e| StoreError::file("the upload can't be stored", e))?,
            Err(e) => return Err(StoreError::file("the upload can't be stored", std::io::Error::other(e))),
        };
        let (upload_id, name) = (id.clone(), file_name.clone());
        let (owner, edge) = (owner.to_string(), self.inner.edge);
        let recorded = self
            .writer()
            .write(move |tx| {
                async move {
                    room::for_upload(tx, &owner, size, &edge).await?;
                    let text =
                        "INSERT INTO uploads (id, file_name, size, created_at, owner) VALUES ($1, $2, $3, $4, $5)";
                    let values = [
                        upload_id.into(),
                        name.into(),
                        int(size).into(),
                        tx.now().into(),
                        owner.into(),
                    ];
                    tx.execute(Sql::with(text, values)).await?;
                    Ok(())
                }
                .boxed()
            })
            .await;
        if let Err(StoreError::Full { .. }) = &recorded {
            self.files().remove_upload(&id).await;
        }
        recorded?;
        Ok(Upload {
            id,
            path,
            file_name,
            size,
        })
    }

    /// The upload with this id, if it is still there.
    pub async fn upload(&self, id: &str) -> Result<Option<Upload>, StoreError> {
        let stmt = Sql::with("SELECT * FROM uploads WHERE id = $1", [id.into()]);
        let Some(row) = self.one(stmt).await? else {
            return Ok(None);
        };
        let id: String = row.get("id")?;
        Ok(Some(Upload {
            path: self.files().uploads.join(&id),
            file_name: row.get("file_name")?,
            size: row.u64("size")?,
            id,
        }))
    }

    /// Removes an upload that no job uses; any other stays.
    pub async fn drop_upload(&self, id: &str) -> Result<(), StoreError> {
        let upload = id.to_string();
        let gone = self
            .writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM uploads WHERE id = $1 AND uses = 0";
                    Ok(tx.execute(Sql::with(text, [upload.into()])).await? > 0)
                }
                .boxed()
            })
            .await?;
        if gone {
            self.files().remove_upload(id).await;
        }
        Ok(())
    }
}
