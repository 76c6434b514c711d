//! Users, and the links that let somebody in once.

use futures::FutureExt;
use sea_orm::QueryResult;
use serde_json::json;
use uuid::Uuid;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::links::{end_links_made_by, forget_resets};
use super::ops::to_json;
use super::sql::{RowExt, Sql};
use super::writer::Tx;
use crate::domain::account::{Purpose, User, UserChange};
use crate::domain::audit::Deed;
use crate::domain::user::Role;

/// Users that a list gives at the most.
const LIST_MAX: i64 = 10_000;

pub(super) const COLUMNS: &str = "users.id AS id, users.email AS email, users.name AS name, users.role AS role, users.kinds AS kinds, \
    users.password AS password, users.subject AS subject, users.disabled AS disabled, users.created_at AS created_at, \
    users.seen_at AS seen_at";

/// A user with what nobody else may see.
#[derive(Clone)]
pub struct UserRow {
    pub user: User,
    /// argon2id as a PHC string.
    pub password: Option<String>,
    /// Who they are to the OpenID provider: its address, a space, its name for them.
    pub subject: Option<String>,
}

impl UserRow {
    /// Whether the password of which this is kept still lets them in.
    pub(super) fn is_let_in_by(&self, kept: &str) -> bool {
        !self.user.disabled && self.password.as_deref() == Some(kept)
    }
}

/// A password that somebody chooses who has one.
#[derive(Clone)]
pub struct NewPassword {
    /// What was kept of the old one when it was compared with what they typed.
    pub was: String,
    /// What is kept from now on.
    pub is: String,
    /// The session that asks, which goes on; none: a proxy vouches for them.
    pub session: Option<String>,
}

/// Somebody new.
#[derive(Clone)]
pub struct UserDraft {
    pub email: String,
    pub name: String,
    pub role: Role,
    pub kinds: Vec<String>,
    pub password: Option<String>,
    /// Who they are to the OpenID provider.
    pub subject: Option<String>,
}

/// A link that works once.
#[derive(Clone, Debug)]
pub struct Link {
    pub purpose: Purpose,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub kinds: Vec<String>,
    pub made_by: String,
    /// Milliseconds since 1970.
    pub expires_at: i64,
}

/// Why users can't be written as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserRefused {
    /// There is one with this address.
    Taken,
    /// There is none like this.
    Unknown,
    /// Nobody would be left who may change it back.
    LastAdmin,
    /// There are users already.
    NotFirst,
}

fn is_admin(user: &User) -> bool {
    user.role == Role::Admin && !user.disabled
}

pub(super) fn user(row: &QueryResult) -> Result<UserRow, StoreError> {
    let (role, kinds): (String, String) = (row.get("role")?, row.get("kinds")?);
    let password: Option<String> = row.get("password")?;
    let subject: Option<String> = row.get("subject")?;
    Ok(UserRow {
        user: User {
            id: row.get("id")?,
            email: row.get("email")?,
            name: row.get("name")?,
            role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("users.role", role))?,
            kinds: serde_json::from_str(&kinds).map_err(|e| StoreError::corrupt("users.kinds", e))?,
            disabled: row.flag("disabled")?,
            has_password: password.is_some(),
            has_openid: subject.is_some(),
            created_at: row.time("created_at")?,
            seen_at: row.opt_time("seen_at")?,
        },
        password,
        subject,
    })
}

fn link(row: &QueryResult) -> Result<Link, StoreError> {
    let (purpose, role, kinds): (String, String, String) = (row.get("purpose")?, row.get("role")?, row.get("kinds")?);
    Ok(Link {
        purpose: Purpose::parse(&purpose).ok_or_else(|| StoreError::corrupt("links.purpose", purpose))?,
        email: row.get("email")?,
        name: row.get("name")?,
        role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("links.role", role))?,
        kinds: serde_json::from_str(&kinds).map_err(|e| StoreError::corrupt("links.kinds", e))?,
        made_by: row.get("made_by")?,
        expires_at: row.get("expires_at")?,
    })
}

