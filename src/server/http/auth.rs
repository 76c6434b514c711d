//! Who asks. Until there is a sign-in, everybody who reaches the server is its local admin, and the server is reached from
//! this machine only.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::domain::user::Actor;

/// The caller of a request, as an extractor.
pub struct Caller(pub Actor);

/// The one place that says who a request comes from.
pub fn actor(_parts: &Parts) -> Actor {
    Actor::local_admin()
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(actor(parts)))
    }
}
