//! Users: invite, change, let in; and what one does about oneself.

use serde_json::json;
use uuid::Uuid;

use super::guessing::names;
use super::identity::{Known, Origin, SignedIn, TOKEN_PREFIX, fresh_key, hashed, id_of};
use super::{Catalog, Service, require};
use crate::domain::account::{
    self, MadeToken, NewToken, NewUser, OnceLink, PasswordChange, PendingLink, Purpose, Session, TOKEN_DAYS_MAX,
    TOKENS_MAX, Token, User, UserChange, check_password,
};
use crate::domain::audit::Deed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::kind::valid_external;
use crate::domain::time::from_millis;
use crate::domain::user::{Actor, Role, Scope, Via, Want, may};
use crate::server::store::tokens::TokenDraft;
use crate::server::store::users::{Link, NewPassword, UserRefused};

/// How long links let somebody in, in milliseconds: the first admin an hour, the invited three days, who forgot their password a day.
const FIRST_MS: i64 = 3_600_000;
const INVITE_MS: i64 = 3 * 86_400_000;
const RESET_MS: i64 = 86_400_000;
/// Characters of a token that people tell it by.
const HINT: usize = TOKEN_PREFIX.len() + 6;

impl Service {
    /// Everybody, by e-mail.
    pub async fn users(&self, actor: &Actor) -> Result<Vec<User>, Problem> {
        require(actor, Want::ManageUsers)?;
        Ok(self.store.users().await?)
    }

    /// Asks somebody to come: a link by which they choose a password and are in.
    pub async fn invite(&self, actor: &Actor, new: NewUser) -> Result<OnceLink, Problem> {
        require(actor, Want::ManageUsers)?;
        let email = account::email(&new.email)?;
        let name = account::name("name", &new.name)?;
        self.known_kinds(&new.kinds)?;
        if self.store.user_by_email(&email).await?.is_some() {
            return Err(Problem::invalid("email", format!("{email} is a user already")));
        }
        let deed = Deed::of(actor, "user.invite", "user", &email).to(json!({ "role": new.role, "kinds": new.kinds }));
        let link = Link {
            purpose: Purpose::Invite,
            email,
            name,
            role: new.role,
            kinds: new.kinds,
            made_by: actor.name.clone(),
            expires_at: self.store.clock().await? + INVITE_MS,
        };
        self.make_link(link, Some(deed)).await
    }

    /// A link by which a user chooses a new password.
    pub async fn reset_password(&self, actor: &Actor, id: Uuid) -> Result<OnceLink, Problem> {
        require(actor, Want::ManageUsers)?;
        let user = self.store.user(id).await?.ok_or_else(|| no_user(id))?.user;
        if user.disabled {
            let detail = format!("{} is disabled; enable the account first", user.email);
            return Err(Problem::new(ProblemCode::WrongStatus, detail));
        }
        if user.has_openid && !user.has_password {
            let detail = format!("{} signs in by OpenID, and has no password", user.email);
            return Err(Problem::new(ProblemCode::WrongStatus, detail));
        }
        let deed = Deed::of(actor, "user.reset", "user", &user.email);
        let link = Link {
            purpose: Purpose::Reset,
            email: user.email,
            name: user.name,
            role: user.role,
            kinds: user.kinds,
            made_by: actor.name.clone(),
            expires_at: self.store.clock().await? + RESET_MS,
        };
        self.make_link(link, Some(deed)).await
    }

    /// The link by which the first admin comes in; `None` when there are users.
    pub async fn first_link(&self) -> Result<Option<OnceLink>, Problem> {
        if self.store.has_users().await? {
            return Ok(None);
        }
        let link = Link {
            purpose: Purpose::First,
            email: String::new(),
            name: String::new(),
            role: Role::Admin,
            kinds: Vec::new(),
            made_by: Actor::machine().name,
            expires_at: self.store.clock().await? + FIRST_MS,
        };
        Ok(Some(self.make_link(link, None).await?))
    }

