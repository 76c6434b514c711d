//! People whom somebody else vouches for: the OpenID provider, or a proxy in front. And sign-ins that are at the provider still.

use futures::FutureExt;
use serde_json::json;

use super::Store;
use super::audit::append;
use super::error::StoreError;
use super::links::end_links_made_by;
use super::sql::{RowExt, Sql, int};
use super::users::{self, UserDraft, UserRow};
use super::writer::Tx;
use crate::domain::account::User;
use crate::domain::audit::Deed;
use crate::domain::user::Role;

/// A sign-in that has begun at the provider.
#[derive(Clone)]
pub struct Begun {
    /// SHA-256 of its state.
    pub hash: String,
    /// SHA-256 of what the browser's cookie holds.
    pub browser: String,
    /// Where it comes from.
    pub network: String,
    pub nonce: String,
    pub verifier: String,
    /// The page to lead on to.
    pub next: String,
}

/// Somebody who is vouched for.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// The provider's address and its name for them; none: a proxy vouches, and knows them by their e-mail.
    pub subject: Option<(String, String)>,
    pub email: String,
    /// Whether the address is theirs for sure; none: nobody says.
    pub verified: Option<bool>,
    pub name: String,
    /// What their groups give them.
    pub role: Role,
    /// Whether one who is known already gets that role, too.
    pub renew: bool,
}

/// Why somebody does not come in who is vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// An admin has disabled the account.
    Disabled,
    /// The address may be another's.
    Unverified,
    /// The account with this address is tied to somebody else at the same provider.
    Taken,
}

