//! Who somebody is: passwords, sessions and tokens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::guessing::{FORGET_MS, names};
use super::standing::bearer;
use super::{Catalog, Service, bulk};
use crate::domain::account::{Me, User, check_password, email as parse_email};
use crate::domain::audit::Deed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::{Actor, Role, Via, Want, may};
use crate::server::store::sessions::{SessionDraft, SessionRow};
use crate::server::store::tokens::TokenRow;
use crate::server::store::users::{UserDraft, UserRefused, UserRow};

/// How long what a cookie or token stands for is taken as it was: so long a demoted or disabled user, or a revoked token, may
/// go on.
pub const FRESH: Duration = Duration::from_secs(2);
/// Callers that are remembered at the most.
const REMEMBERED: usize = 10_000;
/// How often it is written down that a session or token is in use.
const TOUCH_MS: i64 = 60_000;
/// Bytes of a cookie or token at the most: what is longer was not made here, and is neither looked up nor remembered.
const CREDENTIAL_MAX: usize = 128;
/// Passwords that are hashed at the same time: each takes 19 MiB and some tens of milliseconds.
const HASHING: usize = 2;
/// Characters of what a browser calls itself that are kept.
const AGENT_MAX: usize = 200;
/// What secrets of tokens begin with, so that scanners find those that were published by mistake.
pub const TOKEN_PREFIX: &str = "windlass_";

/// How long sessions last, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Without being used.
    pub idle_ms: i64,
    /// In all.
    pub age_ms: i64,
}

/// What a request brings along.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// What the cookie holds.
    Session(String),
    /// What the `Authorization` header holds.
    Token(String),
    /// Whom a trusted proxy says it is: their e-mail, what their groups give them, and whether it names groups at all.
    Proxy(String, Option<Role>, bool),
}

impl Credential {
    /// Whether it can have been made here at all.
    fn plausible(&self) -> bool {
        match self {
            Self::Session(text) | Self::Token(text) => (1..=CREDENTIAL_MAX).contains(&text.len()),
            // Somebody without a name is refused with words.
            Self::Proxy(text, ..) => text.len() <= CREDENTIAL_MAX,
        }
    }
}

/// A caller who is known.
#[derive(Clone, Debug)]
pub struct Known {
    pub actor: Actor,
    /// The person; none for a token that acts for itself.
    pub user: Option<User>,
    /// The hash of their session.
    pub session: Option<String>,
}

/// Where a sign-in comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
    /// The session that the browser has until now.
    pub session: Option<String>,
}

/// Somebody who has just signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// What the cookie shall hold.
    pub key: String,
    pub user: User,
}

/// What this process remembers about callers.
pub struct Identity {
    pub(super) lifetimes: Lifetimes,
    hashing: Semaphore,
    seen: Mutex<HashMap<Credential, Seen>>,
}

/// What a credential was found to stand for.
struct Seen {
    /// None: something about callers has changed since.
    at: Option<Instant>,
    /// None: for nobody.
    known: Option<Known>,
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < FRESH)
    }
}

impl Identity {
    pub fn new(lifetimes: Lifetimes) -> Self {
        Self {
            lifetimes,
            hashing: Semaphore::new(HASHING),
            seen: Mutex::default(),
        }
    }

    /// Looks everybody up anew: something about them has changed.
    pub fn forget(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values_mut().for_each(|seen| seen.at = None);
    }

    fn remembered(&self, credential: &Credential) -> Option<Option<Known>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get(credential)?;
        seen.is_fresh().then(|| seen.known.clone())
    }

    /// Whether it stood for somebody when it was looked up last, however long ago that was.
    fn was_known(&self, credential: &Credential) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(credential).is_some_and(|seen| seen.known.is_some())
    }

    fn remember(&self, credential: &Credential, known: Option<Known>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            // Guesses go first: whoever sends many of them has nobody else forgotten.
            seen.retain(|_, seen| seen.known.is_some());
            if seen.len() > REMEMBERED / 2 {
                seen.retain(|_, seen| seen.is_fresh());
            }
            if seen.len() > REMEMBERED / 2 {
                seen.clear();
            }
        }
        let at = Some(Instant::now());
        seen.insert(credential.clone(), Seen { at, known });
    }

    /// The password as it is kept.
    pub(super) async fn hash(&self, password: String) -> Result<String, Problem> {
        self.blocking(move || {
            let hash = Argon2::default().hash_password(password.as_bytes());
            hash.map(|hash| hash.to_string())
        })
        .await
    }

    /// Whether it is the password. Without one to compare with it takes as long, so that nobody learns who has an account.
    pub(super) async fn fits(&self, password: String, kept: Option<String>) -> Result<bool, Problem> {
        self.blocking(move || match kept {
            None => Argon2::default().hash_password(password.as_bytes()).map(|_| false),
            Some(kept) => {
                let hash = PasswordHash::new(&kept)?;
                match Argon2::default().verify_password(password.as_bytes(), &hash) {
                    Ok(()) => Ok(true),
                    Err(HashError::PasswordInvalid) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, Problem> {
        let _place = self.hashing.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                tracing::error!(%error, "a password could not be hashed");
                Err(internal())
            }
            Err(error) => {
                tracing::error!(%error, "a password could not be hashed");
                Err(internal())
            }
        }
    }
}

fn internal() -> Problem {
    Problem::new(ProblemCode::Internal, "The server met an error; its log says more.")
}

/// Thirty-two bytes that nobody guesses, as text.
pub(super) fn fresh_key() -> Result<String, Problem> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| {
        tracing::error!("the system gives no random numbers");
        internal()
    })?;
    Ok(hex(&bytes))
}