    async fn make_link(&self, link: Link, deed: Option<Deed>) -> Result<OnceLink, Problem> {
        let key = fresh_key()?;
        let made = OnceLink {
            path: format!("/welcome/{key}"),
            email: link.email.clone(),
            expires_at: from_millis(link.expires_at),
        };
        match self.store.add_link(hashed(&key), link, deed).await? {
            true => Ok(made),
            false => Err(Problem::new(ProblemCode::Forbidden, "You are no admin any more.")),
        }
    }

    /// What a link is for, and for whom, if it works still.
    pub async fn link(&self, key: &str) -> Result<Option<(Purpose, String)>, Problem> {
        let link = self.store.link(&hashed(key)).await?;
        Ok(link.map(|link| (link.purpose, link.email)))
    }

    /// Uses a link up: whoever holds it has this password from now on, and is signed in. `email`: of the first admin.
    pub async fn use_link(
        &self,
        key: &str,
        email: Option<&str>,
        password: String,
        from: Origin,
    ) -> Result<SignedIn, Problem> {
        let gone = || {
            Problem::new(
                ProblemCode::NotFound,
                "This link does not work any more: it was used, or its time has passed. Ask for a new one.",
            )
        };
        let Some((purpose, _)) = self.link(key).await? else {
            return Err(gone());
        };
        let email = match purpose {
            Purpose::First => Some(account::email(email.unwrap_or_default())?),
            Purpose::Invite | Purpose::Reset => None,
        };
        check_password("password", &password)?;
        let kept = self.identity.hash(password).await?;
        let anyone = Actor {
            via: Via::Anyone,
            address: from.address.clone(),
            ..Actor::named("", Role::Viewer)
        };
        // The store fills in whom it is about.
        let deed = Deed::of(&anyone, "user.join", "user", "");
        let user = match self.store.use_link(hashed(key), email, kept.clone(), deed).await? {
            None => return Err(gone()),
            Some(Ok(user)) => user,
            Some(Err(UserRefused::NotFirst)) => return Err(gone()),
            Some(Err(_)) => return Err(Problem::invalid("email", "this e-mail address is a user's already")),
        };
        let signed = self.begin(user, Some(kept), from, "link").await?;
        signed.ok_or_else(gone)
    }

    /// Changes a user's name, role or kinds, or whether they may sign in.
    pub async fn change_user(&self, actor: &Actor, id: Uuid, change: UserChange) -> Result<User, Problem> {
        require(actor, Want::ManageUsers)?;
        let user = self.store.user(id).await?.ok_or_else(|| no_user(id))?.user;
        let name = change
            .name
            .as_deref()
            .map(|name| account::name("name", name))
            .transpose()?;
        if let Some(kinds) = &change.kinds {
            self.known_kinds(kinds)?;
        }
        let action = match change.disabled {
            Some(true) if !user.disabled => "user.disable",
            Some(false) if user.disabled => "user.enable",
            _ => "user.change",
        };
        let deed = Deed::of(actor, action, "user", &user.email);
        let change = UserChange { name, ..change };
        let changed = self.store.change_user(id, change, deed).await?;
        self.identity.forget();
        changed.map_err(|refused| match refused {
            UserRefused::LastAdmin => Problem::new(
                ProblemCode::WrongStatus,
                format!(
                    "{} is the last admin who can sign in; make another one first",
                    user.email
                ),
            ),
            _ => no_user(id),
        })
    }

    /// Links that still let somebody in, the newest first: invitations, and those for new passwords.
    pub async fn links(&self, actor: &Actor) -> Result<Vec<PendingLink>, Problem> {
        require(actor, Want::ManageUsers)?;
        Ok(self.store.links().await?)
    }

    /// Takes a link back: it lets nobody in any more.
    pub async fn revoke_link(&self, actor: &Actor, id: &str) -> Result<(), Problem> {
        require(actor, Want::ManageUsers)?;
        let deed = Deed::of(actor, "user.revoke_link", "user", "");
        match self.store.revoke_link(id.into(), deed).await? {
            true => Ok(()),
            false => Err(Problem::not_found(format_args!("link {id}"))),
        }
    }

