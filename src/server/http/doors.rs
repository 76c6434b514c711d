//! Which route asks what of its caller: one table, looked at before a handler runs. What is not in it is closed. The service
//! asks again, with the object in hand.

use axum::http::Method;

use crate::domain::error::{Problem, ProblemCode};
use crate::domain::user::{Actor, Want, may};

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Nothing.
    Public,
    /// To be known, however.
    SignedIn,
    /// To see jobs, if only their own.
    ReadOwn,
    /// To see the jobs of all owners.
    ReadAll,
    /// To manage schedules.
    Schedule,
    /// To remove schedules.
    DeleteSchedule,
    /// To pause queues.
    PauseQueue,
    /// To read the audit log.
    ReadAudit,
    /// To see the settings.
    ReadSettings,
    /// To manage users.
    ManageUsers,
    /// To be a person, signed in in a browser.
    ManageOwn,
    /// To be a worker outside of the binary.
    Work,
    /// There is no such route.
    Closed,
}

impl Door {
    /// Why this caller does not get through.
    pub fn refuses(self, actor: &Actor) -> Option<Problem> {
        let want = match self {
            Self::Public | Self::SignedIn => return None,
            Self::Closed => return Some(Problem::not_found("this")),
            Self::ReadOwn => Want::ReadOwn,
            Self::ReadAll => Want::ReadAll,
            Self::Schedule => Want::Schedule { delete: false },
            Self::DeleteSchedule => Want::Schedule { delete: true },
            Self::PauseQueue => Want::PauseQueue,
            Self::ReadAudit => Want::ReadAudit,
            Self::ReadSettings => Want::ReadSettings,
            Self::ManageUsers => Want::ManageUsers,
            Self::ManageOwn => Want::ManageOwn,
            Self::Work => Want::Work { kind: None },
        };
        (!may(actor, want)).then(|| {
            Problem::new(
                ProblemCode::Forbidden,
                match &actor.grant {
                    Some(_) => "This token may not do this.".to_string(),
                    None => format!("The role {} may not do this.", actor.role.label().to_lowercase()),
                },
            )
        })
    }
}