impl Store {
    /// Keeps a sign-in that has begun, for `lasts` milliseconds, and of its network the newest `most` at a time.
    pub async fn begin_openid(&self, begun: Begun, lasts: i64, most: u64) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM openid_sign_ins WHERE expires_at <= $1";
                    tx.execute(Sql::with(text, [tx.now().into()])).await?;
                    let text = "DELETE FROM openid_sign_ins WHERE address = $1 AND hash NOT IN \
                        (SELECT hash FROM openid_sign_ins WHERE address = $1 ORDER BY expires_at DESC, hash LIMIT $2)";
                    let others = int(most.saturating_sub(1));
                    tx.execute(Sql::with(text, [begun.network.as_str().into(), others.into()]))
                        .await?;
                    let text = "INSERT INTO openid_sign_ins (hash, browser, address, nonce, verifier, next, expires_at) \
                        VALUES ($1, $2, $3, $4, $5, $6, $7)";
                    let values = [
                        begun.hash.into(),
                        begun.browser.into(),
                        begun.network.into(),
                        begun.nonce.into(),
                        begun.verifier.into(),
                        begun.next.into(),
                        tx.now().saturating_add(lasts).into(),
                    ];
                    tx.execute(Sql::with(text, values)).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    /// Takes a sign-in that comes back, once; `None`: it is unknown, came back already, or took too long.
    pub async fn take_openid(&self, hash: String) -> Result<Option<Begun>, StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "DELETE FROM openid_sign_ins WHERE hash = $1 AND expires_at > $2 \
                        RETURNING hash, browser, address, nonce, verifier, next";
                    let row = tx.one(Sql::with(text, [hash.into(), tx.now().into()])).await?;
                    let Some(row) = row else { return Ok(None) };
                    Ok(Some(Begun {
                        hash: row.get("hash")?,
                        browser: row.get("browser")?,
                        network: row.get("address")?,
                        nonce: row.get("nonce")?,
                        verifier: row.get("verifier")?,
                        next: row.get("next")?,
                    }))
                }
                .boxed()
            })
            .await
    }

    /// Lets somebody in who is vouched for: makes the user, or ties the one with this address to them, and gives them their role.
    /// `deed`: who says so, which every change is recorded with.
    pub async fn admit(&self, vouched: Vouched, deed: Deed) -> Result<Result<User, Kept>, StoreError> {
        self.writer()
            .write(move |tx| async move { admit(tx, vouched, deed).await }.boxed())
            .await
    }

    /// Notes that somebody is here.
    pub async fn touch_user(&self, id: uuid::Uuid) -> Result<(), StoreError> {
        self.writer()
            .write(move |tx| {
                async move {
                    let text = "UPDATE users SET seen_at = $1 WHERE id = $2";
                    tx.execute(Sql::with(text, [tx.now().into(), id.into()])).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

async fn by_subject(tx: &Tx<'_>, subject: &str) -> Result<Option<UserRow>, StoreError> {
    let text = format!("SELECT {} FROM users WHERE subject = $1", users::COLUMNS);
    let row = tx.one(Sql::with(&text, [subject.into()])).await?;
    row.as_ref().map(users::user).transpose()
}

async fn admit(tx: &Tx<'_>, vouched: Vouched, deed: Deed) -> Result<Result<User, Kept>, StoreError> {
    let subject = vouched
        .subject
        .as_ref()
        .map(|(issuer, name)| format!("{issuer} {name}"));
    let tied = match &subject {
        Some(subject) => by_subject(tx, subject).await?,
        None => None,
    };
    let is_tied = tied.is_some();
    let known = match tied {
        Some(row) => Some(row),
        None => users::by_email(tx, &vouched.email).await?,
    };
    // Once more, so that nobody else changes the row meanwhile.
    let known = match known {
        Some(row) => users::one(tx, row.user.id).await?,
        None => None,
    };
    let Some(UserRow {
        mut user, subject: had, ..
    }) = known
    else {
        return join(tx, vouched, subject, deed).await;
    };
    if user.disabled {
        return Ok(Err(Kept::Disabled));
    }
    let deed = Deed {
        name: user.email.clone(),
        actor: user.email.clone(),
        ..deed
    };
    let mut deeds = Vec::new();
    if let (false, Some(subject), Some((issuer, _))) = (is_tied, &subject, &vouched.subject) {
        if vouched.verified != Some(true) {
            return Ok(Err(Kept::Unverified));
        }
        // One whom another provider vouched for before is who the present one says; an address that the same provider
        // has given to somebody else is not.
        if had.is_some_and(|had| had.split(' ').next() == Some(issuer.as_str())) {
            return Ok(Err(Kept::Taken));
        }
        let text = "UPDATE users SET subject = $1 WHERE id = $2";
        tx.execute(Sql::with(text, [subject.as_str().into(), user.id.into()]))
            .await?;
        let tied = Deed {
            action: "user.tie".into(),
            ..deed.clone()
        };
        deeds.push(tied.to(json!({ "openid": subject })));
    }
    if vouched.renew && user.role != vouched.role {
        let text = "UPDATE users SET role = $1 WHERE id = $2";
        tx.execute(Sql::with(text, [vouched.role.as_str().into(), user.id.into()]))
            .await?;
        let changed = Deed {
            action: "user.change".into(),
            ..deed
        };
        let (before, mut after) = (json!({ "role": user.role }), json!({ "role": vouched.role }));
        if user.role == Role::Admin {
            after = end_links_made_by(tx, &user.email, after).await?;
        }
        deeds.push(changed.from(before).to(after));
        user.role = vouched.role;
    }
    // Behind all else, as everywhere: whoever has the lock of the log keeps others waiting.
    append(tx, &deeds).await?;
    Ok(Ok(user))
}

/// Makes the user. An address that is known not to be theirs becomes nobody's name.
async fn join(
    tx: &Tx<'_>,
    vouched: Vouched,
    subject: Option<String>,
    deed: Deed,
) -> Result<Result<User, Kept>, StoreError> {
    if vouched.verified == Some(false) {
        return Ok(Err(Kept::Unverified));
    }
    let deed = Deed {
        action: "user.join".into(),
        actor: vouched.email.clone(),
        name: vouched.email.clone(),
        ..deed
    };
    let draft = UserDraft {
        email: vouched.email,
        name: vouched.name,
        role: vouched.role,
        kinds: Vec::new(),
        password: None,
        subject,
    };
    // Another process may have been faster; the next try finds the one that it made.
    let added = users::add(tx, draft, false, deed).await?;
    Ok(added.map_err(|_| Kept::Taken))
}