    /// Ends all sessions of a user.
    pub async fn end_sessions_of(&self, actor: &Actor, id: Uuid) -> Result<u64, Problem> {
        require(actor, Want::ManageUsers)?;
        let user = self.store.user(id).await?.ok_or_else(|| no_user(id))?.user;
        let deed = Deed::of(actor, "session.end_all", "user", &user.email);
        let ended = self.store.end_sessions(id, None, None, deed).await?;
        self.identity.forget();
        Ok(ended)
    }

    /// One's own open sessions.
    pub async fn my_sessions(&self, known: &Known) -> Result<Vec<Session>, Problem> {
        require(&known.actor, Want::ManageOwn)?;
        let current = known.session.as_deref().unwrap_or_default();
        Ok(self.store.sessions(Self::person(known)?.id, current).await?)
    }

    /// Ends one of one's own sessions, or (`None`) all but this one. Says how many.
    pub async fn end_my_sessions(&self, known: &Known, one: Option<Uuid>) -> Result<u64, Problem> {
        require(&known.actor, Want::ManageOwn)?;
        let action = if one.is_some() {
            "session.end"
        } else {
            "session.end_all"
        };
        let deed = Deed::of(&known.actor, action, "user", &known.actor.name);
        let user = Self::person(known)?.id;
        let ended = self.store.end_sessions(user, one, known.session.clone(), deed).await?;
        self.identity.forget();
        match (one, ended) {
            (Some(id), 0) => Err(Problem::not_found(format_args!("session {id}"))),
            _ => Ok(ended),
        }
    }

    /// Changes one's own password, and ends one's other sessions.
    pub async fn change_password(&self, known: &Known, change: PasswordChange) -> Result<(), Problem> {
        require(&known.actor, Want::ManageOwn)?;
        let user = Self::person(known)?;
        check_password("new", &change.new)?;
        // Whoever has got hold of a session does not guess here what they may not guess at the sign-in.
        let names = names(&user.email, &known.actor.address);
        self.may_try(&names).await?;
        let wrong = || Problem::invalid("current", "this is not your password");
        let kept = self.store.user(user.id).await?.and_then(|row| row.password);
        let fits = self.identity.fits(change.current, kept.clone()).await?;
        let was = kept.filter(|_| fits).ok_or_else(wrong)?;
        let chosen = NewPassword {
            was,
            is: self.identity.hash(change.new).await?,
            session: known.session.clone(),
        };
        let deed = Deed::of(&known.actor, "user.change_password", "user", &user.email);
        // Meanwhile somebody may have given them another one, or signed them out.
        if !self.store.set_password(user.id, chosen, deed).await? {
            return Err(wrong());
        }
        self.identity.forget();
        Ok(self.store.forget_failures(names).await?)
    }

    /// One's own tokens.
    pub async fn my_tokens(&self, known: &Known) -> Result<Vec<Token>, Problem> {
        require(&known.actor, Want::ManageOwn)?;
        Ok(self.store.tokens(Some(Self::person(known)?.id)).await?)
    }

    /// Everybody's tokens, and those that act for themselves.
    pub async fn tokens(&self, actor: &Actor) -> Result<Vec<Token>, Problem> {
        require(actor, Want::ManageUsers)?;
        Ok(self.store.tokens(None).await?)
    }

    /// Makes a token that acts for the caller, within what they may do.
    pub async fn make_my_token(&self, known: &Known, new: NewToken) -> Result<MadeToken, Problem> {
        require(&known.actor, Want::ManageOwn)?;
        let user = Self::person(known)?;
        self.make_token(&known.actor, Some(user), new).await
    }

    /// Makes a token that acts for itself: for programs that are nobody's.
    pub async fn make_token_of_its_own(&self, actor: &Actor, new: NewToken) -> Result<MadeToken, Problem> {
        require(actor, Want::ManageUsers)?;
        self.make_token(actor, None, new).await
    }