/// The SHA-256 of a key, as text: what the database knows of it. Keys are random, so that nothing slower is needed.
pub fn hashed(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Who a person is to the service.
pub(super) fn actor(user: &User, via: Via, address: &str) -> Actor {
    Actor {
        name: user.email.clone(),
        role: user.role,
        kinds: user.kinds.clone(),
        grant: None,
        via,
        token: None,
        address: address.into(),
    }
}

impl Service {
    /// Who a request comes from; `None`: from nobody who is known (any more).
    pub async fn who(&self, credential: &Credential, address: &str) -> Result<Option<Known>, Problem> {
        if !credential.plausible() {
            return Ok(None);
        }
        if let Some(known) = self.identity.remembered(credential) {
            return Ok(known.map(|known| at(known, address)));
        }
        let known = match credential {
            Credential::Session(key) => self.by_session(&hashed(key), address).await?,
            Credential::Token(key) => self.by_token(&hashed(key), address).await?,
            Credential::Proxy(email, role, renew) => self.by_proxy(email, *role, *renew, address).await?,
        };
        self.identity.remember(credential, known.clone());
        Ok(known)
    }

    /// Whether a credential may be somebody's guess: it has not stood for anybody yet in this process. What a trusted proxy says
    /// is never one.
    pub fn is_guess(&self, credential: &Credential) -> bool {
        !matches!(credential, Credential::Proxy(..)) && !self.identity.was_known(credential)
    }

    async fn by_session(&self, hash: &str, address: &str) -> Result<Option<Known>, Problem> {
        let Some(session) = self.store.session(hash).await? else {
            return Ok(None);
        };
        let SessionRow {
            user,
            created_at,
            seen_at,
            now,
            ..
        } = session;
        let Lifetimes { idle_ms, age_ms } = self.identity.lifetimes;
        if user.user.disabled || now - seen_at > idle_ms || now - created_at > age_ms {
            return Ok(None);
        }
        if now - seen_at > TOUCH_MS {
            let (store, hash) = (self.store.clone(), hash.to_string());
            tokio::spawn(async move {
                if let Err(error) = store.touch_session(hash).await {
                    tracing::debug!(%error, "the use of a session could not be noted");
                }
            });
        }
        Ok(Some(Known {
            actor: actor(&user.user, Via::Session, address),
            user: Some(user.user),
            session: Some(hash.into()),
        }))
    }

    async fn by_token(&self, hash: &str, address: &str) -> Result<Option<Known>, Problem> {
        let Some(row) = self.store.token(hash).await? else {
            return Ok(None);
        };
        let Some((actor, user)) = bearer(&row, address) else {
            return Ok(None);
        };
        let TokenRow { token, now, .. } = row;
        if token.used_at.is_none_or(|at| now - at.timestamp_millis() > TOUCH_MS) {
            let (store, id, address) = (self.store.clone(), token.id, address.to_string());
            tokio::spawn(async move {
                if let Err(error) = store.touch_token(id, address).await {
                    tracing::debug!(%error, "the use of a token could not be noted");
                }
            });
        }
        Ok(Some(Known {
            actor,
            user,
            session: None,
        }))
    }

    /// Signs a person in. Whatever is wrong, an unknown account and a wrong password are answered alike, in the same time.
    pub async fn sign_in(&self, email: &str, password: String, from: Origin) -> Result<SignedIn, Problem> {
        let refused = || {
            Problem::new(
                ProblemCode::Unauthorized,
                "The e-mail address or the password is wrong, or this account cannot sign in.",
            )
        };
        let Ok(email) = parse_email(email) else {
            return Err(refused());
        };
        if password.len() > 4 * crate::domain::account::PASSWORD_MAX {
            return Err(refused());
        }
        let names = names(&email, &from.address);
        self.may_try(&names).await?;
        let row = self.store.user_by_email(&email).await?.filter(|row| !row.user.disabled);
        let kept = row.as_ref().and_then(|row| row.password.clone());
        let fits = self.identity.fits(password, kept.clone()).await?;
        let signed = match row.filter(|_| fits) {
            Some(UserRow { user, .. }) => self.begin(user, kept, from, "password").await?,
            None => None,
        };
        let Some(signed) = signed else {
            metrics::counter!("windlass_sign_ins_failed_total").increment(1);
            return Err(refused());
        };
        self.store.forget_failures(names).await?;
        Ok(signed)
    }

    /// Begins a session with a fresh key, whatever the browser had before. `password`: what is kept of the one that lets them in.
    /// `None`: meanwhile they were given another one, or disabled.
    pub(super) async fn begin(
        &self,
        user: User,
        password: Option<String>,
        from: Origin,
        how: &'static str,
    ) -> Result<Option<SignedIn>, Problem> {
        let key = fresh_key()?;
        let mut agent: String = from.agent.chars().filter(|c| !c.is_control()).collect();
        crate::domain::error::truncate(&mut agent, AGENT_MAX);
        let draft = SessionDraft {
            hash: hashed(&key),
            user: user.id,
            password,
            address: from.address.clone(),
            agent,
            how,
            instead_of: from.session,
        };
        let known = Known {
            actor: actor(&user, Via::Session, &from.address),
            user: Some(user.clone()),
            session: Some(draft.hash.clone()),
        };
        let deed = Deed::of(&known.actor, "session.begin", "user", &user.email);
        let deed = deed.to(serde_json::json!({ "how": how }));
        if !self.store.begin_session(draft, deed).await? {
            return Ok(None);
        }
        // As somebody's, but to be looked up before it counts.
        self.identity.remember(&Credential::Session(key.clone()), Some(known));
        self.identity.forget();
        Ok(Some(SignedIn { key, user }))
    }

    /// Ends the caller's own session.
    pub async fn sign_out(&self, known: &Known) -> Result<(), Problem> {
        if let Some(session) = &known.session {
            let deed = Deed::of(&known.actor, "session.end", "user", &known.actor.name);
            self.store.end_session(session.clone(), deed).await?;
            self.identity.forget();
        }
        Ok(())
    }

    /// Who the caller is, and what is theirs to see.
    pub fn me(&self, actor: &Actor, user: Option<&User>) -> Me {
        let kinds = self.catalog.infos();
        Me {
            email: actor.name.clone(),
            name: user.map(|u| u.name.clone()).unwrap_or_default(),
            role: actor.role,
            via: actor.via,
            has_password: user.is_some_and(|u| u.has_password),
            may_enqueue: kinds.iter().any(|kind| may(actor, Want::Enqueue { kind: &kind.name })),
            may_act: bulk::allowed(actor).collect(),
            may_read_audit: may(actor, Want::ReadAudit),
            may_manage_users: may(actor, Want::ManageUsers),
            may_read_settings: may(actor, Want::ReadSettings),
        }
    }

    /// Whether anybody can sign in yet.
    pub async fn has_users(&self) -> Result<bool, Problem> {
        Ok(self.store.has_users().await?)
    }

    /// Makes the first admin of what the settings say, if there is no user yet; says whether it did.
    pub async fn found(&self, email: &str, password: String) -> Result<bool, Problem> {
        let email = parse_email(email)?;
        check_password("ADMIN_PASSWORD", &password)?;
        if self.store.has_users().await? {
            return Ok(false);
        }
        let draft = UserDraft {
            email: email.clone(),
            name: String::new(),
            role: Role::Admin,
            kinds: Vec::new(),
            password: Some(self.identity.hash(password).await?),
            subject: None,
        };
        let deed = Deed::of(&Actor::machine(), "user.first_admin", "user", &email);
        match self.store.add_user(draft, true, deed).await? {
            Ok(_) => Ok(true),
            // Another process was faster.
            Err(UserRefused::NotFirst) => Ok(false),
            Err(_) => Err(internal()),
        }
    }

    /// The person behind the caller.
    pub(super) fn person(known: &Known) -> Result<&User, Problem> {
        known.user.as_ref().ok_or_else(|| {
            Problem::new(
                ProblemCode::Forbidden,
                "This is for people; a token that acts for itself has none of it.",
            )
        })
    }

    /// Ends sessions, links and failures whose time has passed.
    pub(in crate::server) async fn sweep_identity(&self) -> Result<u64, Problem> {
        let Lifetimes { idle_ms, age_ms } = self.identity.lifetimes;
        Ok(self.store.sweep_identity(idle_ms, age_ms, FORGET_MS).await?)
    }
}

/// The same caller from where this request comes.
fn at(mut known: Known, address: &str) -> Known {
    known.actor.address = address.into();
    known
}

/// The user's id, for what is stored by it.
pub(super) fn id_of(user: Option<&User>) -> Option<Uuid> {
    user.map(|user| user.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_never_the_same() {
        let (one, two) = (fresh_key().expect("key"), fresh_key().expect("key"));
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
        assert_ne!(hashed(&one), one);
    }
}
