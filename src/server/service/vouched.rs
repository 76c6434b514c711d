//! Sign-ins that somebody else vouches for: an OpenID provider, or a proxy in front. Who they are is theirs to say; whether and as
//! what they may come in, is decided here.

use super::Service;
use super::identity::{Known, Origin, SignedIn, actor, hashed};
use crate::domain::account;
use crate::domain::audit::Deed;
use crate::domain::error::{Problem, ProblemCode};
use crate::domain::network::network_of;
use crate::domain::user::{Actor, Role, Via};
use crate::server::store::vouched::{Begun, Kept, Vouched};

/// How long a sign-in may be at the provider, in milliseconds.
const OPENID_MS: i64 = 600_000;
/// Sign-ins of one network that may be there at a time.
const OPENID_MOST: u64 = 100;
/// How often it is written down that somebody comes through the proxy, in milliseconds.
const SEEN_MS: i64 = 3_600_000;

/// A sign-in that goes to the provider.
#[derive(Clone, Debug)]
pub struct Leaving {
    pub state: String,
    /// What the browser's cookie holds: nobody else's browser can finish the sign-in.
    pub browser: String,
    pub nonce: String,
    pub verifier: String,
    /// The page to lead on to.
    pub next: String,
    pub address: String,
}

/// What is left to be known of it when it comes back.
#[derive(Clone, Debug)]
pub struct Returned {
    pub nonce: String,
    pub verifier: String,
    pub next: String,
}

/// Who somebody is to the provider, and what their groups give them.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub issuer: String,
    pub subject: String,
    pub email: Option<String>,
    /// Whether the address is theirs for sure; none: the provider does not say.
    pub verified: Option<bool>,
    pub name: String,
    /// None: they may not come in.
    pub role: Option<Role>,
}

/// Why somebody who is vouched for is not let in. The problem's `field` has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Role,
    Email,
    Disabled,
    Taken,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (field, detail) = match refused {
            Refused::Role => ("role", "None of your groups may use Windlass; ask an administrator."),
            Refused::Email => ("email", "Your e-mail address is missing, or not known to be yours."),
            Refused::Disabled => ("disabled", "Your account is disabled; ask an administrator."),
            Refused::Taken => (
                "taken",
                "Your e-mail address belongs to another account here; ask an administrator.",
            ),
        };
        Problem {
            field: Some(field.into()),
            ..Problem::new(ProblemCode::Forbidden, detail)
        }
    }
}

impl From<Kept> for Refused {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Disabled => Self::Disabled,
            Kept::Unverified => Self::Email,
            Kept::Taken => Self::Taken,
        }
    }
}

/// Who is about to come in.
fn comer(via: Via, address: &str, reason: &str) -> Deed {
    let anyone = Actor {
        via,
        address: address.into(),
        ..Actor::named("", Role::Viewer)
    };
    // The store fills in whom it is about, and what is done.
    Deed {
        reason: reason.into(),
        ..Deed::of(&anyone, "user.join", "user", "")
    }
}

impl Service {
    /// Keeps what is needed when a sign-in comes back from the provider. The oldest of too many from one network does not come
    /// back: to refuse the newest would let one who begins many keep out everybody else there.
    pub async fn leave_for_openid(&self, leaving: Leaving) -> Result<(), Problem> {
        let begun = Begun {
            hash: hashed(&leaving.state),
            browser: hashed(&leaving.browser),
            network: network_of(&leaving.address),
            nonce: leaving.nonce,
            verifier: leaving.verifier,
            next: leaving.next,
        };
        Ok(self.store.begin_openid(begun, OPENID_MS, OPENID_MOST).await?)
    }

    /// A sign-in that comes back from the provider, which it does once; `None`: this browser has begun no such one, or too long ago.
    pub async fn return_from_openid(&self, state: &str, browser: &str) -> Result<Option<Returned>, Problem> {
        let begun = self.store.take_openid(hashed(state)).await?;
        let own = begun.filter(|begun| begun.browser == hashed(browser));
        Ok(own.map(|begun| Returned {
            nonce: begun.nonce,
            verifier: begun.verifier,
            next: begun.next,
        }))
    }

    /// Signs in somebody whom the provider vouches for. At the first time that makes their account, or ties the one with
    /// their e-mail address to them if the address is verified; each time their role is what their groups give.
    pub async fn sign_in_by_openid(&self, claimed: Claimed, from: Origin) -> Result<SignedIn, Problem> {
        let admitted = self.admit_by_openid(claimed, &from.address).await;
        if let Err(problem) = &admitted {
            metrics::counter!("windlass_sign_ins_failed_total").increment(1);
            tracing::info!(
                address = from.address,
                why = problem.detail,
                "a sign-in by OpenID was refused"
            );
        }
        let signed = self.begin(admitted?, None, from, "openid").await?;
        signed.ok_or_else(|| Refused::Disabled.into())
    }

    async fn admit_by_openid(&self, claimed: Claimed, address: &str) -> Result<account::User, Problem> {
        let role = claimed.role.ok_or(Refused::Role)?;
        let email = claimed.email.as_deref().and_then(|email| account::email(email).ok());
        let vouched = Vouched {
            subject: Some((claimed.issuer, claimed.subject)),
            email: email.ok_or(Refused::Email)?,
            verified: claimed.verified,
            // A name that can't be kept is not worth a refusal.
            name: account::name("name", &claimed.name).unwrap_or_default(),
            role,
            renew: true,
        };
        let deed = comer(Via::Anyone, address, "the OpenID provider says so");
        let admitted = self.store.admit(vouched, deed).await?;
        self.identity.forget();
        admitted.map_err(|kept| Refused::from(kept).into())
    }

    /// Who it is that the proxy vouches for. `renew`: whether it names groups, and with them the role each time.
    pub(super) async fn by_proxy(
        &self,
        email: &str,
        role: Option<Role>,
        renew: bool,
        address: &str,
    ) -> Result<Option<Known>, Problem> {
        let Ok(email) = account::email(email) else {
            return Err(Refused::Email.into());
        };
        let known = self.store.user_by_email(&email).await?.map(|row| row.user);
        let user = match known {
            Some(user) if user.disabled => return Err(Refused::Disabled.into()),
            Some(user) if !renew || role == Some(user.role) => user,
            _ => {
                let vouched = Vouched {
                    subject: None,
                    email,
                    verified: None,
                    name: String::new(),
                    role: role.ok_or(Refused::Role)?,
                    renew,
                };
                let deed = comer(Via::Proxy, address, "the proxy says so");
                let admitted = self.store.admit(vouched, deed).await?;
                // What the proxy said of them until now does not count any more.
                self.identity.forget();
                admitted.map_err(Refused::from)?
            }
        };
        let now = self.store.clock().await?;
        if user.seen_at.is_none_or(|at| now - at.timestamp_millis() > SEEN_MS) {
            self.store.touch_user(user.id).await?;
        }
        Ok(Some(Known {
            actor: actor(&user, Via::Proxy, address),
            user: Some(user),
            session: None,
        }))
    }

    /// Who somebody is by now whom the proxy vouched for with an earlier request: what the database says, which this does not change.
    pub(super) async fn vouched_before(&self, was: &Actor) -> Result<Option<Actor>, Problem> {
        let row = self.store.user_by_email(&was.name).await?;
        let user = row.map(|row| row.user).filter(|user| !user.disabled);
        Ok(user.map(|user| actor(&user, Via::Proxy, &was.address)))
    }
}