    async fn make_token(&self, actor: &Actor, user: Option<&User>, new: NewToken) -> Result<MadeToken, Problem> {
        let name = account::name("name", &new.name)?;
        if name.is_empty() {
            return Err(Problem::invalid(
                "name",
                "a token needs a name by which people know what it is for",
            ));
        }
        // One of its own acts as an admin's.
        let offered = Scope::offered(user.map_or(Role::Admin, |user| user.role));
        if new.scopes.is_empty() {
            let detail = format!("a token needs one scope at least: {}", Scope::names(&offered));
            return Err(Problem::invalid("scopes", detail));
        }
        if let Some(scope) = new.scopes.iter().find(|scope| !offered.contains(scope)) {
            let (name, offered) = (scope.as_str(), Scope::names(&offered));
            let detail = format!("the scope {name} is for tokens of admins; allowed: {offered}");
            return Err(Problem::invalid("scopes", detail));
        }
        if let Some(days) = new.days
            && !(1..=TOKEN_DAYS_MAX).contains(&days)
        {
            return Err(Problem::invalid(
                "days",
                format!("days {days} is not within 1 to {TOKEN_DAYS_MAX}"),
            ));
        }
        // A worker brings its kinds along, and has none before it has a token.
        let brought = |kind: &String| new.scopes.contains(&Scope::Worker) && valid_external(kind);
        let kinds: Vec<String> = new.kinds.iter().filter(|kind| !brought(kind)).cloned().collect();
        self.known_kinds(&kinds)?;
        let secret = format!("{TOKEN_PREFIX}{}", fresh_key()?);
        let mut scopes = new.scopes;
        scopes.sort_by_key(|scope| scope.as_str());
        scopes.dedup();
        let deed = Deed::of(actor, "token.create", "token", "");
        let deed = deed.to(json!({ "name": name, "scopes": scopes, "kinds": new.kinds, "days": new.days }));
        let draft = TokenDraft {
            hash: hashed(&secret),
            hint: secret[..HINT].into(),
            name,
            user: id_of(user),
            scopes,
            kinds: new.kinds,
            made_by: actor.name.clone(),
            lasts: new.days.map(|days| i64::from(days) * 86_400_000),
        };
        match self.store.add_token(draft, TOKENS_MAX, deed).await? {
            Some(token) => Ok(MadeToken { token, secret }),
            None => {
                let whose = match user {
                    Some(_) => "of your tokens",
                    None => "tokens that you have made and that act for themselves",
                };
                let detail = format!("{TOKENS_MAX} {whose} can be used, as many as are allowed; revoke one first");
                Err(Problem::new(ProblemCode::WrongStatus, detail))
            }
        }
    }

    /// Ends a token for good: one's own, or with the right to manage users anybody's.
    pub async fn revoke_token(&self, known: &Known, id: Uuid) -> Result<(), Problem> {
        let user = match may(&known.actor, Want::ManageUsers) {
            true => None,
            false => {
                require(&known.actor, Want::ManageOwn)?;
                Some(Self::person(known)?.id)
            }
        };
        let deed = Deed::of(&known.actor, "token.revoke", "token", id);
        let done = self.store.revoke_token(id, user, deed).await?;
        self.identity.forget();
        match done {
            true => Ok(()),
            false => Err(Problem::not_found(format_args!("token {id}"))),
        }
    }

    /// Refuses kinds that are not there.
    fn known_kinds(&self, kinds: &[String]) -> Result<(), Problem> {
        let known: Vec<String> = self.catalog.infos().into_iter().map(|info| info.name).collect();
        let unknown = kinds.iter().find(|kind| !known.contains(kind));
        match unknown {
            None => Ok(()),
            Some(kind) => {
                let detail = format!(
                    "kinds names \"{kind}\", which is not known here; allowed: {}",
                    known.join(", ")
                );
                Err(Problem::invalid("kinds", detail))
            }
        }
    }
}

fn no_user(id: Uuid) -> Problem {
    Problem::not_found(format_args!("user {id}"))
}