/// Routes by their paths as the router has them; `*` stands for any method.
pub const DOORS: &[(&str, &str, Door)] = &[
    // Pages.
    ("GET", "/", Door::ReadOwn),
    ("GET", "/sign-in", Door::Public),
    ("GET", "/welcome/{key}", Door::Public),
    ("GET", "/jobs", Door::ReadOwn),
    ("GET", "/jobs/{id}", Door::ReadOwn),
    ("GET", "/admin/jobs", Door::ReadOwn),
    ("GET", "/admin/jobs/{id}", Door::ReadOwn),
    ("GET", "/account", Door::SignedIn),
    ("GET", "/users", Door::SignedIn),
    ("GET", "/settings", Door::SignedIn),
    ("GET", "/audit-log", Door::SignedIn),
    ("GET", "/admin/audit-logs", Door::SignedIn),
    // Signing in and out.
    ("POST", "/session", Door::Public),
    // Whoever is signed out already is led to the sign-in.
    ("POST", "/session/end", Door::Public),
    ("GET", "/session/oidc", Door::Public),
    ("GET", "/session/oidc/callback", Door::Public),
    ("POST", "/welcome", Door::Public),
    // What the pages ask of the server: each asks the service.
    ("POST", "/rpc/list_jobs", Door::ReadOwn),
    ("POST", "/rpc/job_detail", Door::ReadOwn),
    ("POST", "/rpc/overview", Door::SignedIn),
    ("POST", "/rpc/kinds", Door::SignedIn),
    ("POST", "/rpc/kind_names", Door::SignedIn),
    ("POST", "/rpc/enqueue", Door::SignedIn),
    ("POST", "/rpc/act", Door::SignedIn),
    ("POST", "/rpc/act_on_many", Door::SignedIn),
    ("POST", "/rpc/matched", Door::ReadOwn),
    ("POST", "/rpc/batch", Door::ReadOwn),
    ("POST", "/rpc/cancel_batch", Door::SignedIn),
    ("POST", "/rpc/me", Door::SignedIn),
    ("POST", "/rpc/link", Door::Public),
    ("POST", "/rpc/sign_in_with", Door::Public),
    ("POST", "/rpc/my_sessions", Door::ManageOwn),
    ("POST", "/rpc/end_my_sessions", Door::ManageOwn),
    ("POST", "/rpc/my_tokens", Door::ManageOwn),
    ("POST", "/rpc/make_my_token", Door::ManageOwn),
    ("POST", "/rpc/revoke_token", Door::ManageOwn),
    ("POST", "/rpc/change_password", Door::ManageOwn),
    ("POST", "/rpc/users", Door::ManageUsers),
    ("POST", "/rpc/invite", Door::ManageUsers),
    ("POST", "/rpc/change_user", Door::ManageUsers),
    ("POST", "/rpc/reset_password", Door::ManageUsers),
    ("POST", "/rpc/links", Door::ManageUsers),
    ("POST", "/rpc/revoke_link", Door::ManageUsers),
    ("POST", "/rpc/settings", Door::ReadSettings),
    ("POST", "/rpc/audit", Door::ReadAudit),
    ("POST", "/rpc/audit_actions", Door::ReadAudit),
    // The API.
    ("GET", "/healthz", Door::Public),
    ("GET", "/readyz", Door::Public),
    ("GET", "/metrics", Door::ReadAll),
    ("GET", "/api/openapi.json", Door::SignedIn),
    ("GET", "/api/docs", Door::SignedIn),
    ("GET", "/api/jobs", Door::ReadOwn),
    ("POST", "/api/jobs", Door::SignedIn),
    ("POST", "/api/jobs/bulk", Door::SignedIn),
    ("POST", "/api/jobs/bulk-retry", Door::SignedIn),
    ("POST", "/api/jobs/bulk-cancel", Door::SignedIn),
    ("POST", "/api/jobs/bulk-delete", Door::SignedIn),
    ("GET", "/api/jobs/search", Door::ReadOwn),
    ("GET", "/api/jobs/types", Door::SignedIn),
    ("DELETE", "/api/jobs/types/{kind}", Door::SignedIn),
    ("GET", "/api/jobs/stats", Door::ReadOwn),
    ("GET", "/api/jobs/stats/series", Door::ReadAll),
    ("GET", "/api/jobs/events", Door::ReadOwn),
    ("GET", "/api/jobs/{id}", Door::ReadOwn),
    ("DELETE", "/api/jobs/{id}", Door::SignedIn),
    ("GET", "/api/jobs/{id}/detail", Door::ReadOwn),
    ("GET", "/api/jobs/{id}/history", Door::ReadOwn),
    ("GET", "/api/jobs/{id}/logs", Door::ReadOwn),
    ("GET", "/api/jobs/{id}/logs/ws", Door::ReadOwn),
    ("GET", "/api/jobs/{id}/artifacts/{name}", Door::ReadOwn),
    ("POST", "/api/jobs/{id}/cancel", Door::SignedIn),
    ("POST", "/api/jobs/{id}/abort", Door::SignedIn),
    ("POST", "/api/jobs/{id}/retry", Door::SignedIn),
    ("POST", "/api/jobs/{id}/pause", Door::SignedIn),
    ("POST", "/api/jobs/{id}/resume", Door::SignedIn),
    ("POST", "/api/jobs/{id}/run-now", Door::SignedIn),
    ("POST", "/api/jobs/{id}/run-again", Door::SignedIn),
    ("POST", "/api/events/export", Door::SignedIn),
    ("POST", "/api/events/import", Door::SignedIn),
    ("GET", "/api/schedules", Door::ReadAll),
    ("POST", "/api/schedules", Door::Schedule),
    ("GET", "/api/schedules/{id}", Door::ReadAll),
    ("PUT", "/api/schedules/{id}", Door::Schedule),
    ("DELETE", "/api/schedules/{id}", Door::DeleteSchedule),
    ("POST", "/api/schedules/{id}/pause", Door::Schedule),
    ("POST", "/api/schedules/{id}/resume", Door::Schedule),
    ("POST", "/api/schedules/{id}/run-now", Door::Schedule),
    ("GET", "/api/batches", Door::ReadOwn),
    ("GET", "/api/batches/{id}", Door::ReadOwn),
    ("POST", "/api/batches/{id}/cancel", Door::SignedIn),
    ("POST", "/api/workers", Door::Work),
    ("DELETE", "/api/workers/{worker}", Door::Work),
    ("POST", "/api/workers/{worker}/fetch", Door::Work),
    ("POST", "/api/workers/{worker}/heartbeat", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/progress", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/logs", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/checkpoint", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/complete", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/fail", Door::Work),
    ("POST", "/api/workers/{worker}/jobs/{id}/release", Door::Work),
    ("GET", "/api/queues", Door::ReadAll),
    ("POST", "/api/queues/{name}/pause", Door::PauseQueue),
    ("POST", "/api/queues/{name}/resume", Door::PauseQueue),
    ("GET", "/api/errors", Door::ReadAll),
    ("GET", "/api/me", Door::SignedIn),
    ("POST", "/api/me/password", Door::ManageOwn),
    ("GET", "/api/me/sessions", Door::ManageOwn),
    ("DELETE", "/api/me/sessions", Door::ManageOwn),
    ("DELETE", "/api/me/sessions/{id}", Door::ManageOwn),
    ("GET", "/api/me/tokens", Door::ManageOwn),
    ("POST", "/api/me/tokens", Door::ManageOwn),
    ("GET", "/api/users", Door::ManageUsers),
    ("POST", "/api/users", Door::ManageUsers),
    ("GET", "/api/users/links", Door::ManageUsers),
    ("DELETE", "/api/users/links/{id}", Door::ManageUsers),
    ("PATCH", "/api/users/{id}", Door::ManageUsers),
    ("POST", "/api/users/{id}/reset", Door::ManageUsers),
    ("DELETE", "/api/users/{id}/sessions", Door::ManageUsers),
    ("GET", "/api/tokens", Door::ManageUsers),
    ("POST", "/api/tokens", Door::ManageUsers),
    ("DELETE", "/api/tokens/{id}", Door::ManageOwn),
    ("GET", "/api/admin/jobs/health", Door::SignedIn),
    ("GET", "/api/settings", Door::ReadSettings),
    ("GET", "/api/admin/audit-logs", Door::ReadAudit),
    ("GET", "/api/admin/audit-logs/head", Door::ReadAudit),
    ("GET", "/api/admin/audit-logs/export", Door::ReadAudit),
];

/// What the route with this path asks of whoever calls it so.
pub fn door(method: &Method, path: &str) -> Door {
    // A HEAD is a GET without the body.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let found = DOORS.iter().find(|(m, p, _)| *m == method && same(p, path));
    found.map_or(Door::Closed, |(_, _, door)| *door)
}

/// Whether there is a route with this path, called in whatever way.
pub fn is_path(path: &str) -> bool {
    DOORS.iter().any(|(_, p, _)| same(p, path))
}

/// Whether two paths are the same but for the names of their parameters.
fn same(one: &str, other: &str) -> bool {
    let (mut a, mut b) = (one.split('/'), other.split('/'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(x), Some(y)) if x == y || x.starts_with('{') && y.starts_with('{') => {}
            _ => return false,
        }
    }
}
