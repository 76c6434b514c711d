//! Who is signed in, and what happens when nobody is any more.

use leptos::prelude::*;

use crate::browser;
use crate::domain::account::Me;
use crate::domain::error::{Problem, ProblemCode};
use crate::rpc;

/// Who is signed in. Provided by the frame, asked once.
#[derive(Clone, Copy)]
pub struct Signed(Resource<Result<Me, Problem>>);

impl Signed {
    /// Asks, and provides the answer to everything below the caller.
    pub fn provide() -> Self {
        let signed = Self(Resource::new_blocking(|| (), |()| rpc::me()));
        provide_context(signed);
        signed
    }

    /// The frame's.
    pub fn expect() -> Self {
        use_context().unwrap_or_else(Self::provide)
    }

    /// Who it is; nobody when the server can't tell.
    pub async fn me(self) -> Option<Me> {
        self.0.await.ok()
    }
}

/// The sign-in, which leads back to `next`.
pub fn sign_in_href(next: &str) -> String {
    let query = serde_urlencoded::to_string([("next", next)]).unwrap_or_default();
    format!("/sign-in?{query}")
}

/// When a call was refused because nobody is signed in (any more), the page leads to the sign-in and back here.
pub fn lead_to_sign_in(problem: &Problem) {
    if problem.code == ProblemCode::Unauthorized {
        browser::leave_for(&sign_in_href(&browser::here()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_survives_its_query_string() {
        assert_eq!(
            sign_in_href("/jobs?q=a&status=failed"),
            "/sign-in?next=%2Fjobs%3Fq%3Da%26status%3Dfailed"
        );
    }
}
