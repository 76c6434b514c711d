//! Sessions, tokens, and failed sign-ins.

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
use crate::domain::account::{Session, Token};
use crate::domain::audit::Deed;
use crate::domain::user::{Grant, Scope};

/// A session as its cookie finds it.
#[derive(Clone)]
pub struct SessionRow {
    pub id: Uuid,
    pub user: UserRow,
    /// Milliseconds since 1970.
    pub created_at: i64,
    pub seen_at: i64,
    /// The database's clock at that moment.
    pub now: i64,
}

/// A new session.
#[derive(Clone)]
pub struct SessionDraft {
    /// SHA-256 of the cookie's key.
    pub hash: String,
    pub user: Uuid,
    /// What was kept of the password that lets them in when it was compared; none: they come in without one.
    pub password: Option<String>,
    pub address: String,
    pub agent: String,
    pub how: &'static str,
    /// The one that the browser had until now: it ends.
    pub instead_of: Option<String>,
}

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

/// Failed sign-ins in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub n: u64,
    /// Milliseconds since 1970.
    pub last_at: i64,
}

fn failures(row: &QueryResult) -> Result<Failures, StoreError> {
    Ok(Failures {
        n: row.u64("n")?,
        last_at: row.get("last_at")?,
    })
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
    /// Begins a session. Says whether it did: not when its user is disabled by now, or has another password than the one that
    /// lets them in.
    pub async fn begin_session(&self, draft: SessionDraft, deed: Deed) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    // Held, so that what ends the user's sessions comes before this, and refuses it, or after it, and ends it.
                    let lets_in = match (users::one(tx, draft.user).await?, &draft.password) {
                        (Some(row), Some(kept)) => row.is_let_in_by(kept),
                        (Some(row), None) => !row.user.disabled,
                        (None, _) => false,
                    };
                    if !lets_in {
                        return Ok(false);
                    }
                    if let Some(old) = draft.instead_of {
                        tx.execute(Sql::with("DELETE FROM sessions WHERE hash = $1", [old.into()]))
                            .await?;
                    }
                    let text = "INSERT INTO sessions (hash, id, user_id, created_at, seen_at, address, agent, how) \
                        VALUES ($1, $2, $3, $4, $4, $5, $6, $7)";
                    let values = [
                        draft.hash.into(),
                        Uuid::now_v7().into(),
                        draft.user.into(),
                        tx.now().into(),
                        draft.address.into(),
                        draft.agent.into(),
                        draft.how.into(),
                    ];
                    tx.execute(Sql::with(text, values)).await?;
                    let text = "UPDATE users SET seen_at = $1 WHERE id = $2";
                    tx.execute(Sql::with(text, [tx.now().into(), draft.user.into()]))
                        .await?;
                    append(tx, &[deed]).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await
    }

    /// The session with this hash, with its user; whether it still holds is the caller's to say.
    pub async fn session(&self, hash: &str) -> Result<Option<SessionRow>, StoreError> {
        let (users, now) = (users::COLUMNS, self.dialect().now());
        let text = format!(
            "SELECT {users}, sessions.id AS session_id, sessions.created_at AS begun_at, sessions.seen_at AS used_at, {now} AS now \
             FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.hash = $1"
        );
        let row = self.one(Sql::with(&text, [hash.into()])).await?;
        let read = |row: &QueryResult| {
            Ok(SessionRow {
                id: row.get("session_id")?,
                user: users::user(row)?,
                created_at: row.get("begun_at")?,
                seen_at: row.get("used_at")?,
                now: row.get("now")?,
            })
        };
        row.as_ref().map(read).transpose()
    }

    /// Notes that a session is in use.
    pub async fn touch_session(&self, hash: String) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "UPDATE sessions SET seen_at = $1 WHERE hash = $2";
                    tx.execute(Sql::with(text, [tx.now().into(), hash.into()])).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// A user's sessions, the last used first; `current`: the hash of the one that asks.
    pub async fn sessions(&self, user: Uuid, current: &str) -> Result<Vec<Session>, StoreError> {
        let text = "SELECT hash, id, created_at, seen_at, address, agent, how FROM sessions WHERE user_id = $1 \
            ORDER BY seen_at DESC LIMIT 1000";
        let rows = self.all(Sql::with(text, [user.into()])).await?;
        let read = |row: &QueryResult| {
            let hash: String = row.get("hash")?;
            Ok(Session {
                id: row.get("id")?,
                created_at: row.time("created_at")?,
                seen_at: row.time("seen_at")?,
                address: row.get("address")?,
                agent: row.get("agent")?,
                how: row.get("how")?,
                current: hash == current,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Ends one session of a user, or (`None`) all of them but the one with the hash `keep`. Says how many.
    pub async fn end_sessions(
        &self,
        user: Uuid,
        one: Option<Uuid>,
        keep: Option<String>,
        deed: Deed,
    ) -> Result<u64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let stmt = match one {
                        Some(id) => Sql::with(
                            "DELETE FROM sessions WHERE user_id = $1 AND id = $2",
                            [user.into(), id.into()],
                        ),
                        None => Sql::with(
                            "DELETE FROM sessions WHERE user_id = $1 AND hash <> $2",
                            [user.into(), keep.unwrap_or_default().into()],
                        ),
                    };
                    let ended = tx.execute(stmt).await?;
                    if ended > 0 {
                        append(tx, &[deed]).await?;
                    }
                    Ok(ended)
                }
                .boxed()
            })
            .await
    }

    /// Ends the session with this hash.
    pub async fn end_session(&self, hash: String, deed: Deed) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM sessions WHERE hash = $1";
                    if tx.execute(Sql::with(text, [hash.into()])).await? > 0 {
                        append(tx, &[deed]).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }

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

    /// Counts a password that was tried under each of these names (the account, the address, both), unless `left` says that
    /// it comes too soon: then answers with the milliseconds that are left, and counts nothing. Looked at and counted in one
    /// transaction, so that each of many tries at the same moment sees those before it. What lies longer back than `forget_ms`
    /// counts no more.
    pub async fn try_password(
        &self,
        names: [String; 3],
        forget_ms: i64,
        left: fn([Failures; 3], i64) -> i64,
    ) -> Result<i64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    // Looked at first, so that who has to wait leaves nothing behind, whatever names they try.
                    let text = "SELECT name, n, last_at FROM sign_in_failures WHERE name IN ($1, $2, $3)";
                    let mut found = [Failures::default(); 3];
                    for row in tx.all(Sql::with(text, names.each_ref().map(|n| n.as_str().into()))).await? {
                        let name: String = row.get("name")?;
                        if let Some(i) = names.iter().position(|n| *n == name) {
                            found[i] = failures(&row)?;
                        }
                    }
                    let wait = left(found, tx.now());
                    if wait > 0 {
                        return Ok(wait);
                    }
                    // In one order everywhere, so that no two transactions wait for each other; and written to, so that they do
                    // wait where there was no row yet.
                    let mut order = [0, 1, 2];
                    order.sort_by_key(|i| &names[*i]);
                    let text = "INSERT INTO sign_in_failures (name, n, last_at) VALUES ($1, 0, $2) ON CONFLICT (name) DO UPDATE \
                        SET n = sign_in_failures.n RETURNING n, last_at";
                    for i in order {
                        let stmt = Sql::with(text, [names[i].as_str().into(), tx.now().into()]);
                        if let Some(row) = tx.one(stmt).await? {
                            found[i] = failures(&row)?;
                        }
                    }
                    let wait = left(found, tx.now());
                    if wait > 0 {
                        return Ok(wait);
                    }
                    let text = "UPDATE sign_in_failures SET n = CASE WHEN last_at < $2 THEN 1 ELSE n + 1 END, last_at = $1 \
                        WHERE name = $3";
                    for i in order {
                        let values = [tx.now().into(), (tx.now() - forget_ms).into(), names[i].as_str().into()];
                        tx.execute(Sql::with(text, values)).await?;
                    }
                    Ok(0)
                }
                .boxed()
            })
            .await
    }

    /// The password that was tried under these names was right: what was counted of the account is forgotten, and the address
    /// has one less.
    pub async fn forget_failures(&self, names: [String; 3]) -> Result<(), StoreError> {
        let [account, address, pair] = names;
        self.writer()
            .write(move |tx| {
                async move {
                    const FORGET: &str = "DELETE FROM sign_in_failures WHERE name = $1";
                    const LESS: &str = "UPDATE sign_in_failures SET n = n - 1 WHERE name = $1 AND n > 0";
                    let mut done = [(account, FORGET), (pair, FORGET), (address, LESS)];
                    // In the order of [`Store::try_password`].
                    done.sort();
                    for (name, text) in done {
                        tx.execute(Sql::with(text, [name.into()])).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Removes sessions, links and counts of failures that hold no more: sessions that were not used for `idle_ms` or are
    /// older than `age_ms`.
    pub async fn sweep_identity(&self, idle_ms: i64, age_ms: i64, forget_ms: i64) -> Result<u64, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let now = tx.now();
                    let text = "DELETE FROM sessions WHERE seen_at < $1 OR created_at < $2";
                    let ended = tx
                        .execute(Sql::with(text, [(now - idle_ms).into(), (now - age_ms).into()]))
                        .await?;
                    tx.execute(Sql::with("DELETE FROM links WHERE expires_at < $1", [now.into()]))
                        .await?;
                    let text = "DELETE FROM sign_in_failures WHERE last_at < $1";
                    tx.execute(Sql::with(text, [(now - forget_ms).into()])).await?;
                    Ok(ended)
                }
                .boxed()
            })
            .await
    }
}