impl Store {
    /// Whether anybody may sign in.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        Ok(self
            .one(Sql::new("SELECT email FROM users LIMIT 1").build())
            .await?
            .is_some())
    }

    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM users ORDER BY email LIMIT $1");
        let rows = self.all(Sql::with(&text, [LIST_MAX.into()])).await?;
        rows.iter().map(|row| Ok(user(row)?.user)).collect()
    }

    pub async fn user_by_email(&self, email: &str) -> Result<Option<UserRow>, StoreError> {
        self.user_where("email", email.into()).await
    }

    pub async fn user(&self, id: Uuid) -> Result<Option<UserRow>, StoreError> {
        self.user_where("id", id.into()).await
    }

    async fn user_where(&self, column: &str, value: sea_orm::Value) -> Result<Option<UserRow>, StoreError> {
        let text = format!("SELECT {COLUMNS} FROM users WHERE {column} = $1");
        self.one(Sql::with(&text, [value]))
            .await?
            .as_ref()
            .map(user)
            .transpose()
    }

    /// Writes a user down. `first`: only when there is none yet.
    pub async fn add_user(
        &self,
        draft: UserDraft,
        first: bool,
        deed: Deed,
    ) -> Result<Result<User, UserRefused>, StoreError> {
        self.writer()
            .write(move |tx| async move { add(tx, draft, first, deed).await }.boxed())
            .await
    }

    /// Changes a user, and ends the sessions of one who is disabled.
    pub async fn change_user(
        &self,
        id: Uuid,
        change: UserChange,
        deed: Deed,
    ) -> Result<Result<User, UserRefused>, StoreError> {
        self.writer()
            .write(move |tx| async move { change_one(tx, id, change, deed).await }.boxed())
            .await
    }

    /// Gives a user another password and ends all their sessions but the one that asks. Says whether it did: not when the old
    /// password or that session is not theirs any more.
    pub async fn set_password(&self, id: Uuid, chosen: NewPassword, deed: Deed) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| async move { set_password(tx, id, chosen, deed).await }.boxed())
            .await
    }

    /// Keeps a link under the hash of its key, instead of earlier ones for the same. Says whether it did: not when it is made by
    /// somebody who is no admin any more.
    pub async fn add_link(&self, hash: String, link: Link, deed: Option<Deed>) -> Result<bool, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    // None: it is made on the machine itself.
                    if let Some(maker) = by_email(tx, &link.made_by).await? {
                        let held = one(tx, maker.user.id).await?;
                        if !held.is_some_and(|maker| is_admin(&maker.user)) {
                            return Ok(false);
                        }
                    }
                    let text = "DELETE FROM links WHERE email = $1 AND purpose = $2 OR expires_at < $3";
                    let purpose = link.purpose.as_str();
                    let values = [link.email.as_str().into(), purpose.into(), tx.now().into()];
                    tx.execute(Sql::with(text, values)).await?;
                    let text = "INSERT INTO links (hash, purpose, email, name, role, kinds, made_by, created_at, expires_at) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
                    let values = [
                        hash.into(),
                        purpose.into(),
                        link.email.into(),
                        link.name.into(),
                        link.role.as_str().into(),
                        to_json(&link.kinds)?.into(),
                        link.made_by.into(),
                        tx.now().into(),
                        link.expires_at.into(),
                    ];
                    tx.execute(Sql::with(text, values)).await?;
                    append(tx, deed.as_slice()).await?;
                    Ok(true)
                }
                .boxed()
            })
            .await
    }

    /// The link with this hash, if it still works.
    pub async fn link(&self, hash: &str) -> Result<Option<Link>, StoreError> {
        let now = self.clock().await?;
        let text = "SELECT purpose, email, name, role, kinds, made_by, expires_at FROM links WHERE hash = $1 AND expires_at > $2";
        self.one(Sql::with(text, [hash.into(), now.into()]))
            .await?
            .as_ref()
            .map(link)
            .transpose()
    }

    /// Uses a link up: makes its user, or gives them the password. `None`: it does not work any more.
    pub async fn use_link(
        &self,
        hash: String,
        email: Option<String>,
        password: String,
        deed: Deed,
    ) -> Result<Option<Result<User, UserRefused>>, StoreError> {
        self.writer()
            .write(move |tx| async move { use_link(tx, hash, email, password, deed).await }.boxed())
            .await
    }
}

