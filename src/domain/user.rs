//! Who asks, and what they may do. Every call of the service layer takes an [`Actor`] and asks [`may`].

use serde::{Deserialize, Serialize};

use super::status::Action;

/// What a user is allowed by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ssr", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads all jobs, acts on all jobs, does not delete.
    Manager,
    /// Sees and acts on their own jobs.
    Member,
    /// Reads all jobs.
    Viewer,
}

impl Role {
    pub fn label(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::Manager => "Manager",
            Self::Member => "Member",
            Self::Viewer => "Viewer",
        }
    }
}

/// The caller of a service: made at the edge (HTTP, command line) and passed down unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name that jobs and transitions record.
    pub name: String,
    pub role: Role,
}

impl Actor {
    /// Whoever sits at this machine. Used for every request until there is a sign-in, which is why the server then
    /// listens on loopback only.
    pub fn local_admin() -> Self {
        Self {
            name: "admin".into(),
            role: Role::Admin,
        }
    }
}

/// Something that a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want<'a> {
    /// See jobs of all owners: lists, counts, the live stream.
    ReadAll,
    /// See one job, its log and its files.
    Read { owner: &'a str },
    /// Enqueue a job of this kind, or upload a file for one.
    Enqueue { kind: &'a str },
    /// Change one job.
    Act { action: Action, owner: &'a str },
    /// Make, change or run a schedule; remove one.
    Schedule { delete: bool },
    /// Pause a queue, or let it go on.
    PauseQueue,
    /// See the kinds, and whether the system is well.
    ReadSystem,
}

/// Whether `actor` may do it. The one place that knows; what is not listed is denied.
pub fn may(actor: &Actor, want: Want<'_>) -> bool {
    let own = |owner: &str| owner == actor.name;
    match (actor.role, want) {
        (Role::Admin, _) => true,
        (_, Want::ReadSystem) => true,
        (Role::Manager, Want::Act { action, .. }) => action != Action::Delete,
        (Role::Manager, Want::Schedule { delete }) => !delete,
        (Role::Member, Want::Schedule { .. } | Want::PauseQueue) => false,
        (Role::Manager, Want::PauseQueue) => true,
        (Role::Manager, Want::ReadAll | Want::Read { .. } | Want::Enqueue { .. }) => true,
        (Role::Viewer, Want::ReadAll | Want::Read { .. }) => true,
        (Role::Viewer, _) => false,
        (Role::Member, Want::Read { owner } | Want::Act { owner, .. }) => own(owner),
        (Role::Member, Want::Enqueue { .. }) => true,
        (Role::Member, Want::ReadAll) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(role: Role) -> Actor {
        Actor {
            name: "ada".into(),
            role,
        }
    }

    #[test]
    fn roles_may_what_the_specification_says() {
        let read = Want::Read { owner: "bob" };
        let act = |action| Want::Act { action, owner: "bob" };
        let table = [
            (Role::Admin, read, true),
            (Role::Admin, act(Action::Delete), true),
            (Role::Manager, act(Action::Abort), true),
            (Role::Manager, act(Action::Delete), false),
            (Role::Viewer, read, true),
            (Role::Viewer, act(Action::Cancel), false),
            (Role::Viewer, Want::Enqueue { kind: "export" }, false),
            (Role::Member, read, false),
            (Role::Member, Want::Read { owner: "ada" }, true),
            (Role::Member, act(Action::Cancel), false),
            (Role::Member, Want::ReadAll, false),
            (Role::Manager, Want::Schedule { delete: false }, true),
            (Role::Manager, Want::Schedule { delete: true }, false),
            (Role::Member, Want::Schedule { delete: false }, false),
            (Role::Manager, Want::PauseQueue, true),
            (Role::Viewer, Want::PauseQueue, false),
            (Role::Member, Want::PauseQueue, false),
            (Role::Member, Want::ReadSystem, true),
        ];
        for (role, want, expected) in table {
            assert_eq!(may(&actor(role), want), expected, "{role:?} {want:?}");
        }
    }
}
