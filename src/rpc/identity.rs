//! Who is signed in, users, sessions, tokens, the settings, and the audit log.

use leptos::prelude::*;
use uuid::Uuid;

use super::Json;
use crate::domain::account::{
    MadeToken, Me, NewToken, NewUser, OnceLink, PasswordChange, PendingLink, Purpose, Session, Token, User, UserChange,
};
use crate::domain::audit::{AuditFilter, AuditPage};
use crate::domain::error::Problem;
use crate::domain::setting::Setting;

/// Who is signed in.
#[server(name = MeCall, prefix = "/rpc", endpoint = "me", input = Json, output = Json)]
pub async fn me() -> Result<Me, Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    Ok(service.me(&known.actor, known.user.as_ref()))
}

/// What people call the OpenID provider that they may sign in by; nothing when there is none.
#[server(name = SignInWithCall, prefix = "/rpc", endpoint = "sign_in_with", input = Json, output = Json)]
pub async fn sign_in_with() -> Result<Option<String>, Problem> {
    crate::server::http::rpc::openid_name()
}

/// What a link that works once is for, and for whom; nothing when it does not work any more.
#[server(name = LinkCall, prefix = "/rpc", endpoint = "link", input = Json, output = Json)]
pub async fn link(key: String) -> Result<Option<(Purpose, String)>, Problem> {
    let service = crate::server::http::rpc::service()?;
    crate::server::http::rpc::answer(service.link(&key).await)
}

/// One's own open sessions.
#[server(prefix = "/rpc", endpoint = "my_sessions", input = Json, output = Json)]
pub async fn my_sessions() -> Result<Vec<Session>, Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.my_sessions(&known).await)
}

/// Ends one of one's own sessions, or all but this one; says how many.
#[server(prefix = "/rpc", endpoint = "end_my_sessions", input = Json, output = Json)]
pub async fn end_my_sessions(one: Option<Uuid>) -> Result<u64, Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.end_my_sessions(&known, one).await)
}

/// One's own tokens.
#[server(prefix = "/rpc", endpoint = "my_tokens", input = Json, output = Json)]
pub async fn my_tokens() -> Result<Vec<Token>, Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.my_tokens(&known).await)
}

/// Makes a token of one's own; its secret is told this once.
#[server(prefix = "/rpc", endpoint = "make_my_token", input = Json, output = Json)]
pub async fn make_my_token(new: NewToken) -> Result<MadeToken, Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.make_my_token(&known, new).await)
}

/// Ends a token for good.
#[server(prefix = "/rpc", endpoint = "revoke_token", input = Json, output = Json)]
pub async fn revoke_token(id: Uuid) -> Result<(), Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.revoke_token(&known, id).await)
}

/// Changes one's own password.
#[server(prefix = "/rpc", endpoint = "change_password", input = Json, output = Json)]
pub async fn change_password(change: PasswordChange) -> Result<(), Problem> {
    let (service, known) = crate::server::http::rpc::person()?;
    crate::server::http::rpc::answer(service.change_password(&known, change).await)
}

/// Everybody.
#[server(prefix = "/rpc", endpoint = "users", input = Json, output = Json)]
pub async fn users() -> Result<Vec<User>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.users(&actor).await)
}

/// Asks somebody to come.
#[server(prefix = "/rpc", endpoint = "invite", input = Json, output = Json)]
pub async fn invite(new: NewUser) -> Result<OnceLink, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.invite(&actor, new).await)
}

/// Changes a user's name, role or kinds, or whether they may sign in.
#[server(prefix = "/rpc", endpoint = "change_user", input = Json, output = Json)]
pub async fn change_user(id: Uuid, change: UserChange) -> Result<User, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.change_user(&actor, id, change).await)
}

/// A link by which a user chooses a new password.
#[server(prefix = "/rpc", endpoint = "reset_password", input = Json, output = Json)]
pub async fn reset_password(id: Uuid) -> Result<OnceLink, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.reset_password(&actor, id).await)
}

/// Links that still let somebody in.
#[server(prefix = "/rpc", endpoint = "links", input = Json, output = Json)]
pub async fn links() -> Result<Vec<PendingLink>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.links(&actor).await)
}

/// Takes a link back.
#[server(prefix = "/rpc", endpoint = "revoke_link", input = Json, output = Json)]
pub async fn revoke_link(id: String) -> Result<(), Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.revoke_link(&actor, &id).await)
}

/// What the server was started with, without secrets.
#[server(prefix = "/rpc", endpoint = "settings", input = Json, output = Json)]
pub async fn settings() -> Result<Vec<Setting>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.settings(&actor))
}

/// Entries of the audit log, the newest first.
#[server(name = AuditCall, prefix = "/rpc", endpoint = "audit", input = Json, output = Json)]
pub async fn audit(filter: AuditFilter, before: Option<u64>) -> Result<AuditPage, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.audit(&actor, &filter, before, Some(100)).await)
}

/// The actions that the audit log knows of.
#[server(prefix = "/rpc", endpoint = "audit_actions", input = Json, output = Json)]
pub async fn audit_actions() -> Result<Vec<String>, Problem> {
    let (service, actor) = crate::server::http::rpc::caller()?;
    crate::server::http::rpc::answer(service.audit_actions(&actor).await)
}