pub(super) async fn one(tx: &Tx<'_>, id: Uuid) -> Result<Option<UserRow>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM users WHERE id = $1{}", tx.dialect().hold_rows());
    tx.one(Sql::with(&text, [id.into()]))
        .await?
        .as_ref()
        .map(user)
        .transpose()
}

pub(super) async fn by_email(tx: &Tx<'_>, email: &str) -> Result<Option<UserRow>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM users WHERE email = $1");
    tx.one(Sql::with(&text, [email.into()]))
        .await?
        .as_ref()
        .map(user)
        .transpose()
}

pub(super) async fn add(
    tx: &Tx<'_>,
    draft: UserDraft,
    first: bool,
    deed: Deed,
) -> Result<Result<User, UserRefused>, StoreError> {
    if first {
        // No two processes make a first one.
        if tx.dialect() == super::dialect::Dialect::Postgres {
            tx.execute(Sql::new("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").build())
                .await?;
        }
        if tx
            .one(Sql::new("SELECT email FROM users LIMIT 1").build())
            .await?
            .is_some()
        {
            return Ok(Err(UserRefused::NotFirst));
        }
    }
    let text = "INSERT INTO users (id, email, name, role, kinds, password, subject, disabled, created_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8) ON CONFLICT DO NOTHING";
    let id = Uuid::now_v7();
    let values = [
        id.into(),
        draft.email.as_str().into(),
        draft.name.as_str().into(),
        draft.role.as_str().into(),
        to_json(&draft.kinds)?.into(),
        draft.password.into(),
        draft.subject.into(),
        tx.now().into(),
    ];
    if tx.execute(Sql::with(text, values)).await? == 0 {
        return Ok(Err(UserRefused::Taken));
    }
    let deed = Deed {
        after: Some(json!({ "role": draft.role, "kinds": draft.kinds })),
        ..deed
    };
    append(tx, &[deed]).await?;
    let row = one(tx, id)
        .await?
        .ok_or_else(|| StoreError::corrupt("users", "a new one is not there"))?;
    Ok(Ok(row.user))
}

async fn set_password(tx: &Tx<'_>, id: Uuid, chosen: NewPassword, deed: Deed) -> Result<bool, StoreError> {
    let NewPassword { was, is, session } = chosen;
    // Held from here on: another new password comes before this or after it, and then refuses the later one.
    if !one(tx, id).await?.is_some_and(|row| row.is_let_in_by(&was)) {
        return Ok(false);
    }
    if let Some(session) = &session {
        let text = "SELECT hash FROM sessions WHERE user_id = $1 AND hash = $2";
        let values = [id.into(), session.as_str().into()];
        if tx.one(Sql::with(text, values)).await?.is_none() {
            return Ok(false);
        }
    }
    let text = "UPDATE users SET password = $1 WHERE id = $2";
    tx.execute(Sql::with(text, [is.into(), id.into()])).await?;
    let text = "DELETE FROM sessions WHERE user_id = $1 AND hash <> $2";
    tx.execute(Sql::with(text, [id.into(), session.unwrap_or_default().into()]))
        .await?;
    forget_resets(tx, id).await?;
    append(tx, &[deed]).await?;
    Ok(true)
}

