//! People, their sessions, and tokens, as the pages and the API show them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::bulk::BulkAction;
use super::error::Problem;
use super::user::{Role, Scope, TokenRef, Via};

/// Characters of a password: fewer are guessed, and nobody types more.
pub const PASSWORD_MIN: usize = 10;
pub const PASSWORD_MAX: usize = 200;
/// Bytes of an e-mail address (RFC 5321 §4.5.3.1.3) and of a name.
pub const EMAIL_MAX: usize = 254;
pub const NAME_MAX: usize = 100;
/// Days that a token may be good for.
pub const TOKEN_DAYS_MAX: u32 = 3_650;
/// Tokens of one person that can be used at the same time; so many more that act for themselves may one person have made.
pub const TOKENS_MAX: u64 = 100;

/// One who may sign in. Never removed, since jobs and the audit log name them: only disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct User {
    pub id: Uuid,
    /// In lower case; their name in jobs and in the audit log.
    pub email: String,
    pub name: String,
    pub role: Role,
    /// The kinds that they may start; empty: all.
    pub kinds: Vec<String>,
    pub disabled: bool,
    /// Whether they have a password.
    pub has_password: bool,
    /// Whether they have signed in by the OpenID provider.
    pub has_openid: bool,
    pub created_at: DateTime<Utc>,
    /// When they last signed in.
    pub seen_at: Option<DateTime<Utc>>,
}

/// Who is asked to come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    pub email: String,
    #[serde(default)]
    pub name: String,
    pub role: Role,
    /// The kinds that they may start; empty: all.
    #[serde(default)]
    pub kinds: Vec<String>,
}

/// What a user is changed to; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// A link that lets somebody in once: an invitation, or for a new password. Shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct OnceLink {
    /// The path on this server, with the key in it.
    pub path: String,
    pub email: String,
    pub expires_at: DateTime<Utc>,
}

/// A link that was made and was not used yet, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct PendingLink {
    /// Its name to people; whoever has it has not the link.
    pub id: String,
    pub purpose: Purpose,
    /// Whom it lets in.
    pub email: String,
    pub role: Role,
    pub made_by: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To make the first admin.
    First,
    Invite,
    /// To choose a new password.
    Reset,
}

impl Purpose {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Invite => "invite",
            Self::Reset => "reset",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::First, Self::Invite, Self::Reset]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// One sign-in that still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Session {
    pub id: Uuid,
    pub created_at: DateTime<Utc>,
    pub seen_at: DateTime<Utc>,
    pub address: String,
    /// What the browser calls itself.
    pub agent: String,
    /// password, link or openid.
    pub how: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Token {
    pub id: Uuid,
    pub name: String,
    /// Its first characters.
    pub hint: String,
    /// The e-mail of whom it acts for; absent: it acts for itself, as `token:NAME`.
    pub owner: Option<String>,
    pub scopes: Vec<Scope>,
    /// The kinds that it is good for; empty: all.
    pub kinds: Vec<String>,
    pub made_by: String,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub used_at: Option<DateTime<Utc>>,
    pub used_from: Option<String>,
    pub revoked_at: Option<DateTime<Utc>>,
}

impl From<Token> for TokenRef {
    fn from(token: Token) -> Self {
        Self {
            id: token.id,
            name: token.name,
        }
    }
}

/// A wish for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    pub name: String,
    pub scopes: Vec<Scope>,
    /// The kinds that it is good for; empty: all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Days until it expires; absent: never.
    #[serde(default)]
    pub days: Option<u32>,
}

/// A token that was made, with its secret, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct MadeToken {
    pub token: Token,
    pub secret: String,
}

/// Who is signed in, and which pages are theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
pub struct Me {
    pub email: String,
    pub name: String,
    pub role: Role,
    pub via: Via,
    /// Whether they have a password that they could change.
    pub has_password: bool,
    pub may_enqueue: bool,
    /// What they may do to many jobs at once, were the jobs their own.
    pub may_act: Vec<BulkAction>,
    pub may_read_audit: bool,
    pub may_manage_users: bool,
    pub may_read_settings: bool,
}

/// A wish for a new password of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    pub current: String,
    pub new: String,
}

/// Signs that stand in no address (RFC 5322 §3.2.3): with a colon in it, one could pass for `token:NAME`.
const NOT_IN_EMAIL: &str = "()<>[]:;,\\\"";

/// The address as it is kept, or what is wrong with it. Whether it exists, only a mail to it would tell.
pub fn email(text: &str) -> Result<String, Problem> {
    let email = text.trim().to_lowercase();
    let fits = email.split_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.') && !host.ends_with('.')
    });
    let clean = !email
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || NOT_IN_EMAIL.contains(c));
    match fits && clean && email.len() <= EMAIL_MAX {
        true => Ok(email),
        false => Err(Problem::invalid(
            "email",
            format!("\"{}\" is not an e-mail address like ada@example.org", shown(text)),
        )),
    }
}

/// Refuses a password that is too short or too long.
pub fn check_password(field: &str, password: &str) -> Result<(), Problem> {
    let n = password.chars().count();
    match (PASSWORD_MIN..=PASSWORD_MAX).contains(&n) {
        true => Ok(()),
        false => Err(Problem::invalid(
            field,
            format!("the password has {n} characters; allowed are {PASSWORD_MIN} to {PASSWORD_MAX}"),
        )),
    }
}

/// A person's or a token's name as it is kept, or what is wrong with it.
pub fn name(field: &str, text: &str) -> Result<String, Problem> {
    let name = text.trim();
    match name.len() <= NAME_MAX && !name.chars().any(char::is_control) {
        true => Ok(name.into()),
        false => Err(Problem::invalid(
            field,
            format!(
                "\"{}\" is not a name; allowed: at most {NAME_MAX} bytes, no control characters",
                shown(name)
            ),
        )),
    }
}

fn shown(text: &str) -> String {
    let mut text = text.to_string();
    super::error::truncate(&mut text, 80);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_one_form() {
        assert_eq!(email(" Ada@Example.org ").as_deref(), Ok("ada@example.org"));
        for bad in [
            "",
            "ada",
            "@x",
            "ada@",
            "a b@x",
            "a@b@c",
            "ada@.x",
            "ada@x.\u{7}",
            "token:ci@x",
            "\"a\"@x",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(email(&format!("{}@x", "a".repeat(EMAIL_MAX))).is_err());
    }

    #[test]
    fn passwords_have_a_least_length() {
        assert!(check_password("password", "123456789").is_err());
        assert!(check_password("password", "ääääääääää").is_ok());
        assert!(check_password("password", &"x".repeat(PASSWORD_MAX + 1)).is_err());
    }
}
