//! Sessions, and failed sign-ins.

use futures::FutureExt;
use sea_orm::QueryResult;
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::sql::{RowExt, Sql};
use super::users::{self, UserRow};
use crate::domain::account::Session;
use crate::domain::audit::Deed;

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