async fn change_one(
    tx: &Tx<'_>,
    id: Uuid,
    change: UserChange,
    deed: Deed,
) -> Result<Result<User, UserRefused>, StoreError> {
    let Some(UserRow { user: was, .. }) = one(tx, id).await? else {
        return Ok(Err(UserRefused::Unknown));
    };
    let mut is = was.clone();
    let UserChange {
        name,
        role,
        kinds,
        disabled,
    } = change;
    is.name = name.unwrap_or(is.name);
    is.role = role.unwrap_or(is.role);
    is.kinds = kinds.unwrap_or(is.kinds);
    is.disabled = disabled.unwrap_or(is.disabled);
    if is == was {
        return Ok(Ok(is));
    }
    let resigns = is_admin(&was) && !is_admin(&is);
    if resigns {
        let hold = tx.dialect().hold_rows();
        let text = format!("SELECT id FROM users WHERE role = 'admin' AND disabled = 0 AND id <> $1 ORDER BY id{hold}");
        if tx.one(Sql::with(&text, [id.into()])).await?.is_none() {
            return Ok(Err(UserRefused::LastAdmin));
        }
    }
    let text = "UPDATE users SET name = $1, role = $2, kinds = $3, disabled = $4 WHERE id = $5";
    let values = [
        is.name.as_str().into(),
        is.role.as_str().into(),
        to_json(&is.kinds)?.into(),
        i64::from(is.disabled).into(),
        id.into(),
    ];
    tx.execute(Sql::with(text, values)).await?;
    if is.disabled {
        tx.execute(Sql::with("DELETE FROM sessions WHERE user_id = $1", [id.into()]))
            .await?;
        forget_resets(tx, id).await?;
    }
    let told =
        |user: &User| json!({ "name": user.name, "role": user.role, "kinds": user.kinds, "disabled": user.disabled });
    let mut after = told(&is);
    if resigns {
        after = end_links_made_by(tx, &is.email, after).await?;
    }
    append(tx, &[deed.from(told(&was)).to(after)]).await?;
    Ok(Ok(is))
}

async fn use_link(
    tx: &Tx<'_>,
    hash: String,
    email: Option<String>,
    password: String,
    deed: Deed,
) -> Result<Option<Result<User, UserRefused>>, StoreError> {
    let text = "DELETE FROM links WHERE hash = $1 AND expires_at > $2 \
        RETURNING purpose, email, name, role, kinds, made_by, expires_at";
    let Some(row) = tx.one(Sql::with(text, [hash.into(), tx.now().into()])).await? else {
        return Ok(None);
    };
    let Link {
        purpose,
        email: given,
        name,
        role,
        kinds,
        ..
    } = link(&row)?;
    let email = match purpose {
        Purpose::First => email.unwrap_or(given),
        Purpose::Invite | Purpose::Reset => given,
    };
    let deed = Deed {
        actor: email.clone(),
        name: email.clone(),
        ..deed
    };
    if purpose == Purpose::Reset {
        let Some(UserRow { user, .. }) = by_email(tx, &email).await?.filter(|row| !row.user.disabled) else {
            return Ok(None);
        };
        let text = "UPDATE users SET password = $1 WHERE id = $2";
        tx.execute(Sql::with(text, [password.into(), user.id.into()])).await?;
        tx.execute(Sql::with("DELETE FROM sessions WHERE user_id = $1", [user.id.into()]))
            .await?;
        append(
            tx,
            &[Deed {
                action: "user.reset_password".into(),
                ..deed
            }],
        )
        .await?;
        return Ok(Some(Ok(user)));
    }
    let draft = UserDraft {
        email,
        name,
        role,
        kinds,
        password: Some(password),
        subject: None,
    };
    let action = if purpose == Purpose::First {
        "user.first_admin"
    } else {
        "user.join"
    };
    let added = add(
        tx,
        draft,
        purpose == Purpose::First,
        Deed {
            action: action.into(),
            ..deed
        },
    )
    .await?;
    Ok(Some(added))
}
