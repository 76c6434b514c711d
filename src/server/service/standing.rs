//! Whether somebody is still who they were: for what goes on after their request has been answered.

use super::Service;
use super::identity::{Credential, Known, actor};
use crate::domain::account::User;
use crate::domain::error::Problem;
use crate::domain::user::{Actor, Role, Via};
use crate::server::store::tokens::TokenRow;

/// Whom a token stands for, and the person whom it acts for; none, when it does not hold (any more).
pub(super) fn bearer(row: &TokenRow, address: &str) -> Option<(Actor, Option<User>)> {
    let TokenRow { token, user, now } = row;
    let user = user.as_ref().map(|row| row.user.clone());
    let expired = token.expires_at.is_some_and(|at| at.timestamp_millis() <= *now);
    if expired || token.revoked_at.is_some() || user.as_ref().is_some_and(|user| user.disabled) {
        return None;
    }
    let whose = match &user {
        Some(user) => actor(user, Via::Token, address),
        None => Actor {
            via: Via::Token,
            address: address.into(),
            ..Actor::named(&format!("token:{}", token.name), Role::Admin)
        },
    };
    let whose = Actor {
        grant: Some(row.grant()),
        token: Some(token.clone().into()),
        ..whose
    };
    Some((whose, user))
}

impl Service {
    /// Whether a caller is still who they were when their request came, and may do the same. Changes nothing: what a proxy said
    /// with that request may be out of date, so those whom it vouched for are compared with what the database says.
    pub async fn is_still(&self, credential: &Credential, known: &Known) -> Result<bool, Problem> {
        let now = match credential {
            Credential::Proxy(..) => self.vouched_before(&known.actor).await?,
            _ => self.who(credential, &known.actor.address).await?.map(|now| now.actor),
        };
        Ok(now.is_some_and(|now| now == known.actor))
    }

    /// The same of somebody whose request is long over: whether their account or token still gives them what they had then. That
    /// their session may have ended is no reason to stop.
    pub(super) async fn stands(&self, was: &Actor) -> Result<bool, Problem> {
        let now = match (was.via, &was.token) {
            (Via::Machine, _) => return Ok(true),
            (Via::Anyone, _) | (Via::Token, None) => None,
            (Via::Proxy, _) => self.vouched_before(was).await?,
            (Via::Session, _) => {
                let row = self.store.user_by_email(&was.name).await?;
                let user = row.map(|row| row.user).filter(|user| !user.disabled);
                user.map(|user| actor(&user, Via::Session, &was.address))
            }
            (Via::Token, Some(token)) => {
                let row = self.store.token_by_id(token.id).await?;
                row.and_then(|row| bearer(&row, &was.address)).map(|(now, _)| now)
            }
        };
        Ok(now.is_some_and(|now| now == *was))
    }
}
