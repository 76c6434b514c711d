//! Oneself, users, tokens, and the audit log.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use crate::domain::account::{
    MadeToken, Me, NewToken, NewUser, OnceLink, PasswordChange, PendingLink, Session, Token, User, UserChange,
};
use crate::domain::audit::{AuditFilter, AuditHead, AuditPage, FIELDS};
use crate::domain::error::Problem;
use crate::server::http::AppState;
use crate::server::http::auth::{Caller, Person};
use crate::server::http::extract::{Answer, Body, Params, Path};

/// An id in an address; one that can't be one names nothing that exists.
fn id(what: &str, text: &str) -> Result<Uuid, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found(format_args!("{what} {text}")))
}

/// Who is signed in, or whose token it is.
#[utoipa::path(get, path = "/api/me", tag = "users", responses((status = 200, body = Me)))]
pub async fn me(State(state): State<AppState>, Person(known): Person) -> Json<Me> {
    Json(state.service.me(&known.actor, known.user.as_ref()))
}

/// Changes one's own password; one's other sessions end.
#[utoipa::path(post, path = "/api/me/password", tag = "users", request_body = PasswordChange,
    responses((status = 204), (status = 400, body = Problem)))]
pub async fn password(
    State(state): State<AppState>,
    Person(known): Person,
    Body(change): Body<PasswordChange>,
) -> Answer<StatusCode> {
    state.service.change_password(&known, change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's own open sessions.
#[utoipa::path(get, path = "/api/me/sessions", tag = "users", responses((status = 200, body = Vec<Session>)))]
pub async fn sessions(State(state): State<AppState>, Person(known): Person) -> Answer<Json<Vec<Session>>> {
    Ok(Json(state.service.my_sessions(&known).await?))
}

/// Signs out everywhere else.
#[utoipa::path(delete, path = "/api/me/sessions", tag = "users", responses((status = 204)))]
pub async fn end_sessions(State(state): State<AppState>, Person(known): Person) -> Answer<StatusCode> {
    state.service.end_my_sessions(&known, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/me/sessions/{id}", tag = "users", params(("id" = String, Path, description = "The session")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn end_session(
    State(state): State<AppState>,
    Person(known): Person,
    Path(session): Path<String>,
) -> Answer<StatusCode> {
    state
        .service
        .end_my_sessions(&known, Some(id("session", &session)?))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One's own tokens.
#[utoipa::path(get, path = "/api/me/tokens", tag = "users", responses((status = 200, body = Vec<Token>)))]
pub async fn my_tokens(State(state): State<AppState>, Person(known): Person) -> Answer<Json<Vec<Token>>> {
    Ok(Json(state.service.my_tokens(&known).await?))
}

/// Makes a token that acts for oneself. Its secret is told this once.
#[utoipa::path(post, path = "/api/me/tokens", tag = "users", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn make_my_token(
    State(state): State<AppState>,
    Person(known): Person,
    Body(new): Body<NewToken>,
) -> Answer<(StatusCode, Json<MadeToken>)> {
    let made = state.service.make_my_token(&known, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Everybody's tokens.
#[utoipa::path(get, path = "/api/tokens", tag = "users", responses((status = 200, body = Vec<Token>)))]
pub async fn tokens(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<Token>>> {
    Ok(Json(state.service.tokens(&actor).await?))
}

/// Makes a token that acts for itself, as `token:NAME`. Its secret is told this once.
#[utoipa::path(post, path = "/api/tokens", tag = "users", request_body = NewToken,
    responses((status = 201, body = MadeToken), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn make_token(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Body(new): Body<NewToken>,
) -> Answer<(StatusCode, Json<MadeToken>)> {
    let made = state.service.make_token_of_its_own(&actor, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Ends a token for good: one's own, or as an admin anybody's.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "users", params(("id" = String, Path, description = "The token")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn revoke(
    State(state): State<AppState>,
    Person(known): Person,
    Path(token): Path<String>,
) -> Answer<StatusCode> {
    state.service.revoke_token(&known, id("token", &token)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everybody.
#[utoipa::path(get, path = "/api/users", tag = "users", responses((status = 200, body = Vec<User>)))]
pub async fn users(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<User>>> {
    Ok(Json(state.service.users(&actor).await?))
}

/// Asks somebody to come: answers with a link by which they choose a password.
#[utoipa::path(post, path = "/api/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = OnceLink), (status = 400, body = Problem)))]
pub async fn invite(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Body(new): Body<NewUser>,
) -> Answer<(StatusCode, Json<OnceLink>)> {
    Ok((StatusCode::CREATED, Json(state.service.invite(&actor, new).await?)))
}

/// Links that still let somebody in, the newest first: invitations, and those for new passwords.
#[utoipa::path(get, path = "/api/users/links", tag = "users", responses((status = 200, body = Vec<PendingLink>)))]
pub async fn links(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<Vec<PendingLink>>> {
    Ok(Json(state.service.links(&actor).await?))
}

/// Takes a link back: it lets nobody in any more.
#[utoipa::path(delete, path = "/api/users/links/{id}", tag = "users", params(("id" = String, Path, description = "The link's id")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn revoke_link(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(link): Path<String>,
) -> Answer<StatusCode> {
    state.service.revoke_link(&actor, &link).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a user's name, role or kinds, or whether they may sign in.
#[utoipa::path(patch, path = "/api/users/{id}", tag = "users", params(("id" = String, Path, description = "The user")),
    request_body = UserChange, responses((status = 200, body = User), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(user): Path<String>,
    Body(change): Body<UserChange>,
) -> Answer<Json<User>> {
    Ok(Json(
        state.service.change_user(&actor, id("user", &user)?, change).await?,
    ))
}

/// A link by which a user chooses a new password.
#[utoipa::path(post, path = "/api/users/{id}/reset", tag = "users", params(("id" = String, Path, description = "The user")),
    responses((status = 201, body = OnceLink), (status = 404, body = Problem)))]
pub async fn reset(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(user): Path<String>,
) -> Answer<(StatusCode, Json<OnceLink>)> {
    let link = state.service.reset_password(&actor, id("user", &user)?).await?;
    Ok((StatusCode::CREATED, Json(link)))
}

/// Ends all sessions of a user.
#[utoipa::path(delete, path = "/api/users/{id}/sessions", tag = "users", params(("id" = String, Path, description = "The user")),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn end_sessions_of(
    State(state): State<AppState>,
    Caller(actor): Caller,
    Path(user): Path<String>,
) -> Answer<StatusCode> {
    state.service.end_sessions_of(&actor, id("user", &user)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What people and tokens did, the newest first.
#[utoipa::path(get, path = "/api/admin/audit-logs", tag = "audit", params(
    ("actor" = Option<String>, Query, description = "Who did it"), ("action" = Option<String>, Query, description = "Like job.cancel"),
    ("object" = Option<String>, Query, description = "What it was done to, like job"), ("name" = Option<String>, Query, description = "Which one"),
    ("since" = Option<String>, Query, description = "RFC 3339"), ("until" = Option<String>, Query, description = "RFC 3339"),
    ("before" = Option<u64>, Query, description = "Entries before this number"), ("limit" = Option<u32>, Query, description = "1 to 1000, default 50")),
    responses((status = 200, body = AuditPage), (status = 403, body = Problem)))]
pub async fn audit(State(state): State<AppState>, Caller(actor): Caller, params: Params) -> Answer<Json<AuditPage>> {
    params.only(&[&FIELDS[..], &["before", "limit"]].concat())?;
    let filter = AuditFilter::from_pairs(params.pairs())?;
    let before = params.parse("before", "an entry's number")?;
    let limit = params.parse("limit", "a whole number from 1 to 1000")?;
    Ok(Json(state.service.audit(&actor, &filter, before, limit).await?))
}

/// The last entry's number and hash. Whoever keeps it elsewhere notices when entries are cut off.
#[utoipa::path(get, path = "/api/admin/audit-logs/head", tag = "audit", responses((status = 200, body = AuditHead)))]
pub async fn audit_head(State(state): State<AppState>, Caller(actor): Caller) -> Answer<Json<AuditHead>> {
    Ok(Json(state.service.audit_head(&actor).await?))
}
