//! Links that let somebody in once, as whoever manages users sees them. They are made and used in `users.rs`.

use futures::FutureExt;
use sea_orm::QueryResult;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::account::{PendingLink, Purpose};
use crate::domain::audit::Deed;
use crate::domain::user::Role;

/// Links that a list gives at the most.
const LIST_MAX: i64 = 10_000;
/// Digits of the hash of a link's key by which people name it.
const LINK_ID: usize = 32;

fn pending(row: &QueryResult) -> Result<PendingLink, StoreError> {
    let (purpose, role): (String, String) = (row.get("purpose")?, row.get("role")?);
    let mut id: String = row.get("hash")?;
    id.truncate(LINK_ID);
    Ok(PendingLink {
        id,
        purpose: Purpose::parse(&purpose).ok_or_else(|| StoreError::corrupt("links.purpose", purpose))?,
        email: row.get("email")?,
        role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("links.role", role))?,
        made_by: row.get("made_by")?,
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

impl Store {
    /// Links that still work, but for the first admin's, the newest first.
    pub async fn links(&self) -> Result<Vec<PendingLink>, StoreError> {
        let now = self.clock().await?;
        let text = "SELECT hash, purpose, email, role, made_by, created_at, expires_at FROM links \
            WHERE expires_at > $1 AND purpose <> 'first' ORDER BY created_at DESC, hash LIMIT $2";
        let rows = self.all(Sql::with(text, [now.into(), LIST_MAX.into()])).await?;
        rows.iter().map(pending).collect()
    }

    /// Ends the link with this [`PendingLink::id`]. Says whether there was one that still worked.
    pub async fn revoke_link(&self, id: String, deed: Deed) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = format!(
                        "DELETE FROM links WHERE substr(hash, 1, {LINK_ID}) = $1 AND expires_at > $2 AND purpose <> 'first' \
                         RETURNING hash, purpose, email, role, made_by, created_at, expires_at"
                    );
                    let Some(row) = tx.one(Sql::with(&text, [id.into(), tx.now().into()])).await? else {
                        return Ok(false);
                    };
                    let was = pending(&row)?;
                    let deed = Deed {
                        name: was.email,
                        ..deed
                    };
                    let before = json!({ "purpose": was.purpose, "role": was.role, "made_by": was.made_by });
                    append(tx, &[deed.from(before)]).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await
    }
}

/// Links for a new password of this user work no more.
pub(super) async fn forget_resets(tx: &Tx<'_>, id: Uuid) -> Result<(), StoreError> {
    let text = "DELETE FROM links WHERE purpose = 'reset' AND email = (SELECT email FROM users WHERE id = $1)";
    tx.execute(Sql::with(text, [id.into()])).await?;
    Ok(())
}

/// Ends the links of somebody who may make none any more, so that they keep no way back in. Gives what the audit log says
/// `after` that, with their number if there were any.
pub(super) async fn end_links_made_by(tx: &Tx<'_>, email: &str, mut after: Value) -> Result<Value, StoreError> {
    let text = "DELETE FROM links WHERE made_by = $1 AND expires_at > $2";
    let ended = tx.execute(Sql::with(text, [email.into(), tx.now().into()])).await?;
    if ended > 0 {
        after["links_ended"] = ended.into();
    }
    Ok(after)
}
