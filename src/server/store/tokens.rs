//! API tokens: what the database knows of them.

use futures::FutureExt;
use sea_orm::{QueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::users::{self, UserRow};
use super::writer::Tx;
use crate::domain::account::Token;
use crate::domain::audit::Deed;
use crate::domain::user::{Grant, Scope};

/// A token as its secret finds it.
#[derive(Clone)]
pub struct TokenRow {
    pub token: Token,
    /// Whom it acts for.
    pub user: Option<UserRow>,
    pub now: i64,
}

impl TokenRow {
    pub fn grant(&self) -> Grant {
        Grant {
            scopes: self.token.scopes.clone(),
            kinds: self.token.kinds.clone(),
        }
    }
}

/// A new token.
#[derive(Clone)]
pub struct TokenDraft {
    pub hash: String,
    pub hint: String,
    pub name: String,
    pub user: Option<Uuid>,
    pub scopes: Vec<Scope>,
    pub kinds: Vec<String>,
    pub made_by: String,
    /// Milliseconds from now.
    pub lasts: Option<i64>,
}

/// Tokens that a list gives at the most.
const TOKENS_LISTED: i64 = 10_000;

/// Whether a token can be used at the moment `now`.
fn usable(now: &str) -> String {
    format!("tokens.revoked_at IS NULL AND (tokens.expires_at IS NULL OR tokens.expires_at > {now})")
}

/// How many tokens can be used that count together with this one.
async fn usable_tokens(tx: &Tx<'_>, draft: &TokenDraft) -> Result<u64, StoreError> {
    let owner = match draft.user {
        Some(id) => Some(id),
        None => users::by_email(tx, &draft.made_by).await?.map(|row| row.user.id),
    };
    if let Some(id) = owner {
        // Held, so that of two that are made at the same time one counts the other.
        users::one(tx, id).await?;
    }
    let (whose, value): (&str, Value) = match draft.user {
        Some(id) => ("tokens.user_id = $1", id.into()),
        None => (
            "tokens.user_id IS NULL AND tokens.made_by = $1",
            draft.made_by.as_str().into(),
        ),
    };
    let text = format!("SELECT count(*) AS n FROM tokens WHERE {whose} AND {}", usable("$2"));
    let row = tx.one(Sql::with(&text, [value, tx.now().into()])).await?;
    Ok(row.map(|row| row.u64("n")).transpose()?.unwrap_or(0))
}

const TOKEN: &str = "tokens.id AS token_id, tokens.name AS token_name, tokens.hint AS hint, tokens.scopes AS scopes, \
    tokens.kinds AS token_kinds, tokens.made_by AS made_by, tokens.created_at AS token_created, tokens.expires_at AS expires_at, \
    tokens.used_at AS used_at, tokens.used_from AS used_from, tokens.revoked_at AS revoked_at, users.email AS owner";

fn token(row: &QueryResult) -> Result<Token, StoreError> {
    let (scopes, kinds): (String, String) = (row.get("scopes")?, row.get("token_kinds")?);
    Ok(Token {
        id: row.get("token_id")?,
        name: row.get("token_name")?,
        hint: row.get("hint")?,
        owner: row.get("owner")?,
        scopes: serde_json::from_str(&scopes).map_err(|e| StoreError::corrupt("tokens.scopes", e))?,
        kinds: serde_json::from_str(&kinds).map_err(|e| StoreError::corrupt("tokens.kinds", e))?,
        made_by: row.get("made_by")?,
        created_at: row.time("token_created")?,
        expires_at: row.opt_time("expires_at")?,
        used_at: row.opt_time("used_at")?,
        used_from: row.get("used_from")?,
        revoked_at: row.opt_time("revoked_at")?,
    })
}

impl Store {
    /// Keeps a token under the hash of its secret; `None`: there are `most` already that can be used, of whom it acts for, or
    /// of those that act for themselves by whom it is made.
    pub async fn add_token(&self, draft: TokenDraft, most: u64, deed: Deed) -> Result<Option<Token>, StoreError> {
        let id = Uuid::now_v7();
        self.writer()
            .write(move |tx| {
                async move {
                    if usable_tokens(tx, &draft).await? >= most {
                        return Ok(None);
                    }
                    let text = "INSERT INTO tokens (id, hash, hint, name, user_id, scopes, kinds, made_by, created_at, expires_at) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
                    let values = [
                        id.into(),
                        draft.hash.into(),
                        draft.hint.into(),
                        draft.name.into(),
                        draft.user.into(),
                        to_json(&draft.scopes)?.into(),
                        to_json(&draft.kinds)?.into(),
                        draft.made_by.into(),
                        tx.now().into(),
                        draft.lasts.map(|ms| tx.now().saturating_add(ms)).into(),
                    ];
                    tx.execute(Sql::with(text, values)).await?;
                    append(tx, &[Deed { name: id.to_string(), ..deed }]).await?;
                    let text = format!(
                        "SELECT {TOKEN} FROM tokens LEFT JOIN users ON users.id = tokens.user_id WHERE tokens.id = $1"
                    );
                    let row = tx.one(Sql::with(&text, [id.into()])).await?;
                    token(&row.ok_or_else(|| StoreError::corrupt("tokens", "a new one is not there"))?).map(Some)
                }
                .boxed()
            })
            .await
    }

    /// The token with this hash, with whom it acts for; whether it still holds is the caller's to say.
    pub async fn token(&self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        self.token_where("hash", hash.into()).await
    }

    /// The same of the token with this id.
    pub async fn token_by_id(&self, id: Uuid) -> Result<Option<TokenRow>, StoreError> {
        self.token_where("id", id.into()).await
    }

    async fn token_where(&self, column: &str, is: Value) -> Result<Option<TokenRow>, StoreError> {
        let (users, now) = (users::COLUMNS, self.dialect().now());
        let text = format!(
            "SELECT {users}, {TOKEN}, {now} AS now FROM tokens LEFT JOIN users ON users.id = tokens.user_id \
             WHERE tokens.{column} = $1"
        );
        let row = self.one(Sql::with(&text, [is])).await?;
        let read = |row: &QueryResult| {
            let token = token(row)?;
            let user = token.owner.is_some().then(|| users::user(row)).transpose()?;
            Ok(TokenRow {
                token,
                user,
                now: row.get("now")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Notes that a token was used, and from where.
    pub async fn touch_token(&self, id: Uuid, address: String) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "UPDATE tokens SET used_at = $1, used_from = $2 WHERE id = $3";
                    tx.execute(Sql::with(text, [tx.now().into(), address.into(), id.into()]))
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// A user's tokens, or (`None`) everybody's: those that can be used, which no number of others may hide, then the others, the
    /// newest first.
    pub async fn tokens(&self, user: Option<Uuid>) -> Result<Vec<Token>, StoreError> {
        let mut sql = Sql::new(&format!(
            "SELECT {TOKEN} FROM tokens LEFT JOIN users ON users.id = tokens.user_id"
        ));
        if let Some(user) = user {
            sql.push(" WHERE tokens.user_id = ").bind(user);
        }
        let usable = usable(&self.dialect().now());
        sql.push(&format!(
            " ORDER BY CASE WHEN {usable} THEN 0 ELSE 1 END, tokens.created_at DESC LIMIT {TOKENS_LISTED}"
        ));
        self.all(sql.build()).await?.iter().map(token).collect()
    }

    /// Ends a token for good; `user`: only if it acts for them. Says whether there was one.
    pub async fn revoke_token(&self, id: Uuid, user: Option<Uuid>, deed: Deed) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let mut sql = Sql::new("UPDATE tokens SET revoked_at = ");
                    sql.bind(tx.now()).push(" WHERE revoked_at IS NULL AND id = ").bind(id);
                    if let Some(user) = user {
                        sql.push(" AND user_id = ").bind(user);
                    }
                    sql.push(" RETURNING name");
                    let Some(row) = tx.one(sql.build()).await? else {
                        return Ok(false);
                    };
                    let name: String = row.get("name")?;
                    append(tx, &[deed.from(json!({ "name": name }))]).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await
    }
}
